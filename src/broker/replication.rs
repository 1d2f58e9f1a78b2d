//! Joins the replicas of this broker to other brokers: leaders that it follows, and the controller that its leaders ask for ISR
//! changes.

use crate::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use crate::config::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::peer::{PeerConfig, PeerError, Peers};
use crate::replica::fetcher::{Leaders, RemoteLeaders, RemoteSettings};
use crate::replica::{AlterAnswer, AlterPartition, AlteredPartition, MetadataCache, PartitionAlterer};
use crate::wire::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use crate::wire::messages::alter_partition_response::PartitionData as Answered;
use crate::wire::messages::{self, AlterPartitionRequest, AlterPartitionResponse, ApiKey, TopicName};
use crate::wire::text;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::runtime::Handle;

/// First version that names topics by id, and the one that gives the epochs of the members.
const BY_ID: i16 = 2;
const WITH_EPOCHS: i16 = 3;

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

/// The controller, wherever it is.
pub fn alterer(
    config: &BrokerConfig,
    local: BrokerId,
    controller: &ControllerHandle,
    metadata: &Arc<MetadataCache>,
) -> Arc<dyn PartitionAlterer> {
    let (listener, metadata) = (config.inter_broker_listener_name.clone(), metadata.clone());
    let lookup = move |id: BrokerId| {
        let image = metadata.image();
        let endpoint = image.brokers.get(&id)?.endpoint(&listener)?;
        Some((endpoint.host.clone(), u16::try_from(endpoint.port).ok()?))
    };
    let peers = Peers::new(PeerConfig::new(format!("broker-{local}-alter-partition")), Handle::current(), lookup);
    Arc::new(Controller { local, peers, controller: controller.clone() })
}

struct Controller {
    local: BrokerId,
    peers: Peers,
    controller: ControllerHandle,
}

impl PartitionAlterer for Controller {
    fn alter(
        &self,
        broker_epoch: BrokerEpoch,
        changes: Vec<AlterPartition>,
    ) -> Pin<Box<dyn Future<Output = AlterAnswer> + Send + '_>> {
        Box::pin(async move {
            let id = self.controller.controller_id().ok_or(ErrorCode::NotController)?;
            self.ask(id, broker_epoch, changes).await.map_err(|error| {
                tracing::info!(controller = %id, %error, "the controller cannot be asked for ISR changes");
                ErrorCode::NetworkException
            })?
        })
    }
}

impl Controller {
    async fn ask(
        &self,
        id: BrokerId,
        broker_epoch: BrokerEpoch,
        changes: Vec<AlterPartition>,
    ) -> Result<AlterAnswer, PeerError> {
        let peer = self.peers.get(id)?;
        let have_ids = changes.iter().all(|change| !change.topic_id.is_zero());
        let newest = if have_ids { WITH_EPOCHS } else { BY_ID - 1 };
        let version = peer.negotiate(ApiKey::AlterPartition as i16, 0..=newest).await?;
        let request = request(self.local, broker_epoch, &changes, version);
        let response = peer.send(version, &request).await?;
        Ok(answers(&changes, response, version))
    }
}

fn request(local: BrokerId, epoch: BrokerEpoch, changes: &[AlterPartition], version: i16) -> AlterPartitionRequest {
    let mut topics: BTreeMap<(&str, TopicId), Vec<PartitionData>> = BTreeMap::new();
    for AlterPartition { partition, topic_id, change } in changes {
        let mut data = PartitionData::default()
            .with_partition_index(partition.partition)
            .with_leader_epoch(change.leader_epoch.0)
            .with_partition_epoch(change.partition_epoch.0);
        match version >= WITH_EPOCHS {
            true => {
                let member = |id: &BrokerId| BrokerState::default().with_broker_id(messages::BrokerId(id.0));
                data.new_isr_with_epochs = change.isr.iter().map(member).collect();
            }
            false => data.new_isr = change.isr.iter().map(|id| messages::BrokerId(id.0)).collect(),
        }
        topics.entry((&partition.topic, *topic_id)).or_default().push(data);
    }
    let topic = |((name, id), partitions): ((&str, TopicId), Vec<PartitionData>)| {
        let topic = TopicData::default().with_partitions(partitions);
        if version >= BY_ID { topic.with_topic_id(id.0) } else { topic.with_topic_name(TopicName(text(name))) }
    };
    AlterPartitionRequest::default()
        .with_broker_id(messages::BrokerId(local.0))
        .with_broker_epoch(epoch.0)
        .with_topics(topics.into_iter().map(topic).collect())
}

