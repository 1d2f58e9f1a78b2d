//! JoinGroup: a consumer (or any other client that shares work) enters a group or comes back to it.

use super::Services;
use super::group_fields::{client_host, option_text, shared, shared_option};
use crate::group::message::{JoinRequest, JoinResponse, Protocol};
use crate::wire::messages::join_group_response::JoinGroupResponseMember;
use crate::wire::messages::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use bytes::Bytes;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: JoinGroupRequest = request.decode()?;
    let version = request.header.version;
    let instance_id = shared_option(&body.group_instance_id);
    let join = JoinRequest {
        group: shared(&body.group_id),
        member_id: shared(&body.member_id),
        new_member_id: "".into(),
        client_id: request.client_id().into(),
        client_host: client_host(request.connection.client_address),
        session_timeout_ms: body.session_timeout_ms,
        // Version 0 has one time-out for both.
        rebalance_timeout_ms: if version == 0 { body.session_timeout_ms } else { body.rebalance_timeout_ms },
        protocol_type: shared(&body.protocol_type),
        protocols: body
            .protocols
            .iter()
            .map(|protocol| Protocol {
                name: shared(&protocol.name),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        require_known_member_id: version >= 4 && instance_id.is_none(),
        supports_skip_assignment: version >= 9,
        instance_id,
    };
    let header = request.header;
    Ok(services.groups.join(join).reply(move |joined| Reply::or_close(&header, &response(header.version, joined))))
}

fn response(version: i16, joined: JoinResponse) -> JoinGroupResponse {
    let members = joined
        .members
        .iter()
        .map(|member| {
            let instance_id = if version >= 5 { option_text(&member.instance_id) } else { None };
            JoinGroupResponseMember::default()
                .with_member_id(text(&member.member_id))
                .with_group_instance_id(instance_id)
                .with_metadata(member.metadata.clone())
        })
        .collect();
    let protocol = option_text(&joined.protocol);
    JoinGroupResponse::default()
        .with_error_code(joined.error.code())
        .with_generation_id(joined.generation)
        .with_protocol_type(if version >= 7 { option_text(&joined.protocol_type) } else { None })
        // Null is a way to say "none" only from version 7 on.
        .with_protocol_name(if version >= 7 { protocol } else { Some(protocol.unwrap_or_default()) })
        .with_leader(text(&joined.leader))
        .with_skip_assignment(version >= 9 && joined.skip_assignment)
        .with_member_id(text(&joined.member_id))
        .with_members(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorCode;
    use crate::group::message::JoinedMember;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        let full = JoinResponse {
            error: ErrorCode::None,
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: "m".into(),
            skip_assignment: true,
            member_id: "m".into(),
            members: vec![JoinedMember {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                metadata: Bytes::from_static(b"x"),
            }],
        };
        for version in 0..=9 {
            for joined in [full.clone(), JoinResponse::error("".into(), ErrorCode::MemberIdRequired)] {
                assert!(encode(&response(version, joined), version).is_ok(), "version {version}");
            }
        }
    }
}
