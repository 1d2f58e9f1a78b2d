//! Control requests, collected per broker and sent in Kafka's order (class `ControllerBrokerRequestBatch`).
//!
//! Invariant: LeaderAndIsr goes out before UpdateMetadata, and that before StopReplica; a partition that is in a LeaderAndIsr is
//! also in the UpdateMetadata to every broker; UpdateMetadata always carries every broker.

use super::context::{Context, LiveBroker, PartitionContext};
use crate::base::{BrokerId, ControllerEpoch, TopicPartition};
use crate::wire::messages::leader_and_isr_request::{
    LeaderAndIsrLiveLeader, LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use crate::wire::messages::stop_replica_request::{StopReplicaPartitionState, StopReplicaTopicState};
use crate::wire::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint, UpdateMetadataPartitionState, UpdateMetadataTopicState,
};
use crate::wire::messages::{
    BrokerId as WireBrokerId, LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    TopicName, UpdateMetadataRequest, UpdateMetadataResponse,
};
use crate::wire::text;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Leader in UpdateMetadata of a partition that is to be forgotten.
const LEADER_DURING_DELETE: i32 = -2;
/// Leader epoch in StopReplica of a partition whose topic is being deleted: it passes every fence.
const EPOCH_DURING_DELETE: i32 = -2;
const NO_EPOCH: i32 = -1;

/// What a controller asks of a broker: LeaderAndIsr 7, UpdateMetadata 8, StopReplica 4.
#[derive(Clone, PartialEq, Debug)]
pub enum ControlRequest {
    LeaderAndIsr(LeaderAndIsrRequest),
    UpdateMetadata(UpdateMetadataRequest),
    StopReplica(StopReplicaRequest),
}

#[derive(Clone, PartialEq, Debug)]
pub enum ControlResponse {
    LeaderAndIsr(LeaderAndIsrResponse),
    UpdateMetadata(UpdateMetadataResponse),
    StopReplica(StopReplicaResponse),
}

/// Who speaks: goes into every request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sender {
    pub controller: BrokerId,
    pub epoch: ControllerEpoch,
    /// Listener whose endpoints followers use to reach leaders.
    pub inter_broker_listener: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestBatch {
    /// Partition => whether it is new to the broker.
    leader_and_isr: BTreeMap<BrokerId, BTreeMap<TopicPartition, bool>>,
    update_brokers: BTreeSet<BrokerId>,
    update_partitions: BTreeSet<TopicPartition>,
    /// Partition => whether to delete it.
    stop: BTreeMap<BrokerId, BTreeMap<TopicPartition, bool>>,
}

impl RequestBatch {
    pub fn leader_and_isr(&mut self, context: &Context, brokers: &[BrokerId], tp: &TopicPartition, is_new: bool) {
        for broker in brokers.iter().filter(|broker| context.brokers.contains_key(broker)) {
            let new = self.leader_and_isr.entry(*broker).or_default().entry(tp.clone()).or_default();
            *new |= is_new;
        }
        self.update_metadata(context, std::slice::from_ref(tp));
    }

    /// To all brokers; without partitions it still tells them who is alive.
    pub fn update_metadata(&mut self, context: &Context, partitions: &[TopicPartition]) {
        self.update_brokers.extend(context.brokers.keys());
        self.update_partitions.extend(partitions.iter().cloned());
    }

    pub fn update_metadata_to(&mut self, brokers: &[BrokerId], partitions: &[TopicPartition]) {
        self.update_brokers.extend(brokers);
        self.update_partitions.extend(partitions.iter().cloned());
    }

    pub fn stop_replica(&mut self, context: &Context, broker: BrokerId, tp: &TopicPartition, delete: bool) {
        if context.brokers.contains_key(&broker) {
            *self.stop.entry(broker).or_default().entry(tp.clone()).or_default() |= delete;
        }
    }

    pub fn clear(&mut self) {
        *self = RequestBatch::default();
    }

