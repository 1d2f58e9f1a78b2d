//! StopReplica: the controller takes partitions away from this broker.

use super::Services;
use crate::wire::frame::RequestHeader;
use crate::wire::messages::stop_replica_request::{StopReplicaPartitionState, StopReplicaTopicState};
use crate::wire::messages::{StopReplicaRequest, TopicName};
use crate::wire::{Encodable, HeaderVersion, Outcome, Reply, Request, WireError};
use std::future::Future;
use std::sync::Arc;

/// First version that says for each partition whether it is to be deleted.
const BY_PARTITION: i16 = 3;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let mut body: StopReplicaRequest = request.decode()?;
    let replicas = services.replicas.clone();
    if request.header.version < BY_PARTITION {
        modernize(&mut body);
    }
    Ok(done(request.header, async move { replicas.stop_replica(&body).await }))
}

/// What a controller asks is carried out even when its connection ends meanwhile: half of it would be worse.
pub(super) fn done<T: Encodable + HeaderVersion + Send + 'static>(
    header: RequestHeader,
    work: impl Future<Output = T> + Send + 'static,
) -> Outcome {
    let work = tokio::spawn(work);
    Outcome::later(async move {
        match work.await {
            Ok(response) => Reply::or_close(&header, &response),
            Err(error) => {
                tracing::error!(api_key = header.api_key, %error, "a control request was not carried out");
                Reply::Close
            }
        }
    })
}

/// Versions 0 (a list of partitions) to 2 (topics with numbers) have one flag for all, and no leader epochs.
fn modernize(body: &mut StopReplicaRequest) {
    let delete = body.delete_partitions;
    let state = |index: i32| {
        StopReplicaPartitionState::default()
            .with_partition_index(index)
            .with_delete_partition(delete)
            .with_leader_epoch(-1)
    };
    let topic =
        |name: TopicName, states| StopReplicaTopicState::default().with_topic_name(name).with_partition_states(states);
    for partition in std::mem::take(&mut body.ungrouped_partitions) {
        body.topic_states.push(topic(partition.topic_name, vec![state(partition.partition_index)]));
    }
    for old in std::mem::take(&mut body.topics) {
        body.topic_states.push(topic(old.name, old.partition_indexes.into_iter().map(state).collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::stop_replica_request::{StopReplicaPartitionV0, StopReplicaTopicV1};
    use crate::wire::text;

    #[test]
    fn old_versions_mean_the_same() {
        let one = StopReplicaPartitionV0::default().with_topic_name(TopicName(text("a"))).with_partition_index(3);
        let two = StopReplicaTopicV1::default().with_name(TopicName(text("b"))).with_partition_indexes(vec![1, 2]);
        let mut body = StopReplicaRequest::default()
            .with_delete_partitions(true)
            .with_ungrouped_partitions(vec![one])
            .with_topics(vec![two]);
        modernize(&mut body);
        let found: Vec<_> = body
            .topic_states
            .iter()
            .flat_map(|topic| {
                let name = topic.topic_name.as_str();
                topic
                    .partition_states
                    .iter()
                    .map(move |state| (name, state.partition_index, state.delete_partition, state.leader_epoch))
            })
            .collect();
        assert_eq!(found, [("a", 3, true, -1), ("b", 1, true, -1), ("b", 2, true, -1)]);
    }
}
