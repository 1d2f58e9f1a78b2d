//! JoinGroup: who may join, as what, and whether that starts a rebalance (KIP-62, KIP-345 static members, KIP-394 member
//! ids, KIP-814 skipped assignments).

use super::member::Member;
use super::message::{Batch, Effect, JoinRequest, JoinResponse, Now, Protocol, ReplyToken, Response, SyncResponse};
use super::records::CoordinatorRecord;
use super::shard::{GroupShard, Step, TimerKey};
use super::state::{Group, GroupState};
use super::writes::Purpose;
use super::{commit, membership, rebalance};
use crate::base::{ErrorCode, Millis};
use std::sync::Arc;

/// A new member waits for its first rebalance this long: it sends no heartbeats meanwhile, and its connection may be gone.
const NEW_MEMBER_JOIN_TIMEOUT_MS: Millis = 5 * 60 * 1000;

fn refuse(step: &mut Step<'_>, token: ReplyToken, member_id: Arc<str>, error: ErrorCode) {
    step.reply(token, Response::Join(JoinResponse::error(member_id, error)));
}

pub(super) fn join(
    shard: &mut GroupShard,
    now: Now,
    effects: &mut Vec<Effect>,
    token: ReplyToken,
    request: JoinRequest,
) {
    let id = request.group.clone();
    let has_no_id = request.member_id.is_empty();
    let timeouts = shard.config().min_session_timeout_ms..=shard.config().max_session_timeout_ms;
    let refused = if !timeouts.contains(&request.session_timeout_ms) {
        Some(ErrorCode::InvalidSessionTimeout)
    } else if !has_no_id && shard.group(&id).is_none() {
        Some(ErrorCode::UnknownMemberId)
    } else {
        None
    };
    if let Some(error) = refused {
        let response = JoinResponse::error(request.member_id, error);
        return effects.push(Effect::Reply(token, Response::Join(response)));
    }
    shard.with_group_or_new(now, effects, &id, |step, group| {
        if !has_room(step, group, &request.member_id) {
            if let Some(mut member) = group.remove(&request.member_id) {
                membership::forget(step, group, &mut member);
            }
            refuse(step, token, "".into(), ErrorCode::GroupMaxSizeReached);
        } else if has_no_id {
            join_new(step, group, token, request);
        } else {
            join_known(step, group, token, request);
        }
        rebalance::try_complete_join(step, group);
    });
}

/// `group.max.size`: during a rebalance those who came count, otherwise all members.
fn has_room(step: &Step<'_>, group: &Group, member_id: &str) -> bool {
    match group.state() {
        GroupState::Empty | GroupState::Dead => true,
        GroupState::PreparingRebalance => {
            group.member(member_id).is_some_and(Member::is_awaiting_join)
                || group.awaiting_join() < step.config.max_size
        }
        GroupState::CompletingRebalance | GroupState::Stable => {
            group.has(member_id) || group.len() < step.config.max_size
        }
    }
}

fn join_new(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, request: JoinRequest) {
    if group.is(GroupState::Dead) {
        return refuse(step, token, "".into(), ErrorCode::CoordinatorNotAvailable);
    }
    if !group.supports(&request.protocol_type, &request.protocols) {
        return refuse(step, token, "".into(), ErrorCode::InconsistentGroupProtocol);
    }
    let member_id = request.new_member_id.clone();
    let replaced = request.instance_id.as_deref().and_then(|instance| group.static_member(instance)).cloned();
    if let Some(old_id) = replaced {
        replace_static(step, group, token, &old_id, request);
    } else if request.require_known_member_id && request.instance_id.is_none() {
        group.pending_members.insert(member_id.clone());
        let key = TimerKey::Pending { group: group.id.clone(), member: member_id.clone() };
        step.schedule(key, request.session_timeout_ms.into());
        refuse(step, token, member_id, ErrorCode::MemberIdRequired);
    } else {
        add_member(step, group, token, member_id, request);
    }
}

fn join_known(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, request: JoinRequest) {
    let member_id = request.member_id.clone();
    if group.is(GroupState::Dead) {
        return refuse(step, token, member_id, ErrorCode::CoordinatorNotAvailable);
    }
    if !group.supports(&request.protocol_type, &request.protocols) {
        return refuse(step, token, member_id, ErrorCode::InconsistentGroupProtocol);
    }
    if group.pending_members.contains(&member_id) {
        if request.instance_id.is_some() {
            // Ids are only held for dynamic members.
            return refuse(step, token, member_id, ErrorCode::UnknownMemberId);
        }
        step.timers.cancel(&TimerKey::Pending { group: group.id.clone(), member: member_id.clone() });
        return add_member(step, group, token, member_id, request);
    }
    if let Err(error) = membership::validate(group, &member_id, request.instance_id.as_deref()) {
        return refuse(step, token, member_id, error);
    }
    let unchanged = group.member(&member_id).is_some_and(|member| member.protocols == request.protocols);
    let is_leader = group.is_leader(&member_id);
    match group.state() {
        // The reply to the first JoinGroup got lost, or the client wants to see the generation it is in.
        GroupState::CompletingRebalance if unchanged => answer_current(step, group, token, member_id, is_leader),
        GroupState::Stable if unchanged && !is_leader => answer_current(step, group, token, member_id, false),
        GroupState::Empty | GroupState::Dead => refuse(step, token, member_id, ErrorCode::UnknownMemberId),
        // A leader rejoins when what it assigned has changed, such as the number of partitions.
        GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
            let JoinRequest { protocols, rebalance_timeout_ms, session_timeout_ms, .. } = request;
            group.update(&member_id, protocols, rebalance_timeout_ms, session_timeout_ms);
            hold(step, group, &member_id, token);
            rebalance::maybe_prepare(step, group);
        }
    }
}

