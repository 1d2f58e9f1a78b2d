//! OffsetCommit: into the group's log, or in version 0 into ZooKeeper.

use super::group_fields::{shared, shared_option};
use super::{Services, consumer_znodes};
use crate::base::time::wall_ms;
use crate::base::{ErrorCode, Millis};
use crate::group::message::{CommitRequest, CommitTopic};
use crate::group::records::OffsetValue;
use crate::replica::metadata_cache::MetadataImage;
use crate::wire::messages::offset_commit_request::OffsetCommitRequestPartition;
use crate::wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use crate::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

/// `commit_timestamp` and `retention_time_ms` of clients that have no opinion.
const UNSET: i64 = -1;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: OffsetCommitRequest = request.decode()?;
    let header = request.header;
    let image = services.metadata.image();
    let mut skeleton = response_skeleton(&image, &body);
    if header.version == 0 {
        let (zookeeper, limit) = (services.zookeeper.clone(), services.config.offset_metadata_max_bytes);
        return Ok(Outcome::later(async move {
            consumer_znodes::commit(&zookeeper, &body, &mut skeleton, limit).await;
            Reply::or_close(&header, &skeleton)
        }));
    }
    let commit = commit_request(&image, &body, wall_ms());
    if commit.topics.is_empty() {
        return Ok(Reply::message(&header, &skeleton)?.into());
    }
    Ok(services.groups.commit(commit).reply(move |committed| {
        fill(&mut skeleton, &committed.errors);
        Reply::or_close(&header, &skeleton)
    }))
}

/// The response with UNKNOWN_TOPIC_OR_PARTITION where it applies, and no error elsewhere.
fn response_skeleton(image: &MetadataImage, body: &OffsetCommitRequest) -> OffsetCommitResponse {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let known = image.partition(&topic.name, index).is_some();
            let error = if known { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Puts the coordinator's codes where the skeleton has no error.
fn fill(skeleton: &mut OffsetCommitResponse, errors: &[ErrorCode]) {
    let partitions = skeleton.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, error) in partitions.filter(|partition| partition.error_code == 0).zip(errors) {
        partition.error_code = error.code();
    }
}

/// What the coordinator gets: the partitions that exist.
fn commit_request(image: &MetadataImage, body: &OffsetCommitRequest, now: Millis) -> CommitRequest {
    let expire_timestamp = (body.retention_time_ms != UNSET).then(|| now.saturating_add(body.retention_time_ms));
    let topics = body.topics.iter().filter_map(|topic| {
        let known = topic.partitions.iter().filter(|p| image.partition(&topic.name, p.partition_index).is_some());
        let partitions: Vec<_> = known
            .map(|partition| (partition.partition_index, offset_value(partition, expire_timestamp, now)))
            .collect();
        (!partitions.is_empty()).then(|| CommitTopic { topic: shared(&topic.name), partitions })
    });
    CommitRequest {
        group: shared(&body.group_id),
        generation: body.generation_id_or_member_epoch,
        member_id: shared(&body.member_id),
        instance_id: shared_option(&body.group_instance_id),
        topics: topics.collect(),
        transaction: None,
    }
}

fn offset_value(
    partition: &OffsetCommitRequestPartition,
    expire_timestamp: Option<Millis>,
    now: Millis,
) -> OffsetValue {
    OffsetValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_deref().unwrap_or("").into(),
        commit_timestamp: if partition.commit_timestamp == UNSET { now } else { partition.commit_timestamp },
        expire_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    fn response(errors: &[i16]) -> OffsetCommitResponse {
        let partitions = errors.iter().map(|error| OffsetCommitResponsePartition::default().with_error_code(*error));
        let topic = OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
        OffsetCommitResponse::default().with_topics(vec![topic])
    }

    #[test]
    fn codes_go_where_no_error_was() {
        let mut skeleton = response(&[0, 3, 0]);
        fill(&mut skeleton, &[ErrorCode::None, ErrorCode::OffsetMetadataTooLarge]);
        assert_eq!(skeleton, response(&[0, 3, 12]));
    }

    #[test]
    fn every_version_encodes() {
        for version in 0..=9 {
            assert!(encode(&response(&[0, 3]), version).is_ok(), "version {version}");
        }
    }
}
