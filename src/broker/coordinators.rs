//! Joins the coordinators to the partitions of their topics that this broker leads.

use crate::api::error::{of_log, of_replica};
use crate::base::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::base::{ErrorCode, LeaderEpoch, TopicPartition};
use crate::group::{Append, GroupCoordinator, OffsetsLog};
use crate::log::AppendOrigin;
use crate::record::{ValidatedBatch, ValidatedRecords};
use crate::replica::{LeadershipListener, ReplicaManager, wait_committed};
use crate::transaction::TransactionCoordinator;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The log of the group coordinator, through the replica manager.
pub struct ReplicatedOffsets {
    pub replicas: Arc<ReplicaManager>,
    /// `offsets.commit.timeout.ms`
    pub timeout: Duration,
}

fn ready(result: Result<i64, ErrorCode>) -> Append {
    Box::pin(std::future::ready(result))
}

/// Appends what a coordinator wrote. Resolves with the offset of the batch once all in-sync replicas have it.
pub fn append_replicated(
    replicas: &ReplicaManager,
    topic: &str,
    partition: i32,
    batch: ValidatedBatch,
    timeout: Duration,
) -> Append {
    let appended = replicas.partition(topic, partition).and_then(|partition| {
        let limit = partition.log().config().max_message_bytes;
        if batch.size_bytes() > usize::try_from(limit).unwrap_or(0) {
            return Ok(None);
        }
        let info = partition.append(ValidatedRecords::from_batch(batch), AppendOrigin::Coordinator, true)?;
        Ok(Some((partition, info)))
    });
    let (partition, info) = match appended {
        Ok(Some(appended)) => appended,
        Ok(None) => return ready(Err(ErrorCode::MessageTooLarge)),
        Err(error) => return ready(Err(of_replica(&error))),
    };
    let (first, end) = (info.first_offset, info.last_offset + 1);
    if let Some(committed) = partition.committed(end) {
        return ready(committed.map(|()| first).map_err(|error| of_replica(&error)));
    }
    Box::pin(async move {
        match wait_committed(vec![(partition, end)], timeout).await.pop().flatten() {
            Some(Ok(())) => Ok(first),
            Some(Err(error)) => Err(of_replica(&error)),
            None => Err(ErrorCode::RequestTimedOut),
        }
    })
}

impl OffsetsLog for ReplicatedOffsets {
    fn append(&self, partition: i32, batch: ValidatedBatch) -> Append {
        append_replicated(&self.replicas, CONSUMER_OFFSETS, partition, batch, self.timeout)
    }

    fn bounds(&self, partition: i32) -> Option<Range<i64>> {
        let partition = self.replicas.hosted(CONSUMER_OFFSETS, partition)?;
        Some(partition.log().log_start_offset()..partition.log().log_end_offset())
    }

    fn read(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let partition = self.replicas.hosted(CONSUMER_OFFSETS, partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let end = partition.log().log_end_offset();
        partition.log().read_bytes(offset, max_bytes, end, true).map_err(|error| of_log(&error))
    }
}

/// Tells the coordinators which partitions are theirs.
pub struct Coordinators {
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
}

impl LeadershipListener for Coordinators {
    fn on_leader(&self, partition: &TopicPartition, epoch: LeaderEpoch) {
        match &*partition.topic {
            CONSUMER_OFFSETS => self.groups.on_elected(partition.partition, epoch),
            TRANSACTION_STATE => self.transactions.on_elected(partition.partition, epoch),
            _ => {}
        }
    }

    fn on_resigned(&self, partition: &TopicPartition) {
        match &*partition.topic {
            CONSUMER_OFFSETS => self.groups.on_resigned(partition.partition),
            TRANSACTION_STATE => self.transactions.on_resigned(partition.partition),
            _ => {}
        }
    }
}
