//! The rebalance itself: waiting for members, starting a generation, storing and handing out the assignment.

use super::commit;
use super::join::current_generation;
use super::membership;
use super::message::{Batch, Now, SyncResponse, WriteToken};
use super::records::{CoordinatorRecord, GroupValue};
use super::shard::{Step, TimerKey};
use super::state::{Group, GroupState, JoinWait};
use super::writes::Purpose;
use crate::base::{ErrorCode, Millis};
use bytes::Bytes;

/// If only absent static members hold a rebalance open, look again no sooner than this.
const REJOIN_WAIT_MS_MIN: Millis = 1_000;

pub(super) fn maybe_prepare(step: &mut Step<'_>, group: &mut Group) {
    if group.can_rebalance() {
        prepare(step, group);
    }
}

/// Starts to wait for members: an empty group for its first wave, others for all known members.
pub(super) fn prepare(step: &mut Step<'_>, group: &mut Group) {
    if group.is(GroupState::CompletingRebalance) {
        fail_assignment(step, group, ErrorCode::RebalanceInProgress);
    }
    step.timers.cancel(&TimerKey::Sync(group.id.clone()));
    let was_empty = group.is(GroupState::Empty);
    group.transition(GroupState::PreparingRebalance, step.now.wall_ms);
    if was_empty {
        let delay_ms = step.config.initial_rebalance_delay_ms;
        group.join_wait = JoinWait::Initial { remaining_ms: (group.rebalance_timeout_ms() - delay_ms).max(0) };
        match delay_ms {
            ..=0 => complete_join(step, group),
            _ => step.schedule(TimerKey::Join(group.id.clone()), delay_ms),
        }
    } else {
        group.join_wait = JoinWait::Rejoin;
        step.schedule(TimerKey::Join(group.id.clone()), group.rebalance_timeout_ms());
        try_complete_join(step, group);
    }
}

/// Goes on at once if all known members have come. The initial delay always runs to its end.
pub(super) fn try_complete_join(step: &mut Step<'_>, group: &mut Group) {
    let waits_for_members = group.is(GroupState::PreparingRebalance) && group.join_wait == JoinWait::Rejoin;
    if waits_for_members && group.all_members_joined() {
        complete_join(step, group);
    }
}

pub(super) fn join_timer_due(step: &mut Step<'_>, group: &mut Group) {
    if !group.is(GroupState::PreparingRebalance) {
        return;
    }
    match group.join_wait {
        JoinWait::Initial { remaining_ms } if group.member_added && remaining_ms > 0 => {
            group.member_added = false;
            let delay_ms = step.config.initial_rebalance_delay_ms.min(remaining_ms);
            group.join_wait = JoinWait::Initial { remaining_ms: remaining_ms - delay_ms };
            step.schedule(TimerKey::Join(group.id.clone()), delay_ms);
        }
        _ => complete_join(step, group),
    }
}

/// Ends the wait: members that did not come are out (static ones stay until their session expires), the rest is the next
/// generation.
fn complete_join(step: &mut Step<'_>, group: &mut Group) {
    let absent: Vec<_> = group
        .members()
        .filter(|member| !member.is_awaiting_join() && !member.is_static())
        .map(|m| m.id.clone())
        .collect();
    for member_id in absent {
        if let Some(mut member) = group.remove(&member_id) {
            membership::forget(step, group, &mut member);
        }
    }
    if !group.is_empty() && !group.elect_joined_leader() {
        let wait_ms = group.rebalance_timeout_ms().max(REJOIN_WAIT_MS_MIN);
        group.join_wait = JoinWait::Rejoin;
        return step.schedule(TimerKey::Join(group.id.clone()), wait_ms);
    }
    step.timers.cancel(&TimerKey::Join(group.id.clone()));
    group.next_generation(step.now.wall_ms);
    if group.is_empty() {
        store_empty(step, group);
    } else {
        tell_generation(step, group);
    }
}

