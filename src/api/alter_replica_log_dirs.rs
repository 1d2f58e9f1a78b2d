//! AlterReplicaLogDirs (KIP-113): replicas go to another directory of this broker.

use super::{Services, error};
use crate::base::{ErrorCode, TopicPartition};
use crate::log::{LogError, LogManager};
use crate::wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use crate::wire::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AlterReplicaLogDirsRequest = request.decode()?;
    let (services, logs) = (services.clone(), services.replicas.logs().clone());
    let mut wanted = Vec::new();
    for dir in &body.dirs {
        for topic in &dir.topics {
            let partitions = topic.partitions.iter().map(|&number| TopicPartition::new(&*topic.name.0, number));
            wanted.extend(partitions.map(|partition| (partition, PathBuf::from(&*dir.path))));
        }
    }
    let header = request.header;
    // Directories and files are made for it.
    let work = async move {
        let moved = tokio::task::spawn_blocking(move || move_all(&logs, wanted)).await.unwrap_or_default();
        Reply::or_close(&header, &answer(&services, moved))
    };
    Ok(Outcome::later(work))
}

fn move_all(logs: &LogManager, wanted: Vec<(TopicPartition, PathBuf)>) -> Vec<(TopicPartition, ErrorCode)> {
    let code = |partition: &TopicPartition, path: &PathBuf| match logs.move_to(partition, path) {
        Ok(()) => ErrorCode::None,
        Err(error) => {
            if !matches!(error, LogError::NoReplica(_)) {
                tracing::warn!(%partition, dir = %path.display(), %error, "replica is not moved");
            }
            error::of_log(&error)
        }
    };
    wanted
        .into_iter()
        .map(|(partition, path)| {
            let code = code(&partition, &path);
            (partition, code)
        })
        .collect()
}

fn answer(services: &Services, moved: Vec<(TopicPartition, ErrorCode)>) -> AlterReplicaLogDirsResponse {
    let mut topics: BTreeMap<Arc<str>, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    let metadata = services.metadata.image();
    for (partition, code) in moved {
        let is_known = metadata.partition(&partition.topic, partition.partition).is_some();
        let code = match code {
            ErrorCode::ReplicaNotAvailable if !is_known => ErrorCode::UnknownTopicOrPartition,
            code => code,
        };
        let result = AlterReplicaLogDirPartitionResult::default()
            .with_partition_index(partition.partition)
            .with_error_code(code.code());
        topics.entry(partition.topic).or_default().push(result);
    }
    let results = topics.into_iter().map(|(name, partitions)| {
        AlterReplicaLogDirTopicResult::default().with_topic_name(TopicName(text(&name))).with_partitions(partitions)
    });
    AlterReplicaLogDirsResponse::default().with_results(results.collect())
}
