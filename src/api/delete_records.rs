//! DeleteRecords (KIP-107): moves the start of partitions up, and answers when all live replicas have followed.

use super::{Services, error};
use crate::base::{ErrorCode, topic_name};
use crate::replica::{Partition, ReplicaError, wait_deleted};
use crate::wire::messages::delete_records_request::DeleteRecordsPartition;
use crate::wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use crate::wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, RequestHeader, WireError};
use std::sync::Arc;
use std::time::Duration;

const INVALID_LOW_WATERMARK: i64 = -1;

/// One partition's answer, and what it waits for.
struct Deletion {
    topic: usize,
    index: i32,
    result: Result<i64, ErrorCode>,
    /// The partition and the offset that all its replicas have to delete up to.
    pending: Option<(Arc<Partition>, i64)>,
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DeleteRecordsRequest = request.decode()?;
    let mut deletions = Vec::new();
    for (at, topic) in body.topics.iter().enumerate() {
        deletions.extend(topic.partitions.iter().map(|wanted| {
            let (result, pending) = match begin(services, &topic.name, wanted) {
                Ok((partition, offset)) => (Err(ErrorCode::RequestTimedOut), Some((partition, offset))),
                Err(code) => (Err(code), None),
            };
            Deletion { topic: at, index: wanted.partition_index, result, pending }
        }));
    }
    let header = request.header.clone();
    let names: Vec<TopicName> = body.topics.into_iter().map(|topic| topic.name).collect();
    if deletions.iter_mut().all(|one| one.look()) {
        return Ok(reply(&header, &names, deletions).into());
    }
    let timeout = Duration::from_millis(body.timeout_ms.max(0) as u64);
    Ok(Outcome::later(async move {
        let pending = deletions.iter().filter_map(|one| one.pending.clone()).collect();
        let mut results = wait_deleted(pending, timeout).await.into_iter();
        for one in deletions.iter_mut().filter(|one| one.pending.is_some()) {
            one.settle(results.next().flatten());
        }
        reply(&header, &names, deletions)
    }))
}

impl Deletion {
    /// Whether it has nothing to wait for.
    fn look(&mut self) -> bool {
        let Some((partition, offset)) = &self.pending else { return true };
        let now = partition.deleted(*offset);
        let is_done = now.is_some();
        if is_done {
            self.settle(now);
            self.pending = None;
        }
        is_done
    }

    fn settle(&mut self, result: Option<Result<i64, ReplicaError>>) {
        if let Some(result) = result {
            self.result = result.map_err(|why| error::of_replica(&why));
        }
    }
}

fn reply(header: &RequestHeader, names: &[TopicName], deletions: Vec<Deletion>) -> Reply {
    let topic = |name: &TopicName| DeleteRecordsTopicResult::default().with_name(name.clone());
    let mut topics: Vec<_> = names.iter().map(topic).collect();
    for one in deletions {
        let code = one.result.err().unwrap_or_default();
        let result = DeleteRecordsPartitionResult::default()
            .with_partition_index(one.index)
            .with_low_watermark(one.result.unwrap_or(INVALID_LOW_WATERMARK))
            .with_error_code(code.code());
        if let Some(topic) = topics.get_mut(one.topic) {
            topic.partitions.push(result);
        }
    }
    Reply::or_close(header, &DeleteRecordsResponse::default().with_topics(topics))
}

fn begin(
    services: &Services,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<(Arc<Partition>, i64), ErrorCode> {
    let code = |why: ReplicaError| error::of_replica(&why);
    let partition = services.replicas.partition(topic, wanted.partition_index).map_err(code)?;
    if topic_name::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !partition.log().config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = partition.delete_records(wanted.offset).map_err(code)?;
    Ok((partition, offset))
}
