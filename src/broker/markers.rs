//! The way of the transaction coordinator's markers to the leaders of partitions (class `TransactionMarkerChannelManager`).

use crate::api::write_txn_markers;
use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::config::InterBrokerProtocol;
use crate::coordinator::Committed;
use crate::group::GroupCoordinator;
use crate::peer::{Peer, PeerError, Peers};
use crate::replica::{MetadataCache, ReplicaManager};
use crate::transaction::message::{Marker, MarkerOutcome};
use crate::transaction::{Delivery, MarkerSender};
use crate::wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use crate::wire::messages::{TopicName, WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use crate::wire::text;
use crate::zookeeper::{Zk, paths};
use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

/// Markers: a call for partitions of this broker, WriteTxnMarkers to the leaders of others.
pub struct Markers {
    pub replicas: Arc<ReplicaManager>,
    pub groups: Arc<GroupCoordinator>,
    pub metadata: Arc<MetadataCache>,
    pub peers: Arc<Peers>,
    pub zookeeper: Zk,
    pub protocol: InterBrokerProtocol,
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
            deliveries.push(match self.peers.get(broker) {
                Ok(peer) => Box::pin(write_there(peer, self.protocol.write_txn_markers(), marker, partitions)),
                Err(_) => Box::pin(ready(all(partitions, MarkerOutcome::Failed))),
            });
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

fn all(partitions: Vec<TopicPartition>, outcome: MarkerOutcome) -> Vec<(TopicPartition, MarkerOutcome)> {
    partitions.into_iter().map(|partition| (partition, outcome)).collect()
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

async fn write_there(
    peer: Arc<Peer>,
    version: i16,
    marker: Marker,
    partitions: Vec<TopicPartition>,
) -> Vec<(TopicPartition, MarkerOutcome)> {
    let request = WriteTxnMarkersRequest::default().with_markers(vec![to_wire(&marker, &partitions)]);
    match peer.send(version, &request).await {
        Ok(response) => of_wire(partitions, &response),
        Err(error) => {
            match &error {
                PeerError::Disconnected { .. } => tracing::debug!(%error, "markers were not written"),
                _ => tracing::warn!(%error, "markers were not written"),
            }
            all(partitions, MarkerOutcome::Failed)
        }
    }
}

fn to_wire(marker: &Marker, partitions: &[TopicPartition]) -> WritableTxnMarker {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topic = |(name, indexes): (&str, Vec<i32>)| {
        WritableTxnMarkerTopic::default().with_name(TopicName(text(name))).with_partition_indexes(indexes)
    };
    WritableTxnMarker::default()
        .with_producer_id(marker.producer_id.0.into())
        .with_producer_epoch(marker.producer_epoch.0)
        .with_transaction_result(marker.commit)
        .with_coordinator_epoch(marker.coordinator_epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}

/// What the leader said of each partition; one of which it said nothing is tried again.
fn of_wire(
    partitions: Vec<TopicPartition>,
    response: &WriteTxnMarkersResponse,
) -> Vec<(TopicPartition, MarkerOutcome)> {
    let topics = response.markers.iter().flat_map(|marker| &marker.topics);
    let codes = topics.flat_map(|topic| {
        let name: &str = &topic.name;
        topic.partitions.iter().map(move |partition| ((name, partition.partition_index), partition.error_code))
    });
    let codes: HashMap<(&str, i32), i16> = codes.collect();
    let outcome_of = |partition: &TopicPartition| {
        let code = codes.get(&(&*partition.topic, partition.partition));
        code.map_or(MarkerOutcome::Failed, |code| outcome(*code))
    };
    partitions.into_iter().map(|partition| (partition.clone(), outcome_of(&partition))).collect()
}

fn outcome(code: i16) -> MarkerOutcome {
    const NONE: i16 = ErrorCode::None as i16;
    const OLD_PRODUCER: i16 = ErrorCode::InvalidProducerEpoch as i16;
    const OLD_COORDINATOR: i16 = ErrorCode::TransactionCoordinatorFenced as i16;
    const OLD_FORMAT: i16 = ErrorCode::UnsupportedForMessageFormat as i16;
    const OLD_BROKER: i16 = ErrorCode::UnsupportedVersion as i16;
    match code {
        NONE => MarkerOutcome::Written,
        OLD_PRODUCER | OLD_COORDINATOR => MarkerOutcome::Fenced,
        // Nothing transactional can be there.
        OLD_FORMAT | OLD_BROKER => MarkerOutcome::Gone,
        _ => MarkerOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    };

    #[test]
    fn every_partition_has_one_outcome() {
        let partitions: Vec<_> = (0..4).map(|index| TopicPartition::new("t", index)).collect();
        let codes = [(0, ErrorCode::None), (1, ErrorCode::NotLeaderOrFollower), (3, ErrorCode::InvalidProducerEpoch)];
        let results = codes.map(|(index, code)| {
            WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code.code())
        });
        let topic =
            WritableTxnMarkerTopicResult::default().with_name(TopicName(text("t"))).with_partitions(results.to_vec());
        let marker = WritableTxnMarkerResult::default().with_topics(vec![topic]);
        let outcomes = of_wire(partitions, &WriteTxnMarkersResponse::default().with_markers(vec![marker]));
        let outcomes: Vec<_> =
            outcomes.into_iter().map(|(partition, outcome)| (partition.partition, outcome)).collect();
        let expected = [
            (0, MarkerOutcome::Written),
            (1, MarkerOutcome::Failed),
            (2, MarkerOutcome::Failed),
            (3, MarkerOutcome::Fenced),
        ];
        assert_eq!(outcomes, expected);
    }
}
