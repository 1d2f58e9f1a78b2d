//! DescribeLogDirs (KIP-113): what lies in which directory.

use super::Services;
use crate::base::{ErrorCode, TopicPartition};
use crate::log::LogDirDescription;
use crate::wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const UNKNOWN_BYTES: i64 = -1;
const UNKNOWN_LAG: i64 = -1;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DescribeLogDirsRequest = request.decode()?;
    let version = request.header.version;
    let wanted: Option<HashMap<String, HashSet<i32>>> = body.topics.as_ref().map(|topics| {
        topics.iter().map(|topic| (topic.topic.0.to_string(), topic.partitions.iter().copied().collect())).collect()
    });
    let dirs = services.replicas.logs().dirs();
    let results = dirs.iter().map(|dir| describe(services, version, dir, wanted.as_ref())).collect();
    Ok(Reply::message(&request.header, &DescribeLogDirsResponse::default().with_results(results))?.into())
}

fn is_wanted(wanted: &HashMap<String, HashSet<i32>>, name: &TopicPartition) -> bool {
    wanted.get(&*name.topic).is_some_and(|partitions| partitions.contains(&name.partition))
}

fn describe(
    services: &Services,
    version: i16,
    dir: &LogDirDescription,
    wanted: Option<&HashMap<String, HashSet<i32>>>,
) -> DescribeLogDirsResult {
    let result = DescribeLogDirsResult::default().with_log_dir(text(&dir.path.to_string_lossy()));
    if dir.is_offline {
        let result = result.with_error_code(ErrorCode::KafkaStorageError.code());
        return if version >= 4 {
            result.with_total_bytes(UNKNOWN_BYTES).with_usable_bytes(UNKNOWN_BYTES)
        } else {
            result
        };
    }
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let current = dir.logs.iter().map(|log| (log, false));
    for (log, is_future) in current.chain(dir.futures.iter().map(|log| (log, true))) {
        let name = log.topic_partition();
        if !wanted.is_none_or(|wanted| is_wanted(wanted, name)) {
            continue;
        }
        // A replica lags behind its high watermark, a copy on its way behind the replica.
        let lag = match services.replicas.hosted(&name.topic, name.partition) {
            Some(partition) if is_future => partition.log().log_end_offset() - log.log_end_offset(),
            Some(_) => (log.high_watermark() - log.log_end_offset()).max(0),
            None => UNKNOWN_LAG,
        };
        topics.entry(name.topic.clone()).or_default().push(
            DescribeLogDirsPartition::default()
                .with_partition_index(name.partition)
                .with_partition_size(log.size_bytes() as i64)
                .with_offset_lag(lag)
                .with_is_future_key(is_future),
        );
    }
    for log in &dir.unready {
        let name = &log.partition;
        if wanted.is_none_or(|wanted| is_wanted(wanted, name)) {
            topics.entry(name.topic.clone()).or_default().push(
                DescribeLogDirsPartition::default()
                    .with_partition_index(name.partition)
                    .with_partition_size(log.size_bytes as i64)
                    .with_offset_lag(UNKNOWN_LAG)
                    .with_is_future_key(log.is_future),
            );
        }
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| {
            DescribeLogDirsTopic::default().with_name(TopicName(text(&name))).with_partitions(partitions)
        })
        .collect();
    let result = result.with_topics(topics);
    match version {
        4.. => result.with_total_bytes(dir.total_bytes).with_usable_bytes(dir.usable_bytes),
        _ => result,
    }
}
