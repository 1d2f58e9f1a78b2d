//! Fetch: records out of the log, now or when there are enough.
//!
//! The session says which partitions are meant, `replica` reads them and waits, and the reply carries ranges of the log files
//! as they are. Only clients from before format 2 get copies: what they read is converted down.

use super::{Services, error};
use crate::base::{BrokerId, ErrorCode, TopicId, time};
use crate::config::CompressionType;
use crate::record::down_convert;
use crate::replica::fetch::{FetchLimits, Isolation, PartitionData as Read, ReadResult};
use crate::replica::fetch_session::{FetchContext, FetchPartition, Said, SessionRequest};
use crate::wire::fetch::{
    AbortedTransaction, CurrentLeader, EpochEndOffset, FetchRequest, FetchResponse, NodeEndpoint, PartitionData,
    TopicData,
};
use crate::wire::{Outcome, Reply, Request, RequestHeader, Segment, WireError};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// First versions in which a reply may be larger than asked for, may be served by a follower, names topics by id, and says who
/// leads instead.
const SOFT_LIMIT: i16 = 3;
const FROM_FOLLOWER: i16 = 11;
const TOPIC_IDS: i16 = 13;
const CURRENT_LEADER: i16 = 12;
const NODE_ENDPOINTS: i16 = 16;
/// First version whose clients know zstd.
const ZSTD: i16 = 10;

/// What one batch may expand to when it is converted for an old client.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

struct Fetch {
    services: Arc<Services>,
    header: RequestHeader,
    listener: Arc<str>,
    context: FetchContext,
    limits: FetchLimits,
    partitions: Vec<FetchPartition>,
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body = FetchRequest::decode(&request)?;
    let version = request.header.version;
    let limits = limits(services, &body, &request);
    let session = SessionRequest {
        session_id: body.session_id,
        session_epoch: body.session_epoch,
        uses_topic_ids: version >= TOPIC_IDS,
        from_follower: body.replica_id.0 >= 0,
    };
    let (wanted, forgotten) = wanted(body, |id| services.replicas.topic_name(id));
    let begun = services
        .fetch_sessions
        .begin(time::monotonic_ms(), session, wanted, &forgotten, |id| services.replicas.topic_name(id));
    let (context, partitions) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let response = FetchResponse { error, ..FetchResponse::default() };
            return Ok(response.into_reply(&request.header).into());
        }
    };
    let fetch = Fetch {
        services: services.clone(),
        header: request.header,
        listener: request.connection.listener.clone(),
        context,
        limits,
        partitions,
    };
    match services.replicas.fetch_now(&fetch.limits, &fetch.partitions) {
        Some(results) => Ok(fetch.reply(results).into()),
        None => Ok(Outcome::later(async move {
            let replicas = fetch.services.replicas.clone();
            let results = replicas.fetch(fetch.limits.clone(), &fetch.partitions).await;
            fetch.reply(results)
        })),
    }
}

fn limits(services: &Services, body: &FetchRequest, request: &Request) -> FetchLimits {
    let version = request.header.version;
    let bytes = |bytes: i32| bytes.max(0) as usize;
    FetchLimits {
        isolation: if body.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
        replica_id: body.replica_id.0,
        replica_epoch: body.replica_epoch,
        rack: (version >= FROM_FOLLOWER && !body.rack_id.is_empty()).then(|| body.rack_id.clone()),
        listener: request.connection.listener.clone(),
        from_follower_allowed: version >= FROM_FOLLOWER,
        max_wait: Duration::from_millis(body.max_wait_ms.max(0) as u64),
        min_bytes: bytes(body.min_bytes.min(body.max_bytes)),
        max_bytes: bytes(body.max_bytes.min(services.config.fetch_max_bytes)),
        hard_limit: version < SOFT_LIMIT,
    }
}

type Forgotten = Vec<(Arc<str>, TopicId, i32)>;