/// Without the record the members of the previous generation would come back to life in the next coordinator, and time out.
fn store_empty(step: &mut Step<'_>, group: &mut Group) {
    let value = group.to_value(|_| Bytes::new());
    let record = CoordinatorRecord::Group { group: group.id.clone(), value: Some(value) };
    let purpose = Purpose::Housekeeping { group: group.id.clone() };
    step.append(Batch { records: vec![record], transaction: None }, purpose);
}

fn tell_generation(step: &mut Step<'_>, group: &mut Group) {
    let members: Vec<_> = group.members().map(|member| member.id.clone()).collect();
    for member_id in &members {
        let token = group.take_join(member_id);
        if let Some(member) = group.member_mut(member_id) {
            member.is_new = false;
            member.pending_sync = true;
        }
        let is_leader = group.is_leader(member_id);
        step.reply_join(token, || current_generation(group, member_id.clone(), is_leader));
        membership::expect_heartbeat(step, group, member_id);
    }
    step.schedule(TimerKey::Sync(group.id.clone()), group.rebalance_timeout_ms());
}

/// Members that got the generation but did not ask for their assignment are out.
pub(super) fn sync_timer_due(step: &mut Step<'_>, group: &mut Group) {
    if !matches!(group.state(), GroupState::CompletingRebalance | GroupState::Stable) || group.all_members_synced() {
        return;
    }
    let absent: Vec<_> = group.members().filter(|member| member.pending_sync).map(|m| m.id.clone()).collect();
    for member_id in absent {
        if let Some(mut member) = group.remove(&member_id) {
            membership::forget(step, group, &mut member);
        }
    }
    prepare(step, group);
}

/// Replay of a group record that was written a moment ago: its assignments hold if the group is still in that generation.
pub(super) fn assignment_stored(group: &mut Group, value: GroupValue, now: Now) {
    if value.generation != group.generation || value.members.is_empty() {
        return;
    }
    if !matches!(group.state(), GroupState::CompletingRebalance | GroupState::Stable) {
        return;
    }
    for stored in value.members {
        if let Some(member) = group.member_mut(&stored.member_id) {
            member.assignment = stored.assignment;
        }
    }
    if group.is(GroupState::CompletingRebalance) {
        group.transition(GroupState::Stable, now.wall_ms);
    }
}

/// The assignment of `generation` is in the log (and has been replayed), or could not be written.
pub(super) fn assignment_written(
    step: &mut Step<'_>,
    group: &mut Group,
    token: WriteToken,
    generation: i32,
    error: Option<ErrorCode>,
) {
    if group.assignment_write == Some(token) {
        group.assignment_write = None;
    }
    if group.generation != generation {
        return;
    }
    match error {
        None if group.is(GroupState::Stable) => hand_out_assignment(step, group),
        Some(error) if group.is(GroupState::CompletingRebalance) => {
            fail_assignment(step, group, commit::store_error(error));
            prepare(step, group);
        }
        _ => {}
    }
}

fn hand_out_assignment(step: &mut Step<'_>, group: &mut Group) {
    let members: Vec<_> = group.members().map(|member| (member.id.clone(), member.assignment.clone())).collect();
    for (member_id, assignment) in members {
        if let Some(token) = group.take_sync(&member_id) {
            step.reply_sync(Some(token), || membership::assigned(group, assignment));
            membership::expect_heartbeat(step, group, &member_id);
        }
    }
}

/// The assignment of this generation is void; who waits for it is told so.
fn fail_assignment(step: &mut Step<'_>, group: &mut Group, error: ErrorCode) {
    group.assignment_write = None;
    let members: Vec<_> = group.members().map(|member| member.id.clone()).collect();
    for member_id in members {
        if let Some(member) = group.member_mut(&member_id) {
            member.assignment = Bytes::new();
        }
        if let Some(token) = group.take_sync(&member_id) {
            step.reply_sync(Some(token), || SyncResponse::error(error));
            membership::expect_heartbeat(step, group, &member_id);
        }
    }
}
