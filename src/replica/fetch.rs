//! Reading partitions for a Fetch request: bounds, size limits, and the wait for more.
//!
//! A fetch answers at once if it has enough bytes, any error, or no time to wait; otherwise it registers with its partitions
//! and looks again after each event. Of a follower, the first look counts as its word on how far its log goes; what it says is
//! old when a wait ends.

use super::error::ReplicaError;
use super::fetch_session::FetchPartition;
use super::manager::ReplicaManager;
use super::partition::{FollowerSays, LogEnd, Partition};
use super::selector::{self, Candidate};
use super::waiters::{Registration, Watched};
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, TopicId, time};
use crate::config::ReplicaSelector;
use crate::log::{AbortedTransaction, FileSlice, LogError, LogRead};
use std::sync::Arc;
use std::time::Duration;

/// `isolation_level` of Fetch and ListOffsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// What holds for all partitions of one fetch.
#[derive(Clone, Debug)]
pub struct FetchLimits {
    pub isolation: Isolation,
    /// A follower reads up to the log end; -1 for consumers.
    pub replica_id: i32,
    /// The registration of the follower's broker, from version 15 on.
    pub replica_epoch: BrokerEpoch,
    /// Where a consumer is, and the listener that it came by: it may be sent to a replica nearby (KIP-392).
    pub rack: Option<Arc<str>>,
    pub listener: Arc<str>,
    /// Clients from version 11 on may read from followers.
    pub from_follower_allowed: bool,
    pub max_wait: Duration,
    pub min_bytes: usize,
    pub max_bytes: usize,
    /// Below version 3 no reply may be larger than asked for, not even for one whole batch.
    pub hard_limit: bool,
}

/// What was read of one partition. Offsets are -1 where the partition could not be read.
#[derive(Debug)]
pub struct PartitionData {
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub slices: Vec<FileSlice>,
    /// For read_committed: transactions that were aborted within what was read.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Where the reader's log leaves ours (KIP-595): it truncates to it.
    pub diverging_epoch: Option<(LeaderEpoch, i64)>,
    /// Where this consumer should read instead.
    pub preferred_read_replica: Option<BrokerId>,
}

impl PartitionData {
    pub fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}

impl FetchLimits {
    fn is_follower(&self) -> bool {
        self.replica_id >= 0
    }
}

pub type ReadResult = Result<PartitionData, ReplicaError>;

impl ReplicaManager {
    /// Reads all partitions, in order, waiting for `min_bytes` up to `max_wait`. Comes after [`Self::fetch_now`].
    pub async fn fetch(&self, limits: FetchLimits, partitions: &[FetchPartition]) -> Vec<ReadResult> {
        let watched = partitions.iter().filter_map(|wanted| self.hosted(&wanted.topic, wanted.partition));
        if limits.is_follower() {
            let ends = watched.map(|partition| Arc::new(LogEnd(partition))).collect();
            self.fetch_woken(&limits, partitions, &Registration::new(ends)).await
        } else {
            self.fetch_woken(&limits, partitions, &Registration::new(watched.collect())).await
        }
    }

    async fn fetch_woken<W: Watched>(
        &self,
        limits: &FetchLimits,
        partitions: &[FetchPartition],
        registration: &Registration<W>,
    ) -> Vec<ReadResult> {
        let deadline = tokio::time::Instant::now() + limits.max_wait;
        loop {
            if self.may_be_enough(limits, partitions) {
                let again = self.read(limits, partitions);
                if is_enough(limits, &again) {
                    return again;
                }
            }
            if tokio::time::timeout_at(deadline, registration.woken()).await.is_err() {
                return self.read(limits, partitions);
            }
        }
    }

    /// Reads what is there now, and whether that is enough for an answer.
    pub fn fetch_now(&self, limits: &FetchLimits, partitions: &[FetchPartition]) -> Option<Vec<ReadResult>> {
        let read = self.read(limits, partitions);
        if limits.is_follower() {
            self.follower_says(limits, partitions, &read);
        }
        is_enough(limits, &read).then_some(read)
    }

