//! SyncGroup, Heartbeat, LeaveGroup, and members that are not heard of: everything a member does between two joins.

use super::member::Member;
use super::message::{
    Batch, HeartbeatRequest, JoinResponse, LeaveRequest, LeaveResponse, ReplyToken, Response, SyncRequest, SyncResponse,
};
use super::rebalance;
use super::records::CoordinatorRecord;
use super::shard::{Step, TimerKey};
use super::state::{Group, GroupState};
use super::writes::Purpose;
use crate::base::{ErrorCode, Millis};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// A member must be known, and if it names an instance it must be the one that holds it now.
pub(super) fn validate(group: &Group, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
    if let Some(instance_id) = instance_id {
        match group.static_member(instance_id) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(holder) if **holder != *member_id => return Err(ErrorCode::FencedInstanceId),
            Some(_) => {}
        }
    }
    if group.has(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
}

/// The member was heard of: it has its session time-out from now.
pub(super) fn expect_heartbeat(step: &mut Step<'_>, group: &Group, member_id: &str) {
    if let Some(member) = group.member(member_id) {
        let key = TimerKey::Session { group: group.id.clone(), member: member.id.clone() };
        step.schedule(key, Millis::from(member.session_timeout_ms));
    }
}

pub(super) fn sync(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, request: SyncRequest) {
    if let Err(error) = validate_sync(group, &request) {
        return step.reply(token, Response::Sync(SyncResponse::error(error)));
    }
    let member_id = &request.member_id;
    match group.state() {
        GroupState::Empty | GroupState::Dead => {
            step.reply(token, Response::Sync(SyncResponse::error(ErrorCode::UnknownMemberId)));
        }
        GroupState::PreparingRebalance => {
            step.reply(token, Response::Sync(SyncResponse::error(ErrorCode::RebalanceInProgress)));
        }
        GroupState::CompletingRebalance => {
            let displaced = group.member_mut(member_id).and_then(|member| member.awaiting_sync.replace(token));
            step.reply_sync(displaced, || SyncResponse::error(ErrorCode::RebalanceInProgress));
            synced(step, group, member_id);
            if group.is_leader(member_id) && group.assignment_write.is_none() {
                store_assignment(step, group, request.assignments);
            }
        }
        GroupState::Stable => {
            synced(step, group, member_id);
            let assignment = group.member(member_id).map(|member| member.assignment.clone()).unwrap_or_default();
            step.reply(token, Response::Sync(assigned(group, assignment)));
            expect_heartbeat(step, group, member_id);
        }
    }
}

