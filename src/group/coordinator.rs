//! The group coordinator of this broker: finds the partition of a group, loads and unloads partitions as leadership moves,
//! and ticks those whose timers are due (class `GroupCoordinator`; the pure half is [`GroupShard`]).
//!
//! Invariant: loading one partition makes nobody else wait.

use super::answer::{Answer, Held, Kind};
use super::log::OffsetsLog;
use super::message::{
    CommitRequest, CommitResponse, Event, FetchResponse, FetchTopics, GroupDescription, GroupListing, HeartbeatRequest,
    JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, OffsetDeleteRequest, OffsetDeleteResponse, ReplyToken,
    SyncRequest, SyncResponse,
};
use super::partition::{Clock, NEVER, Outcome, Partition};
use super::shard::{GroupConfig, GroupShard};
use super::state::GroupState;
use crate::base::time::monotonic_ms;
use crate::base::{ErrorCode, LeaderEpoch, Millis, ProducerId, TopicPartition};
use crate::config::BrokerConfig;
use crate::record::Compression;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Partitions that are read from disk at the same time.
const LOADS_AT_ONCE: usize = 4;

impl From<&BrokerConfig> for GroupConfig {
    fn from(config: &BrokerConfig) -> GroupConfig {
        GroupConfig {
            min_session_timeout_ms: config.group_min_session_timeout_ms,
            max_session_timeout_ms: config.group_max_session_timeout_ms,
            initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms.into(),
            max_size: usize::try_from(config.group_max_size).unwrap_or(usize::MAX),
            offset_metadata_max_bytes: usize::try_from(config.offset_metadata_max_bytes).unwrap_or(0),
            offsets_retention_ms: Millis::from(config.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
            // Checked when the properties were read.
            compression: u8::try_from(config.offsets_topic_compression_codec)
                .ok()
                .and_then(Compression::from_id)
                .unwrap_or_default(),
        }
    }
}

/// Which partition coordinates a group.
pub fn partition_of(id: &str, count: i32) -> i32 {
    crate::base::coordinator_partition(id, count)
}

pub struct GroupCoordinator {
    config: Arc<GroupConfig>,
    log: Arc<dyn OffsetsLog>,
    partitions: RwLock<HashMap<i32, Arc<Partition>>>,
    partition_count: AtomicI32,
    clock: Arc<Clock>,
    loads: Arc<Semaphore>,
    runtime: Handle,
}

impl GroupCoordinator {
    /// Starts to tick on `runtime`; ends when the last reference is dropped.
    pub fn new(config: &BrokerConfig, log: Arc<dyn OffsetsLog>, runtime: Handle) -> Arc<GroupCoordinator> {
        let coordinator = Arc::new(GroupCoordinator {
            config: Arc::new(config.into()),
            log,
            partitions: RwLock::new(HashMap::new()),
            partition_count: AtomicI32::new(config.offsets_topic_num_partitions),
            clock: Arc::new(Clock::default()),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            runtime,
        });
        coordinator.runtime.spawn(tick(Arc::downgrade(&coordinator), coordinator.clock.clone()));
        coordinator
    }

    /// How many partitions `__consumer_offsets` has, once it exists. Groups would move if that changed later.
    pub fn set_partition_count(&self, count: i32) {
        self.partition_count.store(count, Ordering::Relaxed);
    }

    pub fn partition_for(&self, group: &str) -> i32 {
        partition_of(group, self.partition_count.load(Ordering::Relaxed))
    }

    /// This broker leads a partition from now on. Returns at once; requests are served when the log has been read.
    pub fn on_elected(&self, index: i32, epoch: LeaderEpoch) {
        let mut partitions = self.partitions.write();
        if let Some(present) = partitions.get(&index).filter(|present| !present.is_broken()) {
            // Elected again without having lost it: what is in memory is still true.
            present.epoch.fetch_max(epoch.0, Ordering::Relaxed);
            return;
        }
        let (log, runtime) = (self.log.clone(), self.runtime.clone());
        let partition = Arc::new(Partition::loading(index, epoch, log, runtime, self.clock.clone()));
        partitions.insert(index, partition.clone());
        drop(partitions);
        let shard = GroupShard::new(self.config.clone());
        if self.log.bounds(index).is_some_and(|bounds| bounds.is_empty()) {
            return partition.load(shard);
        }
        let loads = self.loads.clone();
        self.runtime.spawn(async move {
            let _permit = loads.acquire_owned().await;
            let _ = tokio::task::spawn_blocking(move || partition.load(shard)).await;
        });
    }

