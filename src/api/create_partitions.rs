//! CreatePartitions (KIP-195): served by the controller. Waits until the new partitions have leaders.

use super::Services;
use super::topics::{candidates, is_led, wait_for};
use crate::base::{BrokerId, ErrorCode};
use crate::controller::topic_plan::{TopicError, plan_growth};
use crate::wire::messages::create_partitions_request::CreatePartitionsTopic;
use crate::wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: CreatePartitionsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let results = grow(&services, &body).await;
        let response = CreatePartitionsResponse::default().with_results(results);
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "CreatePartitions");
            Reply::Close
        })
    }))
}

async fn grow(services: &Services, body: &CreatePartitionsRequest) -> Vec<CreatePartitionsTopicResult> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &body.topics {
        *count.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut outcomes: Vec<(&CreatePartitionsTopic, Result<usize, TopicError>)> = Vec::new();
    for topic in &body.topics {
        let Some(count) = count.remove(topic.name.as_str()) else { continue };
        let outcome = if !services.controller.is_active() {
            Err(TopicError::new(ErrorCode::NotController, "This is not the correct controller for this cluster."))
        } else if count > 1 {
            Err(TopicError::new(ErrorCode::InvalidRequest, "Duplicate topic in request."))
        } else {
            grow_one(services, topic, body.validate_only).await
        };
        outcomes.push((topic, outcome));
    }
    if !body.validate_only {
        wait_until_led(services, &mut outcomes, body.timeout_ms).await;
    }
    outcomes
        .into_iter()
        .map(|(topic, outcome)| {
            let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
            match outcome {
                Ok(_) => result,
                Err(error) => result.with_error_code(error.code.code()).with_error_message(Some(text(&error.message))),
            }
        })
        .collect()
}

/// Returns how many partitions the topic has from now on.
async fn grow_one(
    services: &Services,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<usize, TopicError> {
    let name = topic.name.as_str();
    let unknown = || TopicError::new(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
    if !crate::base::topic_name::is_legal(name) {
        return Err(unknown());
    }
    let (znode, version) = services.controller.topic(name).await?.ok_or_else(unknown)?;
    if services.controller.is_marked_for_deletion(name).await? {
        return Err(TopicError::new(ErrorCode::InvalidTopicException, "The topic is queued for deletion."));
    }
    if znode.partitions.values().any(|assignment| assignment.is_being_reassigned()) {
        let message = format!("A partition of topic '{name}' is being reassigned.");
        return Err(TopicError::new(ErrorCode::ReassignmentInProgress, message));
    }
    let brokers = candidates(&services.metadata.image());
    let assignments: Option<Vec<Vec<BrokerId>>> = topic.assignments.as_ref().map(|assignments| {
        let ids = |ids: &[crate::wire::messages::BrokerId]| ids.iter().map(|id| BrokerId(id.0)).collect();
        assignments.iter().map(|assignment| ids(&assignment.broker_ids)).collect()
    });
    let shift = rand::random_range(0..brokers.len().max(1));
    let all = plan_growth(&znode, topic.count, assignments.as_deref(), &brokers, shift)?;
    let count = all.len();
    if !validate_only {
        services.controller.set_partitions(name, znode.topic_id, all, version).await?;
    }
    Ok(count)
}

async fn wait_until_led(
    services: &Services,
    outcomes: &mut [(&CreatePartitionsTopic, Result<usize, TopicError>)],
    timeout_ms: i32,
) {
    let wanted: Vec<(String, usize)> = outcomes
        .iter()
        .filter_map(|(topic, outcome)| Some((topic.name.as_str().to_owned(), *outcome.as_ref().ok()?)))
        .collect();
    if wanted.is_empty() {
        return;
    }
    let all_led =
        |image: &crate::replica::MetadataImage| wanted.iter().all(|(name, count)| is_led(image, name, *count));
    if wait_for(&services.metadata, timeout_ms, all_led).await {
        return;
    }
    let image = services.metadata.image();
    for (topic, outcome) in outcomes {
        if let Ok(count) = outcome
            && (timeout_ms <= 0 || !is_led(&image, topic.name.as_str(), *count))
        {
            *outcome = Err(TopicError::new(ErrorCode::RequestTimedOut, "The request timed out."));
        }
    }
}
