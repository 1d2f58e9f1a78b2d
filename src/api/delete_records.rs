//! DeleteRecords (KIP-107): moves the start of partitions up.

use super::{Services, error};
use crate::base::{ErrorCode, topic_name};
use crate::replica::ReplicaError;
use crate::wire::messages::delete_records_request::DeleteRecordsPartition;
use crate::wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use crate::wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

const INVALID_LOW_WATERMARK: i64 = -1;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DeleteRecordsRequest = request.decode()?;
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let partitions = topic.partitions.iter().map(|wanted| delete(services, &topic.name, wanted)).collect();
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    Ok(Reply::message(&request.header, &DeleteRecordsResponse::default().with_topics(topics))?.into())
}

fn delete(services: &Services, topic: &str, wanted: &DeleteRecordsPartition) -> DeleteRecordsPartitionResult {
    let answer = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
    let (low_watermark, code) = match try_delete(services, topic, wanted) {
        Ok(low_watermark) => (low_watermark, ErrorCode::None),
        Err(code) => (INVALID_LOW_WATERMARK, code),
    };
    answer.with_low_watermark(low_watermark).with_error_code(code.code())
}

fn try_delete(services: &Services, topic: &str, wanted: &DeleteRecordsPartition) -> Result<i64, ErrorCode> {
    let code = |why: ReplicaError| error::of_replica(&why);
    let partition = services.replicas.partition(topic, wanted.partition_index).map_err(code)?;
    if topic_name::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !partition.log().config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    partition.delete_records(wanted.offset).map_err(code)
}
