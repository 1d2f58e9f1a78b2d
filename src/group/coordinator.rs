//! The group coordinator of this broker, as requests see it (class `GroupCoordinator`): what each is answered when nobody here
//! coordinates its group, or not yet. The pure half is [`GroupShard`], the driver [`Partitions`].

use super::answer::Answer;
use super::message::{
    CommitRequest, CommitResponse, Event, FetchResponse, FetchTopics, GroupDescription, GroupListing, HeartbeatRequest,
    JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, OffsetDeleteRequest, OffsetDeleteResponse, SyncRequest,
    SyncResponse,
};
use super::shard::{GroupConfig, GroupShard};
use super::state::GroupState;
use crate::base::{ErrorCode, LeaderEpoch, Millis, ProducerId, TopicPartition};
use crate::config::BrokerConfig;
use crate::coordinator::{CoordinatorLog, Partitions};
use crate::record::Compression;
use std::sync::Arc;
use tokio::runtime::Handle;

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
            commit_timeout_ms: config.offsets_commit_timeout_ms,
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
    partitions: Arc<Partitions<GroupShard>>,
}

impl GroupCoordinator {
    /// Starts to tick on `runtime`; ends when the last reference is dropped.
    pub fn new(config: &BrokerConfig, log: Arc<dyn CoordinatorLog>, runtime: Handle) -> Arc<GroupCoordinator> {
        let partitions = Partitions::new(log, (), config.offsets_topic_num_partitions, runtime);
        Arc::new(GroupCoordinator { config: Arc::new(config.into()), partitions })
    }

    /// How many partitions `__consumer_offsets` has, once it exists.
    pub fn set_partition_count(&self, count: i32) {
        self.partitions.set_count(count);
    }

    pub fn partition_for(&self, group: &str) -> i32 {
        self.partitions.index_of(group)
    }

    /// This broker leads a partition from now on. What is in memory stays true if it did before.
    pub fn on_elected(&self, index: i32, epoch: LeaderEpoch) {
        self.partitions.elected(index, epoch, || GroupShard::new(self.config.clone()));
    }

    /// Another broker leads, or the partition is gone.
    pub fn on_resigned(&self, index: i32) {
        self.partitions.resigned(index);
    }

    /// Partitions that left the cluster: what groups committed for them is removed.
    pub fn on_partitions_deleted(&self, deleted: &[TopicPartition]) {
        if deleted.is_empty() {
            return;
        }
        let deleted = Arc::new(deleted.iter().map(|tp| (tp.topic.clone(), tp.partition)).collect::<Vec<_>>());
        for partition in self.partitions.all() {
            partition.tell(Event::PartitionsDeleted(deleted.clone()));
        }
    }

    /// The broker goes down: everyone who waits is sent elsewhere.
    pub fn shutdown(&self) {
        self.partitions.shutdown();
    }

    /// The marker of a producer's transaction has been appended to a partition of `__consumer_offsets`: offsets that were
    /// committed inside it count now, or never will. Answered when they do.
    pub fn end_transaction(&self, index: i32, producer: ProducerId, commit: bool) -> Answer<ErrorCode> {
        match self.partitions.at(index) {
            Ok(partition) if partition.note_while_loading((producer, commit)) => Answer::Now(ErrorCode::None),
            Ok(partition) => partition.ask(|token| Event::EndTransaction(token, producer, commit), |error| error),
            Err(error) => Answer::Now(error),
        }
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
        self.partitions.ask(&request.group.clone(), |token| Event::Join(token, request), failed)
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
        self.partitions.ask(&request.group.clone(), |token| Event::Sync(token, request), failed)
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
        self.partitions.ask(&request.group.clone(), |token| Event::Heartbeat(token, request), failed)
    }

    pub fn leave(&self, request: LeaveRequest) -> Answer<LeaveResponse> {
        let failed = |error| LeaveResponse { error, members: Vec::new() };
        if request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.partitions.ask(&request.group.clone(), |token| Event::Leave(token, request), failed)
    }

    pub fn commit(&self, request: CommitRequest) -> Answer<CommitResponse> {
        let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let failed = |error| CommitResponse { errors: vec![error; partitions] };
        if request.transaction.is_some() && request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.partitions.ask(&request.group.clone(), |token| Event::Commit(token, request), failed)
    }

    pub fn delete_group(&self, group: Arc<str>) -> Answer<ErrorCode> {
        self.partitions.ask(&group.clone(), |token| Event::DeleteGroup(token, group), |error| error)
    }

    pub fn delete_offsets(&self, request: OffsetDeleteRequest) -> Answer<OffsetDeleteResponse> {
        let failed = |error| OffsetDeleteResponse { error, partitions: Vec::new() };
        if request.group.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidGroupId));
        }
        self.partitions.ask(&request.group.clone(), |token| Event::OffsetDelete(token, request), failed)
    }

    pub fn fetch_offsets(&self, group: &str, topics: &FetchTopics, require_stable: bool) -> FetchResponse {
        let fetch = |shard: &GroupShard| shard.fetch_offsets(group, topics, require_stable);
        let fetched = self.partitions.of(group).and_then(|partition| partition.view(fetch));
        fetched.unwrap_or_else(|error| FetchResponse { error, topics: Vec::new() })
    }

    /// An unknown group is shown as dead.
    pub fn describe(&self, group: &str) -> GroupDescription {
        let described = self.partitions.of(group).and_then(|partition| partition.view(|shard| shard.describe(group)));
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
        for partition in self.partitions.all() {
            match partition.view(|shard| shard.list().collect::<Vec<_>>()) {
                Ok(listed) => groups.extend(listed),
                Err(ErrorCode::CoordinatorLoadInProgress) => error = ErrorCode::CoordinatorLoadInProgress,
                Err(_) => {}
            }
        }
        (error, groups)
    }
}

/// What the client calls itself and a random part, short enough for every string field.
fn new_member_id(prefix: &str) -> Arc<str> {
    const PREFIX_CHARS_MAX: usize = 8_000;
    let prefix: String = prefix.chars().take(PREFIX_CHARS_MAX).collect();
    format!("{prefix}-{}", uuid::Uuid::new_v4()).into()
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
