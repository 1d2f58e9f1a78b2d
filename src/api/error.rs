//! The one place where the rooms' errors become Kafka's codes (class `Errors`).

use crate::base::ErrorCode;
use crate::log::LogError;
use crate::record::{ValidationError, ValidationErrorKind};
use crate::replica::ReplicaError;

pub fn of_replica(error: &ReplicaError) -> ErrorCode {
    match error {
        ReplicaError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReplicaError::UnknownTopicId => ErrorCode::UnknownTopicId,
        ReplicaError::NotLeader | ReplicaError::NotFollowing { .. } => ErrorCode::NotLeaderOrFollower,
        ReplicaError::Corrupt(_) => ErrorCode::CorruptMessage,
        ReplicaError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        ReplicaError::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        ReplicaError::InconsistentTopicId => ErrorCode::InconsistentTopicId,
        ReplicaError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        ReplicaError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        ReplicaError::TimedOut => ErrorCode::RequestTimedOut,
        ReplicaError::Offline => ErrorCode::KafkaStorageError,
        ReplicaError::Invalid(error) => of_validation(error),
        ReplicaError::Log(error) => of_log(error),
    }
}

pub fn of_log(error: &LogError) -> ErrorCode {
    match error {
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        LogError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        LogError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
        LogError::TransactionCoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        LogError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
        LogError::InconsistentTopicId { .. } => ErrorCode::InconsistentTopicId,
        LogError::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
        LogError::InvalidBatch { .. } | LogError::UnexpectedOffset { .. } => ErrorCode::InvalidRecord,
        LogError::Closed(_) | LogError::Recovering(_) => ErrorCode::NotLeaderOrFollower,
        LogError::UnknownDirectory { .. } => ErrorCode::LogDirNotFound,
        LogError::NoReplica(_) => ErrorCode::ReplicaNotAvailable,
        _ => ErrorCode::KafkaStorageError,
    }
}

pub fn of_validation(error: &ValidationError) -> ErrorCode {
    match error.kind {
        ValidationErrorKind::CorruptMessage => ErrorCode::CorruptMessage,
        ValidationErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
        ValidationErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        ValidationErrorKind::MessageTooLarge => ErrorCode::MessageTooLarge,
        ValidationErrorKind::RecordListTooLarge => ErrorCode::RecordListTooLarge,
        ValidationErrorKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
        ValidationErrorKind::UnsupportedForMessageFormat => ErrorCode::UnsupportedForMessageFormat,
    }
}