fn wanted(body: FetchRequest, name_of: impl Fn(TopicId) -> Option<Arc<str>>) -> (Vec<FetchPartition>, Forgotten) {
    let mut wanted = Vec::new();
    for topic in body.topics {
        let name = if topic.topic_id.is_zero() { topic.name } else { name_of(topic.topic_id).unwrap_or_default() };
        wanted.extend(topic.partitions.into_iter().map(|partition| FetchPartition {
            topic: name.clone(),
            topic_id: topic.topic_id,
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
            max_bytes: partition.max_bytes,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in body.forgotten {
        forgotten.extend(topic.partitions.iter().map(|partition| (topic.name.clone(), topic.topic_id, *partition)));
    }
    (wanted, forgotten)
}

impl Fetch {
    fn reply(self, results: Vec<ReadResult>) -> Reply {
        let answers: Vec<PartitionData> =
            self.partitions.iter().zip(results).map(|(wanted, result)| self.answer(wanted, result)).collect();
        let said: Vec<(FetchPartition, Said)> =
            self.partitions.iter().cloned().zip(answers.iter().map(what_is_said)).collect();
        let (session_id, contained) =
            self.services.fetch_sessions.finish(time::monotonic_ms(), &self.context, &said, rand::random);
        let mut response = FetchResponse { session_id, ..FetchResponse::default() };
        let mut leaders = BTreeSet::new();
        for ((wanted, mut answer), contained) in self.partitions.iter().zip(answers).zip(contained) {
            if !contained {
                continue;
            }
            self.point_to_leader(wanted, &mut answer, &mut leaders);
            match response.topics.last_mut() {
                Some(last) if last.name == wanted.topic && last.topic_id == wanted.topic_id => {
                    last.partitions.push(answer);
                }
                _ => response.topics.push(TopicData {
                    name: wanted.topic.clone(),
                    topic_id: wanted.topic_id,
                    partitions: vec![answer],
                }),
            }
        }
        if self.header.version >= NODE_ENDPOINTS {
            response.node_endpoints = leaders.into_iter().filter_map(|leader| self.endpoint(leader)).collect();
        }
        response.into_reply(&self.header)
    }

    fn answer(&self, wanted: &FetchPartition, result: ReadResult) -> PartitionData {
        let read = match result {
            Ok(read) => read,
            Err(why) => return self.failed(wanted, error::of_replica(&why)),
        };
        let mut answer = PartitionData::error(wanted.partition, ErrorCode::None);
        answer.high_watermark = read.high_watermark;
        answer.last_stable_offset = read.last_stable_offset;
        answer.log_start_offset = read.log_start_offset;
        answer.preferred_read_replica = read.preferred_read_replica.unwrap_or(BrokerId::NONE);
        answer.diverging_epoch = read.diverging_epoch.map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset });
        answer.aborted_transactions = read.aborted.as_ref().map(|aborted| {
            let transaction = |one: &crate::log::AbortedTransaction| AbortedTransaction {
                producer_id: one.producer_id,
                first_offset: one.first_offset,
            };
            aborted.iter().map(transaction).collect()
        });
        match self.records(wanted, &read) {
            Ok(records) => answer.records = Some(records),
            Err(code) => return self.failed(wanted, code),
        }
        answer
    }

    fn failed(&self, wanted: &FetchPartition, code: ErrorCode) -> PartitionData {
        let code = match code {
            // Clients of these versions do not know the code, and should look for another leader.
            ErrorCode::KafkaStorageError if self.header.version <= 5 => ErrorCode::NotLeaderOrFollower,
            code => code,
        };
        PartitionData::error(wanted.partition, code)
    }

    fn records(&self, wanted: &FetchPartition, read: &Read) -> Result<Vec<Segment>, ErrorCode> {
        let version = self.header.version;
        let whole = || {
            let slices = read.slices.iter();
            slices.map(|slice| Segment::File { file: slice.file.clone(), position: slice.position, len: slice.len })
        };
        let magic = match version {
            0..=1 => 0,
            2..=3 => 1,
            _ => 2,
        };
        if version >= ZSTD {
            return Ok(whole().collect());
        }
        let Some(partition) = self.services.replicas.hosted(&wanted.topic, wanted.partition) else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        let config = partition.log().config();
        if config.compression_type == CompressionType::Zstd {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        if magic == 2 {
            return Ok(whole().collect());
        }
        if !config.message_downconversion_enable {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if read.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = read_whole(read).map_err(|_| ErrorCode::KafkaStorageError)?;
        match down_convert(&bytes, magic, wanted.fetch_offset, DECOMPRESSED_BYTES_MAX) {
            Ok(converted) => Ok(vec![Segment::Bytes(converted)]),
            Err(error) => {
                tracing::warn!(topic = %wanted.topic, partition = wanted.partition, %error, "cannot convert records for an old client");
                Err(ErrorCode::UnsupportedVersion)
            }
        }
    }

    fn point_to_leader(&self, wanted: &FetchPartition, answer: &mut PartitionData, leaders: &mut BTreeSet<BrokerId>) {
        let moved = matches!(answer.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
        if self.header.version < CURRENT_LEADER || !moved {
            return;
        }
        if let Some((leader, epoch)) = self.services.replicas.current_leader(&wanted.topic, wanted.partition) {
            answer.current_leader = Some(CurrentLeader { leader, epoch });
            leaders.insert(leader);
        }
    }

    fn endpoint(&self, id: BrokerId) -> Option<NodeEndpoint> {
        let image = self.services.metadata.image();
        let broker = image.brokers.get(&id)?;
        let endpoint = broker.endpoint(&self.listener)?;
        Some(NodeEndpoint { node: id, host: endpoint.host.clone(), port: endpoint.port, rack: broker.rack.clone() })
    }
}

fn what_is_said(answer: &PartitionData) -> Said {
    Said {
        error: answer.error,
        has_records: answer.records_bytes() > 0,
        high_watermark: answer.high_watermark,
        log_start_offset: answer.log_start_offset,
        has_hint: answer.diverging_epoch.is_some() || answer.preferred_read_replica != BrokerId::NONE,
    }
}

fn read_whole(read: &Read) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; read.len()];
    let mut at = 0;
    for slice in &read.slices {
        slice.file.read_exact_at(&mut bytes[at..at + slice.len], slice.position)?;
        at += slice.len;
    }
    Ok(bytes.into())
}
