//! DeleteTopics (KIP-4, KIP-516): served by the controller. Waits until the metadata has forgotten the topics.

use super::Services;
use super::topics::wait_for;
use crate::base::{ErrorCode, TopicId};
use crate::controller::topic_plan::TopicError;
use crate::wire::messages::delete_topics_response::DeletableTopicResult;
use crate::wire::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeMap;
use std::sync::Arc;

/// First versions with error messages, and with topic ids.
const MESSAGES: i16 = 5;
const TOPIC_IDS: i16 = 6;
const DELETION_DISABLED_CODE: i16 = 3;

struct Answer {
    /// `None`: the client gave an id that no topic has.
    name: Option<String>,
    id: TopicId,
    outcome: Result<(), TopicError>,
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DeleteTopicsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let version = request.header.version;
        let mut answers = asked(&services, &body, version);
        for answer in &mut answers {
            if let (Ok(()), Some(name)) = (&answer.outcome, &answer.name) {
                answer.outcome = services.controller.delete_topic(name).await;
            }
        }
        wait_until_gone(&services, &mut answers, body.timeout_ms).await;
        let response = response(&answers, version);
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "DeleteTopics");
            Reply::Close
        })
    }))
}

/// What is to be deleted, and what is refused at once.
fn asked(services: &Services, body: &DeleteTopicsRequest, version: i16) -> Vec<Answer> {
    let image = services.metadata.image();
    let refusal = if !services.controller.is_active() {
        Some(TopicError::new(ErrorCode::NotController, "This is not the correct controller for this cluster."))
    } else if !services.config.delete_topic_enable {
        let code =
            if version < DELETION_DISABLED_CODE { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        Some(TopicError::new(code, "Topic deletion is disabled."))
    } else {
        None
    };
    let by_name = |name: &str| (Some(name.to_owned()), TopicId::ZERO);
    let wanted: Vec<(Option<String>, TopicId)> = match version {
        TOPIC_IDS.. => body
            .topics
            .iter()
            .map(|topic| match &topic.name {
                Some(name) => (Some(name.as_str().to_owned()), TopicId(topic.topic_id)),
                None => (None, TopicId(topic.topic_id)),
            })
            .collect(),
        _ => body.topic_names.iter().map(|name| by_name(name.as_str())).collect(),
    };
    let mut count: BTreeMap<(Option<String>, TopicId), usize> = BTreeMap::new();
    for one in &wanted {
        *count.entry(one.clone()).or_default() += 1;
    }
    let mut answers = Vec::with_capacity(count.len());
    for one in wanted {
        let Some(count) = count.remove(&one) else { continue };
        let (name, id) = one;
        let outcome = match &refusal {
            Some(refusal) => Err(refusal.clone()),
            None if count > 1 => Err(TopicError::new(ErrorCode::InvalidRequest, "Duplicate topic name or id.")),
            None if name.is_some() && !id.is_zero() => {
                Err(TopicError::new(ErrorCode::InvalidRequest, "Topic name and topic ID can not both be specified."))
            }
            None => Ok(()),
        };
        let answer = match (name, outcome) {
            (None, Ok(())) => match image.topic_name(id) {
                Some(name) => Answer { name: Some(name.to_string()), id, outcome: Ok(()) },
                None => {
                    let message = "This server does not host this topic ID.";
                    Answer { name: None, id, outcome: Err(TopicError::new(ErrorCode::UnknownTopicId, message)) }
                }
            },
            // What the metadata no longer shows is gone, although its znodes may take a moment longer.
            (Some(name), Ok(())) if !image.topics.contains_key(name.as_str()) => {
                let message = "This server does not host this topic-partition.";
                let outcome = Err(TopicError::new(ErrorCode::UnknownTopicOrPartition, message));
                Answer { name: Some(name), id, outcome }
            }
            (Some(name), outcome) => {
                let id = if id.is_zero() { image.topic_id(&name) } else { id };
                Answer { name: Some(name), id, outcome }
            }
            (None, outcome) => Answer { name: None, id, outcome },
        };
        answers.push(answer);
    }
    answers
}

async fn wait_until_gone(services: &Services, answers: &mut [Answer], timeout_ms: i32) {
    let names: Vec<String> =
        answers.iter().filter(|answer| answer.outcome.is_ok()).filter_map(|answer| answer.name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let gone =
        |image: &crate::replica::MetadataImage| names.iter().all(|name| !image.topics.contains_key(name.as_str()));
    if wait_for(&services.metadata, timeout_ms, gone).await {
        return;
    }
    let image = services.metadata.image();
    for answer in answers {
        let left = answer.name.as_ref().is_some_and(|name| image.topics.contains_key(name.as_str()));
        if answer.outcome.is_ok() && (timeout_ms <= 0 || left) {
            answer.outcome = Err(TopicError::new(ErrorCode::RequestTimedOut, "The request timed out."));
        }
    }
}

fn response(answers: &[Answer], version: i16) -> DeleteTopicsResponse {
    let results = answers.iter().map(|answer| {
        let name = match (&answer.name, version) {
            (None, ..TOPIC_IDS) => Some(TopicName::default()),
            (name, _) => name.as_deref().map(|name| TopicName(text(name))),
        };
        let mut result = DeletableTopicResult::default().with_name(name);
        if version >= TOPIC_IDS {
            result.topic_id = answer.id.0;
        }
        if let Err(error) = &answer.outcome {
            result.error_code = error.code.code();
            if version >= MESSAGES {
                result.error_message = Some(text(&error.message));
            }
        }
        result
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn every_version_can_be_answered() {
        let refused = || Err(TopicError::new(ErrorCode::UnknownTopicOrPartition, "no such topic"));
        let answers = [
            Answer { name: Some("t".into()), id: TopicId::random(), outcome: Ok(()) },
            Answer { name: Some("u".into()), id: TopicId::ZERO, outcome: refused() },
            Answer { name: None, id: TopicId::random(), outcome: refused() },
        ];
        for version in 0..=6 {
            let response = response(&answers, version);
            wire::encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
