//! Where the transaction coordinator's markers go: to the leaders of the partitions, of this broker or another.

use super::marker_channels::{Answer, MarkerChannels, MarkerWire, all, outcome};
use crate::api::write_txn_markers;
use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::config::InterBrokerProtocol;
use crate::coordinator::Committed;
use crate::group::GroupCoordinator;
use crate::peer::{PeerError, Peers};
use crate::replica::{MetadataCache, ReplicaManager};
use crate::transaction::message::{Marker, MarkerOutcome};
use crate::transaction::{Delivery, MarkerSender};
use crate::wire::messages::WriteTxnMarkersRequest;
use crate::zookeeper::{Zk, paths};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

/// Markers: a call for partitions of this broker, WriteTxnMarkers to the leaders of others.
pub struct Markers {
    pub replicas: Arc<ReplicaManager>,
    pub groups: Arc<GroupCoordinator>,
    pub metadata: Arc<MetadataCache>,
    pub channels: Arc<MarkerChannels>,
    pub zookeeper: Zk,
    /// `request.timeout.ms`
    pub timeout: Duration,
}

/// Who has to write a marker.
#[derive(Default)]
struct Routes {
    here: Vec<TopicPartition>,
    elsewhere: BTreeMap<BrokerId, Vec<TopicPartition>>,
    /// No leader now.
    nowhere: Vec<TopicPartition>,
    /// The metadata does not have the partition (any more, or not yet).
    unknown: Vec<TopicPartition>,
}

impl MarkerSender for Markers {
    fn send(&self, marker: Marker, partitions: Vec<TopicPartition>) -> Vec<Delivery> {
        let Routes { here, elsewhere, nowhere, unknown } = self.route(partitions);
        let mut deliveries: Vec<Delivery> = Vec::new();
        if !here.is_empty() {
            deliveries.push(self.write_here(&marker, here));
        }
        for (broker, partitions) in elsewhere {
            deliveries.push(self.channels.send(broker, marker, partitions));
        }
        if !nowhere.is_empty() {
            deliveries.push(Box::pin(ready(all(nowhere, MarkerOutcome::Failed))));
        }
        if !unknown.is_empty() {
            deliveries.push(Box::pin(look_for(self.zookeeper.clone(), unknown)));
        }
        deliveries
    }
}

impl Markers {
    fn route(&self, partitions: Vec<TopicPartition>) -> Routes {
        let image = self.metadata.image();
        let mut routes = Routes::default();
        for partition in partitions {
            let is_here = |p: &TopicPartition| {
                self.replicas.hosted(&p.topic, p.partition).is_some_and(|hosted| hosted.is_leader())
            };
            let leader = image.partition(&partition.topic, partition.partition).map(|known| known.leader);
            match leader {
                _ if is_here(&partition) => routes.here.push(partition),
                // The metadata is older than what this broker knows of itself.
                Some(leader) if leader == self.replicas.local() || leader == BrokerId::NONE => {
                    routes.nowhere.push(partition);
                }
                Some(leader) => routes.elsewhere.entry(leader).or_default().push(partition),
                None => routes.unknown.push(partition),
            }
        }
        routes
    }

    fn write_here(&self, marker: &Marker, partitions: Vec<TopicPartition>) -> Delivery {
        let write = |partition: TopicPartition| {
            let append = write_txn_markers::append(&self.replicas, &self.groups, marker, &partition, self.timeout);
            (partition, append)
        };
        let writes: Vec<(TopicPartition, Committed)> = partitions.into_iter().map(write).collect();
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(writes.len());
            for (partition, write) in writes {
                let code = write.await.err().unwrap_or(ErrorCode::None);
                outcomes.push((partition, outcome(code.code())));
            }
            outcomes
        })
    }
}

/// Requests on the inter-broker listener.
pub struct PeerWire {
    pub peers: Arc<Peers>,
    pub protocol: InterBrokerProtocol,
}

impl MarkerWire for PeerWire {
    fn send(&self, broker: BrokerId, request: WriteTxnMarkersRequest) -> Answer {
        let version = self.protocol.write_txn_markers();
        let Ok(peer) = self.peers.get(broker) else { return Box::pin(ready(None)) };
        Box::pin(async move {
            let sent = peer.send(version, &request).await;
            match &sent {
                Err(error @ PeerError::Disconnected { .. }) => tracing::debug!(%error, "markers were not written"),
                Err(error) => tracing::warn!(%error, "markers were not written"),
                Ok(_) => {}
            }
            sent.ok()
        })
    }
}

/// Whether the topics exist: a marker for a partition that was deleted is not missing, but metadata can also be late.
async fn look_for(zookeeper: Zk, partitions: Vec<TopicPartition>) -> Vec<(TopicPartition, MarkerOutcome)> {
    let mut outcomes = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let gone = matches!(zookeeper.exists(&paths::topic(&partition.topic)).await, Ok(None));
        if gone {
            tracing::info!(%partition, "a transaction ends without its marker in a partition that is gone");
        }
        outcomes.push((partition, if gone { MarkerOutcome::Gone } else { MarkerOutcome::Failed }));
    }
    outcomes
}
