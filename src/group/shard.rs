//! All groups of one partition of `__consumer_offsets`: the pure core of the coordinator (classes `GroupCoordinator` and
//! `GroupMetadataManager`).
//!
//! Invariant: what a new coordinator must know changes only when a record is replayed ([`GroupShard::replay`]), whether the
//! record comes from the log or was appended a moment ago; replies that depend on it are held until then. Who is alive, who
//! waits for a rebalance and which ids were given out is memory only, and lost with the coordinator, as in Kafka.

use super::message::{Batch, Effect, Event, JoinResponse, Now, ReplyToken, Response, SyncResponse, WriteToken};
use super::records::CoordinatorRecord;
use super::state::{Group, GroupState};
use super::transactions::Transactions;
use super::writes::{Purpose, Writes};
use super::{commit, join, membership, rebalance};
use crate::base::{ErrorCode, Millis, ProducerId, TimerQueue};
use crate::record::Compression;
use std::collections::HashMap;
use std::sync::Arc;

/// Settings of the coordinator, by the names of the properties.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub initial_rebalance_delay_ms: Millis,
    pub max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: Millis,
    pub offsets_retention_check_interval_ms: Millis,
    /// How long commits wait for the replicas.
    pub commit_timeout_ms: i32,
    /// Of batches that are made of records.
    pub compression: Compression,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum TimerKey {
    /// A member must be heard of.
    Session { group: Arc<str>, member: Arc<str> },
    /// An id that was given out must be used.
    Pending { group: Arc<str>, member: Arc<str> },
    /// The rebalance goes on with those who came.
    Join(Arc<str>),
    /// Members must ask for their assignments.
    Sync(Arc<str>),
    /// Offsets expire.
    Sweep,
}

/// One step's view of the shard beside the group at hand.
pub(super) struct Step<'a> {
    pub now: Now,
    pub config: &'a GroupConfig,
    pub timers: &'a mut TimerQueue<TimerKey>,
    writes: &'a mut Writes,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    pub fn reply(&mut self, token: ReplyToken, response: Response) {
        self.effects.push(Effect::Reply(token, response));
    }

    pub fn reply_join(&mut self, token: Option<ReplyToken>, response: impl FnOnce() -> JoinResponse) {
        if let Some(token) = token {
            self.reply(token, Response::Join(response()));
        }
    }

    pub fn reply_sync(&mut self, token: Option<ReplyToken>, response: impl FnOnce() -> SyncResponse) {
        if let Some(token) = token {
            self.reply(token, Response::Sync(response()));
        }
    }

    pub fn append(&mut self, batch: Batch, purpose: Purpose) -> WriteToken {
        let batch = Arc::new(batch);
        let token = self.writes.begin(batch.clone(), purpose);
        self.effects.push(Effect::Append(token, batch));
        token
    }

    pub fn schedule(&mut self, key: TimerKey, delay_ms: Millis) {
        self.timers.schedule(key, self.now.monotonic_ms.saturating_add(delay_ms.max(0)));
    }
}

/// The coordinator of one partition.
#[derive(Clone)]
pub struct GroupShard {
    config: Arc<GroupConfig>,
    pub(super) groups: HashMap<Arc<str>, Group>,
    pub(super) timers: TimerQueue<TimerKey>,
    pub(super) writes: Writes,
    pub(super) transactions: Transactions,
    loading: bool,
}

impl GroupShard {
    /// A shard that is about to be loaded: [`replay`](GroupShard::replay) the log, then [`finish_loading`](GroupShard::finish_loading).
    pub fn new(config: Arc<GroupConfig>) -> GroupShard {
        GroupShard {
            config,
            groups: HashMap::new(),
            timers: TimerQueue::new(),
            writes: Writes::default(),
            transactions: Transactions::default(),
            loading: true,
        }
    }

