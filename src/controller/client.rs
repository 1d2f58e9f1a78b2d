//! What a broker asks of the controller, wherever that is: a call if it is in this process, else a request to the broker that
//! `/controller` names (class `NodeToControllerChannelManager`).
//!
//! Invariant: one attempt each. A request to a broker that is no longer the controller is given up as soon as that is known, and not
//! when its time is over: the next attempt finds the new one.

use super::alter_partition::{Alteration, Altered, TopicKey};
use super::context::Leadership;
use super::handle::ControllerHandle;
use crate::base::{
    BrokerEpoch, BrokerId, ControllerEpoch, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition,
};
use crate::peer::{Peer, PeerError, Peers};
use crate::wire::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use crate::wire::messages::{
    self, AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest, AlterPartitionResponse,
    ControlledShutdownRequest, ControlledShutdownResponse, TopicName,
};
use crate::wire::{RequestMessage, text};
use crate::zookeeper::paths::{LeaderRecoveryState, PartitionState, ProducerIdBlock};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

/// First AlterPartition version that names topics by id, the first with recovery states, and the first with epochs of members.
const TOPIC_IDS: i16 = 2;
const RECOVERY: i16 = 1;
const MEMBER_EPOCHS: i16 = 3;
const CONTROLLED_SHUTDOWN: i16 = 3;

#[derive(Clone)]
pub struct ControllerClient {
    pub broker: BrokerId,
    pub controller: ControllerHandle,
    pub peers: Arc<Peers>,
}

/// An ISR change with both names of its topic; the version of the request decides which goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrWish {
    pub partition: TopicPartition,
    /// Zero if the topic has none.
    pub topic_id: TopicId,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    pub recovery: LeaderRecoveryState,
    pub partition_epoch: PartitionEpoch,
}

impl ControllerClient {
    /// Asks for ISR changes. One answer for each wish, in their order.
    pub async fn alter_partitions(&self, epoch: BrokerEpoch, wishes: Vec<IsrWish>) -> Result<Altered, ErrorCode> {
        if self.controller.is_active() {
            let local = |wish: IsrWish| Alteration {
                topic: TopicKey::Name(wish.partition.topic),
                partition: wish.partition.partition,
                leader_epoch: wish.leader_epoch,
                isr: wish.isr,
                recovery: wish.recovery,
                partition_epoch: wish.partition_epoch,
            };
            return self.controller.alter_partitions(self.broker, epoch, wishes.into_iter().map(local).collect()).await;
        }
        let asked = async |peer: Arc<Peer>| {
            let newest = if wishes.iter().any(|wish| wish.topic_id.is_zero()) { TOPIC_IDS - 1 } else { MEMBER_EPOCHS };
            let version = peer.negotiate(AlterPartitionRequest::KEY, 0..=newest).await?;
            peer.send(version, &alter_request(self.broker, epoch, &wishes, version)).await
        };
        let response = self.ask(asked).await?;
        match response.error_code {
            0 => Ok(altered(&wishes, &response)),
            code => Err(ErrorCode::of(code)),
        }
    }

    /// Announces that this broker is about to stop. Returns the partitions that it still leads.
    pub async fn controlled_shutdown(&self, epoch: BrokerEpoch) -> Result<Vec<TopicPartition>, ErrorCode> {
        if self.controller.is_active() {
            return self.controller.controlled_shutdown(self.broker, epoch).await;
        }
        let request = ControlledShutdownRequest::default()
            .with_broker_id(messages::BrokerId(self.broker.0))
            .with_broker_epoch(epoch.0);
        let asked = async |peer: Arc<Peer>| peer.send(CONTROLLED_SHUTDOWN, &request).await;
        let response: ControlledShutdownResponse = self.ask(asked).await?;
        let remaining = response.remaining_partitions.iter();
        let remaining =
            remaining.map(|one| TopicPartition::new(one.topic_name.as_str(), one.partition_index)).collect();
        match response.error_code {
            0 => Ok(remaining),
            code => Err(ErrorCode::of(code)),
        }
    }

    /// The next block of producer ids for this broker.
    pub async fn allocate_producer_ids(&self, epoch: BrokerEpoch) -> Result<ProducerIdBlock, ErrorCode> {
        if self.controller.is_active() {
            self.controller.check_broker(self.broker, epoch).await?;
            let block = self.controller.allocate_producer_ids(self.broker).await;
            return block.map_err(|error| {
                tracing::warn!(%error, "no producer ids from ZooKeeper");
                ErrorCode::UnknownServerError
            });
        }
        let request = AllocateProducerIdsRequest::default()
            .with_broker_id(messages::BrokerId(self.broker.0))
            .with_broker_epoch(epoch.0);
        let asked = async |peer: Arc<Peer>| {
            let version = peer.negotiate(AllocateProducerIdsRequest::KEY, 0..=0).await?;
            peer.send(version, &request).await
        };
        let response: AllocateProducerIdsResponse = self.ask(asked).await?;
        match response.error_code {
            0 => block_of(self.broker, &response).ok_or(ErrorCode::UnknownServerError),
            code => Err(ErrorCode::of(code)),
        }
    }

