//! Produce: the way of records into the log.
//!
//! Every partition is judged and appended on its own, in the order of the request: first all are judged, then, inside a transaction, its
//! coordinator is asked (`produce_verified`), then all are appended. With acks=all the reply waits until the high
//! watermark has passed what was appended; with acks=0 there is no reply, and an error closes the connection so that the
//! producer looks for the leader again.

use super::{Services, error, produce_verified};
use crate::base::{ErrorCode, LeaderEpoch, TopicPartition, time, topic_name};
use crate::config::{CompressionType, LogConfig, TimestampType};
use crate::log::{AppendOrigin, LogAppendInfo};
use crate::record::{Compression, ValidatedRecords, ValidationError, ValidationRules, validate};
use crate::replica::{Partition, ReplicaError, wait_committed};
use crate::transaction::verifier::Verification;
use crate::wire::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::wire::messages::{self, ProduceResponse, TopicName};
use crate::wire::produce::ProduceRequest;
use crate::wire::{Outcome, Reply, Request, RequestHeader, WireError, text};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const ACKS_ALL: i16 = -1;
const ACKS_NONE: i16 = 0;

/// For a set without records.
const NOTHING_APPENDED: LogAppendInfo =
    LogAppendInfo { first_offset: -1, last_offset: -1, log_append_time: -1, log_start_offset: -1, is_duplicate: false };

/// The one client id that may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// Reply of one partition, and where to wait for it.
struct Appended {
    topic: usize,
    response: PartitionProduceResponse,
    /// Set if the append succeeded: the partition, and the offset that the high watermark has to reach.
    pending: Option<(Arc<Partition>, i64)>,
}

/// One partition's records, judged but not appended.
pub struct Prepared {
    topic: usize,
    index: i32,
    pub result: Result<(Arc<Partition>, ValidatedRecords), Refusal>,
}

/// What is known of a request when its records have been judged.
struct Produced {
    header: RequestHeader,
    listener: Arc<str>,
    acks: i16,
    timeout: Duration,
    names: Vec<Arc<str>>,
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body = ProduceRequest::decode(&request)?;
    let produced = Produced {
        header: request.header.clone(),
        listener: request.connection.listener.clone(),
        acks: body.acks,
        timeout: Duration::from_millis(body.timeout_ms.max(0) as u64),
        names: body.topics.iter().map(|topic| topic.name.clone()).collect(),
    };
    let mut prepared = Vec::new();
    for (at, topic) in body.topics.into_iter().enumerate() {
        for partition in topic.partitions {
            let result = match body.acks {
                -1..=1 => prepare(services, &request, &topic.name, partition.index, partition.records),
                _ => Err(Refusal::code(ErrorCode::InvalidRequiredAcks)),
            };
            prepared.push(Prepared { topic: at, index: partition.index, result });
        }
    }
    let id = body.transactional_id;
    match id.and_then(|id| produce_verified::question(&id, produced.header.version, &mut prepared)) {
        None => append_all(services, produced, prepared),
        Some(question) => match question.ask(services) {
            Verification::Now(codes) => {
                question.answered(&codes, &mut prepared);
                append_all(services, produced, prepared)
            }
            Verification::Later(codes) => {
                let services = services.clone();
                Ok(Outcome::Alone(Box::pin(async move {
                    question.answered(&codes.await, &mut prepared);
                    match append_all(&services, produced, prepared) {
                        Ok(outcome) => outcome.reply().await,
                        Err(error) => not_encoded(&error),
                    }
                })))
            }
        },
    }
}

fn not_encoded(error: &WireError) -> Reply {
    tracing::error!(%error, "a Produce reply cannot be encoded");
    Reply::Close
}