    pub(super) fn config(&self) -> &GroupConfig {
        &self.config
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// When the next `Tick` is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next_deadline()
    }

    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Join(token, request) => join::join(self, now, effects, token, request),
            Event::Sync(token, request) => {
                let group = request.group.clone();
                let unknown = Response::Sync(SyncResponse::error(ErrorCode::UnknownMemberId));
                self.on_group(now, effects, &group, token, unknown, |step, group| {
                    membership::sync(step, group, token, request);
                });
            }
            Event::Heartbeat(token, request) => {
                let unknown = Response::Heartbeat(ErrorCode::UnknownMemberId);
                self.on_group(now, effects, &request.group, token, unknown, |step, group| {
                    let error = membership::heartbeat(step, group, &request);
                    step.reply(token, Response::Heartbeat(error));
                });
            }
            Event::Leave(token, request) => {
                let unknown = membership::leave_unknown_group(&request);
                self.on_group(now, effects, &request.group, token, unknown, |step, group| {
                    let response = membership::leave(step, group, &request);
                    step.reply(token, Response::Leave(response));
                });
            }
            Event::Commit(token, request) => commit::commit(self, now, effects, token, request),
            Event::DeleteGroup(token, group) => {
                let unknown = Response::DeleteGroup(ErrorCode::GroupIdNotFound);
                self.on_group(now, effects, &group, token, unknown, |step, group| {
                    commit::delete_group(step, group, token);
                });
            }
            Event::OffsetDelete(token, request) => {
                let unknown = commit::offset_delete_error(ErrorCode::GroupIdNotFound);
                self.on_group(now, effects, &request.group, token, unknown, |step, group| {
                    commit::delete_offsets(step, group, token, &request);
                });
            }
            Event::EndTransaction(token, producer, commit) => self.end_transaction(effects, token, producer, commit),
            Event::Appended(token, result) => self.appended(now, effects, token, result),
            Event::PartitionsDeleted(partitions) => self.for_all(now, effects, |step, group| {
                commit::forget_partitions(step, group, &partitions);
            }),
            Event::Tick => self.tick(now, effects),
        }
    }

    fn split<'a>(&'a mut self, now: Now, effects: &'a mut Vec<Effect>) -> (Step<'a>, &'a mut HashMap<Arc<str>, Group>) {
        let step = Step { now, config: &self.config, timers: &mut self.timers, writes: &mut self.writes, effects };
        (step, &mut self.groups)
    }

    /// Runs `work` on a group if it is there. A group that nobody refers to afterwards is forgotten.
    pub(super) fn with_group<T>(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        id: &str,
        work: impl FnOnce(&mut Step<'_>, &mut Group) -> T,
    ) -> Option<T> {
        let (mut step, groups) = self.split(now, effects);
        let group = groups.get_mut(id)?;
        let result = work(&mut step, group);
        if group.is_void() {
            groups.remove(id);
        }
        Some(result)
    }

    /// As [`with_group`](GroupShard::with_group), in a new group if there is none.
    pub(super) fn with_group_or_new(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        id: &Arc<str>,
        work: impl FnOnce(&mut Step<'_>, &mut Group),
    ) {
        if !self.groups.contains_key(id) {
            self.groups.insert(id.clone(), Group::new(id.clone(), now.wall_ms));
        }
        self.with_group(now, effects, id, work);
    }

    fn on_group(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        id: &str,
        token: ReplyToken,
        unknown: Response,
        work: impl FnOnce(&mut Step<'_>, &mut Group),
    ) {
        if self.with_group(now, effects, id, work).is_none() {
            effects.push(Effect::Reply(token, unknown));
        }
    }

    fn for_all(&mut self, now: Now, effects: &mut Vec<Effect>, mut work: impl FnMut(&mut Step<'_>, &mut Group)) {
        let (mut step, groups) = self.split(now, effects);
        for group in groups.values_mut() {
            work(&mut step, group);
        }
        groups.retain(|_, group| !group.is_void());
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(key) = self.timers.pop_due(now.monotonic_ms) {
            match key {
                TimerKey::Session { group, member } => {
                    self.with_group(now, effects, &group, |step, group| {
                        membership::session_expired(step, group, &member)
                    });
                }
                TimerKey::Pending { group, member } => {
                    self.with_group(now, effects, &group, |step, group| {
                        membership::remove_pending(step, group, &member)
                    });
                }
                TimerKey::Join(group) => {
                    self.with_group(now, effects, &group, rebalance::join_timer_due);
                }
                TimerKey::Sync(group) => {
                    self.with_group(now, effects, &group, rebalance::sync_timer_due);
                }
                TimerKey::Sweep => {
                    self.for_all(now, effects, commit::expire_offsets);
                    self.schedule_sweep(now);
                }
            }
        }
    }

    fn schedule_sweep(&mut self, now: Now) {
        let interval_ms = self.config.offsets_retention_check_interval_ms.max(1);
        self.timers.schedule(TimerKey::Sweep, now.monotonic_ms.saturating_add(interval_ms));
    }

    /// Applies a record at `offset` of the log; `producer` if its batch is transactional.
    pub fn replay(&mut self, now: Now, record: CoordinatorRecord, offset: i64, producer: Option<ProducerId>) {
        let id = record.group().clone();
        if !self.groups.contains_key(&id) {
            self.groups.insert(id.clone(), Group::new(id.clone(), now.wall_ms));
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        match record {
            CoordinatorRecord::Offset { topic, partition, value, .. } => match producer {
                Some(producer) => {
                    self.transactions.opened(producer, &id);
                    group.offsets.apply_transactional(producer, &topic, partition, value, offset);
                }
                None => group.offsets.apply(&topic, partition, value, offset),
            },
            CoordinatorRecord::Group { value: Some(value), .. } if self.loading => group.load(&value),
            CoordinatorRecord::Group { value: Some(value), .. } => rebalance::assignment_stored(group, value, now),
            // Live, only a group that is being deleted can have one.
            CoordinatorRecord::Group { value: None, .. } if !self.loading && !group.is(GroupState::Dead) => {}
            CoordinatorRecord::Group { value: None, .. } => {
                let offsets = std::mem::take(&mut group.offsets);
                *group = Group::new(id.clone(), now.wall_ms);
                group.offsets = offsets;
            }
        }
        if group.is_void() {
            self.groups.remove(&id);
        }
    }

    /// The whole log has been replayed: from now on members must be heard of, and requests are served.
    pub fn finish_loading(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.loading = false;
        self.schedule_sweep(now);
        self.for_all(now, effects, |step, group| {
            let members: Vec<_> = group.members().map(|member| member.id.clone()).collect();
            for member in &members {
                membership::expect_heartbeat(step, group, member);
            }
            if group.len() > step.config.max_size {
                rebalance::maybe_prepare(step, group);
            }
        });
    }

    /// The partition has another leader now: nobody here can answer those who wait.
    pub fn unload(self, effects: &mut Vec<Effect>) {
        const GONE: ErrorCode = ErrorCode::NotCoordinator;
        for group in self.groups.into_values() {
            for member in group.members() {
                if let Some(token) = member.awaiting_join {
                    let response = JoinResponse::error(member.id.clone(), GONE);
                    effects.push(Effect::Reply(token, Response::Join(response)));
                }
                if let Some(token) = member.awaiting_sync {
                    effects.push(Effect::Reply(token, Response::Sync(SyncResponse::error(GONE))));
                }
            }
        }
        effects.extend(self.transactions.waiting().map(|token| Effect::Reply(token, Response::EndTransaction(GONE))));
        effects.extend(self.writes.abandon().filter_map(|purpose| commit::abandoned(purpose, GONE)));
    }
}