fn hold(step: &mut Step<'_>, group: &mut Group, member_id: &Arc<str>, token: ReplyToken) {
    let displaced = group.hold_join(member_id, token);
    step.reply_join(displaced, || JoinResponse::error(member_id.clone(), ErrorCode::RebalanceInProgress));
}

/// The reply that tells a member of the current generation.
pub(super) fn current_generation(group: &Group, member_id: Arc<str>, show_members: bool) -> JoinResponse {
    JoinResponse {
        error: ErrorCode::None,
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        leader: group.leader.clone().unwrap_or_else(|| "".into()),
        skip_assignment: false,
        member_id,
        members: if show_members { group.joined_members() } else { Vec::new() },
    }
}

fn answer_current(step: &mut Step<'_>, group: &Group, token: ReplyToken, member_id: Arc<str>, show_members: bool) {
    step.reply(token, Response::Join(current_generation(group, member_id, show_members)));
}

fn add_member(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, member_id: Arc<str>, request: JoinRequest) {
    if group.is(GroupState::PreparingRebalance) && group.generation == 0 {
        group.member_added = true;
    }
    group.add(Member::joining(member_id.clone(), &request), &request.protocol_type);
    hold(step, group, &member_id, token);
    step.schedule(TimerKey::Session { group: group.id.clone(), member: member_id }, NEW_MEMBER_JOIN_TIMEOUT_MS);
    rebalance::maybe_prepare(step, group);
}

/// A static member's new id while it is being stored, and what to go back to if that fails.
#[derive(Clone)]
pub(super) struct StaticJoin {
    pub group: Arc<str>,
    old_id: Arc<str>,
    new_id: Arc<str>,
    old_leader: Option<Arc<str>>,
    old_protocols: Vec<Protocol>,
    old_rebalance_timeout_ms: i32,
    old_session_timeout_ms: i32,
    supports_skip_assignment: bool,
}

/// A static member comes back without its id: it gets a new one, and the old one is fenced from here on.
fn replace_static(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, old_id: &Arc<str>, request: JoinRequest) {
    let Some(old) = group.member(old_id).cloned() else { return };
    let new_id = request.new_member_id.clone();
    let saved = StaticJoin {
        group: group.id.clone(),
        old_id: old_id.clone(),
        new_id: new_id.clone(),
        old_leader: group.leader.clone(),
        old_protocols: old.protocols,
        old_rebalance_timeout_ms: old.rebalance_timeout_ms,
        old_session_timeout_ms: old.session_timeout_ms,
        supports_skip_assignment: request.supports_skip_assignment,
    };
    let (join, sync) = (group.take_join(old_id), group.take_sync(old_id));
    step.reply_join(join, || JoinResponse::error(old_id.clone(), ErrorCode::FencedInstanceId));
    step.reply_sync(sync, || SyncResponse::error(ErrorCode::FencedInstanceId));
    change_id(step, group, old_id, &new_id);
    group.update(&new_id, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
    hold(step, group, &new_id, token);
    membership::expect_heartbeat(step, group, &new_id);
    match group.state() {
        GroupState::Stable if group.protocol == group.select_protocol() => {
            let value = group.to_value(|member| member.assignment.clone());
            let record = CoordinatorRecord::Group { group: group.id.clone(), value: Some(value) };
            step.append(Batch { records: vec![record], transaction: None }, Purpose::StaticJoin(Box::new(saved)));
        }
        // The old id may already be in the hands of the leader, which would assign to it.
        GroupState::Stable | GroupState::CompletingRebalance => rebalance::prepare(step, group),
        GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {}
    }
}

fn change_id(step: &mut Step<'_>, group: &mut Group, old_id: &Arc<str>, new_id: &Arc<str>) {
    step.timers.cancel(&TimerKey::Session { group: group.id.clone(), member: old_id.clone() });
    group.replace_static(old_id, new_id);
}

/// The new id is stored, or not.
pub(super) fn static_join_written(step: &mut Step<'_>, group: &mut Group, join: StaticJoin, error: Option<ErrorCode>) {
    let StaticJoin { old_id, new_id, old_leader, .. } = join;
    let old_leader = old_leader.unwrap_or_else(|| "".into());
    match error {
        // A rebalance that began meanwhile answers the join instead, and stores the group again.
        _ if !group.is(GroupState::Stable) => {}
        Some(error) => {
            let token = group.take_join(&new_id);
            if group.has(&new_id) {
                let (rebalance_ms, session_ms) = (join.old_rebalance_timeout_ms, join.old_session_timeout_ms);
                group.update(&new_id, join.old_protocols, rebalance_ms, session_ms);
                change_id(step, group, &new_id, &old_id);
                membership::expect_heartbeat(step, group, &old_id);
            }
            step.reply_join(token, || JoinResponse {
                error: commit::store_error(error),
                leader: old_leader,
                ..current_generation(group, "".into(), false)
            });
        }
        None => {
            let token = group.take_join(&new_id);
            membership::expect_heartbeat(step, group, &new_id);
            let is_leader = group.is_leader(&new_id);
            step.reply_join(token, || match join.supports_skip_assignment {
                true => {
                    JoinResponse { skip_assignment: is_leader, ..current_generation(group, new_id.clone(), is_leader) }
                }
                // An old client that leads would assign, and a stable group would ignore it: name the leader before it.
                false => JoinResponse { leader: old_leader, ..current_generation(group, new_id.clone(), false) },
            });
        }
    }
}
