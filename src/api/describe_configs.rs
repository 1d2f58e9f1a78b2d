//! DescribeConfigs (KIP-133, KIP-226, KIP-569): the configs of topics and brokers, where they come from and what they are for.
//!
//! What there is to say is in `config::describe`; dynamic configs are read from ZooKeeper for every request.

use super::Services;
use super::config_resource::{BROKER, BROKER_LOGGER, Refusal, TOPIC, broker_subject};
use crate::base::{ErrorCode, topic_name};
use crate::config::alter::Subject;
use crate::config::definitions::Kind;
use crate::config::describe::{self, Dynamic, Entry, Source, Sources};
use crate::wire::messages::describe_configs_request::DescribeConfigsResource;
use crate::wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use crate::zookeeper::configs;
use crate::zookeeper::paths::ConfigEntity;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DescribeConfigsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let asked = asked(&services, &body);
        let dynamic = read(&services, &asked).await;
        let results = body.resources.iter().zip(asked).map(|(resource, asked)| {
            let entries = asked.and_then(|asked| entries(&services, &asked, &dynamic));
            result(resource, entries, &body, request.header.version)
        });
        let response = DescribeConfigsResponse::default().with_results(results.collect());
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "DescribeConfigs");
            Reply::Close
        })
    }))
}

/// What one resource asks for.
enum Asked {
    Topic(ConfigEntity),
    Broker,
    BrokerDefaults,
    Loggers,
}

/// Dynamic configs that a request needs.
type Read = HashMap<ConfigEntity, Result<Dynamic, Refusal>>;

fn asked(services: &Services, request: &DescribeConfigsRequest) -> Vec<Result<Asked, Refusal>> {
    let mut seen = BTreeSet::new();
    let image = services.metadata.image();
    let one = |resource: &DescribeConfigsResource| {
        let name = resource.resource_name.as_str();
        // A repeated resource would let a small request ask for a reply of any size.
        if !seen.insert((resource.resource_type, resource.resource_name.clone())) {
            return Err(Refusal::repeated());
        }
        let id = services.replicas.local();
        match resource.resource_type {
            TOPIC if !topic_name::is_legal(name) => {
                Err(Refusal::new(ErrorCode::InvalidTopicException, format!("{name:?} is not a topic name")))
            }
            TOPIC if !image.topics.contains_key(name) => Err(Refusal::unknown_topic(name)),
            TOPIC => Ok(Asked::Topic(ConfigEntity::Topic(name.to_owned()))),
            BROKER if broker_subject(id, name)? == Subject::Broker => Ok(Asked::Broker),
            BROKER => Ok(Asked::BrokerDefaults),
            BROKER_LOGGER if broker_subject(id, name)? == Subject::Broker => Ok(Asked::Loggers),
            BROKER_LOGGER => Err(Refusal::request("loggers are those of one broker: name its id")),
            other => Err(Refusal::request(format!("resource type {other} is not topic, broker or broker logger"))),
        }
    };
    request.resources.iter().map(one).collect()
}

fn own_entity(services: &Services) -> ConfigEntity {
    ConfigEntity::Broker(Some(services.replicas.local()))
}

async fn read(services: &Services, asked: &[Result<Asked, Refusal>]) -> Read {
    let topics = asked.iter().filter_map(|asked| match asked {
        Ok(Asked::Topic(entity)) => Some(entity.clone()),
        _ => None,
    });
    let entities: Vec<ConfigEntity> =
        [ConfigEntity::Broker(None), own_entity(services)].into_iter().chain(topics).collect();
    let configs = configs::read_many(&services.zookeeper, &entities).await;
    let configs = configs.into_iter().map(|config| config.map(|config| config.0).map_err(Refusal::from));
    entities.into_iter().zip(configs).collect()
}

