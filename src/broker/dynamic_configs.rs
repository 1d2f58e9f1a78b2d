//! Dynamic configurations at work: what brokers and topics were given in ZooKeeper, over the file, followed as it changes
//! (classes `DynamicBrokerConfig`, `TopicConfigHandler`, `BrokerConfigHandler`).
//!
//! Invariant: one task applies changes, one after the other, each from what the znode holds by then; so the last write wins here
//! as it does there.

use crate::base::BrokerId;
use crate::config::definitions::{self, Support};
use crate::config::describe::Dynamic;
use crate::config::{BrokerConfig, LogConfig};
use crate::controller::ControllerHandle;
use crate::log::LogManager;
use crate::replica::{ReplicaManager, TopicConfigs};
use crate::transaction::Verifier;
use crate::zookeeper::paths::{ConfigEntity, EntityConfig};
use crate::zookeeper::{Zk, ZkError, configs};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Of moves between the broker's directories.
const MOVES_LIMIT: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const RECOVERY_LIMIT: &str = "log.recovery.io.max.bytes.per.second";

/// Followed while the broker runs.
const VERIFICATION: &str = "transaction.partition.verification.enable";
const PRODUCER_EXPIRATION: &str = "producer.id.expiration.ms";

/// Who is told of changes.
pub struct Followers {
    pub logs: Arc<LogManager>,
    pub replicas: Arc<ReplicaManager>,
    pub controller: ControllerHandle,
    pub verifier: Arc<Verifier>,
}

/// What is configured now.
pub struct DynamicConfigs {
    zookeeper: Zk,
    id: BrokerId,
    file: Arc<BrokerConfig>,
    known: Mutex<Known>,
    effective: ArcSwap<BrokerConfig>,
}

#[derive(Default)]
struct Known {
    /// Of all brokers.
    defaults: Dynamic,
    /// Of this broker.
    own: Dynamic,
}

impl DynamicConfigs {
    /// Reads what this broker was given.
    pub async fn read(zookeeper: &Zk, file: Arc<BrokerConfig>, id: BrokerId) -> Result<Arc<DynamicConfigs>, ZkError> {
        let dynamic = DynamicConfigs {
            zookeeper: zookeeper.clone(),
            id,
            effective: ArcSwap::new(file.clone()),
            file,
            known: Mutex::default(),
        };
        for entity in [ConfigEntity::Broker(None), ConfigEntity::Broker(Some(id))] {
            dynamic.broker_changed(&entity, configs::read(zookeeper, &entity).await?);
        }
        Ok(Arc::new(dynamic))
    }

