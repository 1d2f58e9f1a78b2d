//! ListPartitionReassignments (KIP-455): partitions that are on the move.

use super::Services;
use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::wire::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::wire::messages::{self, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use crate::zookeeper::paths::ReplicaAssignment;
use std::collections::BTreeMap;
use std::sync::Arc;

type Moving = BTreeMap<TopicPartition, ReplicaAssignment>;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: ListPartitionReassignmentsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let response = match services.controller.reassignments().await {
            Ok(moving) => response(&body, moving),
            Err(error) => failure(error),
        };
        Reply::or_close(&request.header, &response)
    }))
}

fn failure(error: ErrorCode) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(text("This is not the correct controller for this cluster.")))
}

/// Topics of null are all topics.
fn response(body: &ListPartitionReassignmentsRequest, moving: Moving) -> ListPartitionReassignmentsResponse {
    let is_asked_for = |tp: &TopicPartition| {
        body.topics.as_ref().is_none_or(|topics| {
            topics
                .iter()
                .any(|topic| topic.name.as_str() == &*tp.topic && topic.partition_indexes.contains(&tp.partition))
        })
    };
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| messages::BrokerId(id.0)).collect();
    let mut topics: BTreeMap<Arc<str>, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    for (tp, assignment) in moving.into_iter().filter(|(tp, _)| is_asked_for(tp)) {
        let partition = OngoingPartitionReassignment::default()
            .with_partition_index(tp.partition)
            .with_replicas(ids(&assignment.replicas))
            .with_adding_replicas(ids(&assignment.adding))
            .with_removing_replicas(ids(&assignment.removing));
        topics.entry(tp.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OngoingTopicReassignment::default().with_name(TopicName(text(&name))).with_partitions(partitions)
    });
    ListPartitionReassignmentsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;

    #[test]
    fn all_or_what_is_asked_for() {
        let assignment =
            ReplicaAssignment { replicas: vec![BrokerId(2), BrokerId(1)], adding: vec![BrokerId(2)], removing: vec![] };
        let moving: Moving =
            [("a", 0), ("a", 1), ("b", 0)].map(|(t, p)| (TopicPartition::new(t, p), assignment.clone())).into();
        let all = response(&ListPartitionReassignmentsRequest::default().with_topics(None), moving.clone());
        assert_eq!(all.topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [2, 1]);
        let topic = ListPartitionReassignmentsTopics::default()
            .with_name(TopicName(text("a")))
            .with_partition_indexes(vec![1, 5]);
        let some = response(&ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic])), moving);
        assert_eq!(some.topics.len(), 1);
        assert_eq!(some.topics[0].partitions[0].partition_index, 1);
        assert!(encode(&some, 0).is_ok());
        assert!(encode(&failure(ErrorCode::NotController), 0).is_ok());
    }
}
