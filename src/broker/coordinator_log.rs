//! The log of a coordinator's topic, through the replica manager.

use crate::api::error::{of_log, of_replica};
use crate::base::{ErrorCode, LeaderEpoch};
use crate::coordinator::{Append, Committed, CoordinatorLog};
use crate::log::AppendOrigin;
use crate::record::{ValidatedBatch, ValidatedRecords};
use crate::replica::{Partition, ReplicaError, ReplicaManager, wait_committed};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub struct ReplicatedLog {
    pub topic: &'static str,
    pub replicas: Arc<ReplicaManager>,
}

fn ready(result: Result<i64, ErrorCode>) -> Append {
    Box::pin(std::future::ready(result))
}

impl ReplicatedLog {
    /// Appends as leader: the partition, and which offsets the batch has.
    fn append(
        &self,
        partition: i32,
        epoch: Option<LeaderEpoch>,
        batch: ValidatedBatch,
    ) -> Result<(Arc<Partition>, Range<i64>), ErrorCode> {
        let leads_in =
            |epoch| self.replicas.hosted(self.topic, partition).is_some_and(|here| here.leader_epoch() == epoch);
        // Of an epoch that has passed: what this coordinator has in memory may be old.
        if epoch.is_some_and(|epoch| !leads_in(epoch)) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let partition = self.replicas.partition(self.topic, partition).map_err(|error| of_replica(&error))?;
        let limit = partition.log().config().max_message_bytes;
        if batch.size_bytes() > usize::try_from(limit).unwrap_or(0) {
            return Err(ErrorCode::MessageTooLarge);
        }
        let info = partition.append(ValidatedRecords::from_batch(batch), AppendOrigin::Coordinator, true);
        let info = info.map_err(|error| of_replica(&error))?;
        Ok((partition, info.first_offset..info.last_offset + 1))
    }
}

impl CoordinatorLog for ReplicatedLog {
    fn append(&self, partition: i32, epoch: Option<LeaderEpoch>, batch: ValidatedBatch, timeout: Duration) -> Append {
        let (partition, offsets) = match self.append(partition, epoch, batch) {
            Ok(appended) => appended,
            Err(error) => return ready(Err(error)),
        };
        if let Some(committed) = partition.committed(offsets.end) {
            return ready(committed.map(|()| offsets.start).map_err(|error| of_replica(&error)));
        }
        Box::pin(async move {
            match wait_committed(vec![(partition, offsets.end)], timeout).await.pop().flatten() {
                Some(Ok(())) => Ok(offsets.start),
                Some(Err(error)) => Err(of_replica(&error)),
                None => Err(ErrorCode::RequestTimedOut),
            }
        })
    }

    fn committed(&self, partition: i32, offset: i64) -> Committed {
        let found = self.replicas.hosted(self.topic, partition);
        Box::pin(async move {
            let partition = found.ok_or(ErrorCode::NotLeaderOrFollower)?;
            loop {
                let waited = wait_committed(vec![(partition.clone(), offset)], Duration::from_secs(3600)).await;
                match waited.into_iter().next().flatten() {
                    // All that are in sync have it, though they are few.
                    Some(Ok(()) | Err(ReplicaError::NotEnoughReplicas { .. })) => return Ok(()),
                    Some(Err(_)) => return Err(ErrorCode::NotLeaderOrFollower),
                    None => {}
                }
            }
        })
    }

    fn bounds(&self, partition: i32) -> Option<Range<i64>> {
        let partition = self.replicas.hosted(self.topic, partition)?;
        Some(partition.log().log_start_offset()..partition.log().log_end_offset())
    }

    fn read(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let partition = self.replicas.hosted(self.topic, partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let end = partition.log().log_end_offset();
        partition.log().read_bytes(offset, max_bytes, end, true).map_err(|error| of_log(&error))
    }
}