    /// Another broker leads, or the partition is gone.
    pub fn on_resigned(&self, index: i32) {
        let resigned = self.partitions.write().remove(&index);
        if let Some(partition) = resigned {
            partition.resign();
        }
    }

    /// Partitions that left the cluster: what groups committed for them is removed.
    pub fn on_partitions_deleted(&self, deleted: &[TopicPartition]) {
        if deleted.is_empty() {
            return;
        }
        let deleted = Arc::new(deleted.iter().map(|tp| (tp.topic.clone(), tp.partition)).collect::<Vec<_>>());
        for partition in self.all() {
            partition.tell(Event::PartitionsDeleted(deleted.clone()));
        }
    }

    /// The broker goes down: everyone who waits is sent elsewhere.
    pub fn shutdown(&self) {
        let partitions = std::mem::take(&mut *self.partitions.write());
        partitions.into_values().for_each(|partition| partition.resign());
    }

    fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }

    fn partition(&self, group: &str) -> Result<Arc<Partition>, ErrorCode> {
        self.partitions.read().get(&self.partition_for(group)).cloned().ok_or(ErrorCode::NotCoordinator)
    }

    fn request<T: Kind>(
        &self,
        group: &str,
        make: impl FnOnce(ReplyToken) -> Event,
        failed: impl Fn(ErrorCode) -> T,
    ) -> Answer<T> {
        answer(self.partition(group).and_then(|partition| partition.request(make)), failed)
    }

    /// The marker of a producer's transaction has been appended to a partition of `__consumer_offsets`: offsets that were
    /// committed inside it count now, or never will. Answered when they do.
    pub fn end_transaction(&self, index: i32, producer: ProducerId, commit: bool) -> Answer<ErrorCode> {
        let partition = self.partitions.read().get(&index).cloned().ok_or(ErrorCode::NotCoordinator);
        answer(partition.and_then(|partition| partition.end_transaction(producer, commit)), |error| error)
    }

    pub fn join(&self, mut request: JoinRequest) -> Answer<JoinResponse> {
        let member_id = request.member_id.clone();
        let failed = |error| JoinResponse::error(member_id.clone(), error);
        if request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        if request.member_id.is_empty() {
            request.new_member_id = new_member_id(request.instance_id.as_deref().unwrap_or(&request.client_id));
        }
        self.request(&request.group.clone(), |token| Event::Join(token, request), failed)
    }

    pub fn sync(&self, request: SyncRequest) -> Answer<SyncResponse> {
        let failed = |error| match error {
            // The rebalance is lost with the old coordinator, and old clients do not know the error for loading here.
            ErrorCode::CoordinatorLoadInProgress => SyncResponse::error(ErrorCode::RebalanceInProgress),
            other => SyncResponse::error(other),
        };
        if request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.request(&request.group.clone(), |token| Event::Sync(token, request), failed)
    }

    pub fn heartbeat(&self, request: HeartbeatRequest) -> Answer<ErrorCode> {
        if request.group.is_empty() {
            return Answer::Now(ErrorCode::InvalidGroupId);
        }
        let failed = |error| match error {
            // Nothing is known yet that could be wrong with it.
            ErrorCode::CoordinatorLoadInProgress => ErrorCode::None,
            other => other,
        };
        self.request(&request.group.clone(), |token| Event::Heartbeat(token, request), failed)
    }

    pub fn leave(&self, request: LeaveRequest) -> Answer<LeaveResponse> {
        let failed = |error| LeaveResponse { error, members: Vec::new() };
        if request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.request(&request.group.clone(), |token| Event::Leave(token, request), failed)
    }

    pub fn commit(&self, request: CommitRequest) -> Answer<CommitResponse> {
        let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let failed = |error| CommitResponse { errors: vec![error; partitions] };
        if request.transaction.is_some() && request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.request(&request.group.clone(), |token| Event::Commit(token, request), failed)
    }