    /// A follower has everything below the offset that it asks for, where its log is the same as this one.
    fn follower_says(&self, limits: &FetchLimits, partitions: &[FetchPartition], read: &[ReadResult]) {
        for (wanted, read) in partitions.iter().zip(read) {
            let is_agreed = read.as_ref().is_ok_and(|data| data.diverging_epoch.is_none());
            if let Some(partition) = self.hosted(&wanted.topic, wanted.partition).filter(|_| is_agreed) {
                let said = FollowerSays {
                    broker_epoch: limits.replica_epoch,
                    offset: wanted.fetch_offset,
                    log_start_offset: wanted.log_start_offset,
                };
                partition.follower_fetched(BrokerId(limits.replica_id), wanted.current_leader_epoch, said);
            }
        }
    }

    /// A cheap look at what `read` would give: no index, no file.
    fn may_be_enough(&self, limits: &FetchLimits, partitions: &[FetchPartition]) -> bool {
        let mut bytes = 0;
        for wanted in partitions {
            let Some(partition) = self.hosted(&wanted.topic, wanted.partition) else { return true };
            if check(limits, &partition, wanted).is_err() {
                return true;
            }
            let limit = upper_bound(limits, &partition);
            if wanted.fetch_offset > limit {
                return true;
            }
            let between = partition.log().bytes_between(wanted.fetch_offset, limit);
            bytes += between.min(wanted.max_bytes.max(0) as u64);
            if bytes >= limits.min_bytes as u64 {
                return true;
            }
        }
        false
    }

    fn read(&self, limits: &FetchLimits, partitions: &[FetchPartition]) -> Vec<ReadResult> {
        let mut left = limits.max_bytes;
        let mut whole_batch = !limits.hard_limit;
        let mut results = Vec::with_capacity(partitions.len());
        let now_ms = time::monotonic_ms();
        let is_over_quota = limits.is_follower() && self.leader_quota.is_exceeded(now_ms);
        for wanted in partitions {
            let mut result = self.read_one(limits, wanted, left, whole_batch);
            if let Ok(data) = &mut result {
                if limits.is_follower() && !data.is_empty() {
                    self.throttle(BrokerId(limits.replica_id), wanted, data, is_over_quota);
                }
                left = left.saturating_sub(data.len());
                whole_batch &= data.is_empty();
            }
            results.push(result);
        }
        results
    }

    /// Counts what a follower gets of a throttled partition, or holds it back.
    fn throttle(&self, follower: BrokerId, wanted: &FetchPartition, data: &mut PartitionData, is_over_quota: bool) {
        let Some(partition) = self.hosted(&wanted.topic, wanted.partition) else { return };
        if !partition.is_throttled_leader() {
            return;
        }
        if is_over_quota && !partition.is_in_sync(follower) {
            data.slices.clear();
        } else {
            self.leader_quota.record(time::monotonic_ms(), data.len());
        }
    }

    /// The replica that a consumer should read from instead of this leader.
    fn preferred_read_replica(
        &self,
        limits: &FetchLimits,
        partition: &Partition,
        wanted: &FetchPartition,
    ) -> Option<BrokerId> {
        let rack = limits.rack.as_deref().filter(|_| !limits.is_follower() && limits.from_follower_allowed)?;
        if self.selector != ReplicaSelector::RackAware || !partition.is_leader() {
            return None;
        }
        let image = self.metadata.image();
        let reachable =
            |id: BrokerId| image.brokers.get(&id).filter(|broker| broker.endpoint(&limits.listener).is_some());
        let followers = partition.readable_from(wanted.fetch_offset);
        let candidates: Vec<Candidate> = followers
            .iter()
            .filter_map(|(id, follower)| Some(Candidate::follower(*id, reachable(*id)?.rack.clone(), follower)))
            .collect();
        let own_rack = image.brokers.get(&self.local).and_then(|broker| broker.rack.as_deref());
        selector::in_rack(rack, own_rack, &candidates)
    }

