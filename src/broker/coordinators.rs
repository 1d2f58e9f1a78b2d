//! Both coordinators, joined to their topics, to each other, and to the other brokers.

use super::coordinator_log::ReplicatedLog;
use super::marker_channels::MarkerChannels;
use super::markers::{Markers, PeerWire};
use super::start::millis;
use crate::api::topics::{is_led, wait_for};
use crate::base::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::base::{BrokerId, LeaderEpoch, TopicPartition};
use crate::config::BrokerConfig;
use crate::controller::{AutoTopicCreation, ControllerClient, ControllerHandle};
use crate::group::GroupCoordinator;
use crate::peer::{PeerConfig, Peers};
use crate::replica::{LeadershipListener, MetadataCache, ReplicaManager};
use crate::transaction::{
    ControllerProducerIdBlocks, ProducerIdManager, TransactionCoordinator, Verifier, ZkProducerIdBlocks,
};
use crate::zookeeper::{Zk, ZkError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use tokio::runtime::Handle;

#[derive(Clone)]
pub struct Coordinators {
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
    pub producer_ids: Arc<ProducerIdManager>,
    id_blocks: Arc<ControllerProducerIdBlocks>,
    peers: Arc<Peers>,
}

impl Coordinators {
    /// They run on `data`, and hear from now on which partitions this broker leads.
    pub fn start(
        config: &BrokerConfig,
        replicas: &Arc<ReplicaManager>,
        metadata: &Arc<MetadataCache>,
        zookeeper: &Zk,
        broker_epoch: Arc<AtomicI64>,
        data: &Handle,
    ) -> Coordinators {
        let log = |topic| Arc::new(ReplicatedLog { topic, replicas: replicas.clone() });
        let groups = GroupCoordinator::new(config, log(CONSUMER_OFFSETS), data.clone());
        let id_blocks = ControllerProducerIdBlocks::new(broker_epoch);
        let old_blocks = || ZkProducerIdBlocks { zookeeper: zookeeper.clone(), broker: BrokerId(config.broker_id) };
        let asks_controller = config.inter_broker_protocol.asks_controller_for_producer_ids();
        let producer_ids = ProducerIdManager::new(match asks_controller {
            true => id_blocks.clone(),
            false => Arc::new(old_blocks()),
        });
        let peers = peers(config, metadata, data);
        let wire = PeerWire { peers: peers.clone(), protocol: config.inter_broker_protocol };
        let markers = Arc::new(Markers {
            replicas: replicas.clone(),
            groups: groups.clone(),
            metadata: metadata.clone(),
            channels: MarkerChannels::new(wire, data.clone()),
            zookeeper: zookeeper.clone(),
            timeout: millis(config.request_timeout_ms),
        });
        let (log, ids) = (log(TRANSACTION_STATE), producer_ids.clone());
        let transactions = TransactionCoordinator::new(config, log, markers, ids, data.clone());
        let coordinators = Coordinators { groups, transactions, producer_ids, id_blocks, peers };
        replicas.add_listener(Arc::new(coordinators.clone()));
        coordinators
    }

    /// Producer ids can be had from now on: this broker has a way to the controller.
    pub fn get_producer_ids_from(&self, controller: &ControllerClient) {
        self.id_blocks.ask(controller.clone());
    }

    /// Takes the numbers of partitions from the topics that there are already.
    pub async fn count_partitions(&self, controller: &ControllerHandle) -> Result<(), ZkError> {
        if let Some((topic, _)) = controller.topic(CONSUMER_OFFSETS).await? {
            self.groups.set_partition_count(topic.partitions.len() as i32);
        }
        if let Some((topic, _)) = controller.topic(TRANSACTION_STATE).await? {
            self.transactions.set_partition_count(topic.partitions.len() as i32);
        }
        Ok(())
    }

    /// The way to ask whether a transaction includes a partition.
    pub fn verifier(&self, config: &BrokerConfig, metadata: &Arc<MetadataCache>) -> Arc<Verifier> {
        Arc::new(Verifier {
            transactions: self.transactions.clone(),
            metadata: metadata.clone(),
            peers: self.peers.clone(),
            local: BrokerId(config.broker_id),
            is_enabled: AtomicBool::new(config.transaction_partition_verification_enable),
        })
    }

    /// Whoever waits for a coordinator is sent elsewhere.
    pub fn shutdown(&self) {
        self.groups.shutdown();
        self.transactions.shutdown();
    }
}

/// Creates the topics of both coordinators if they are not there yet, so that the first group does not have to wait for them. One
/// after the other, so that a topic that somebody asks for meanwhile comes in between.
pub async fn create_topics(auto_creation: Arc<AutoTopicCreation>, metadata: Arc<MetadataCache>) {
    for topic in [CONSUMER_OFFSETS, TRANSACTION_STATE] {
        if !metadata.image().topics.contains_key(topic) {
            auto_creation.create(topic).await;
            wait_for(&metadata, 10_000, |image| is_led(image, topic, 1)).await;
        }
    }
}

/// Connections to other brokers, on the inter-broker listener.
fn peers(config: &BrokerConfig, metadata: &Arc<MetadataCache>, data: &Handle) -> Arc<Peers> {
    let (metadata, listener) = (metadata.clone(), config.inter_broker_listener_name.clone());
    let peer = PeerConfig {
        request_timeout: millis(config.request_timeout_ms),
        ..PeerConfig::new(config.broker_id.to_string())
    };
    Arc::new(Peers::new(peer, data.clone(), move |broker| {
        let image = metadata.image();
        let endpoint = image.brokers.get(&broker)?.endpoint(&listener)?;
        Some((endpoint.host.clone(), u16::try_from(endpoint.port).ok()?))
    }))
}

impl LeadershipListener for Coordinators {
    fn on_leader(&self, partition: &TopicPartition, epoch: LeaderEpoch) {
        match &*partition.topic {
            CONSUMER_OFFSETS => self.groups.on_elected(partition.partition, epoch),
            TRANSACTION_STATE => self.transactions.on_elected(partition.partition, epoch),
            _ => {}
        }
    }

    fn on_resigned(&self, partition: &TopicPartition) {
        match &*partition.topic {
            CONSUMER_OFFSETS => self.groups.on_resigned(partition.partition),
            TRANSACTION_STATE => self.transactions.on_resigned(partition.partition),
            _ => {}
        }
    }
}
