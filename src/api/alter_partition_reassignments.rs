//! AlterPartitionReassignments (KIP-455): an operator moves partitions to other replicas, or cancels that.

use super::Services;
use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::controller::reassignment::Wishes;
use crate::wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::wire::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use crate::wire::{Outcome, Reply, Request, StrBytes, WireError, text};
use std::collections::BTreeMap;
use std::sync::Arc;

type Outcomes = BTreeMap<TopicPartition, ErrorCode>;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AlterPartitionReassignmentsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let outcome = services.controller.alter_reassignments(wishes(&body)).await;
        Reply::or_close(&request.header, &response(&body, outcome))
    }))
}

fn wishes(body: &AlterPartitionReassignmentsRequest) -> Wishes {
    let mut wishes = Wishes::new();
    for topic in &body.topics {
        let name: Arc<str> = topic.name.as_str().into();
        for partition in &topic.partitions {
            let replicas = partition.replicas.as_ref().map(|ids| ids.iter().map(|id| BrokerId(id.0)).collect());
            wishes.insert(TopicPartition::new(name.clone(), partition.partition_index), replicas);
        }
    }
    wishes
}

fn response(
    body: &AlterPartitionReassignmentsRequest,
    outcome: Result<Outcomes, ErrorCode>,
) -> AlterPartitionReassignmentsResponse {
    let outcomes = match outcome {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return AlterPartitionReassignmentsResponse::default()
                .with_error_code(error.code())
                .with_error_message(message(error));
        }
    };
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let tp = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let error = outcomes.get(&tp).copied().unwrap_or(ErrorCode::UnknownServerError);
            ReassignablePartitionResponse::default()
                .with_partition_index(tp.partition)
                .with_error_code(error.code())
                .with_error_message(message(error))
        });
        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    AlterPartitionReassignmentsResponse::default().with_responses(topics.collect())
}

fn message(error: ErrorCode) -> Option<StrBytes> {
    Some(text(match error {
        ErrorCode::None => return None,
        ErrorCode::NotController => "This is not the correct controller for this cluster.",
        ErrorCode::UnknownTopicOrPartition => "The partition does not exist.",
        ErrorCode::NoReassignmentInProgress => "No partition reassignment is in progress.",
        ErrorCode::InvalidReplicaAssignment => {
            "The list of replicas is empty, has an id twice or a negative one, or names a broker that is not alive."
        }
        _ => "The reassignment failed.",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    use crate::wire::messages::{self, TopicName};

    #[test]
    fn null_cancels_and_every_partition_is_answered() {
        let moved = ReassignablePartition::default().with_replicas(Some(vec![messages::BrokerId(2)]));
        let cancelled = ReassignablePartition::default().with_partition_index(1).with_replicas(None);
        let topic =
            ReassignableTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![moved, cancelled]);
        let body = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        let asked = wishes(&body);
        assert_eq!(asked[&TopicPartition::new("t", 0)], Some(vec![BrokerId(2)]));
        assert_eq!(asked[&TopicPartition::new("t", 1)], None);
        let outcomes = [(TopicPartition::new("t", 1), ErrorCode::NoReassignmentInProgress)].into();
        let answer = response(&body, Ok(outcomes));
        let errors: Vec<_> = answer.responses[0].partitions.iter().map(|one| one.error_code).collect();
        assert_eq!(errors, [-1, 85]);
        assert!(encode(&answer, 0).is_ok());
        assert_eq!(response(&body, Err(ErrorCode::NotController)).error_code, 41);
    }
}
