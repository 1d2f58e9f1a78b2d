//! The settings of topics, as their znodes have them, for logs that are about to be made.

use super::start::log_config;
use crate::config::{BrokerConfig, LogConfig};
use crate::replica::TopicConfigs;
use crate::zookeeper::paths::{ConfigEntity, EntityConfig};
use crate::zookeeper::{Zk, configs};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub struct TopicZnodes {
    zookeeper: Zk,
    config: Arc<BrokerConfig>,
}

impl TopicZnodes {
    pub fn new(zookeeper: Zk, config: Arc<BrokerConfig>) -> TopicZnodes {
        TopicZnodes { zookeeper, config }
    }
}

impl TopicConfigs for TopicZnodes {
    fn log_configs(
        &self,
        topics: Vec<Arc<str>>,
    ) -> Pin<Box<dyn Future<Output = HashMap<Arc<str>, LogConfig>> + Send + '_>> {
        Box::pin(async move {
            let entities: Vec<_> = topics.iter().map(|topic| ConfigEntity::Topic(topic.to_string())).collect();
            let answers = configs::read_many(&self.zookeeper, &entities).await;
            let of_topic = |(topic, answer): (Arc<str>, Result<EntityConfig, _>)| {
                let overrides = answer.unwrap_or_else(|error| {
                    tracing::error!(%topic, %error, "the topic's configuration cannot be read");
                    EntityConfig::default()
                });
                let config = log_config(&self.config, &topic, &overrides);
                (topic, config)
            };
            topics.into_iter().zip(answers).map(of_topic).collect()
        })
    }
}