    /// The file with the dynamic configs over it.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.effective.load_full()
    }

    /// The settings of a topic's logs. A value that Ottla cannot read does not keep the others from being used.
    pub fn log_config(&self, topic: &str, overrides: &EntityConfig) -> LogConfig {
        let (config, errors) = LogConfig::with_stored_overrides(&self.effective.load(), &overrides.0);
        for error in errors {
            tracing::error!(topic, %error, "a config of the topic is not used");
        }
        config
    }

    /// Applies every change from now on.
    pub fn follow(self: &Arc<Self>, followers: Followers) {
        let (sender, mut changes) = mpsc::unbounded_channel();
        let listener = configs::listen(self.zookeeper.clone(), move |entity, config| {
            let _ = sender.send((entity, config));
        });
        self.tell_background(&followers.logs);
        let this = self.clone();
        tokio::spawn(async move {
            while let Some((entity, config)) = changes.recv().await {
                this.tell_controller(&entity, &config, &followers.controller);
                this.changed(entity, config, &followers).await;
                followers.controller.set_unclean_default(this.config().log.unclean_leader_election_enable);
            }
            listener.abort();
        });
    }

    /// Unclean elections that a topic allows from now on may give its partitions a leader.
    fn tell_controller(&self, entity: &ConfigEntity, config: &EntityConfig, controller: &ControllerHandle) {
        if let ConfigEntity::Topic(topic) = entity
            && config.0.get("unclean.leader.election.enable").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            controller.unclean_elections_allowed(Some(topic));
        }
    }

    async fn changed(&self, entity: ConfigEntity, config: EntityConfig, followers: &Followers) {
        let Followers { logs, replicas, verifier, .. } = followers;
        let is_mine = entity == ConfigEntity::Broker(None) || entity == ConfigEntity::Broker(Some(self.id));
        if let ConfigEntity::Topic(topic) = &entity {
            replicas.set_topic_config(topic, &self.log_config(topic, &config));
            tracing::info!(topic, configs = ?config.0, "the topic's configs have changed");
        } else if is_mine && self.broker_changed(&entity, config) {
            let effective = self.config();
            replicas.set_throttles(&effective.replication);
            verifier.is_enabled.store(effective.transaction_partition_verification_enable, Ordering::Relaxed);
            self.apply_to_all(logs, replicas).await;
        }
    }

    async fn apply_to_all(&self, logs: &LogManager, replicas: &ReplicaManager) {
        self.tell_background(logs);
        let own = match configs::read_all_topics(&self.zookeeper).await {
            Ok(own) => own,
            Err(error) => {
                tracing::error!(%error, "the changed configs of the broker are not applied to its logs");
                return;
            }
        };
        let topics: BTreeSet<Arc<str>> = logs.all().iter().map(|log| log.topic_partition().topic.clone()).collect();
        let none = EntityConfig::default();
        for topic in topics {
            replicas.set_topic_config(&topic, &self.log_config(&topic, own.get(&*topic).unwrap_or(&none)));
        }
    }

    /// What works on logs in the background: how fast, and what it finds old.
    fn tell_background(&self, logs: &LogManager) {
        let config = self.effective.load();
        let limit = config.effective.get(MOVES_LIMIT).and_then(|limit| limit.trim().parse().ok());
        logs.limit_moves(limit.unwrap_or(i64::MAX));
        logs.limit_recovery(config.log_recovery_io_max_bytes_per_second);
        logs.set_producer_expiration(config.producer_id_expiration_ms);
    }

    /// Whether anything is different now.
    fn broker_changed(&self, entity: &ConfigEntity, config: EntityConfig) -> bool {
        let mut known = self.known.lock();
        match entity {
            ConfigEntity::Broker(None) => known.defaults = config.0,
            _ => known.own = config.0,
        }
        let before = self.effective.load();
        match self.file.with_dynamic(&known.defaults, &known.own) {
            Ok(after) if after == **before => false,
            Ok(after) => {
                tell(&before, &after);
                self.effective.store(Arc::new(after));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the dynamic configs of the broker are not used");
                false
            }
        }
    }
}

impl TopicConfigs for DynamicConfigs {
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
                let config = self.log_config(&topic, &overrides);
                (topic, config)
            };
            topics.into_iter().zip(answers).map(of_topic).collect()
        })
    }
}

/// Says what has changed, and what of it is not in force: most of what logs are not configured with waits for a restart.
fn tell(before: &BrokerConfig, after: &BrokerConfig) {
    let names = |of: &BrokerConfig, than: &BrokerConfig| -> Vec<String> {
        let differs = |(name, value): &(&str, &str)| than.effective.get(name) != Some(*value);
        of.effective.iter().filter(differs).map(|(name, _)| name.to_owned()).collect()
    };
    let mut changed = [names(after, before), names(before, after)].concat();
    changed.sort_unstable();
    changed.dedup();
    let is_followed = |name: &str| {
        let is_of_logs = || definitions::topic_properties().any(|topic| topic.broker_names.contains(&name));
        [MOVES_LIMIT, RECOVERY_LIMIT, VERIFICATION, PRODUCER_EXPIRATION].contains(&name) || is_of_logs()
    };
    for name in changed {
        let acts = definitions::broker_property(&name).is_some_and(|property| property.support == Support::Acts);
        if is_followed(&name) {
            tracing::info!(name, "a config of the broker has changed");
        } else if acts {
            tracing::warn!(name, "a dynamic config of the broker; it takes effect at the next start");
        } else {
            tracing::warn!(name, "a dynamic config of the broker that is not supported yet, and ignored");
        }
    }
}