    /// Empties the batch into requests.
    pub fn flush(&mut self, context: &Context, sender: &Sender) -> Vec<(BrokerId, ControlRequest)> {
        let batch = std::mem::take(self);
        let mut requests = Vec::new();
        // A broker that is stopping sends its producers on as soon as it hears of the new leaders, who should have heard before.
        let (stopping, others): (Vec<_>, Vec<_>) =
            batch.leader_and_isr.iter().partition(|(id, _)| context.shutting_down.contains(id));
        for (id, partitions) in others.into_iter().chain(stopping) {
            if let Some(broker) = context.brokers.get(id) {
                let request = leader_and_isr(context, sender, broker, partitions);
                requests.push((*id, ControlRequest::LeaderAndIsr(request)));
            }
        }
        if !batch.update_brokers.is_empty() {
            let common = update_metadata(context, sender, &batch.update_partitions);
            for id in &batch.update_brokers {
                if let Some(broker) = context.brokers.get(id) {
                    let request = common.clone().with_broker_epoch(broker.epoch.0);
                    requests.push((*id, ControlRequest::UpdateMetadata(request)));
                }
            }
        }
        for (id, partitions) in &batch.stop {
            if let Some(broker) = context.brokers.get(id) {
                let request = stop_replica(context, sender, broker, partitions);
                requests.push((*id, ControlRequest::StopReplica(request)));
            }
        }
        requests
    }
}

fn wire_id(id: BrokerId) -> WireBrokerId {
    WireBrokerId(id.0)
}