fn validate_sync(group: &Group, request: &SyncRequest) -> Result<(), ErrorCode> {
    if group.is(GroupState::Dead) {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    validate(group, &request.member_id, request.instance_id.as_deref())?;
    if request.generation != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    let same_type = request.protocol_type.is_none() || request.protocol_type == group.protocol_type;
    let same_name = request.protocol.is_none() || request.protocol == group.protocol;
    if same_type && same_name { Ok(()) } else { Err(ErrorCode::InconsistentGroupProtocol) }
}

pub(super) fn assigned(group: &Group, assignment: Bytes) -> SyncResponse {
    SyncResponse {
        error: ErrorCode::None,
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        assignment,
    }
}

/// The member asked for its assignment, which it must do within the rebalance time-out.
fn synced(step: &mut Step<'_>, group: &mut Group, member_id: &str) {
    if let Some(member) = group.member_mut(member_id) {
        member.pending_sync = false;
    }
    if group.all_members_synced() {
        step.timers.cancel(&TimerKey::Sync(group.id.clone()));
    }
}

/// Writes the leader's assignment; members that it forgot get an empty one. All are answered when it is stored.
fn store_assignment(step: &mut Step<'_>, group: &mut Group, assignments: Vec<(Arc<str>, Bytes)>) {
    let assignments: HashMap<Arc<str>, Bytes> = assignments.into_iter().collect();
    let value = group.to_value(|member| assignments.get(&member.id).cloned().unwrap_or_default());
    let record = CoordinatorRecord::Group { group: group.id.clone(), value: Some(value) };
    let purpose = Purpose::Assignment { group: group.id.clone(), generation: group.generation };
    group.assignment_write = Some(step.append(Batch { records: vec![record], transaction: None }, purpose));
}

pub(super) fn heartbeat(step: &mut Step<'_>, group: &mut Group, request: &HeartbeatRequest) -> ErrorCode {
    if group.is(GroupState::Dead) {
        return ErrorCode::CoordinatorNotAvailable;
    }
    if let Err(error) = validate(group, &request.member_id, request.instance_id.as_deref()) {
        return error;
    }
    if request.generation != group.generation {
        return ErrorCode::IllegalGeneration;
    }
    expect_heartbeat(step, group, &request.member_id);
    match group.state() {
        GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
        GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
        GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
    }
}

pub(super) fn leave_unknown_group(request: &LeaveRequest) -> Response {
    let members = vec![ErrorCode::UnknownMemberId; request.members.len()];
    Response::Leave(LeaveResponse { error: ErrorCode::None, members })
}

pub(super) fn leave(step: &mut Step<'_>, group: &mut Group, request: &LeaveRequest) -> LeaveResponse {
    if group.is(GroupState::Dead) {
        return LeaveResponse { error: ErrorCode::CoordinatorNotAvailable, members: Vec::new() };
    }
    let mut members = Vec::with_capacity(request.members.len());
    for leaving in &request.members {
        let instance_id = leaving.instance_id.as_deref();
        let left = if leaving.member_id.is_empty() {
            // An administrator, who knows the instance only.
            let holder = instance_id.and_then(|instance_id| group.static_member(instance_id)).cloned();
            holder.ok_or(ErrorCode::UnknownMemberId).map(|holder| remove(step, group, &holder))
        } else if group.pending_members.contains(&leaving.member_id) {
            remove_pending(step, group, &leaving.member_id);
            Ok(())
        } else {
            validate(group, &leaving.member_id, instance_id).map(|()| remove(step, group, &leaving.member_id))
        };
        members.push(left.err().unwrap_or(ErrorCode::None));
    }
    LeaveResponse { error: ErrorCode::None, members }
}

/// Takes a member out of the group, which makes the others rebalance.
fn remove(step: &mut Step<'_>, group: &mut Group, member_id: &str) {
    let Some(mut member) = group.remove(member_id) else { return };
    forget(step, group, &mut member);
    match group.state() {
        GroupState::Stable | GroupState::CompletingRebalance => rebalance::prepare(step, group),
        GroupState::PreparingRebalance => rebalance::try_complete_join(step, group),
        GroupState::Empty | GroupState::Dead => {}
    }
}

/// Answers what a removed member still waits for, so that a client that is alive starts over.
pub(super) fn forget(step: &mut Step<'_>, group: &Group, member: &mut Member) {
    step.timers.cancel(&TimerKey::Session { group: group.id.clone(), member: member.id.clone() });
    step.reply_join(member.awaiting_join.take(), || JoinResponse::error("".into(), ErrorCode::UnknownMemberId));
    step.reply_sync(member.awaiting_sync.take(), || SyncResponse::error(ErrorCode::UnknownMemberId));
}

/// An id that was given out is not used: nobody waits for it any longer.
pub(super) fn remove_pending(step: &mut Step<'_>, group: &mut Group, member_id: &Arc<str>) {
    step.timers.cancel(&TimerKey::Pending { group: group.id.clone(), member: member_id.clone() });
    if group.pending_members.remove(member_id) {
        rebalance::try_complete_join(step, group);
    }
}

/// Nothing was heard of a member for its session time-out (or it waited too long for its first rebalance).
pub(super) fn session_expired(step: &mut Step<'_>, group: &mut Group, member_id: &Arc<str>) {
    let is_gone = group.member(member_id).is_some_and(|member| !member.heartbeat_not_expected());
    if is_gone && !group.is(GroupState::Dead) {
        remove(step, group, member_id);
    }
}