    /// One request to the broker that is the controller now, for as long as it is.
    async fn ask<R, F: Future<Output = Result<R, PeerError>>>(
        &self,
        send: impl FnOnce(Arc<Peer>) -> F,
    ) -> Result<R, ErrorCode> {
        let mut state = self.controller.subscribe();
        let Some(id) = state.borrow_and_update().broker else { return Err(ErrorCode::NotController) };
        let peer = self.peers.get(id).map_err(|error| {
            tracing::debug!(controller = %id, %error, "the controller cannot be asked");
            ErrorCode::NotController
        })?;
        tokio::select! {
            answer = send(peer) => answer.map_err(|error| {
                tracing::info!(controller = %id, %error, "the controller did not answer");
                match error {
                    PeerError::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
                    PeerError::TimedOut { .. } => ErrorCode::RequestTimedOut,
                    _ => ErrorCode::NetworkException,
                }
            }),
            _ = state.wait_for(|state| state.broker != Some(id)) => Err(ErrorCode::NotController),
        }
    }
}

/// `None` if what the controller says is no block.
fn block_of(broker: BrokerId, response: &AllocateProducerIdsResponse) -> Option<ProducerIdBlock> {
    let (first, size) = (response.producer_id_start.0, i64::from(response.producer_id_len));
    let last = first.checked_add(size)?.checked_sub(1)?;
    (first >= 0 && size > 0).then_some(ProducerIdBlock { broker, first, last })
}

fn alter_request(broker: BrokerId, epoch: BrokerEpoch, wishes: &[IsrWish], version: i16) -> AlterPartitionRequest {
    let mut topics: BTreeMap<Arc<str>, (TopicId, Vec<PartitionData>)> = BTreeMap::new();
    for wish in wishes {
        let members = wish.isr.iter();
        let mut data = PartitionData::default()
            .with_partition_index(wish.partition.partition)
            .with_leader_epoch(wish.leader_epoch.0)
            .with_partition_epoch(wish.partition_epoch.0);
        if version >= MEMBER_EPOCHS {
            let member = |(id, epoch): &(BrokerId, BrokerEpoch)| {
                BrokerState::default().with_broker_id(messages::BrokerId(id.0)).with_broker_epoch(epoch.0)
            };
            data.new_isr_with_epochs = members.map(member).collect();
        } else {
            data.new_isr = members.map(|(id, _)| messages::BrokerId(id.0)).collect();
        }
        if version >= RECOVERY {
            data.leader_recovery_state = wish.recovery.code();
        }
        let (_, partitions) = topics.entry(wish.partition.topic.clone()).or_insert((wish.topic_id, Vec::new()));
        partitions.push(data);
    }
    let topic = |(name, (id, partitions)): (Arc<str>, (TopicId, Vec<PartitionData>))| {
        let topic = TopicData::default().with_partitions(partitions);
        if version >= TOPIC_IDS { topic.with_topic_id(id.0) } else { topic.with_topic_name(TopicName(text(&name))) }
    };
    AlterPartitionRequest::default()
        .with_broker_id(messages::BrokerId(broker.0))
        .with_broker_epoch(epoch.0)
        .with_topics(topics.into_iter().map(topic).collect())
}

fn altered(wishes: &[IsrWish], response: &AlterPartitionResponse) -> Altered {
    let answer = |wish: &IsrWish| {
        let own = |topic: &&messages::alter_partition_response::TopicData| {
            (!wish.topic_id.is_zero() && topic.topic_id == wish.topic_id.0)
                || topic.topic_name.as_str() == &*wish.partition.topic
        };
        let topic = response.topics.iter().find(own).ok_or(ErrorCode::UnknownServerError)?;
        let found = topic.partitions.iter().find(|data| data.partition_index == wish.partition.partition);
        let data = found.ok_or(ErrorCode::UnknownServerError)?;
        if data.error_code != 0 {
            return Err(ErrorCode::of(data.error_code));
        }
        let state = PartitionState {
            leader: BrokerId(data.leader_id.0),
            leader_epoch: LeaderEpoch(data.leader_epoch),
            controller_epoch: ControllerEpoch::default(),
            isr: data.isr.iter().map(|id| BrokerId(id.0)).collect(),
            recovery: LeaderRecoveryState::from_code(data.leader_recovery_state),
        };
        Ok(Leadership { state, epoch: PartitionEpoch(data.partition_epoch) })
    };
    wishes.iter().map(answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::messages::alter_partition_response as answers;

    fn wish(topic: &str, partition: i32, id: u128) -> IsrWish {
        IsrWish {
            partition: TopicPartition::new(topic, partition),
            topic_id: TopicId(uuid::Uuid::from_u128(id)),
            leader_epoch: LeaderEpoch(3),
            isr: vec![(BrokerId(1), BrokerEpoch::UNKNOWN), (BrokerId(2), BrokerEpoch(9))],
            recovery: LeaderRecoveryState::Recovered,
            partition_epoch: PartitionEpoch(5),
        }
    }

    #[test]
    fn every_version_can_be_asked_and_its_answers_are_put_in_order() {
        let wishes = [wish("b", 1, 2), wish("a", 0, 1), wish("b", 0, 2)];
        for version in 0..=3 {
            let request = alter_request(BrokerId(1), BrokerEpoch(7), &wishes, version);
            encode(&request, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
            assert_eq!(request.topics.len(), 2);
        }
        let data = |index, error| {
            answers::PartitionData::default().with_partition_index(index).with_error_code(error).with_partition_epoch(6)
        };
        let id = |id: u128| answers::TopicData::default().with_topic_id(uuid::Uuid::from_u128(id));
        let topics = vec![id(2).with_partitions(vec![data(0, 0), data(1, 95)])];
        let response = AlterPartitionResponse::default().with_topics(topics);
        let found = altered(&wishes, &response);
        assert_eq!(found[0], Err(ErrorCode::InvalidUpdateVersion));
        assert_eq!(found[1], Err(ErrorCode::UnknownServerError), "no answer is no success");
        assert_eq!(found[2].as_ref().map(|leadership| leadership.epoch), Ok(PartitionEpoch(6)));
    }
}
