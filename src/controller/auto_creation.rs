//! Topics that come into being because somebody asked for them (class `AutoTopicCreationManager`).
//!
//! Any broker may write the znodes of a new topic; the controller sees them and elects leaders. Invariant: of many requests for
//! one new topic one writes, the others are told to come again.

use super::ControllerHandle;
use super::placement::{Candidate, Start};
use super::topic_plan::{Cluster, TopicWish, plan};
use crate::base::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE, is_internal};
use crate::base::{BrokerId, ErrorCode};
use crate::config::BrokerConfig;
use crate::replica::{MetadataCache, MetadataImage};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

pub struct AutoTopicCreation {
    controller: ControllerHandle,
    config: Arc<BrokerConfig>,
    metadata: Arc<MetadataCache>,
    in_flight: Mutex<HashSet<String>>,
}

/// Takes a name out of `in_flight` again, whatever happens to the request.
struct InFlight<'a>(&'a AutoTopicCreation, &'a str);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.lock().remove(self.1);
    }
}

impl AutoTopicCreation {
    pub fn new(
        controller: ControllerHandle,
        config: Arc<BrokerConfig>,
        metadata: Arc<MetadataCache>,
    ) -> AutoTopicCreation {
        AutoTopicCreation { controller, config, metadata, in_flight: Mutex::default() }
    }

    /// Creates the topic with the broker's defaults. LEADER_NOT_AVAILABLE is success: the client asks again and finds it.
    pub async fn create(&self, name: &str) -> ErrorCode {
        if !self.in_flight.lock().insert(name.to_owned()) {
            return ErrorCode::LeaderNotAvailable;
        }
        let _in_flight = InFlight(self, name);
        let image = self.metadata.image();
        let brokers = candidates(&image);
        let wish = self.wish(name);
        let internal = self.internal_configs(name);
        let wish =
            TopicWish { configs: internal.iter().map(|(name, value)| (*name, Some(value.as_str()))).collect(), ..wish };
        let cluster = Cluster {
            brokers: &brokers,
            default_partitions: self.config.num_partitions,
            default_replication_factor: self.config.default_replication_factor,
            start: Start {
                broker: rand::random_range(0..brokers.len().max(1)),
                shift: rand::random_range(0..brokers.len().max(1)),
            },
        };
        let planned = match plan(&wish, &cluster, image.topics.keys().map(|topic| &**topic)) {
            Ok(planned) => planned,
            Err(error) => return self.refused(name, error.code, &error.message),
        };
        match self.controller.create_topic(name, &planned).await {
            Ok(id) => {
                tracing::info!(topic = name, %id, partitions = planned.assignment.len(), "topic created on demand");
                ErrorCode::LeaderNotAvailable
            }
            Err(error) => self.refused(name, error.code, &error.message),
        }
    }

    fn refused(&self, name: &str, code: ErrorCode, why: &str) -> ErrorCode {
        match code {
            // Somebody else was faster.
            ErrorCode::TopicAlreadyExists => ErrorCode::LeaderNotAvailable,
            code => {
                tracing::warn!(topic = name.escape_debug().to_string(), why, "topic not created on demand");
                code
            }
        }
    }

    fn wish<'a>(&self, name: &'a str) -> TopicWish<'a> {
        let (partitions, replication_factor) = match name {
            CONSUMER_OFFSETS => {
                (self.config.offsets_topic_num_partitions, self.config.offsets_topic_replication_factor)
            }
            TRANSACTION_STATE => {
                (self.config.transaction_state_log_num_partitions, self.config.transaction_state_log_replication_factor)
            }
            _ => (-1, -1),
        };
        TopicWish { name, partitions, replication_factor, assignments: Vec::new(), configs: Vec::new() }
    }

    /// What the coordinators need of their topics.
    fn internal_configs(&self, name: &str) -> Vec<(&'static str, String)> {
        let compacted = |segment_bytes: i32, compression: &str| {
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("segment.bytes", segment_bytes.to_string()),
                ("compression.type", compression.to_owned()),
            ]
        };
        match name {
            CONSUMER_OFFSETS => compacted(self.config.offsets_topic_segment_bytes, "producer"),
            TRANSACTION_STATE => {
                let mut configs = compacted(self.config.transaction_state_log_segment_bytes, "uncompressed");
                configs.push(("min.insync.replicas", self.config.transaction_state_log_min_isr.to_string()));
                configs.push(("unclean.leader.election.enable", "false".to_owned()));
                configs
            }
            _ => {
                debug_assert!(!is_internal(name) || name == "__share_group_state");
                Vec::new()
            }
        }
    }
}

/// Live brokers, as the placement of replicas wants them.
pub fn candidates(image: &MetadataImage) -> Vec<Candidate> {
    let candidate = |broker: &crate::replica::metadata_cache::BrokerMetadata| Candidate {
        id: BrokerId(broker.id.0),
        rack: broker.rack.clone(),
    };
    image.brokers.values().map(|broker| candidate(broker)).collect()
}
