//! SyncGroup: the leader hands in the assignment, everybody gets a part of it.

use super::Services;
use super::group_fields::{option_text, shared, shared_option};
use crate::group::message::{SyncRequest, SyncResponse};
use crate::wire::messages::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use bytes::Bytes;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: SyncGroupRequest = request.decode()?;
    let assignments = body.assignments.iter();
    let sync = SyncRequest {
        group: shared(&body.group_id),
        generation: body.generation_id,
        member_id: shared(&body.member_id),
        instance_id: shared_option(&body.group_instance_id),
        protocol_type: shared_option(&body.protocol_type),
        protocol: shared_option(&body.protocol_name),
        assignments: assignments.map(|a| (shared(&a.member_id), Bytes::copy_from_slice(&a.assignment))).collect(),
    };
    let header = request.header;
    Ok(services.groups.sync(sync).reply(move |synced| Reply::or_close(&header, &response(header.version, synced))))
}

fn response(version: i16, synced: SyncResponse) -> SyncGroupResponse {
    let response = SyncGroupResponse::default().with_error_code(synced.error.code()).with_assignment(synced.assignment);
    if version < 5 {
        return response;
    }
    response.with_protocol_type(option_text(&synced.protocol_type)).with_protocol_name(option_text(&synced.protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorCode;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        let full = SyncResponse {
            error: ErrorCode::None,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignment: Bytes::from_static(b"x"),
        };
        for version in 0..=5 {
            for synced in [full.clone(), SyncResponse::error(ErrorCode::RebalanceInProgress)] {
                assert!(encode(&response(version, synced), version).is_ok(), "version {version}");
            }
        }
    }
}
