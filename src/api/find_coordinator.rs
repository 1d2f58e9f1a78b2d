//! FindCoordinator: which broker coordinates a group or a transactional id. The first question creates the coordinators' topic.

use super::Services;
use super::group_fields::shared;
use crate::base::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::base::{BrokerId, ErrorCode};
use crate::wire::messages::find_coordinator_response::Coordinator;
use crate::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::{Outcome, Reply, Request, StrBytes, WireError, text};
use std::sync::Arc;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: FindCoordinatorRequest = request.decode()?;
    let version = request.header.version;
    let key_type = if version == 0 { GROUP } else { body.key_type };
    let find = |key: &StrBytes| find(services, &request.connection.listener, key_type, key);
    let response = if version < 4 {
        one(version, find(&body.key))
    } else {
        let coordinators = body.coordinator_keys.iter().map(|key| find(key).with_key(key.clone()));
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    };
    Ok(Reply::message(&request.header, &response)?.into())
}

/// Versions 0 to 3.
fn one(version: i16, found: Coordinator) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    if version >= 1 { response.with_error_message(found.error_message) } else { response }
}

fn failed(error: ErrorCode, message: &str) -> Coordinator {
    Coordinator::default()
        .with_node_id((-1).into())
        .with_port(-1)
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
}

fn find(services: &Arc<Services>, listener: &str, key_type: i8, key: &StrBytes) -> Coordinator {
    let (topic_name, index) = match key_type {
        GROUP => (CONSUMER_OFFSETS, services.groups.partition_for(&shared(key))),
        TRANSACTION => (TRANSACTION_STATE, services.transactions.partition_for(&shared(key))),
        _ => return failed(ErrorCode::InvalidRequest, "Only groups and transactional ids have coordinators here."),
    };
    const NOT_YET: &str = "The coordinator is not available.";
    let image = services.metadata.image();
    let Some(topic) = image.topics.get(topic_name) else {
        // The client asks again; by then the topic is there.
        let auto_creation = services.auto_creation.clone();
        tokio::spawn(async move { auto_creation.create(topic_name).await });
        return failed(ErrorCode::CoordinatorNotAvailable, NOT_YET);
    };
    let partition = topic.partitions.get(&index);
    let leader = partition.map(|partition| partition.leader).filter(|leader| *leader != BrokerId::NONE);
    let endpoint = leader.and_then(|leader| image.brokers.get(&leader)).and_then(|broker| broker.endpoint(listener));
    match (leader, endpoint) {
        (Some(leader), Some(endpoint)) => Coordinator::default()
            .with_node_id(leader.0.into())
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_error_message(Some(text("NONE"))),
        _ => failed(ErrorCode::CoordinatorNotAvailable, NOT_YET),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        for version in 0..=6 {
            let found = failed(ErrorCode::InvalidRequest, "no");
            let response = match version {
                0..=3 => one(version, found),
                _ => FindCoordinatorResponse::default().with_coordinators(vec![found.with_key(text("k"))]),
            };
            assert!(encode(&response, version).is_ok(), "version {version}");
        }
    }
}
