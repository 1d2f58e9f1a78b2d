//! Joins the replicas of this broker to other brokers: leaders that it follows, and the controller that its leaders ask for ISR
//! changes.

use crate::base::{BrokerEpoch, BrokerId, ErrorCode};
use crate::config::BrokerConfig;
use crate::controller::context::Leadership;
use crate::controller::{ControllerClient, ControllerHandle, IsrWish};
use crate::peer::{PeerConfig, Peers};
use crate::replica::fetcher::{Leaders, RemoteLeaders, RemoteSettings};
use crate::replica::{AlterAnswer, AlterPartition, AlteredPartition, MetadataCache, PartitionAlterer};
use crate::zookeeper::paths::{self, LeaderRecoveryState, LogDirEvent};
use crate::zookeeper::{CreateMode, Zk};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::runtime::Handle;

/// The leaders that this broker may have to follow.
pub fn leaders(
    config: &BrokerConfig,
    local: BrokerId,
    broker_epoch: Arc<AtomicI64>,
    metadata: Arc<MetadataCache>,
) -> Arc<dyn Leaders> {
    let replication = &config.replication;
    let timeout = Duration::from_millis(replication.socket_timeout_ms.max(1) as u64);
    let patience = Duration::from_millis(replication.fetch_wait_max_ms.max(0) as u64);
    let response_bytes_max = replication.fetch_response_max_bytes.max(replication.fetch_max_bytes).max(0) as usize;
    let peer = PeerConfig::new(format!("broker-{local}-fetcher"));
    Arc::new(RemoteLeaders(Arc::new(RemoteSettings {
        local,
        broker_epoch,
        metadata,
        inter_broker_listener: config.inter_broker_listener_name.clone(),
        fetch_version: config.inter_broker_protocol.fetch(),
        list_offsets_version: config.inter_broker_protocol.list_offsets(),
        max_wait_ms: replication.fetch_wait_max_ms,
        min_bytes: replication.fetch_min_bytes,
        max_bytes: replication.fetch_response_max_bytes,
        partition_max_bytes: replication.fetch_max_bytes,
        peer: PeerConfig {
            request_timeout: timeout + patience,
            frame_bytes_max: peer.frame_bytes_max.max(response_bytes_max.saturating_mul(2)),
            ..peer
        },
    })))
}

/// The way to the controller, wherever it is.
pub fn controller_client(
    config: &BrokerConfig,
    broker: BrokerId,
    controller: &ControllerHandle,
    metadata: &Arc<MetadataCache>,
) -> ControllerClient {
    let (listener, metadata) = (config.inter_broker_listener_name.clone(), metadata.clone());
    let lookup = move |id: BrokerId| {
        let image = metadata.image();
        let endpoint = image.brokers.get(&id)?.endpoint(&listener)?;
        Some((endpoint.host.clone(), u16::try_from(endpoint.port).ok()?))
    };
    let peers = Peers::new(PeerConfig::new(format!("broker-{broker}-to-controller")), Handle::current(), lookup);
    ControllerClient { broker, controller: controller.clone(), peers: Arc::new(peers) }
}

/// Tells the controller, by a znode, that a log directory has failed: it moves the leaders away that were in it.
pub fn announce_dir_failure(zookeeper: &Zk, local: BrokerId) {
    let zookeeper = zookeeper.clone();
    tokio::spawn(async move {
        let path = format!("{}/log_dir_event_", paths::LOG_DIR_EVENTS);
        let event = LogDirEvent { broker: local }.to_json();
        while let Err(error) = zookeeper.create(&path, &event, CreateMode::PersistentSequential).await {
            tracing::warn!(%error, "the controller does not know yet that a log directory has failed");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// ISR changes of this broker's leaders.
pub struct Alterer(pub ControllerClient);

impl PartitionAlterer for Alterer {
    fn alter(
        &self,
        broker_epoch: BrokerEpoch,
        changes: Vec<AlterPartition>,
    ) -> Pin<Box<dyn Future<Output = AlterAnswer> + Send + '_>> {
        Box::pin(async move {
            let altered = self.0.alter_partitions(broker_epoch, changes.into_iter().map(wish).collect()).await?;
            Ok(altered.into_iter().map(answer).collect())
        })
    }
}

fn wish(AlterPartition { partition, topic_id, change }: AlterPartition) -> IsrWish {
    IsrWish {
        partition,
        topic_id,
        leader_epoch: change.leader_epoch,
        isr: change.isr.into_iter().zip(change.member_epochs).collect(),
        recovery: LeaderRecoveryState::Recovered,
        partition_epoch: change.partition_epoch,
    }
}

fn answer(altered: Result<Leadership, ErrorCode>) -> Result<AlteredPartition, ErrorCode> {
    altered.map(|Leadership { state, epoch }| AlteredPartition {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        isr: state.isr,
        is_recovering: state.recovery == LeaderRecoveryState::Recovering,
        partition_epoch: epoch,
    })
}
