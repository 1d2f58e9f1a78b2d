//! ElectLeaders (KIP-183, KIP-460): served by the controller. Waits until the metadata shows the new leaders.

use super::Services;
use super::topics::wait_for;
use crate::base::{ErrorCode, TopicPartition};
use crate::replica::MetadataImage;
use crate::wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use crate::wire::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeMap;
use std::sync::Arc;

/// First version with election types and an error of its own.
const ELECTION_TYPES: i16 = 1;
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

type Outcomes = BTreeMap<TopicPartition, ErrorCode>;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: ElectLeadersRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let response = match elect(&services, &body).await {
            Ok(outcomes) => response(ErrorCode::None, outcomes, request.header.version),
            Err(error) => {
                let all = asked(&body).unwrap_or_default().into_iter().map(|tp| (tp, error)).collect();
                response(error, all, request.header.version)
            }
        };
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "ElectLeaders");
            Reply::Close
        })
    }))
}

fn asked(body: &ElectLeadersRequest) -> Option<Vec<TopicPartition>> {
    let partitions = |topic: &crate::wire::messages::elect_leaders_request::TopicPartitions| {
        let name: Arc<str> = topic.topic.as_str().into();
        topic.partitions.iter().map(|number| TopicPartition::new(name.clone(), *number)).collect::<Vec<_>>()
    };
    body.topic_partitions.as_ref().map(|topics| topics.iter().flat_map(partitions).collect())
}

async fn elect(services: &Services, body: &ElectLeadersRequest) -> Result<Outcomes, ErrorCode> {
    let unclean = match body.election_type {
        PREFERRED => false,
        UNCLEAN => true,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let mut outcomes = services.controller.elect_leaders(asked(body), unclean).await?;
    let elected: Vec<TopicPartition> =
        outcomes.iter().filter(|(_, error)| **error == ErrorCode::None).map(|(tp, _)| tp.clone()).collect();
    let led = |image: &MetadataImage, tp: &TopicPartition| {
        image.partition(&tp.topic, tp.partition).is_some_and(|partition| match unclean {
            true => partition.leader.0 >= 0,
            false => partition.replicas.first() == Some(&partition.leader),
        })
    };
    let all = |image: &MetadataImage| elected.iter().all(|tp| led(image, tp));
    if !elected.is_empty() && !wait_for(&services.metadata, body.timeout_ms, all).await {
        let image = services.metadata.image();
        for tp in elected.into_iter().filter(|tp| !led(&image, tp)) {
            outcomes.insert(tp, ErrorCode::RequestTimedOut);
        }
    }
    Ok(outcomes)
}

fn response(error: ErrorCode, outcomes: Outcomes, version: i16) -> ElectLeadersResponse {
    let mut topics: BTreeMap<Arc<str>, Vec<PartitionResult>> = BTreeMap::new();
    for (tp, error) in outcomes {
        let mut result = PartitionResult::default().with_partition_id(tp.partition).with_error_code(error.code());
        if let Some(message) = message(error) {
            result.error_message = Some(text(message));
        }
        topics.entry(tp.topic).or_default().push(result);
    }
    let results = topics.into_iter().map(|(topic, results)| {
        ReplicaElectionResult::default().with_topic(TopicName(text(&topic))).with_partition_result(results)
    });
    let response = ElectLeadersResponse::default().with_replica_election_results(results.collect());
    if version >= ELECTION_TYPES { response.with_error_code(error.code()) } else { response }
}

fn message(error: ErrorCode) -> Option<&'static str> {
    Some(match error {
        ErrorCode::None => return None,
        ErrorCode::ElectionNotNeeded => "Leader election not needed for topic partition.",
        ErrorCode::UnknownTopicOrPartition => "The partition does not exist.",
        ErrorCode::InvalidTopicException => "The partition is being deleted.",
        ErrorCode::PreferredLeaderNotAvailable => "The preferred leader is not available.",
        ErrorCode::EligibleLeadersNotAvailable => "No eligible leader is available.",
        ErrorCode::NotController => "This is not the correct controller for this cluster.",
        ErrorCode::RequestTimedOut => "The request timed out.",
        _ => "The election failed.",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn every_version_can_be_answered() {
        for version in 0..=2 {
            let outcomes = [ErrorCode::None, ErrorCode::ElectionNotNeeded]
                .into_iter()
                .zip(0..)
                .map(|(error, partition)| (TopicPartition::new("t", partition), error));
            let response = response(ErrorCode::NotController, outcomes.collect(), version);
            wire::encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
