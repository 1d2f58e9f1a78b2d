//! DescribeGroups: state and members of groups. A group that does not exist is shown as dead, without an error.

use super::group_fields::option_text;
use super::{Services, authorized};
use crate::group::message::{GroupDescription, MemberDescription};
use crate::wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::HashSet;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DescribeGroupsRequest = request.decode()?;
    let version = request.header.version;
    // A group is described once, however often it is named: descriptions can be large.
    let mut seen = HashSet::new();
    let groups = body.groups.into_iter().filter(|id| seen.insert(id.clone())).map(|id| {
        let description = services.groups.describe(&id);
        described(version, id, description, body.include_authorized_operations)
    });
    let response = DescribeGroupsResponse::default().with_groups(groups.collect());
    Ok(Reply::message(&request.header, &response)?.into())
}

fn described(version: i16, id: GroupId, group: GroupDescription, show_operations: bool) -> DescribedGroup {
    let show_operations = show_operations && version >= 3 && !group.error.is_error();
    DescribedGroup::default()
        .with_error_code(group.error.code())
        .with_group_id(id)
        .with_group_state(text(group.state))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(group.members.iter().map(|member| described_member(version, member)).collect())
        .with_authorized_operations(if show_operations { authorized::GROUP } else { authorized::UNKNOWN })
}

fn described_member(version: i16, member: &MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(if version >= 4 { option_text(&member.instance_id) } else { None })
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata.clone())
        .with_member_assignment(member.assignment.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorCode;
    use crate::wire::encode;
    use bytes::Bytes;

    #[test]
    fn every_version_encodes() {
        let member = MemberDescription {
            member_id: "m".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            metadata: Bytes::from_static(b"x"),
            assignment: Bytes::from_static(b"y"),
        };
        let group = GroupDescription {
            members: vec![member],
            protocol: "range".into(),
            ..GroupDescription::without_members(ErrorCode::None, "Stable")
        };
        for version in 0..=5 {
            let groups = vec![described(version, GroupId(text("g")), group.clone(), true)];
            assert!(encode(&DescribeGroupsResponse::default().with_groups(groups), version).is_ok(), "{version}");
        }
    }
}