fn wire_ids(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().copied().map(wire_id).collect()
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// Puts the states of each topic together, in order.
fn by_topic<S>(states: impl Iterator<Item = (Arc<str>, S)>) -> BTreeMap<Arc<str>, Vec<S>> {
    let mut topics: BTreeMap<Arc<str>, Vec<S>> = BTreeMap::new();
    for (topic, state) in states {
        topics.entry(topic).or_default().push(state);
    }
    topics
}

fn topic_id(context: &Context, topic: &str) -> uuid::Uuid {
    context.topics.get(topic).map(|topic| topic.id.0).unwrap_or_default()
}

fn leader_and_isr(
    context: &Context,
    sender: &Sender,
    broker: &LiveBroker,
    partitions: &BTreeMap<TopicPartition, bool>,
) -> LeaderAndIsrRequest {
    let mut leaders = BTreeSet::new();
    let states = partitions.iter().filter_map(|(tp, is_new)| {
        let partition = context.partition(tp)?;
        let leadership = partition.leadership.as_ref()?;
        leaders.insert(leadership.state.leader);
        let state = LeaderAndIsrPartitionState::default()
            .with_partition_index(tp.partition)
            .with_controller_epoch(leadership.state.controller_epoch.0)
            .with_leader(wire_id(leadership.state.leader))
            .with_leader_epoch(leadership.state.leader_epoch.0)
            .with_isr(wire_ids(&leadership.state.isr))
            .with_partition_epoch(leadership.epoch.0)
            .with_replicas(wire_ids(&partition.assignment.replicas))
            .with_adding_replicas(wire_ids(&partition.assignment.adding))
            .with_removing_replicas(wire_ids(&partition.assignment.removing))
            .with_is_new(*is_new)
            .with_leader_recovery_state(leadership.state.recovery.code());
        Some((tp.topic.clone(), state))
    });
    let topic_states = by_topic(states)
        .into_iter()
        .map(|(topic, states)| {
            LeaderAndIsrTopicState::default()
                .with_topic_name(topic_name(&topic))
                .with_topic_id(topic_id(context, &topic))
                .with_partition_states(states)
        })
        .collect();
    let live_leaders = leaders
        .into_iter()
        .filter_map(|leader| {
            let endpoint = context.brokers.get(&leader)?.info.endpoint(&sender.inter_broker_listener)?;
            let live = LeaderAndIsrLiveLeader::default().with_broker_id(wire_id(leader));
            Some(live.with_host_name(text(&endpoint.host)).with_port(endpoint.port))
        })
        .collect();
    LeaderAndIsrRequest::default()
        .with_controller_id(wire_id(sender.controller))
        .with_controller_epoch(sender.epoch.0)
        .with_broker_epoch(broker.epoch.0)
        .with_topic_states(topic_states)
        .with_live_leaders(live_leaders)
}

fn update_metadata(context: &Context, sender: &Sender, partitions: &BTreeSet<TopicPartition>) -> UpdateMetadataRequest {
    let states = partitions.iter().filter_map(|tp| {
        let partition = context.partition(tp)?;
        Some((tp.topic.clone(), partition_metadata(context, tp, partition)?))
    });
    let topic_states = by_topic(states)
        .into_iter()
        .map(|(topic, states)| {
            UpdateMetadataTopicState::default()
                .with_topic_name(topic_name(&topic))
                .with_topic_id(topic_id(context, &topic))
                .with_partition_states(states)
        })
        .collect();
    UpdateMetadataRequest::default()
        .with_controller_id(wire_id(sender.controller))
        .with_controller_epoch(sender.epoch.0)
        .with_topic_states(topic_states)
        .with_live_brokers(context.brokers.iter().map(|(id, broker)| broker_metadata(*id, broker)).collect())
}

fn partition_metadata(
    context: &Context,
    tp: &TopicPartition,
    partition: &PartitionContext,
) -> Option<UpdateMetadataPartitionState> {
    let replicas = &partition.assignment.replicas;
    let offline: Vec<BrokerId> = replicas.iter().copied().filter(|broker| !context.is_online(*broker, tp)).collect();
    let state = UpdateMetadataPartitionState::default()
        .with_partition_index(tp.partition)
        .with_replicas(wire_ids(replicas))
        .with_offline_replicas(wire_ids(&offline));
    let leadership = partition.leadership.as_ref()?;
    let state = state
        .with_controller_epoch(leadership.state.controller_epoch.0)
        .with_isr(wire_ids(&leadership.state.isr))
        .with_zk_version(leadership.epoch.0);
    if context.is_deleting(&tp.topic) {
        return Some(state.with_leader(WireBrokerId(LEADER_DURING_DELETE)));
    }
    Some(state.with_leader(wire_id(leadership.state.leader)).with_leader_epoch(leadership.state.leader_epoch.0))
}

fn broker_metadata(id: BrokerId, broker: &LiveBroker) -> UpdateMetadataBroker {
    let endpoints = broker
        .info
        .endpoints
        .iter()
        .map(|endpoint| {
            UpdateMetadataEndpoint::default()
                .with_port(endpoint.port)
                .with_host(text(&endpoint.host))
                .with_listener(text(&endpoint.listener))
                .with_security_protocol(security_protocol_id(&endpoint.security_protocol))
        })
        .collect();
    UpdateMetadataBroker::default()
        .with_id(wire_id(id))
        .with_endpoints(endpoints)
        .with_rack(broker.info.rack.as_deref().map(text))
}

fn security_protocol_id(name: &str) -> i16 {
    match name {
        "SSL" => 1,
        "SASL_PLAINTEXT" => 2,
        "SASL_SSL" => 3,
        _ => 0,
    }
}

fn stop_replica(
    context: &Context,
    sender: &Sender,
    broker: &LiveBroker,
    partitions: &BTreeMap<TopicPartition, bool>,
) -> StopReplicaRequest {
    let states = partitions.iter().map(|(tp, delete)| {
        let leadership = context.partition(tp).and_then(|partition| partition.leadership.as_ref());
        let epoch = if context.is_deleting(&tp.topic) {
            EPOCH_DURING_DELETE
        } else {
            leadership.map_or(NO_EPOCH, |leadership| leadership.state.leader_epoch.0)
        };
        let state = StopReplicaPartitionState::default()
            .with_partition_index(tp.partition)
            .with_leader_epoch(epoch)
            .with_delete_partition(*delete);
        (tp.topic.clone(), state)
    });
    let topic_states = by_topic(states)
        .into_iter()
        .map(|(topic, states)| {
            StopReplicaTopicState::default().with_topic_name(topic_name(&topic)).with_partition_states(states)
        })
        .collect();
    StopReplicaRequest::default()
        .with_controller_id(wire_id(sender.controller))
        .with_controller_epoch(sender.epoch.0)
        .with_broker_epoch(broker.epoch.0)
        .with_topic_states(topic_states)
}
