//! OffsetDelete (KIP-496): offsets of topics that the group does not consume any longer.

use super::Services;
use super::group_fields::shared;
use crate::base::ErrorCode;
use crate::group::message::{OffsetDeleteRequest as Delete, OffsetDeleteResponse as Deleted};
use crate::wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use crate::wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: OffsetDeleteRequest = request.decode()?;
    let image = services.metadata.image();
    let mut partitions = Vec::new();
    for topic in &body.topics {
        let name: Arc<str> = shared(&topic.name);
        for partition in &topic.partitions {
            if image.partition(&name, partition.partition_index).is_some() {
                partitions.push((name.clone(), partition.partition_index));
            }
        }
    }
    let known: Vec<bool> = body
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| image.partition(&topic.name, p.partition_index).is_some()))
        .collect();
    let delete = Delete { group: shared(&body.group_id), partitions };
    let header = request.header;
    Ok(services
        .groups
        .delete_offsets(delete)
        .reply(move |deleted| Reply::or_close(&header, &response(&body, &known, &deleted))))
}

/// `known` has one flag a partition of the request, `deleted` one code a known partition.
fn response(body: &OffsetDeleteRequest, known: &[bool], deleted: &Deleted) -> OffsetDeleteResponse {
    if deleted.error.is_error() {
        return OffsetDeleteResponse::default().with_error_code(deleted.error.code());
    }
    let mut known = known.iter();
    let mut codes = deleted.partitions.iter();
    let mut code = || match known.next() {
        Some(true) => codes.next().copied().unwrap_or(ErrorCode::UnknownServerError),
        _ => ErrorCode::UnknownTopicOrPartition,
    };
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code().code())
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::TopicName;
    use crate::wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    use crate::wire::{encode, text};

    #[test]
    fn codes_find_their_partitions() {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let topic = |name: &str, partitions: &[i32]| {
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions.iter().map(|index| partition(*index)).collect())
        };
        let body = OffsetDeleteRequest::default().with_topics(vec![topic("a", &[0, 7]), topic("b", &[1])]);
        let codes = vec![ErrorCode::None, ErrorCode::GroupSubscribedToTopic];
        let made = response(&body, &[true, false, true], &Deleted { error: ErrorCode::None, partitions: codes });
        let found: Vec<i16> = made.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
        assert_eq!(found, [0, 3, 86]);
        assert!(encode(&made, 0).is_ok());
    }
}