fn entries(services: &Services, asked: &Asked, dynamic: &Read) -> Result<Vec<Entry>, Refusal> {
    let of = |entity: &ConfigEntity| match dynamic.get(entity) {
        Some(config) => config.as_ref().map_err(Refusal::clone),
        None => Err(Refusal::new(ErrorCode::UnknownServerError, "configs were not read")),
    };
    let (defaults, broker) = (of(&ConfigEntity::Broker(None))?, of(&own_entity(services))?);
    let sources = Sources { file: &services.config.settings, defaults, broker };
    Ok(match asked {
        Asked::Topic(entity) => describe::topic(&sources, of(entity)?),
        Asked::Broker => describe::broker(&sources),
        Asked::BrokerDefaults => describe::broker_defaults(&sources),
        // Log levels are set with RUST_LOG: there are no loggers to show.
        Asked::Loggers => Vec::new(),
    })
}

fn result(
    resource: &DescribeConfigsResource,
    entries: Result<Vec<Entry>, Refusal>,
    request: &DescribeConfigsRequest,
    version: i16,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone());
    let entries = match entries {
        Ok(entries) => entries,
        Err(refusal) => {
            return result.with_error_code(refusal.code.code()).with_error_message(Some(text(&refusal.message)));
        }
    };
    // No list, and an empty one, mean all.
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let keys: Option<BTreeSet<&str>> = keys.map(|keys| keys.iter().map(|key| key.as_str()).collect());
    let asked = entries.iter().filter(|entry| keys.as_ref().is_none_or(|keys| keys.contains(entry.name.as_str())));
    result.with_configs(asked.map(|entry| config(entry, request, version)).collect())
}

/// One entry with the fields that `version` has.
fn config(entry: &Entry, request: &DescribeConfigsRequest, version: i16) -> DescribeConfigsResourceResult {
    let mut config = DescribeConfigsResourceResult::default()
        .with_name(text(&entry.name))
        .with_value(entry.value.as_deref().map(text))
        .with_read_only(entry.read_only)
        .with_is_sensitive(entry.sensitive);
    if version == 0 {
        return config.with_is_default(entry.source == Source::Default);
    }
    config = config.with_config_source(entry.source as i8);
    if request.include_synonyms {
        let synonym = |synonym: &describe::Synonym| {
            DescribeConfigsSynonym::default()
                .with_name(text(&synonym.name))
                .with_value(synonym.value.as_deref().map(text))
                .with_source(synonym.source as i8)
        };
        config = config.with_synonyms(entry.synonyms.iter().map(synonym).collect());
    }
    if version >= 3 {
        let doc = entry.doc.filter(|_| request.include_documentation);
        config = config.with_config_type(entry.kind.map_or(0, kind_id)).with_documentation(doc.map(text));
    }
    config
}

fn kind_id(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;

    /// Every version encodes, with all that can be asked for.
    #[test]
    fn all_versions_are_answered() {
        let config = BrokerConfig::default();
        let dynamic = Dynamic::from([("log.retention.ms".to_owned(), "5".to_owned())]);
        let sources = Sources { file: &config.settings, defaults: &dynamic, broker: &dynamic };
        for version in 0..=4 {
            let entries = [describe::topic(&sources, &Dynamic::new()), describe::broker(&sources)].concat();
            let request = DescribeConfigsRequest::default()
                .with_include_synonyms(version >= 1)
                .with_include_documentation(version >= 3);
            let all = DescribeConfigsResource::default();
            let some = all.clone().with_configuration_keys(Some(vec![text("retention.ms")]));
            let results = vec![
                result(&all, Ok(entries.clone()), &request, version),
                result(&some, Ok(entries.clone()), &request, version),
                result(&some, Err(Refusal::unknown_topic("t")), &request, version),
            ];
            assert_eq!(results[0].configs.len(), entries.len());
            assert_eq!(results[1].configs.len(), 1);
            assert_eq!(results[2].error_code, ErrorCode::UnknownTopicOrPartition.code());
            let response = DescribeConfigsResponse::default().with_results(results);
            crate::wire::encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
