//! LeaveGroup: members go, or an administrator removes static ones (KIP-345 made it a batch from version 3 on).

use super::Services;
use super::group_fields::{shared, shared_option};
use crate::base::ErrorCode;
use crate::group::message::{LeaveRequest, LeaveResponse, LeavingMember};
use crate::wire::messages::leave_group_response::MemberResponse;
use crate::wire::messages::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: LeaveGroupRequest = request.decode()?;
    let members: Vec<LeavingMember> = if request.header.version < 3 {
        vec![LeavingMember { member_id: shared(&body.member_id), instance_id: None }]
    } else {
        let leaving = body.members.iter();
        leaving
            .map(|member| LeavingMember {
                member_id: shared(&member.member_id),
                instance_id: shared_option(&member.group_instance_id),
            })
            .collect()
    };
    let leave = LeaveRequest { group: shared(&body.group_id), members: members.clone() };
    let header = request.header;
    Ok(services
        .groups
        .leave(leave)
        .reply(move |left| Reply::or_close(&header, &response(header.version, &members, &left))))
}

fn response(version: i16, members: &[LeavingMember], left: &LeaveResponse) -> LeaveGroupResponse {
    if version < 3 {
        let member_error = left.members.first().copied().unwrap_or(ErrorCode::None);
        let error = if left.error.is_error() { left.error } else { member_error };
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    let members = members.iter().zip(&left.members).map(|(member, error)| {
        MemberResponse::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_error_code(error.code())
    });
    LeaveGroupResponse::default().with_error_code(left.error.code()).with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes_and_old_ones_tell_the_member_error() {
        let members = [LeavingMember { member_id: "m".into(), instance_id: Some("i".into()) }];
        let left = LeaveResponse { error: ErrorCode::None, members: vec![ErrorCode::UnknownMemberId] };
        for version in 0..=5 {
            let made = response(version, &members, &left);
            assert_eq!(made.error_code, if version < 3 { ErrorCode::UnknownMemberId.code() } else { 0 });
            assert!(encode(&made, version).is_ok(), "version {version}");
        }
    }
}
