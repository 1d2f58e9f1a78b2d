//! The Fetch response (classes `FetchResponse`, `RecordsSend`).

use super::{FIRST_FLEXIBLE, FIRST_TOPIC_ID};
use crate::base::{BrokerId, ErrorCode, LeaderEpoch, ProducerId, TopicId};
use crate::wire::frame::RequestHeader;
use crate::wire::put::Put;
use crate::wire::reply::{Reply, Segment};
use std::sync::Arc;

/// Bytes of a partition without records, as a first guess.
const PARTITION_BYTES: usize = 64;

#[derive(Debug, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// From version 7.
    pub error: ErrorCode,
    /// 0: no session.
    pub session_id: i32,
    pub topics: Vec<TopicData>,
    /// From version 16: where the leaders named in `current_leader` are.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Debug, Default)]
pub struct TopicData {
    /// Below version 13.
    pub name: Arc<str>,
    /// From version 13.
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionData>,
}

#[derive(Debug)]
pub struct PartitionData {
    pub partition: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: Option<EpochEndOffset>,
    pub current_leader: Option<CurrentLeader>,
    pub snapshot_id: Option<SnapshotId>,
    /// `None` (null) for read_uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// -1: none.
    pub preferred_read_replica: BrokerId,
    /// Pieces of the log, in order. `None` (null) is for old clients only; no records are an empty list.
    pub records: Option<Vec<Segment>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EpochEndOffset {
    pub epoch: LeaderEpoch,
    pub end_offset: i64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CurrentLeader {
    pub leader: BrokerId,
    pub epoch: LeaderEpoch,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: LeaderEpoch,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: i64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct NodeEndpoint {
    pub node: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl PartitionData {
    /// A partition that answers with an error and nothing else.
    pub fn error(partition: i32, error: ErrorCode) -> PartitionData {
        PartitionData {
            partition,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted_transactions: None,
            preferred_read_replica: BrokerId::NONE,
            records: Some(Vec::new()),
        }
    }

    /// Size of the records.
    pub fn records_bytes(&self) -> usize {
        self.records.iter().flatten().map(Segment::len).sum()
    }
}

impl FetchResponse {
    pub fn into_reply(self, request: &RequestHeader) -> Reply {
        let version = request.version;
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let mut put = Put::new(version >= FIRST_FLEXIBLE, 64 + partitions * PARTITION_BYTES);
        put.i32(request.correlation_id);
        let mut writer = Writer { put, version, compact: version >= FIRST_FLEXIBLE };
        writer.end_of_struct();
        writer.response(self);
        Reply::Segments(writer.put.finish())
    }
}

struct Writer {
    put: Put,
    version: i16,
    compact: bool,
}

impl Writer {
    fn response(&mut self, response: FetchResponse) {
        if self.version >= 1 {
            self.put.i32(response.throttle_time_ms);
        }
        if self.version >= 7 {
            self.put.i16(response.error.code());
            self.put.i32(response.session_id);
        }
        self.put.length(Some(response.topics.len()));
        for topic in response.topics {
            self.topic(topic);
        }
        match response.node_endpoints {
            endpoints if self.version >= 16 && !endpoints.is_empty() => {
                self.put.unsigned_varint(1);
                self.put.tagged(0, |put| node_endpoints(put, &endpoints));
            }
            _ => self.end_of_struct(),
        }
    }

    fn topic(&mut self, topic: TopicData) {
        match self.version >= FIRST_TOPIC_ID {
            true => self.put.bytes(topic.topic_id.0.as_bytes()),
            false => self.put.string(&topic.name),
        }
        self.put.length(Some(topic.partitions.len()));
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.end_of_struct();
    }

    fn partition(&mut self, partition: PartitionData) {
        self.put.i32(partition.partition);
        self.put.i16(partition.error.code());
        self.put.i64(partition.high_watermark);
        if self.version >= 4 {
            self.put.i64(partition.last_stable_offset);
        }
        if self.version >= 5 {
            self.put.i64(partition.log_start_offset);
        }
        if self.version >= 4 {
            self.aborted_transactions(partition.aborted_transactions.as_deref());
        }
        if self.version >= 11 {
            self.put.i32(partition.preferred_read_replica.0);
        }
        self.put.length(partition.records.as_ref().map(|_| partition.records_bytes()));
        let tags = PartitionTags::of(&partition);
        self.put.segments(partition.records.unwrap_or_default());
        if self.compact {
            tags.write(&mut self.put);
        }
    }

    fn aborted_transactions(&mut self, transactions: Option<&[AbortedTransaction]>) {
        self.put.length(transactions.map(<[_]>::len));
        for transaction in transactions.unwrap_or_default() {
            self.put.i64(transaction.producer_id.0);
            self.put.i64(transaction.first_offset);
            self.end_of_struct();
        }
    }

    /// No tagged fields, in versions that have them.
    fn end_of_struct(&mut self) {
        if self.compact {
            self.put.unsigned_varint(0);
        }
    }
}

struct PartitionTags {
    diverging_epoch: Option<EpochEndOffset>,
    current_leader: Option<CurrentLeader>,
    snapshot_id: Option<SnapshotId>,
}

impl PartitionTags {
    fn of(partition: &PartitionData) -> PartitionTags {
        PartitionTags {
            diverging_epoch: partition.diverging_epoch,
            current_leader: partition.current_leader,
            snapshot_id: partition.snapshot_id,
        }
    }

    fn write(&self, put: &mut Put) {
        let count = [self.diverging_epoch.is_some(), self.current_leader.is_some(), self.snapshot_id.is_some()];
        put.unsigned_varint(count.into_iter().map(u32::from).sum());
        if let Some(diverging) = self.diverging_epoch {
            put.tagged(0, |put| {
                put.i32(diverging.epoch.0);
                put.i64(diverging.end_offset);
                put.unsigned_varint(0);
            });
        }
        if let Some(current) = self.current_leader {
            put.tagged(1, |put| {
                put.i32(current.leader.0);
                put.i32(current.epoch.0);
                put.unsigned_varint(0);
            });
        }
        if let Some(snapshot) = self.snapshot_id {
            put.tagged(2, |put| {
                put.i64(snapshot.end_offset);
                put.i32(snapshot.epoch.0);
                put.unsigned_varint(0);
            });
        }
    }
}

fn node_endpoints(put: &mut Put, endpoints: &[NodeEndpoint]) {
    put.length(Some(endpoints.len()));
    for endpoint in endpoints {
        put.i32(endpoint.node.0);
        put.string(&endpoint.host);
        put.i32(endpoint.port);
        put.nullable_string(endpoint.rack.as_deref());
        put.unsigned_varint(0);
    }
}
