//! What can go wrong with a log, as the other rooms see it.

use crate::base::{ProducerEpoch, ProducerId, TopicId, TopicPartition};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("offset {offset} of {log} is outside {start}..={end}")]
    OffsetOutOfRange { log: TopicPartition, offset: i64, start: i64, end: i64 },
    #[error("{log}: producer {producer} sent sequence {sequence} where {expected} was expected")]
    OutOfOrderSequence { log: TopicPartition, producer: ProducerId, sequence: i32, expected: i32 },
    #[error("{log}: producer {producer} sent epoch {epoch}, but epoch {current} is known")]
    InvalidProducerEpoch { log: TopicPartition, producer: ProducerId, epoch: ProducerEpoch, current: ProducerEpoch },
    #[error("{log}: producer {producer} sent a plain batch inside its open transaction")]
    InvalidTransactionState { log: TopicPartition, producer: ProducerId },
    #[error("{log}: marker of coordinator epoch {epoch}, but {current} is known")]
    TransactionCoordinatorFenced { log: TopicPartition, epoch: i32, current: i32 },
    #[error("{log}: {size} bytes do not fit into a segment of {limit}")]
    RecordListTooLarge { log: TopicPartition, size: u64, limit: u64 },
    #[error("{log}: batch at offset {offset} where {expected} was expected")]
    UnexpectedOffset { log: TopicPartition, offset: i64, expected: i64 },
    #[error("{log}: {reason}")]
    InvalidBatch { log: TopicPartition, reason: &'static str },
    #[error("{log} has topic id {stored}, not {given}")]
    InconsistentTopicId { log: TopicPartition, stored: TopicId, given: TopicId },
    #[error("{0} is closed")]
    Closed(TopicPartition),
    #[error("{path}: {source}", path = path.display())]
    Storage { path: PathBuf, source: io::Error },
    #[error("log directory {path} is offline after an earlier I/O error", path = path.display())]
    DirOffline { path: PathBuf },
    #[error("{path}: {reason}", path = path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error(
        "log directory {path} is in use: another broker (Ottla or Apache Kafka) holds {path}/.lock. \
         Stop it, or set log.dirs to another directory",
        path = path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{path} is in log.dirs but is not a partition directory (topic-N); Apache Kafka refuses it as well. \
         Move it elsewhere, or set log.dirs to a directory that only brokers use",
        path = path.display()
    )]
    ForeignDirectory { path: PathBuf },
    #[error(
        "{log} is in two log directories: {first} and {second}. Remove the stale copy",
        first = first.display(), second = second.display()
    )]
    DuplicateLog { log: TopicPartition, first: PathBuf, second: PathBuf },
    #[error("`{0}` is not a topic name")]
    InvalidTopicName(String),
    #[error("{path} is not one of log.dirs", path = path.display())]
    UnknownDirectory { path: PathBuf },
    #[error("the segment of {log} at {base_offset} has offsets out of reach of its index")]
    OffsetOverflow { log: PathBuf, base_offset: i64 },
    #[error("{0} has no replica on this broker")]
    NoReplica(TopicPartition),
    #[error(
        "no log directory is left, so the broker stops ({reasons}). Mend the disks, or take what does not work out of log.dirs"
    )]
    AllDirectoriesFailed { reasons: String },
    #[error("the recovery of {path} was called off", path = path.display())]
    CalledOff { path: PathBuf },
    #[error("{0} is still being recovered after an unclean stop")]
    Recovering(TopicPartition),
    #[error("no log directory is online")]
    NoLiveDirectory,
    #[error("{path}: {reason}", path = path.display())]
    MetaProperties { path: PathBuf, reason: String },
}

impl LogError {
    pub(super) fn corrupt(path: &Path, reason: impl Into<String>) -> LogError {
        LogError::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// Names the file of an I/O error.
pub(super) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, LogError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::Storage { path: path.to_path_buf(), source })
    }
}