fn answers(changes: &[AlterPartition], response: AlterPartitionResponse, version: i16) -> AlterAnswer {
    if response.error_code != 0 {
        return Err(ErrorCode::of(response.error_code));
    }
    let names: HashMap<TopicId, &Arc<str>> =
        changes.iter().map(|change| (change.topic_id, &change.partition.topic)).collect();
    let mut found = HashMap::new();
    for topic in response.topics {
        let name = match version >= BY_ID {
            true => names.get(&TopicId(topic.topic_id)).map(|name| Arc::clone(name)),
            false => Some(Arc::from(&**topic.topic_name)),
        };
        let Some(name) = name else { continue };
        for one in topic.partitions {
            found.insert(TopicPartition::new(name.clone(), one.partition_index), answer(one));
        }
    }
    let missing = Err(ErrorCode::UnknownServerError);
    let take = |change: &AlterPartition| found.remove(&change.partition).unwrap_or_else(|| missing.clone());
    Ok(changes.iter().map(take).collect())
}

fn answer(one: Answered) -> Result<AlteredPartition, ErrorCode> {
    if one.error_code != 0 {
        return Err(ErrorCode::of(one.error_code));
    }
    Ok(AlteredPartition {
        leader: BrokerId(one.leader_id.0),
        leader_epoch: LeaderEpoch(one.leader_epoch),
        isr: one.isr.iter().map(|id| BrokerId(id.0)).collect(),
        is_recovering: one.leader_recovery_state != 0,
        partition_epoch: PartitionEpoch(one.partition_epoch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::IsrChange;
    use crate::wire::encode;
    use crate::wire::messages::alter_partition_response::TopicData as AnsweredTopic;

    fn change(topic: &str, topic_id: TopicId) -> AlterPartition {
        AlterPartition {
            partition: TopicPartition::new(topic, 3),
            topic_id,
            change: IsrChange {
                token: 1,
                isr: vec![BrokerId(1), BrokerId(2)],
                leader_epoch: LeaderEpoch(5),
                partition_epoch: PartitionEpoch(6),
            },
        }
    }

    #[test]
    fn every_version_can_say_a_change_and_its_answer_finds_its_partition() {
        let changes = [change("a", TopicId::random()), change("b", TopicId::random())];
        for version in 0..=3 {
            let request = request(BrokerId(1), BrokerEpoch(9), &changes, version);
            encode(&request, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
            // The answer names only the second topic.
            let done = Answered::default()
                .with_partition_index(3)
                .with_leader_id(messages::BrokerId(1))
                .with_leader_epoch(5)
                .with_isr(vec![messages::BrokerId(1)])
                .with_partition_epoch(7);
            let topic = AnsweredTopic::default().with_partitions(vec![done]);
            let topic = match version >= BY_ID {
                true => topic.with_topic_id(changes[1].topic_id.0),
                false => topic.with_topic_name(TopicName(text("b"))),
            };
            let response = AlterPartitionResponse::default().with_topics(vec![topic]);
            let answers = answers(&changes, response, version).expect("no error");
            assert_eq!(answers[0], Err(ErrorCode::UnknownServerError));
            assert_eq!(answers[1].as_ref().map(|altered| altered.partition_epoch), Ok(PartitionEpoch(7)));
        }
        let refused = AlterPartitionResponse::default().with_error_code(ErrorCode::NotController.code());
        assert_eq!(answers(&changes, refused, 3), Err(ErrorCode::NotController));
    }
}
