//! ListOffsets: the offsets at the ends of a partition, at a time, or at the latest time.

use super::{Services, error};
use crate::base::{ErrorCode, LeaderEpoch};
use crate::replica::fetch::Isolation;
use crate::replica::{Partition, ReplicaError};
use crate::wire::messages::list_offsets_request::ListOffsetsPartition;
use crate::wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use crate::wire::messages::{ListOffsetsRequest, ListOffsetsResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::collections::HashSet;
use std::sync::Arc;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Replica id of a debugging client: it may read from any replica, up to the log end.
const DEBUGGING_REPLICA: i32 = -2;

/// An answer for one partition. Kafka's "not found" is offset and timestamp -1 without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    timestamp: i64,
    offset: i64,
    epoch: LeaderEpoch,
}

const NOT_FOUND: Found = Found { timestamp: -1, offset: -1, epoch: LeaderEpoch::NONE };

struct Asker {
    version: i16,
    replica_id: i32,
    isolation: Isolation,
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: ListOffsetsRequest = request.decode()?;
    let version = request.header.version;
    let isolation = if body.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let asker = Asker { version, replica_id: body.replica_id.0, isolation };
    let twice = named_twice(&body);
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let answer = |wanted: &ListOffsetsPartition| {
            if twice.contains(&(topic.name.0.to_string(), wanted.partition_index)) && version >= 1 {
                return asker.failed(wanted, ErrorCode::InvalidRequest);
            }
            match services.replicas.partition(&topic.name, wanted.partition_index) {
                Ok(partition) => asker.answer(&partition, wanted),
                Err(why) => asker.failed(wanted, error::of_replica(&why)),
            }
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    Ok(Reply::message(&request.header, &ListOffsetsResponse::default().with_topics(topics))?.into())
}

fn named_twice(body: &ListOffsetsRequest) -> HashSet<(String, i32)> {
    let all = body.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name.0.to_string(), partition.partition_index))
    });
    let mut seen = HashSet::new();
    all.filter(|one| !seen.insert(one.clone())).collect()
}

impl Asker {
    fn answer(&self, partition: &Partition, wanted: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
        let epoch = if self.version >= 4 { LeaderEpoch(wanted.current_leader_epoch) } else { LeaderEpoch::NONE };
        let judged = match self.replica_id {
            DEBUGGING_REPLICA => partition.check_follower_read(epoch),
            _ => partition.check_leader(epoch),
        };
        if let Err(why) = judged {
            return self.failed(wanted, error::of_replica(&why));
        }
        if self.version == 0 {
            return self.legacy(partition, wanted);
        }
        if wanted.timestamp < 0 && !self.knows(wanted.timestamp) {
            return self.failed(wanted, ErrorCode::UnsupportedVersion);
        }
        match self.find(partition, wanted.timestamp) {
            Ok(found) => self.found(wanted, found),
            Err(ReplicaError::OffsetNotAvailable) if self.version < 5 => {
                self.failed(wanted, ErrorCode::LeaderNotAvailable)
            }
            Err(why) => self.failed(wanted, error::of_replica(&why)),
        }
    }

    fn knows(&self, timestamp: i64) -> bool {
        let since = match timestamp {
            LATEST | EARLIEST => 0,
            MAX_TIMESTAMP => 7,
            EARLIEST_LOCAL => 8,
            LATEST_TIERED => 9,
            _ => return false,
        };
        self.version >= since
    }

    /// The offset from which on this client sees nothing.
    fn limit(&self, partition: &Partition) -> i64 {
        match self.isolation {
            _ if self.replica_id != -1 => partition.log().log_end_offset(),
            Isolation::ReadUncommitted => partition.log().high_watermark(),
            Isolation::ReadCommitted => partition.log().last_stable_offset(),
        }
    }

