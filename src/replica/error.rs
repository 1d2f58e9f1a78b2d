//! What can be wrong with a request for a partition. `api/error.rs` maps it to Kafka's codes.

use crate::base::LeaderEpoch;
use crate::log::LogError;
use crate::record::ValidationError;

#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("this broker has no such partition")]
    UnknownPartition,
    #[error("no topic has this id")]
    UnknownTopicId,
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("the leader epoch of the request is older than {current}")]
    FencedLeaderEpoch { current: LeaderEpoch },
    #[error("the leader epoch of the request is newer than {current}")]
    UnknownLeaderEpoch { current: LeaderEpoch },
    #[error("the topic has another id")]
    InconsistentTopicId,
    #[error("{isr} replicas are in sync, {required} are required")]
    NotEnoughReplicas { isr: usize, required: usize },
    #[error("the high watermark has not reached the start of this leader's epoch")]
    OffsetNotAvailable,
    #[error("the records were appended but not replicated in time")]
    TimedOut,
    #[error("this broker does not follow a leader of that epoch: it knows epoch {current}")]
    NotFollowing { current: LeaderEpoch },
    #[error("records are damaged: {0}")]
    Corrupt(String),
    #[error("the log directory of the partition is offline")]
    Offline,
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    #[error(transparent)]
    Log(#[from] LogError),
}
