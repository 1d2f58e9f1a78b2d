//! FindCoordinator: which broker coordinates a group or a transactional id. The first question creates the coordinators' topic, and
//! is answered when that is there: a client that is told to come again does so 100 ms later.

use super::Services;
use super::topics::{is_led, wait_for};
use crate::base::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::base::{BrokerId, ErrorCode};
use crate::wire::messages::find_coordinator_response::Coordinator;
use crate::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::{Outcome, Reply, Request, StrBytes, WireError, text};
use std::sync::Arc;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// How long a question may wait for the topic that it has created.
const CREATED_WITHIN_MS: i32 = 3_000;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: FindCoordinatorRequest = request.decode()?;
    let version = request.header.version;
    let key_type = if version == 0 { GROUP } else { body.key_type };
    let missing = topic_of(key_type).filter(|topic| !services.metadata.image().topics.contains_key(*topic));
    let Some(topic) = missing.filter(|_| version < 4 || !body.coordinator_keys.is_empty()) else {
        return Ok(Reply::message(&request.header, &answer(services, &request, key_type, &body))?.into());
    };
    let auto_creation = services.auto_creation.clone();
    // A task of its own, since the client may leave.
    let created = tokio::spawn(async move { auto_creation.create(topic).await });
    let services = services.clone();
    Ok(Outcome::later(async move {
        // Also if somebody else is creating it.
        if let Ok(ErrorCode::LeaderNotAvailable) = created.await {
            wait_for(&services.metadata, CREATED_WITHIN_MS, |image| is_led(image, topic, 1)).await;
        }
        Reply::or_close(&request.header, &answer(&services, &request, key_type, &body))
    }))
}

fn answer(
    services: &Services,
    request: &Request,
    key_type: i8,
    body: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let version = request.header.version;
    let find = |key: &StrBytes| find(services, &request.connection.listener, key_type, key);
    if version < 4 {
        return one(version, find(&body.key));
    }
    let coordinators = body.coordinator_keys.iter().map(|key| find(key).with_key(key.clone()));
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn topic_of(key_type: i8) -> Option<&'static str> {
    match key_type {
        GROUP => Some(CONSUMER_OFFSETS),
        TRANSACTION => Some(TRANSACTION_STATE),
        _ => None,
    }
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

fn find(services: &Services, listener: &str, key_type: i8, key: &StrBytes) -> Coordinator {
    let Some(topic) = topic_of(key_type) else {
        return failed(ErrorCode::InvalidRequest, "Only groups and transactional ids have coordinators here.");
    };
    let index = match key_type {
        GROUP => services.groups.partition_for(key),
        _ => services.transactions.partition_for(key),
    };
    let image = services.metadata.image();
    let leader = image.partition(topic, index).map(|partition| partition.leader);
    let leader = leader.filter(|leader| *leader != BrokerId::NONE);
    let endpoint = leader.and_then(|leader| image.brokers.get(&leader)).and_then(|broker| broker.endpoint(listener));
    match (leader, endpoint) {
        (Some(leader), Some(endpoint)) => Coordinator::default()
            .with_node_id(leader.0.into())
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_error_message(Some(text("NONE"))),
        // The client asks again.
        _ => failed(ErrorCode::CoordinatorNotAvailable, "The coordinator is not available."),
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
