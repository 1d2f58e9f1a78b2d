//! WriteTxnMarkers: a transaction coordinator ends transactions in the partitions that this broker leads. The coordinator of this
//! process takes the same way without a connection.

use super::group_fields::shared;
use super::{Services, error};
use crate::base::time::wall_ms;
use crate::base::topic_name::CONSUMER_OFFSETS;
use crate::base::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use crate::coordinator::Committed;
use crate::group::GroupCoordinator;
use crate::log::AppendOrigin;
use crate::record::{EndTxnMarker, ValidatedRecords};
use crate::replica::{Partition, ReplicaError, ReplicaManager, wait_committed};
use crate::transaction::message::Marker;
use crate::wire::messages::write_txn_markers_request::WritableTxnMarker;
use crate::wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use crate::wire::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: WriteTxnMarkersRequest = request.decode()?;
    let header = request.header;
    let timeout = Duration::from_millis(services.config.request_timeout_ms.max(0) as u64);
    let mut appends = Vec::new();
    for wanted in &body.markers {
        let marker = marker(wanted);
        for topic in &wanted.topics {
            let name = shared(&topic.name.0);
            for index in &topic.partition_indexes {
                let partition = TopicPartition::new(name.clone(), *index);
                appends.push(append(&services.replicas, &services.groups, &marker, &partition, timeout));
            }
        }
    }
    Ok(Outcome::now_or_later(async move {
        let mut codes = Vec::with_capacity(appends.len());
        for append in appends {
            codes.push(append.await.err().unwrap_or(ErrorCode::None));
        }
        Reply::or_close(&header, &response(body.markers, &codes))
    }))
}

fn marker(wanted: &WritableTxnMarker) -> Marker {
    Marker {
        producer_id: ProducerId(wanted.producer_id.0),
        producer_epoch: ProducerEpoch(wanted.producer_epoch),
        commit: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
    }
}

fn response(markers: Vec<WritableTxnMarker>, codes: &[ErrorCode]) -> WriteTxnMarkersResponse {
    let mut codes = codes.iter();
    let mut results = Vec::with_capacity(markers.len());
    for marker in markers {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let code = codes.next().copied().unwrap_or(ErrorCode::UnknownServerError);
                WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code.code())
            });
            let partitions = partitions.collect();
            topics.push(WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions));
        }
        let result = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics);
        results.push(result);
    }
    WriteTxnMarkersResponse::default().with_markers(results)
}

/// Appends a marker to a partition that this broker leads. Resolves when all in-sync replicas have it and, in `__consumer_offsets`,
/// the group coordinator has acted on it.
pub fn append(
    replicas: &ReplicaManager,
    groups: &Arc<GroupCoordinator>,
    marker: &Marker,
    partition: &TopicPartition,
    timeout: Duration,
) -> Committed {
    let (partition, end) = match try_append(replicas, marker, partition) {
        Ok(appended) => appended,
        Err(error) => return Box::pin(ready(Err(error))),
    };
    let groups = (*partition.topic_partition().topic == *CONSUMER_OFFSETS).then(|| groups.clone());
    let Marker { producer_id, commit, .. } = *marker;
    Box::pin(async move {
        let index = partition.topic_partition().partition;
        let committed = match partition.committed(end) {
            Some(committed) => Some(committed),
            None => wait_committed(vec![(partition, end)], timeout).await.pop().flatten(),
        };
        match committed {
            Some(Ok(())) => {}
            Some(Err(ReplicaError::NotEnoughReplicas { .. })) => return Err(ErrorCode::NotEnoughReplicasAfterAppend),
            Some(Err(lost)) => return Err(error::of_replica(&lost)),
            None => return Err(ErrorCode::RequestTimedOut),
        }
        if let Some(groups) = groups {
            // Whatever it says: who leads next reads the marker from the log.
            let _ = groups.end_transaction(index, producer_id, commit).get().await;
        }
        Ok(())
    })
}

/// The partition, and the offset that has to be replicated.
fn try_append(
    replicas: &ReplicaManager,
    marker: &Marker,
    partition: &TopicPartition,
) -> Result<(Arc<Partition>, i64), ErrorCode> {
    let found = replicas.partition(&partition.topic, partition.partition);
    let partition = found.map_err(|error| error::of_replica(&error))?;
    let end = EndTxnMarker { commit: marker.commit, coordinator_epoch: marker.coordinator_epoch };
    let batch = end.batch(marker.producer_id.0, marker.producer_epoch.0, wall_ms());
    let batch = batch.map_err(|_| ErrorCode::UnknownServerError)?;
    let appended = partition.append(ValidatedRecords::from_batch(batch), AppendOrigin::Coordinator, true);
    let info = appended.map_err(|error| error::of_replica(&error))?;
    Ok((partition, info.last_offset + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::TopicName;
    use crate::wire::messages::write_txn_markers_request::WritableTxnMarkerTopic;
    use crate::wire::{encode, text};

    #[test]
    fn every_version_encodes() {
        let topic =
            WritableTxnMarkerTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![4, 5]);
        let marker = WritableTxnMarker::default().with_producer_id(7.into()).with_topics(vec![topic]);
        let response = response(vec![marker], &[ErrorCode::None, ErrorCode::NotLeaderOrFollower]);
        let partitions = &response.markers[0].topics[0].partitions;
        let codes: Vec<_> = partitions.iter().map(|result| (result.partition_index, result.error_code)).collect();
        assert_eq!(codes, [(4, 0), (5, 6)]);
        for version in 0..=1 {
            assert!(encode(&response, version).is_ok(), "version {version}");
        }
    }
}
