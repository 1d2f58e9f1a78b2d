//! Following leaders (classes `AbstractFetcherThread`, `ReplicaFetcherThread`, `ReplicaFetcherManager`).
//!
//! A fetcher fetches all partitions that this broker follows on one leader, or a share of them (`num.replica.fetchers`). What it does
//! with the answers is decided in `machine`, which has no clock and no network; `session` says only what changed since the last
//! fetch (KIP-227); `driver` runs it over a [`LeaderEndpoint`]; `manager` places partitions; `remote` is the leader at the other end
//! of a connection.
//!
//! Invariant: one fetch of a fetcher is on its way at a time, and an answer counts only for partitions whose epoch and offset have
//! not moved since.

mod driver;
mod machine;
mod manager;
mod remote;
#[cfg(test)]
mod scenarios;
mod session;
mod trouble;

pub use driver::{Fetcher, Following};
pub use machine::{FetcherMachine, FetcherSettings, Work};
pub use manager::FetcherManager;
pub use remote::{RemoteLeaders, RemoteSettings};

use super::error::ReplicaError;
use super::partition::{Followed, Partition};
use crate::base::{BrokerId, ErrorCode, LeaderEpoch, Millis, TopicId, TopicPartition};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What is asked of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchWant {
    pub partition: TopicPartition,
    /// Zero if the topic has none.
    pub topic_id: TopicId,
    pub leader_epoch: LeaderEpoch,
    pub offset: i64,
    pub last_epoch: LeaderEpoch,
    pub log_start_offset: i64,
}

/// One Fetch request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderFetch {
    pub session_id: i32,
    pub session_epoch: i32,
    /// Topics go by their ids, which all of them have.
    pub by_id: bool,
    /// Those that are new or have changed, in an incremental fetch; else all.
    pub wants: Vec<FetchWant>,
    pub forgotten: Vec<(TopicPartition, TopicId)>,
    /// The leader should answer by then, with records or without: a partition that is not asked for now is due.
    pub wait_ms_max: Option<Millis>,
}

#[derive(Clone, Debug)]
pub struct PartitionAnswer {
    pub partition: TopicPartition,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: Option<(LeaderEpoch, i64)>,
    pub records: Bytes,
}

#[derive(Clone, Debug, Default)]
pub struct LeaderAnswer {
    pub error: ErrorCode,
    pub session_id: i32,
    pub partitions: Vec<PartitionAnswer>,
}

/// The leader could not be asked, or gave no answer that can be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LeaderError(pub String);

/// Which end of a leader's log is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogSide {
    Latest,
    Earliest,
}

pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, LeaderError>> + Send + 'a>>;

/// A leader, as its followers see it.
pub trait LeaderEndpoint: Send + Sync {
    fn fetch(&self, fetch: LeaderFetch) -> Asked<'_, LeaderAnswer>;

    /// Ends of the leader's logs, in the order of the partitions.
    fn offsets(
        &self,
        side: LogSide,
        partitions: Vec<(TopicPartition, LeaderEpoch)>,
    ) -> Asked<'_, Vec<Result<i64, ErrorCode>>>;

    /// A fetch that is on its way is given up: the next one must not wait behind it.
    fn hang_up(&self);
}

/// The way to each leader. Every fetcher has one of its own, since a fetch may wait at the leader.
pub trait Leaders: Send + Sync {
    fn connect(&self, leader: BrokerId) -> Arc<dyn LeaderEndpoint>;
}

/// A replica whose leader is elsewhere. Changes carry the leader epoch that they belong to, and fail in any other.
pub trait FollowerReplica: Send + Sync {
    fn log_start_offset(&self) -> i64;
    fn log_end_offset(&self) -> i64;
    fn high_watermark(&self) -> i64;
    fn latest_epoch(&self) -> Option<LeaderEpoch>;
    /// Largest epoch not above `epoch`, and where it ends; (-1, -1) if unknown.
    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, i64);
    /// Its log directory is gone: there is nothing more to try.
    fn is_offline(&self) -> bool;
    /// `follower.replication.throttled.replicas` names it.
    fn is_throttled(&self) -> bool;
    fn append(
        &self,
        epoch: LeaderEpoch,
        records: &Bytes,
        high_watermark: i64,
        log_start: i64,
    ) -> Result<Followed, ReplicaError>;
    fn truncate(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError>;
    fn restart(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError>;
}

impl FollowerReplica for Partition {
    fn log_start_offset(&self) -> i64 {
        self.log().log_start_offset()
    }

    fn log_end_offset(&self) -> i64 {
        self.log().log_end_offset()
    }

    fn high_watermark(&self) -> i64 {
        self.log().high_watermark()
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.log().latest_epoch()
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, i64) {
        self.log().end_offset_for_epoch(epoch)
    }

    fn is_offline(&self) -> bool {
        self.log().log_dir().is_offline() || self.log().is_closed()
    }

    fn is_throttled(&self) -> bool {
        self.is_throttled_follower()
    }

    fn append(
        &self,
        epoch: LeaderEpoch,
        records: &Bytes,
        high_watermark: i64,
        log_start: i64,
    ) -> Result<Followed, ReplicaError> {
        self.append_from_leader(epoch, records, high_watermark, log_start)
    }

    fn truncate(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError> {
        self.truncate_from_leader(epoch, offset)
    }

    fn restart(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError> {
        self.restart_from_leader(epoch, offset)
    }
}
