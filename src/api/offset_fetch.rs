//! OffsetFetch: committed offsets of one group, of many from version 8 on (KIP-709), or in version 0 from ZooKeeper.

use super::group_fields::shared;
use super::{Services, consumer_znodes};
use crate::base::ErrorCode;
use crate::group::message::{FetchResponse, FetchTopics, FetchedOffset};
use crate::wire::messages::offset_fetch_request::{OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use crate::wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use crate::wire::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::HashSet;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: OffsetFetchRequest = request.decode()?;
    let header = request.header;
    if header.version == 0 {
        let services = services.clone();
        return Ok(Outcome::later(async move {
            let fetched = fetch_from_znodes(&services, &body).await;
            Reply::or_close(&header, &one_group(0, &fetched))
        }));
    }
    let response = if header.version < 8 {
        let topics = wanted(body.topics.as_deref());
        let fetched = services.groups.fetch_offsets(&body.group_id, &topics, body.require_stable);
        one_group(header.version, &with_all_partitions(header.version, fetched, &topics))
    } else {
        // A group is answered once, however often it is named: it may have many offsets.
        let mut seen = HashSet::new();
        let groups = body.groups.into_iter().filter(|group| seen.insert(group.group_id.clone())).map(|group| {
            let topics = wanted_topics(group.topics.as_deref());
            let fetched = services.groups.fetch_offsets(&group.group_id, &topics, body.require_stable);
            of_many(&fetched).with_group_id(group.group_id)
        });
        OffsetFetchResponse::default().with_groups(groups.collect())
    };
    Ok(Reply::message(&header, &response)?.into())
}

fn wanted(topics: Option<&[OffsetFetchRequestTopic]>) -> FetchTopics {
    let Some(topics) = topics else { return FetchTopics::All };
    FetchTopics::Named(topics.iter().map(|topic| (shared(&topic.name), topic.partition_indexes.clone())).collect())
}

fn wanted_topics(topics: Option<&[OffsetFetchRequestTopics]>) -> FetchTopics {
    let Some(topics) = topics else { return FetchTopics::All };
    FetchTopics::Named(topics.iter().map(|topic| (shared(&topic.name), topic.partition_indexes.clone())).collect())
}

/// Version 1 has no code for the whole group: every partition bears it.
fn with_all_partitions(version: i16, fetched: FetchResponse, topics: &FetchTopics) -> FetchResponse {
    match topics {
        FetchTopics::Named(topics) if version < 2 && fetched.error.is_error() => {
            let failed = |index: &i32| FetchedOffset::none(*index, fetched.error);
            let topics =
                topics.iter().map(|(topic, partitions)| (topic.clone(), partitions.iter().map(failed).collect()));
            FetchResponse { error: fetched.error, topics: topics.collect() }
        }
        _ => fetched,
    }
}

async fn fetch_from_znodes(services: &Services, body: &OffsetFetchRequest) -> FetchResponse {
    let image = services.metadata.image();
    let mut topics = Vec::new();
    for topic in body.topics.iter().flatten() {
        let mut partitions = Vec::new();
        for index in &topic.partition_indexes {
            let (offset, error) = match image.partition(&topic.name, *index) {
                Some(_) => consumer_znodes::fetch(&services.zookeeper, &body.group_id, &topic.name, *index).await,
                None => (-1, ErrorCode::UnknownTopicOrPartition),
            };
            partitions.push(FetchedOffset { offset, ..FetchedOffset::none(*index, error) });
        }
        topics.push((shared(&topic.name), partitions));
    }
    FetchResponse { error: ErrorCode::None, topics }
}

/// Versions 0 to 7.
fn one_group(version: i16, fetched: &FetchResponse) -> OffsetFetchResponse {
    let partition = |offset: &FetchedOffset| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(if version >= 5 { offset.leader_epoch } else { -1 })
            .with_metadata(Some(text(&offset.metadata)))
            .with_error_code(offset.error.code())
    };
    let topics = fetched.topics.iter().map(|(topic, partitions)| {
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions.iter().map(partition).collect())
    });
    let error = if version >= 2 { fetched.error } else { ErrorCode::None };
    OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(error.code())
}

/// One of the groups of version 8 and later.
fn of_many(fetched: &FetchResponse) -> OffsetFetchResponseGroup {
    let partition = |offset: &FetchedOffset| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_metadata(Some(text(&offset.metadata)))
            .with_error_code(offset.error.code())
    };
    let topics = fetched.topics.iter().map(|(topic, partitions)| {
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions.iter().map(partition).collect())
    });
    OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_error_code(fetched.error.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        let offset = FetchedOffset {
            partition: 1,
            offset: 42,
            leader_epoch: 3,
            metadata: "note".into(),
            error: ErrorCode::UnstableOffsetCommit,
        };
        let found = FetchResponse { error: ErrorCode::None, topics: vec![("t".into(), vec![offset])] };
        let failed = FetchResponse { error: ErrorCode::NotCoordinator, topics: Vec::new() };
        let wanted = FetchTopics::Named(vec![("t".into(), vec![0, 1])]);
        for version in 0..=9 {
            for fetched in [&found, &failed] {
                let fetched = with_all_partitions(version, fetched.clone(), &wanted);
                let response = match version {
                    0..=7 => one_group(version, &fetched),
                    _ => OffsetFetchResponse::default().with_groups(vec![of_many(&fetched)]),
                };
                assert!(encode(&response, version).is_ok(), "version {version}");
            }
        }
    }

    #[test]
    fn version_1_tells_a_group_error_in_every_partition() {
        let failed = FetchResponse { error: ErrorCode::NotCoordinator, topics: Vec::new() };
        let wanted = FetchTopics::Named(vec![("t".into(), vec![0, 1])]);
        let response = one_group(1, &with_all_partitions(1, failed, &wanted));
        let codes: Vec<i16> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!((response.error_code, codes), (0, vec![16, 16]));
    }
}
