//! CreateTopics (KIP-4, KIP-525): served by the controller. Waits until the new topics have leaders.

use super::Services;
use super::topics::{is_led, plan_topic, wait_for};
use crate::base::{BrokerId, ErrorCode, TopicId, topic_name};
use crate::config::describe::{self, Dynamic, Sources};
use crate::controller::topic_plan::{PARTITIONS_MAX, TopicError, TopicPlan, TopicWish};
use crate::wire::messages::create_topics_request::CreatableTopic;
use crate::wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use crate::wire::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use crate::zookeeper::configs;
use crate::zookeeper::paths::ConfigEntity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// First versions with an error message, and with what was created.
const MESSAGES: i16 = 1;
const DETAILS: i16 = 5;
const TOPIC_IDS: i16 = 7;

/// A topic of the request and what became of it.
struct Answer {
    name: String,
    outcome: Result<Created, TopicError>,
}

struct Created {
    plan: TopicPlan,
    id: TopicId,
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: CreateTopicsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let mut answers = create(&services, &body).await;
        if !body.validate_only {
            wait_until_led(&services, &mut answers, body.timeout_ms).await;
        }
        let version = request.header.version;
        let shared = if version >= DETAILS { broker_configs(&services).await } else { Default::default() };
        let results = answers.iter().map(|answer| {
            let configs = |plan: &TopicPlan| topic_configs(&services, &shared, plan);
            result(answer, version, configs)
        });
        let response = CreateTopicsResponse::default().with_topics(results.collect());
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "CreateTopics");
            Reply::Close
        })
    }))
}

async fn create(services: &Services, body: &CreateTopicsRequest) -> Vec<Answer> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &body.topics {
        *count.entry(topic.name.as_str()).or_default() += 1;
    }
    let names = match services.controller.is_active() {
        true => services.controller.topic_names().await.map_err(TopicError::from),
        false => Err(TopicError::new(ErrorCode::NotController, "This is not the correct controller for this cluster.")),
    };
    let mut answers: Vec<Answer> = Vec::with_capacity(count.len());
    let mut room = PARTITIONS_MAX;
    for topic in &body.topics {
        let name = topic.name.as_str();
        if answers.iter().any(|answer| answer.name == name) {
            continue;
        }
        let outcome = match &names {
            Err(error) => Err(error.clone()),
            Ok(_) if count.get(name).is_some_and(|count| *count > 1) => {
                Err(TopicError::new(ErrorCode::InvalidRequest, "Found multiple entries for this topic."))
            }
            Ok(names) => create_one(services, topic, names, body.validate_only, &mut room).await,
        };
        answers.push(Answer { name: name.to_owned(), outcome });
    }
    answers
}

async fn create_one(
    services: &Services,
    topic: &CreatableTopic,
    names: &[String],
    validate_only: bool,
    room: &mut usize,
) -> Result<Created, TopicError> {
    let name = topic.name.as_str();
    if name == topic_name::CLUSTER_METADATA {
        let message = format!("Creation of internal topic {name} is prohibited.");
        return Err(TopicError::new(ErrorCode::InvalidRequest, message));
    }
    let replicas = |ids: &[crate::wire::messages::BrokerId]| ids.iter().map(|id| BrokerId(id.0)).collect();
    let wish = TopicWish {
        name,
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(|one| (one.partition_index, replicas(&one.broker_ids))).collect(),
        configs: topic.configs.iter().map(|one| (one.name.as_str(), one.value.as_deref())).collect(),
    };
    let plan = plan_topic(services, &wish, names)?;
    // One request may ask for as much as one topic, however many topics it names.
    *room = room.checked_sub(plan.assignment.len()).ok_or_else(|| {
        let message = format!("One request can create at most {PARTITIONS_MAX} partitions.");
        TopicError::new(ErrorCode::InvalidPartitions, message)
    })?;
    let id = match validate_only {
        true => TopicId::ZERO,
        false => services.controller.create_topic(name, &plan).await?,
    };
    Ok(Created { plan, id })
}

/// Topics that have no leaders when the time is over exist all the same.
async fn wait_until_led(services: &Services, answers: &mut [Answer], timeout_ms: i32) {
    let wanted: Vec<(String, usize)> = answers
        .iter()
        .filter_map(|answer| Some((answer.name.clone(), answer.outcome.as_ref().ok()?.plan.assignment.len())))
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
    for answer in answers {
        if let Ok(created) = &answer.outcome
            && (timeout_ms <= 0 || !is_led(&image, &answer.name, created.plan.assignment.len()))
        {
            let message = "The request timed out.";
            answer.outcome = Err(TopicError::new(ErrorCode::RequestTimedOut, message));
        }
    }
}

/// Dynamic configs of all brokers and of this one.
async fn broker_configs(services: &Services) -> (Dynamic, Dynamic) {
    let own = ConfigEntity::Broker(Some(BrokerId(services.config.broker_id)));
    let mut read = configs::read_many(&services.zookeeper, &[ConfigEntity::Broker(None), own]).await.into_iter();
    let mut next = || read.next().and_then(Result::ok).unwrap_or_default().0;
    (next(), next())
}

fn topic_configs(
    services: &Services,
    (defaults, broker): &(Dynamic, Dynamic),
    plan: &TopicPlan,
) -> Vec<CreatableTopicConfigs> {
    let sources = Sources { file: &services.config.settings, defaults, broker };
    let entry = |entry: describe::Entry| {
        CreatableTopicConfigs::default()
            .with_name(text(&entry.name))
            .with_value(entry.value.as_deref().map(text))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source as i8)
            .with_is_sensitive(entry.sensitive)
    };
    describe::topic(&sources, &plan.configs).into_iter().map(entry).collect()
}

fn result(
    answer: &Answer,
    version: i16,
    configs: impl Fn(&TopicPlan) -> Vec<CreatableTopicConfigs>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default().with_name(TopicName(text(&answer.name)));
    match &answer.outcome {
        Ok(created) => {
            if version >= DETAILS {
                result.num_partitions = i32::try_from(created.plan.assignment.len()).unwrap_or(i32::MAX);
                result.replication_factor = i16::try_from(created.plan.replication_factor()).unwrap_or(i16::MAX);
                result.configs = Some(configs(&created.plan));
            }
            if version >= TOPIC_IDS {
                result.topic_id = created.id.0;
            }
        }
        Err(error) => {
            result.error_code = error.code.code();
            if version >= MESSAGES {
                result.error_message = Some(text(&error.message));
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use crate::zookeeper::paths::ReplicaAssignment;

    #[test]
    fn every_version_can_be_answered() {
        let plan = TopicPlan {
            assignment: BTreeMap::from([(0, ReplicaAssignment::new(vec![BrokerId(1)]))]),
            configs: BTreeMap::new(),
        };
        let answers = [
            Answer { name: "t".into(), outcome: Ok(Created { plan, id: TopicId::random() }) },
            Answer { name: "../x".into(), outcome: Err(TopicError::new(ErrorCode::InvalidTopicException, "no")) },
        ];
        for version in 0..=7 {
            let configs = |_: &TopicPlan| {
                vec![CreatableTopicConfigs::default().with_name(text("retention.ms")).with_config_source(5)]
            };
            let results = answers.iter().map(|answer| result(answer, version, configs)).collect();
            let response = CreateTopicsResponse::default().with_topics(results);
            wire::encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