    pub fn delete_group(&self, group: Arc<str>) -> Answer<ErrorCode> {
        self.request(&group.clone(), |token| Event::DeleteGroup(token, group), |error| error)
    }

    pub fn delete_offsets(&self, request: OffsetDeleteRequest) -> Answer<OffsetDeleteResponse> {
        let failed = |error| OffsetDeleteResponse { error, partitions: Vec::new() };
        if request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.request(&request.group.clone(), |token| Event::OffsetDelete(token, request), failed)
    }

    pub fn fetch_offsets(&self, group: &str, topics: &FetchTopics, require_stable: bool) -> FetchResponse {
        let fetch = |shard: &GroupShard| shard.fetch_offsets(group, topics, require_stable);
        let fetched = self.partition(group).and_then(|partition| partition.view(fetch));
        fetched.unwrap_or_else(|error| FetchResponse { error, topics: Vec::new() })
    }

    /// An unknown group is shown as dead.
    pub fn describe(&self, group: &str) -> GroupDescription {
        let described = self.partition(group).and_then(|partition| partition.view(|shard| shard.describe(group)));
        match described {
            Ok(Some(description)) => description,
            Ok(None) => GroupDescription::without_members(ErrorCode::None, GroupState::Dead.name()),
            Err(error) => GroupDescription::without_members(error, ""),
        }
    }

    /// All groups that this broker coordinates; with an error if some are still being loaded.
    pub fn list(&self) -> (ErrorCode, Vec<GroupListing>) {
        let mut error = ErrorCode::None;
        let mut groups = Vec::new();
        for partition in self.all() {
            match partition.view(|shard| shard.list().collect::<Vec<_>>()) {
                Ok(listed) => groups.extend(listed),
                Err(ErrorCode::CoordinatorLoadInProgress) => error = ErrorCode::CoordinatorLoadInProgress,
                Err(_) => {}
            }
        }
        (error, groups)
    }
}

fn answer<T: Kind>(outcome: Result<Outcome, ErrorCode>, failed: impl Fn(ErrorCode) -> T) -> Answer<T> {
    match outcome {
        Ok(Outcome::Now(response)) => {
            Answer::Now(T::of(response).unwrap_or_else(|| failed(ErrorCode::UnknownServerError)))
        }
        Ok(Outcome::Later(receiver)) => Answer::Later(Held { receiver, gone: failed(ErrorCode::NotCoordinator) }),
        Err(error) => Answer::Now(failed(error)),
    }
}

/// What the client calls itself and a random part, short enough for every string field.
fn new_member_id(prefix: &str) -> Arc<str> {
    const PREFIX_CHARS_MAX: usize = 8_000;
    let prefix: String = prefix.chars().take(PREFIX_CHARS_MAX).collect();
    format!("{prefix}-{}", uuid::Uuid::new_v4()).into()
}

/// Ticks partitions when their timers are due, for as long as the coordinator lives.
async fn tick(coordinator: Weak<GroupCoordinator>, clock: Arc<Clock>) {
    loop {
        // While the next deadline is being looked for, any new one wakes.
        clock.sleeps_until.store(NEVER, Ordering::SeqCst);
        let Some(partitions) = coordinator.upgrade().map(|coordinator| coordinator.all()) else { return };
        let now = monotonic_ms();
        for partition in partitions.iter().filter(|partition| partition.deadline() <= now) {
            partition.tell(Event::Tick);
        }
        let next = partitions.iter().map(|partition| partition.deadline()).min().unwrap_or(NEVER);
        drop(partitions);
        clock.sleeps_until.store(next, Ordering::SeqCst);
        // Wakes now and then even without a deadline, to see whether the coordinator is still there.
        let wait_ms = next.saturating_sub(monotonic_ms()).clamp(1, 60_000);
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms as u64), clock.wake.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hash_as_java_strings_do() {
        let cases =
            [("", 0), ("a", 47), ("console-consumer-12345", 6), ("polygenelubricants", 0), ("größe", 7), ("😀", 49)];
        for (group, expected) in cases {
            assert_eq!(partition_of(group, 50), expected, "{group}");
        }
        assert_eq!(new_member_id(&"😀".repeat(30_000)).len(), 32_037);
    }
}
