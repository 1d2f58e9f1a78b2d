//! Offsets: committing them, deleting them, and giving them up when nobody needs them (KIP-211), which is also how groups end.

use super::membership;
use super::message::{
    Batch, CommitRequest, CommitResponse, Effect, Now, OffsetDeleteRequest, OffsetDeleteResponse, ReplyToken, Response,
};
use super::offsets::Expiry;
use super::records::CoordinatorRecord;
use super::shard::{GroupShard, Step};
use super::state::{Group, GroupState};
use super::writes::Purpose;
use crate::base::ErrorCode;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Tombstones are written in batches of about this many bytes, far below any `max.message.bytes`.
const TOMBSTONE_BATCH_BYTES: usize = 64 << 10;

pub(super) fn commit(
    shard: &mut GroupShard,
    now: Now,
    effects: &mut Vec<Effect>,
    token: ReplyToken,
    request: CommitRequest,
) {
    if shard.group(&request.group).is_none() && request.generation >= 0 && request.transaction.is_none() {
        // A member of a group that this coordinator knows nothing of: its generation is over.
        return effects.push(Effect::Reply(token, refused(&request, ErrorCode::IllegalGeneration)));
    }
    let id = request.group.clone();
    shard.with_group_or_new(now, effects, &id, |step, group| match validate(group, &request) {
        Err(error) => step.reply(token, refused(&request, error)),
        Ok(()) => {
            if request.transaction.is_none() {
                membership::expect_heartbeat(step, group, &request.member_id);
            }
            if group.is(GroupState::CompletingRebalance) && request.transaction.is_none() {
                step.reply(token, refused(&request, ErrorCode::RebalanceInProgress));
            } else {
                store(step, group, token, request);
            }
        }
    });
}

fn refused(request: &CommitRequest, error: ErrorCode) -> Response {
    let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    Response::Commit(CommitResponse { errors: vec![error; partitions] })
}

/// Members commit with their generation; others only to a group without members.
fn validate(group: &Group, request: &CommitRequest) -> Result<(), ErrorCode> {
    let CommitRequest { generation, member_id, instance_id, .. } = request;
    if group.is(GroupState::Dead) {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    if *generation < 0 && group.is(GroupState::Empty) {
        return Ok(());
    }
    if *generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
        membership::validate(group, member_id, instance_id.as_deref())?;
        return if *generation == group.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) };
    }
    // Transactional commits of old clients say nothing about the member.
    if request.transaction.is_none() && !group.is(GroupState::Empty) {
        return Err(ErrorCode::UnknownMemberId);
    }
    Ok(())
}

fn store(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, request: CommitRequest) {
    let mut errors = Vec::new();
    let mut records = Vec::new();
    for topic in request.topics {
        for (partition, value) in topic.partitions {
            if is_too_long(&value.metadata, step.config.offset_metadata_max_bytes) {
                errors.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            errors.push(ErrorCode::None);
            let (group, topic) = (group.id.clone(), topic.topic.clone());
            records.push(CoordinatorRecord::Offset { group, topic, partition, value: Some(value) });
        }
    }
    if records.is_empty() {
        return step.reply(token, Response::Commit(CommitResponse { errors }));
    }
    let purpose = Purpose::Commit { group: group.id.clone(), reply: token, errors };
    let write = step.append(Batch { records, transaction: request.transaction }, purpose);
    group.offsets.writing(write);
}

/// `offset.metadata.max.bytes` counts UTF-16 units, its name notwithstanding.
pub fn is_too_long(metadata: &str, limit: usize) -> bool {
    metadata.len() > limit && metadata.encode_utf16().count() > limit
}

/// Puts `error` where nothing else was wrong.
pub(super) fn fill_errors(mut errors: Vec<ErrorCode>, error: Option<ErrorCode>) -> Vec<ErrorCode> {
    if let Some(error) = error {
        errors.iter_mut().filter(|code| !code.is_error()).for_each(|code| *code = error);
    }
    errors
}

/// What a client sees when its offsets cannot be appended.
pub(super) fn commit_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::InvalidCommitOffsetSize
        }
        ErrorCode::RequestTimedOut => ErrorCode::RequestTimedOut,
        other => store_error(other),
    }
}

/// What a client sees when its group cannot be appended: something that makes it retry where it helps.
pub(super) fn store_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::RequestTimedOut => ErrorCode::RebalanceInProgress,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}

/// Replies of writes that will never be answered by the log.
pub(super) fn abandoned(purpose: Purpose, error: ErrorCode) -> Option<Effect> {
    match purpose {
        Purpose::Commit { reply, errors, .. } => {
            let errors = fill_errors(errors, Some(error));
            Some(Effect::Reply(reply, Response::Commit(CommitResponse { errors })))
        }
        Purpose::DeleteGroup { reply, .. } => Some(Effect::Reply(reply, Response::DeleteGroup(error))),
        Purpose::OffsetDelete { reply, .. } => Some(Effect::Reply(reply, offset_delete_error(error))),
        Purpose::Assignment { .. } | Purpose::StaticJoin(_) | Purpose::Part | Purpose::Housekeeping { .. } => None,
    }
}

pub(super) fn offset_delete_error(error: ErrorCode) -> Response {
    Response::OffsetDelete(OffsetDeleteResponse { error, partitions: Vec::new() })
}

fn tombstones(group: &Group, partitions: Vec<(Arc<str>, i32)>) -> Vec<CoordinatorRecord> {
    let offset =
        |(topic, partition)| CoordinatorRecord::Offset { group: group.id.clone(), topic, partition, value: None };
    let mut records: Vec<_> = partitions.into_iter().map(offset).collect();
    // Generation 0: the group only stored offsets, or not even that, and has no record of its own.
    if group.is(GroupState::Dead) && group.generation > 0 {
        records.push(CoordinatorRecord::Group { group: group.id.clone(), value: None });
    }
    records
}

