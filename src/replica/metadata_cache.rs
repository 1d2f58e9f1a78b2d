//! What this broker knows of the cluster, as the controller last told it (class `ZkMetadataCache`).
//!
//! Readers take a snapshot without a lock; UpdateMetadata requests build the next one. Invariant: the live brokers and the
//! controller are replaced whole by every request, partitions are merged.

use crate::base::{BrokerId, ControllerEpoch, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use crate::wire::messages::UpdateMetadataRequest;
use crate::wire::messages::update_metadata_request::{UpdateMetadataBroker, UpdateMetadataPartitionState};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::watch;

/// Leader of a partition whose topic is being deleted: the partition is to be forgotten.
pub const LEADER_DURING_DELETE: i32 = -2;

/// One advertised endpoint of a live broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerEndpoint {
    pub listener: String,
    pub host: String,
    pub port: i32,
    /// PLAINTEXT 0, SSL 1, SASL_PLAINTEXT 2, SASL_SSL 3.
    pub security_protocol: i16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerMetadata {
    pub id: BrokerId,
    pub endpoints: Vec<BrokerEndpoint>,
    pub rack: Option<String>,
}

impl BrokerMetadata {
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMetadata {
    /// [`BrokerId::NONE`] while there is no leader.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub controller_epoch: ControllerEpoch,
    pub partition_epoch: PartitionEpoch,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub offline_replicas: Vec<BrokerId>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicMetadata {
    /// Zero for topics from before topic ids.
    pub id: TopicId,
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// A snapshot. Cheap to clone: topics are shared.
#[derive(Clone, Debug, Default)]
pub struct MetadataImage {
    pub controller_id: Option<BrokerId>,
    /// Live brokers.
    pub brokers: BTreeMap<BrokerId, Arc<BrokerMetadata>>,
    pub topics: HashMap<Arc<str>, Arc<TopicMetadata>>,
    pub topic_names: HashMap<TopicId, Arc<str>>,
}

impl MetadataImage {
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    /// Zero if the topic is unknown or has none.
    pub fn topic_id(&self, topic: &str) -> TopicId {
        self.topics.get(topic).map(|topic| topic.id).unwrap_or_default()
    }

    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.topic_names.get(&id)
    }

    fn merge(&mut self, request: &UpdateMetadataRequest) -> Vec<TopicPartition> {
        self.controller_id = (request.controller_id.0 >= 0).then_some(BrokerId(request.controller_id.0));
        self.brokers =
            request.live_brokers.iter().map(|broker| (BrokerId(broker.id.0), broker_metadata(broker))).collect();
        let mut deleted = Vec::new();
        for topic in &request.topic_states {
            let id = TopicId(topic.topic_id);
            let states = topic.partition_states.iter();
            self.merge_topic(&topic.topic_name, Some(id), states, &mut deleted);
        }
        for state in &request.ungrouped_partition_states {
            self.merge_topic(&state.topic_name, None, std::iter::once(state), &mut deleted);
        }
        deleted
    }

    fn merge_topic<'a>(
        &mut self,
        name: &str,
        id: Option<TopicId>,
        states: impl Iterator<Item = &'a UpdateMetadataPartitionState>,
        deleted: &mut Vec<TopicPartition>,
    ) {
        let key: Arc<str> = self.topics.get_key_value(name).map_or_else(|| name.into(), |(key, _)| key.clone());
        let mut topic = self.topics.get(name).map(|topic| (**topic).clone()).unwrap_or_default();
        if let Some(id) = id {
            self.topic_names.remove(&topic.id);
            topic.id = id;
        }
        for state in states {
            if state.leader.0 == LEADER_DURING_DELETE {
                topic.partitions.remove(&state.partition_index);
                deleted.push(TopicPartition::new(key.clone(), state.partition_index));
            } else {
                topic.partitions.insert(state.partition_index, partition_metadata(state));
            }
        }
        if topic.partitions.is_empty() {
            self.topic_names.remove(&topic.id);
            self.topics.remove(&key);
            return;
        }
        if !topic.id.is_zero() {
            self.topic_names.insert(topic.id, key.clone());
        }
        self.topics.insert(key, Arc::new(topic));
    }
}

fn ids(ids: &[crate::wire::messages::BrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

fn partition_metadata(state: &UpdateMetadataPartitionState) -> PartitionMetadata {
    PartitionMetadata {
        leader: BrokerId(state.leader.0),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        controller_epoch: ControllerEpoch(state.controller_epoch),
        partition_epoch: PartitionEpoch(state.zk_version),
        replicas: ids(&state.replicas),
        isr: ids(&state.isr),
        offline_replicas: ids(&state.offline_replicas),
    }
}

fn broker_metadata(broker: &UpdateMetadataBroker) -> Arc<BrokerMetadata> {
    let endpoints = broker
        .endpoints
        .iter()
        .map(|endpoint| BrokerEndpoint {
            listener: endpoint.listener.to_string(),
            host: endpoint.host.to_string(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        })
        .collect();
    let rack = broker.rack.as_ref().map(|rack| rack.to_string());
    Arc::new(BrokerMetadata { id: BrokerId(broker.id.0), endpoints, rack })
}

/// The current snapshot and a way to wait for the next.
pub struct MetadataCache {
    image: ArcSwap<MetadataImage>,
    updates: watch::Sender<u64>,
    /// Serialises writers.
    writer: parking_lot::Mutex<()>,
}

impl MetadataCache {
    pub fn new() -> MetadataCache {
        MetadataCache { image: ArcSwap::default(), updates: watch::Sender::new(0), writer: parking_lot::Mutex::new(()) }
    }

    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Changes after every update; take it before looking at [`Self::image`], so that no update is missed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.updates.subscribe()
    }

    /// Applies an UpdateMetadata request (its fencing is the caller's) and returns the partitions that are gone.
    pub fn update(&self, request: &UpdateMetadataRequest) -> Vec<TopicPartition> {
        let _writer = self.writer.lock();
        let mut next = (**self.image.load()).clone();
        let deleted = next.merge(request);
        self.image.store(Arc::new(next));
        self.updates.send_modify(|count| *count += 1);
        deleted
    }
}

impl Default for MetadataCache {
    fn default() -> MetadataCache {
        MetadataCache::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages;
    use crate::wire::messages::update_metadata_request::UpdateMetadataTopicState;
    use crate::wire::text;

    fn request(topic: &str, id: TopicId, leaders: &[(i32, i32)]) -> UpdateMetadataRequest {
        let states = leaders
            .iter()
            .map(|&(partition, leader)| {
                UpdateMetadataPartitionState::default()
                    .with_partition_index(partition)
                    .with_leader(messages::BrokerId(leader))
                    .with_replicas(vec![messages::BrokerId(1)])
            })
            .collect();
        let topic = UpdateMetadataTopicState::default()
            .with_topic_name(messages::TopicName(text(topic)))
            .with_topic_id(id.0)
            .with_partition_states(states);
        UpdateMetadataRequest::default()
            .with_controller_id(messages::BrokerId(1))
            .with_live_brokers(vec![UpdateMetadataBroker::default().with_id(messages::BrokerId(1))])
            .with_topic_states(vec![topic])
    }

    #[test]
    fn partitions_are_merged_and_brokers_replaced() {
        let cache = MetadataCache::new();
        let id = TopicId::random();
        cache.update(&request("t", id, &[(0, 1)]));
        cache.update(&request("t", id, &[(1, 1)]));
        let image = cache.image();
        assert_eq!(image.topics["t"].partitions.len(), 2);
        assert_eq!(image.topic_name(id).map(|name| &**name), Some("t"));
        assert_eq!(image.brokers.len(), 1);
        cache.update(&UpdateMetadataRequest::default().with_controller_id(messages::BrokerId(-1)));
        assert!(cache.image().brokers.is_empty());
        assert_eq!(cache.image().controller_id, None);
        assert_eq!(cache.image().topics.len(), 1);
    }

    #[test]
    fn a_leader_of_minus_two_forgets_the_partition_and_the_last_one_the_topic() {
        let cache = MetadataCache::new();
        let id = TopicId::random();
        cache.update(&request("t", id, &[(0, 1), (1, -1)]));
        assert_eq!(cache.update(&request("t", id, &[(0, -2)])), vec![TopicPartition::new("t", 0)]);
        assert!(cache.image().partition("t", 1).is_some());
        cache.update(&request("t", id, &[(1, -2)]));
        assert!(cache.image().topics.is_empty());
        assert!(cache.image().topic_names.is_empty());
    }

    #[test]
    fn a_topic_made_again_has_only_its_new_id() {
        let cache = MetadataCache::new();
        let (old, new) = (TopicId::random(), TopicId::random());
        cache.update(&request("t", old, &[(0, 1)]));
        cache.update(&request("t", new, &[(0, 1)]));
        assert_eq!(cache.image().topic_name(old), None);
        assert_eq!(cache.image().topic_id("t"), new);
    }
}