    fn read_one(&self, limits: &FetchLimits, wanted: &FetchPartition, left: usize, whole_batch: bool) -> ReadResult {
        if wanted.topic.is_empty() {
            return Err(ReplicaError::UnknownTopicId);
        }
        let partition = self.partition(&wanted.topic, wanted.partition)?;
        check(limits, &partition, wanted)?;
        let log = partition.log();
        let limit = upper_bound(limits, &partition);
        let mut data = PartitionData {
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            slices: Vec::new(),
            aborted: None,
            diverging_epoch: None,
            preferred_read_replica: self.preferred_read_replica(limits, &partition, wanted),
        };
        if data.preferred_read_replica.is_some() {
            return Ok(data);
        }
        if wanted.last_fetched_epoch != LeaderEpoch::NONE {
            let (epoch, end) = log.end_offset_for_epoch(wanted.last_fetched_epoch);
            if epoch == LeaderEpoch::NONE || end < 0 || wanted.fetch_offset < data.log_start_offset {
                return Err(out_of_range(&partition, wanted).into());
            }
            if epoch < wanted.last_fetched_epoch || end < wanted.fetch_offset {
                data.diverging_epoch = Some((epoch, end));
                return Ok(data);
            }
        }
        if wanted.fetch_offset < data.log_start_offset || wanted.fetch_offset > log.log_end_offset() {
            return Err(out_of_range(&partition, wanted).into());
        }
        let max_bytes = left.min(wanted.max_bytes.max(0) as usize);
        let read = match max_bytes > 0 || whole_batch {
            true => log.read(wanted.fetch_offset, max_bytes, limit, whole_batch).map_err(unreadable)?,
            false => LogRead::default(),
        };
        if limits.isolation == Isolation::ReadCommitted {
            data.aborted = Some(match read.slices.is_empty() {
                true => Vec::new(),
                false => log.aborted_transactions(wanted.fetch_offset, read.upper_bound_offset)?,
            });
        }
        // From version 3 on nobody gets a part of one batch and nothing else.
        if limits.hard_limit || !read.first_batch_incomplete {
            data.slices = read.slices;
        }
        Ok(data)
    }
}

/// Readers are told that it is the records that are damaged, and not that another replica may lead.
fn unreadable(error: LogError) -> ReplicaError {
    match error {
        LogError::Corrupt { .. } => ReplicaError::Corrupt(error.to_string()),
        error => error.into(),
    }
}

fn out_of_range(partition: &Partition, wanted: &FetchPartition) -> LogError {
    LogError::OffsetOutOfRange {
        log: partition.topic_partition().clone(),
        offset: wanted.fetch_offset,
        start: partition.log().log_start_offset(),
        end: partition.log().log_end_offset(),
    }
}

fn check(limits: &FetchLimits, partition: &Partition, wanted: &FetchPartition) -> Result<(), ReplicaError> {
    if let Some(id) = partition.log().topic_id().filter(|id| wanted.topic_id != TopicId::ZERO && *id != wanted.topic_id)
    {
        tracing::debug!(partition = %partition.topic_partition(), ours = %id, "fetch for another topic id");
        return Err(ReplicaError::InconsistentTopicId);
    }
    let epoch = wanted.current_leader_epoch;
    if limits.is_follower() {
        partition.check_leader(epoch)?;
        return partition.check_replica(BrokerId(limits.replica_id), epoch);
    }
    if limits.from_follower_allowed { partition.check_follower_read(epoch) } else { partition.check_leader(epoch) }
}

/// The offset below which this reader may see records.
fn upper_bound(limits: &FetchLimits, partition: &Partition) -> i64 {
    match limits.isolation {
        _ if limits.is_follower() => partition.log().log_end_offset(),
        Isolation::ReadUncommitted => partition.log().high_watermark(),
        Isolation::ReadCommitted => partition.log().last_stable_offset(),
    }
}

fn is_enough(limits: &FetchLimits, results: &[ReadResult]) -> bool {
    if limits.max_wait.is_zero() || results.is_empty() {
        return true;
    }
    let mut bytes = 0;
    for result in results {
        match result {
            Ok(data) if data.diverging_epoch.is_some() || data.preferred_read_replica.is_some() => return true,
            Ok(data) => bytes += data.len(),
            Err(_) => return true,
        }
    }
    bytes >= limits.min_bytes
}