/// Appends records in batches; `purpose` belongs to the last one. `false`, and nothing done, if there are no records.
fn append_in_batches(step: &mut Step<'_>, records: Vec<CoordinatorRecord>, purpose: Purpose) -> bool {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for record in records {
        let size = record.size_estimate();
        if bytes + size > TOMBSTONE_BATCH_BYTES && !batch.is_empty() {
            let records = std::mem::take(&mut batch);
            step.append(Batch { records, transaction: None }, Purpose::Part);
            bytes = 0;
        }
        bytes += size;
        batch.push(record);
    }
    if batch.is_empty() {
        return false;
    }
    step.append(Batch { records: batch, transaction: None }, purpose);
    true
}

pub(super) fn delete_group(step: &mut Step<'_>, group: &mut Group, token: ReplyToken) {
    let error = match group.state() {
        GroupState::Dead => ErrorCode::GroupIdNotFound,
        GroupState::Empty if group.offsets.pending().is_empty() => ErrorCode::None,
        _ => ErrorCode::NonEmptyGroup,
    };
    if error.is_error() {
        return step.reply(token, Response::DeleteGroup(error));
    }
    group.pending_members.clear();
    group.mark_dead();
    let records = tombstones(group, group.offsets.partitions());
    let purpose = Purpose::DeleteGroup { group: group.id.clone(), reply: token };
    if !append_in_batches(step, records, purpose) {
        group.revive();
        step.reply(token, Response::DeleteGroup(ErrorCode::None));
    }
}

pub(super) fn delete_offsets(step: &mut Step<'_>, group: &mut Group, token: ReplyToken, request: &OffsetDeleteRequest) {
    let all_allowed = match group.state() {
        GroupState::Dead => return step.reply(token, offset_delete_error(ErrorCode::GroupIdNotFound)),
        GroupState::Empty => true,
        _ if group.is_consumer_group() => false,
        _ => return step.reply(token, offset_delete_error(ErrorCode::NonEmptyGroup)),
    };
    let mut errors = Vec::with_capacity(request.partitions.len());
    let mut deleted = BTreeSet::new();
    for (topic, partition) in &request.partitions {
        if !all_allowed && group.is_subscribed(topic) {
            errors.push(ErrorCode::GroupSubscribedToTopic);
            continue;
        }
        errors.push(ErrorCode::None);
        if group.offsets.has(topic, *partition) {
            deleted.insert((topic.clone(), *partition));
        }
    }
    end_if_nothing_left(group, deleted.len());
    let records = tombstones(group, deleted.into_iter().collect());
    let purpose = Purpose::OffsetDelete { group: group.id.clone(), reply: token, errors: errors.clone() };
    if !append_in_batches(step, records, purpose) {
        group.revive();
        let response = OffsetDeleteResponse { error: ErrorCode::None, partitions: errors };
        step.reply(token, Response::OffsetDelete(response));
    }
}

/// An empty group ends with the last of its offsets, `removed` of which are about to go.
fn end_if_nothing_left(group: &mut Group, removed: usize) {
    if group.is(GroupState::Empty) && group.offsets.has_only(removed) && group.pending_members.is_empty() {
        group.mark_dead();
    }
}

/// Removes offsets that nobody asked to remove, and the group with them if that leaves it without anything.
fn give_up(step: &mut Step<'_>, group: &mut Group, partitions: Vec<(Arc<str>, i32)>) {
    end_if_nothing_left(group, partitions.len());
    let records = tombstones(group, partitions);
    let purpose = Purpose::Housekeeping { group: group.id.clone() };
    if !append_in_batches(step, records, purpose) {
        group.revive();
    }
}

/// The periodic sweep (`offsets.retention.minutes`).
pub(super) fn expire_offsets(step: &mut Step<'_>, group: &mut Group) {
    // What is being appended would be removed by a tombstone behind it.
    if group.is(GroupState::Dead) || !group.offsets.pending().is_empty() {
        return;
    }
    let (now, retention_ms) = (step.now.wall_ms, step.config.offsets_retention_ms);
    let expired = match (&group.protocol_type, group.state()) {
        // Since the last member left; groups loaded from old records do not say when.
        (Some(_), GroupState::Empty) => {
            group.offsets.expired(&Expiry { now, retention_ms, since: group.state_since, is_kept: &|_| false })
        }
        (Some(_), GroupState::Stable) if group.is_consumer_group() && group.subscribed_topics.is_some() => {
            let is_kept = |topic: &str| group.is_subscribed(topic);
            group.offsets.expired(&Expiry { now, retention_ms, since: None, is_kept: &is_kept })
        }
        (Some(_), _) => return,
        (None, _) => group.offsets.expired(&Expiry { now, retention_ms, since: None, is_kept: &|_| false }),
    };
    if !expired.is_empty() || group.is(GroupState::Empty) {
        give_up(step, group, expired);
    }
}

/// Offsets of partitions that do not exist any longer.
pub(super) fn forget_partitions(step: &mut Step<'_>, group: &mut Group, partitions: &[(Arc<str>, i32)]) {
    if group.is(GroupState::Dead) {
        return;
    }
    let gone = partitions.iter().filter(|(topic, partition)| group.offsets.has(topic, *partition));
    let gone: Vec<_> = gone.cloned().collect();
    if !gone.is_empty() {
        give_up(step, group, gone);
    }
}
