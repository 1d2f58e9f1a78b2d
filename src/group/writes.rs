//! What each append under way is for, and what happens when it ends.
//!
//! Invariant: appends end in the order in which they began, so that memory takes the records in the order of the log.

use super::message::{Batch, CommitResponse, Effect, Now, OffsetDeleteResponse, ReplyToken, Response, WriteToken};
use super::shard::GroupShard;
use super::{commit, join, rebalance};
use crate::base::ErrorCode;
use crate::coordinator;
use std::sync::Arc;

/// What an append is for: decides what happens when it ends.
#[derive(Clone)]
pub(super) enum Purpose {
    /// The leader's assignment of a generation.
    Assignment { group: Arc<str>, generation: i32 },
    /// A static member came back under a new id and nothing else changed.
    StaticJoin(Box<join::StaticJoin>),
    /// Offsets; the codes of partitions that were refused before.
    Commit { group: Arc<str>, reply: ReplyToken, errors: Vec<ErrorCode> },
    /// The deletion of a whole group.
    DeleteGroup { group: Arc<str>, reply: ReplyToken },
    /// The deletion of some offsets.
    OffsetDelete { group: Arc<str>, reply: ReplyToken, errors: Vec<ErrorCode> },
    /// All but the last of the batches that belong together.
    Part,
    /// Nobody waits: an empty generation, expired offsets.
    Housekeeping { group: Arc<str> },
}

pub(super) type Writes = coordinator::Writes<Arc<Batch>, Purpose>;

impl GroupShard {
    pub(super) fn appended(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        token: WriteToken,
        result: Result<i64, ErrorCode>,
    ) {
        let Some((batch, purpose)) = self.writes.end(token) else { return };
        if let Ok(base_offset) = result {
            let batch = Arc::unwrap_or_clone(batch);
            let producer = batch.transaction.map(|(producer, _)| producer);
            // Pending until the record is applied, so that the group is not void in between.
            for (offset, record) in (base_offset..).zip(batch.records) {
                self.replay(now, record, offset, producer);
            }
        }
        let error = result.err();
        match purpose {
            Purpose::Assignment { group, generation } => {
                self.with_group(now, effects, &group, |step, group| {
                    rebalance::assignment_written(step, group, token, generation, error)
                });
            }
            Purpose::StaticJoin(join) => {
                let id = join.group.clone();
                self.with_group(now, effects, &id, |step, group| join::static_join_written(step, group, *join, error));
            }
            Purpose::Commit { group, reply, errors } => {
                self.with_group(now, effects, &group, |_, group| group.offsets.written(token));
                let errors = commit::fill_errors(errors, error.map(commit::commit_error));
                effects.push(Effect::Reply(reply, Response::Commit(CommitResponse { errors })));
            }
            Purpose::DeleteGroup { group, reply } => {
                self.with_group(now, effects, &group, |_, group| group.revive());
                let error = error.map_or(ErrorCode::None, commit::store_error);
                effects.push(Effect::Reply(reply, Response::DeleteGroup(error)));
            }
            Purpose::OffsetDelete { group, reply, errors } => {
                self.with_group(now, effects, &group, |_, group| group.revive());
                let partitions = commit::fill_errors(errors, error.map(commit::store_error));
                let response = OffsetDeleteResponse { error: ErrorCode::None, partitions };
                effects.push(Effect::Reply(reply, Response::OffsetDelete(response)));
            }
            Purpose::Part => {}
            Purpose::Housekeeping { group } => {
                self.with_group(now, effects, &group, |_, group| group.revive());
            }
        }
        self.transaction_write_ended(effects, token);
    }
}
