//! LeaderAndIsr: the controller says who leads the partitions of this broker. Fences are those of the replica manager.

use super::Services;
use super::stop_replica::done;
use crate::replica::ReplicaManager;
use crate::wire::messages::leader_and_isr_request::{LeaderAndIsrPartitionState, LeaderAndIsrTopicState};
use crate::wire::messages::leader_and_isr_response::LeaderAndIsrPartitionError;
use crate::wire::messages::{LeaderAndIsrRequest, LeaderAndIsrResponse, TopicName};
use crate::wire::{Outcome, Request, WireError};
use std::sync::Arc;

/// First version that puts partitions together by topic.
const BY_TOPIC: i16 = 2;
/// First version with topic ids, by which it is answered.
const TOPIC_IDS: i16 = 5;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: LeaderAndIsrRequest = request.decode()?;
    let replicas = services.replicas.clone();
    let version = request.header.version;
    Ok(done(request.header, async move { answer(&replicas, body, version).await }))
}

async fn answer(replicas: &ReplicaManager, mut body: LeaderAndIsrRequest, version: i16) -> LeaderAndIsrResponse {
    if version < BY_TOPIC {
        body.topic_states = by_topic(std::mem::take(&mut body.ungrouped_partition_states));
    }
    let response = replicas.leader_and_isr(&body).await;
    if version >= TOPIC_IDS { response } else { by_name(&body, response) }
}

/// What old versions list partition by partition.
fn by_topic(states: Vec<LeaderAndIsrPartitionState>) -> Vec<LeaderAndIsrTopicState> {
    let mut topics: Vec<LeaderAndIsrTopicState> = Vec::new();
    for mut state in states {
        let name = std::mem::take(&mut state.topic_name);
        match topics.last_mut() {
            Some(topic) if topic.topic_name == name => topic.partition_states.push(state),
            _ => {
                topics.push(LeaderAndIsrTopicState::default().with_topic_name(name).with_partition_states(vec![state]))
            }
        }
    }
    topics
}

/// Before topic ids an answer names the topic of each partition. Answers come in the order of the request's topics.
fn by_name(body: &LeaderAndIsrRequest, response: LeaderAndIsrResponse) -> LeaderAndIsrResponse {
    let errors = body.topic_states.iter().zip(&response.topics).flat_map(|(asked, answered)| {
        answered.partition_errors.iter().map(|error| {
            LeaderAndIsrPartitionError::default()
                .with_topic_name(TopicName(asked.topic_name.0.clone()))
                .with_partition_index(error.partition_index)
                .with_error_code(error.error_code)
        })
    });
    LeaderAndIsrResponse::default().with_error_code(response.error_code).with_partition_errors(errors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::leader_and_isr_response::LeaderAndIsrTopicError;
    use crate::wire::{encode, text};

    fn name(topic: &str) -> TopicName {
        TopicName(text(topic))
    }

    #[test]
    fn old_versions_are_put_together_by_topic_and_answered_by_name() {
        let state = |topic, partition| {
            LeaderAndIsrPartitionState::default().with_topic_name(name(topic)).with_partition_index(partition)
        };
        let topic_states = by_topic(vec![state("a", 0), state("a", 1), state("b", 0)]);
        let counts: Vec<_> = topic_states.iter().map(|topic| topic.partition_states.len()).collect();
        assert_eq!(counts, [2, 1]);
        let body = LeaderAndIsrRequest::default().with_topic_states(topic_states);
        let error = |partition, code| {
            LeaderAndIsrPartitionError::default().with_partition_index(partition).with_error_code(code)
        };
        let topics = vec![
            LeaderAndIsrTopicError::default().with_partition_errors(vec![error(0, 0), error(1, 56)]),
            LeaderAndIsrTopicError::default().with_partition_errors(vec![error(0, 11)]),
        ];
        let answer = by_name(&body, LeaderAndIsrResponse::default().with_topics(topics.clone()));
        let found: Vec<_> = answer
            .partition_errors
            .iter()
            .map(|error| (error.topic_name.as_str(), error.partition_index, error.error_code))
            .collect();
        assert_eq!(found, [("a", 0, 0), ("a", 1, 56), ("b", 0, 11)]);
        for version in 0..=7 {
            let response = LeaderAndIsrResponse::default().with_topics(topics.clone());
            let response = if version >= TOPIC_IDS { response } else { by_name(&body, response) };
            encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