/// Appends what was not refused, and answers when it is as safe as was asked for.
fn append_all(services: &Arc<Services>, produced: Produced, prepared: Vec<Prepared>) -> Result<Outcome, WireError> {
    let mut appended = Vec::with_capacity(prepared.len());
    for Prepared { topic, index, result } in prepared {
        let result = result.and_then(|(partition, records)| {
            let info = append_validated(&partition, records, produced.acks)?;
            Ok((partition, info))
        });
        let (response, pending) = match result {
            Ok((partition, info)) => (accepted(&produced.header, &info), Some((partition, info.last_offset + 1))),
            Err(refusal) => (refused(&produced.header, refusal), None),
        };
        appended.push(Appended { topic, response: response.with_index(index), pending });
    }
    if produced.acks == ACKS_NONE {
        let failed = appended.iter().any(|one| one.response.error_code != 0);
        return Ok(if failed { Reply::Close } else { Reply::Nothing }.into());
    }
    if produced.acks != ACKS_ALL || is_committed(&mut appended) {
        return Ok(reply(services, &produced, appended)?.into());
    }
    let services = services.clone();
    Ok(Outcome::later(async move {
        wait(&mut appended, produced.timeout).await;
        reply(&services, &produced, appended).unwrap_or_else(|error| not_encoded(&error))
    }))
}

/// Why a partition's records were not taken.
pub struct Refusal {
    code: ErrorCode,
    message: Option<String>,
    /// Index within the batch, and what is wrong with the record (KIP-467).
    records: Vec<(i32, String)>,
}

impl Refusal {
    pub fn code(code: ErrorCode) -> Refusal {
        Refusal { code, message: None, records: Vec::new() }
    }

    pub fn because(code: ErrorCode, message: impl ToString) -> Refusal {
        Refusal { code, message: Some(message.to_string()), records: Vec::new() }
    }
}

impl From<ReplicaError> for Refusal {
    fn from(error: ReplicaError) -> Refusal {
        match &error {
            ReplicaError::NotLeader | ReplicaError::UnknownPartition => Refusal::code(error::of_replica(&error)),
            _ => Refusal::because(error::of_replica(&error), &error),
        }
    }
}

impl From<ValidationError> for Refusal {
    fn from(error: ValidationError) -> Refusal {
        let records = error.records.iter().map(|record| (record.index, record.message.clone())).collect();
        Refusal { code: error::of_validation(&error), message: Some(error.to_string()), records }
    }
}

/// Judges the records for a partition.
fn prepare(
    services: &Services,
    request: &Request,
    topic: &str,
    number: i32,
    records: Option<Bytes>,
) -> Result<(Arc<Partition>, ValidatedRecords), Refusal> {
    if topic_name::is_internal(topic) && request.client_id() != ADMIN_CLIENT {
        return Err(Refusal::because(
            ErrorCode::InvalidTopicException,
            format!("{topic} is an internal topic, which only brokers write"),
        ));
    }
    let partition = services.replicas.partition(topic, number)?;
    let records = records.unwrap_or_default();
    let rules = rules(&partition.log().config(), request.header.version);
    let validated = validate(records, &rules).inspect_err(|error| {
        tracing::debug!(partition = %TopicPartition::new(topic, number), %error, "records refused");
    })?;
    Ok((partition, validated))
}

fn append_validated(
    partition: &Partition,
    records: ValidatedRecords,
    acks: i16,
) -> Result<LogAppendInfo, ReplicaError> {
    if records.batches.is_empty() {
        // Old clients may send an empty set: nothing to append, and nothing to wait for.
        partition.check_leader(LeaderEpoch::NONE)?;
        let log_start_offset = partition.log().log_start_offset();
        return Ok(LogAppendInfo { log_start_offset, ..NOTHING_APPENDED });
    }
    partition.append(records, AppendOrigin::Client, acks == ACKS_ALL)
}

fn rules(config: &LogConfig, produce_version: i16) -> ValidationRules {
    let target_codec = match config.compression_type {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some((Compression::None, None)),
        CompressionType::Gzip => Some((Compression::Gzip, Some(config.compression_gzip_level))),
        CompressionType::Snappy => Some((Compression::Snappy, None)),
        CompressionType::Lz4 => Some((Compression::Lz4, Some(config.compression_lz4_level))),
        CompressionType::Zstd => Some((Compression::Zstd, Some(config.compression_zstd_level))),
    };
    ValidationRules {
        produce_version,
        max_message_bytes: config.max_message_bytes,
        segment_bytes: config.segment_bytes,
        target_codec,
        log_append_time: config.timestamp_type == TimestampType::LogAppendTime,
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        compacted: config.cleanup_policy.compact,
        now_ms: time::wall_ms(),
        ..ValidationRules::default()
    }
}