    fn find(&self, partition: &Partition, timestamp: i64) -> Result<Found, ReplicaError> {
        let log = partition.log();
        let is_consumer = self.replica_id == -1;
        match timestamp {
            LATEST => {
                if is_consumer {
                    partition.check_offsets_available()?;
                }
                Ok(Found { timestamp: -1, offset: self.limit(partition), epoch: partition.leader_epoch() })
            }
            EARLIEST | EARLIEST_LOCAL => {
                let offset = log.log_start_offset();
                Ok(Found { timestamp: -1, offset, epoch: log.epoch_at(offset).unwrap_or(LeaderEpoch::NONE) })
            }
            LATEST_TIERED => Ok(NOT_FOUND),
            _ => {
                let found = match timestamp {
                    MAX_TIMESTAMP => log.max_timestamp_offset()?,
                    _ => log.offset_for_timestamp(timestamp)?,
                };
                let Some(found) = found else { return Ok(NOT_FOUND) };
                if found.offset >= self.limit(partition) {
                    if is_consumer {
                        partition.check_offsets_available()?;
                    }
                    return Ok(NOT_FOUND);
                }
                Ok(Found { timestamp: found.timestamp, offset: found.offset, epoch: found.leader_epoch })
            }
        }
    }

    /// Version 0 asks for up to n segment boundaries before a time, newest first.
    fn legacy(&self, partition: &Partition, wanted: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
        let log = partition.log();
        let limit = if self.replica_id == -1 { log.high_watermark() } else { log.log_end_offset() };
        let mut boundaries = log.segment_boundaries();
        let keep = match wanted.timestamp {
            LATEST => boundaries.len(),
            EARLIEST => boundaries.len().min(1),
            time => boundaries.iter().take_while(|(_, modified_ms)| *modified_ms <= time).count(),
        };
        boundaries.truncate(keep);
        let mut offsets: Vec<i64> = boundaries.iter().rev().map(|(offset, _)| *offset).collect();
        if offsets.iter().any(|offset| *offset > limit) {
            offsets.retain(|offset| *offset <= limit);
            offsets.insert(0, limit);
        }
        offsets.dedup();
        offsets.truncate(wanted.max_num_offsets.max(0) as usize);
        ListOffsetsPartitionResponse::default()
            .with_partition_index(wanted.partition_index)
            .with_old_style_offsets(offsets)
    }

    fn found(&self, wanted: &ListOffsetsPartition, found: Found) -> ListOffsetsPartitionResponse {
        let answer = ListOffsetsPartitionResponse::default()
            .with_partition_index(wanted.partition_index)
            .with_timestamp(found.timestamp)
            .with_offset(found.offset);
        if self.version >= 4 { answer.with_leader_epoch(found.epoch.0) } else { answer }
    }

    fn failed(&self, wanted: &ListOffsetsPartition, code: ErrorCode) -> ListOffsetsPartitionResponse {
        self.found(wanted, NOT_FOUND).with_error_code(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_can_say_an_answer_and_an_error() {
        for version in 0..=9 {
            let asker = Asker { version, replica_id: -1, isolation: Isolation::ReadUncommitted };
            let wanted = ListOffsetsPartition::default().with_partition_index(1);
            let found = Found { timestamp: 5, offset: 7, epoch: LeaderEpoch(3) };
            let mut partitions = vec![asker.failed(&wanted, ErrorCode::NotLeaderOrFollower)];
            if version > 0 {
                partitions.push(asker.found(&wanted, found));
            }
            let topic = ListOffsetsTopicResponse::default().with_partitions(partitions);
            let response = ListOffsetsResponse::default().with_topics(vec![topic]);
            encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }

    #[test]
    fn special_times_come_with_their_versions() {
        let knows =
            |version, time| Asker { version, replica_id: -1, isolation: Isolation::ReadUncommitted }.knows(time);
        assert!(knows(1, LATEST) && knows(1, EARLIEST));
        assert!(!knows(6, MAX_TIMESTAMP) && knows(7, MAX_TIMESTAMP));
        assert!(!knows(7, EARLIEST_LOCAL) && knows(8, EARLIEST_LOCAL));
        assert!(!knows(8, LATEST_TIERED) && knows(9, LATEST_TIERED));
        assert!(!knows(9, -6));
    }
}