fn accepted(header: &RequestHeader, info: &LogAppendInfo) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default().with_base_offset(info.first_offset);
    if header.version >= 2 {
        response.log_append_time_ms = info.log_append_time;
    }
    if header.version >= 5 {
        response.log_start_offset = info.log_start_offset;
    }
    response
}

fn refused(header: &RequestHeader, refusal: Refusal) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default().with_base_offset(-1).with_error_code(refusal.code.code());
    if header.version >= 8 {
        response.error_message = refusal.message.as_deref().map(text);
        response.record_errors = refusal
            .records
            .iter()
            .map(|(index, message)| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(*index)
                    .with_batch_index_error_message(Some(text(message)))
            })
            .collect();
    }
    response
}

/// Whether all that was appended is committed already, as it is when this broker alone is in sync.
fn is_committed(appended: &mut [Appended]) -> bool {
    for one in appended.iter_mut() {
        let Some((partition, offset)) = &one.pending else { continue };
        match partition.committed(*offset) {
            Some(result) => settle(one, Some(result)),
            None => return false,
        }
    }
    true
}

async fn wait(appended: &mut [Appended], timeout: Duration) {
    let pending = appended.iter().filter_map(|one| one.pending.clone()).collect();
    let mut results = wait_committed(pending, timeout).await.into_iter();
    for one in appended.iter_mut().filter(|one| one.pending.is_some()) {
        settle(one, results.next().flatten());
    }
}

fn settle(one: &mut Appended, result: Option<Result<(), ReplicaError>>) {
    one.pending = None;
    let code = match result {
        Some(Ok(())) => return,
        Some(Err(ReplicaError::NotEnoughReplicas { .. })) => ErrorCode::NotEnoughReplicasAfterAppend,
        Some(Err(error)) => error::of_replica(&error),
        None => ErrorCode::RequestTimedOut,
    };
    one.response.error_code = code.code();
}

fn reply(services: &Services, produced: &Produced, appended: Vec<Appended>) -> Result<Reply, WireError> {
    let Produced { header, listener, names, .. } = produced;
    let named = |name: &str| TopicProduceResponse::default().with_name(TopicName(text(name)));
    let mut topics: Vec<TopicProduceResponse> = names.iter().map(|name| named(name)).collect();
    let mut leaders = BTreeSet::new();
    for mut one in appended {
        let Some(topic) = topics.get_mut(one.topic) else { continue };
        let moved = one.response.error_code == ErrorCode::NotLeaderOrFollower.code();
        if header.version >= 10
            && moved
            && let Some(leader) = current_leader(services, &topic.name, one.response.index)
        {
            leaders.insert(leader.leader_id.0);
            one.response.current_leader = leader;
        }
        topic.partition_responses.push(one.response);
    }
    let mut response = ProduceResponse::default().with_responses(topics);
    if header.version >= 10 {
        response.node_endpoints = leaders.into_iter().filter_map(|id| endpoint(services, listener, id)).collect();
    }
    Reply::message(header, &response)
}

fn current_leader(services: &Services, topic: &str, partition: i32) -> Option<LeaderIdAndEpoch> {
    let (leader, epoch) = services.replicas.current_leader(topic, partition)?;
    Some(LeaderIdAndEpoch::default().with_leader_id(messages::BrokerId(leader.0)).with_leader_epoch(epoch.0))
}

fn endpoint(services: &Services, listener: &str, id: i32) -> Option<NodeEndpoint> {
    let image = services.metadata.image();
    let broker = image.brokers.get(&crate::base::BrokerId(id))?;
    let endpoint = broker.endpoint(listener)?;
    Some(
        NodeEndpoint::default()
            .with_node_id(messages::BrokerId(id))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_rack(broker.rack.as_deref().map(text)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_can_say_an_answer_and_an_error() {
        for version in 0..=11 {
            let header = RequestHeader { api_key: 0, version, correlation_id: 1, client_id: None };
            let info = LogAppendInfo { first_offset: 1, log_append_time: 3, log_start_offset: 1, ..NOTHING_APPENDED };
            let refusal =
                Refusal { code: ErrorCode::InvalidRecord, message: Some("m".into()), records: vec![(0, "r".into())] };
            let partitions = vec![accepted(&header, &info), refused(&header, refusal)];
            let topic = TopicProduceResponse::default().with_partition_responses(partitions);
            let response = ProduceResponse::default().with_responses(vec![topic]);
            encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
