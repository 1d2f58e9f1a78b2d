//! AlterPartition (KIP-497, KIP-704): a leader asks the controller for another ISR.

use super::Services;
use super::stop_replica::done;
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId};
use crate::controller::{Alteration, Altered, TopicKey};
use crate::wire::messages::alter_partition_response::{PartitionData, TopicData};
use crate::wire::messages::{self, AlterPartitionRequest, AlterPartitionResponse};
use crate::wire::{Outcome, Request, WireError};
use crate::zookeeper::paths::LeaderRecoveryState;
use std::sync::Arc;

/// First versions with recovery states, with topic ids, and with epochs of members.
const RECOVERY: i16 = 1;
const TOPIC_IDS: i16 = 2;
const MEMBER_EPOCHS: i16 = 3;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AlterPartitionRequest = request.decode()?;
    let controller = services.controller.clone();
    let version = request.header.version;
    Ok(done(request.header, async move {
        let (broker, epoch) = (BrokerId(body.broker_id.0), BrokerEpoch(body.broker_epoch));
        match controller.alter_partitions(broker, epoch, alterations(&body, version)).await {
            Ok(altered) => response(&body, altered, version),
            Err(error) => AlterPartitionResponse::default().with_error_code(error.code()),
        }
    }))
}

fn alterations(body: &AlterPartitionRequest, version: i16) -> Vec<Alteration> {
    let mut all = Vec::new();
    for topic in &body.topics {
        let key = match version >= TOPIC_IDS {
            true => TopicKey::Id(TopicId(topic.topic_id)),
            false => TopicKey::Name(topic.topic_name.as_str().into()),
        };
        for data in &topic.partitions {
            let isr = match version >= MEMBER_EPOCHS {
                true => {
                    let members = data.new_isr_with_epochs.iter();
                    members.map(|member| (BrokerId(member.broker_id.0), BrokerEpoch(member.broker_epoch))).collect()
                }
                false => data.new_isr.iter().map(|id| (BrokerId(id.0), BrokerEpoch::UNKNOWN)).collect(),
            };
            all.push(Alteration {
                topic: key.clone(),
                partition: data.partition_index,
                leader_epoch: LeaderEpoch(data.leader_epoch),
                isr,
                recovery: LeaderRecoveryState::from_code(data.leader_recovery_state),
                partition_epoch: PartitionEpoch(data.partition_epoch),
            });
        }
    }
    all
}

/// The answers, in the order of the request.
fn response(body: &AlterPartitionRequest, altered: Altered, version: i16) -> AlterPartitionResponse {
    let mut altered = altered.into_iter();
    let mut topics = Vec::new();
    for topic in &body.topics {
        let mut answer = TopicData::default();
        if version >= TOPIC_IDS {
            answer.topic_id = topic.topic_id;
        } else {
            answer.topic_name = topic.topic_name.clone();
        }
        for data in &topic.partitions {
            let outcome = altered.next().unwrap_or(Err(ErrorCode::UnknownServerError));
            let mut one = PartitionData::default().with_partition_index(data.partition_index);
            match outcome {
                Ok(leadership) => {
                    one.leader_id = messages::BrokerId(leadership.state.leader.0);
                    one.leader_epoch = leadership.state.leader_epoch.0;
                    one.isr = leadership.state.isr.iter().map(|id| messages::BrokerId(id.0)).collect();
                    one.partition_epoch = leadership.epoch.0;
                    if version >= RECOVERY {
                        one.leader_recovery_state = leadership.state.recovery.code();
                    }
                }
                Err(ErrorCode::IneligibleReplica) if version < TOPIC_IDS => {
                    one.error_code = ErrorCode::OperationNotAttempted.code();
                }
                Err(ErrorCode::UnknownTopicId) if version < TOPIC_IDS => {
                    one.error_code = ErrorCode::UnknownTopicOrPartition.code();
                }
                Err(error) => one.error_code = error.code(),
            }
            answer.partitions.push(one);
        }
        topics.push(answer);
    }
    AlterPartitionResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ControllerEpoch;
    use crate::controller::context::Leadership;
    use crate::wire::messages::alter_partition_request as asked;
    use crate::wire::{encode, text};
    use crate::zookeeper::paths::PartitionState;

    #[test]
    fn every_version_is_understood_and_answered() {
        for version in 0..=3 {
            let mut data = asked::PartitionData::default().with_partition_index(4).with_leader_epoch(3);
            match version >= MEMBER_EPOCHS {
                true => data.new_isr_with_epochs = vec![asked::BrokerState::default().with_broker_epoch(-1)],
                false => data.new_isr = vec![messages::BrokerId(0)],
            }
            let mut topic = asked::TopicData::default().with_partitions(vec![data.clone(), data]);
            match version >= TOPIC_IDS {
                true => topic.topic_id = uuid::Uuid::from_u128(5),
                false => topic.topic_name = messages::TopicName(text("t")),
            }
            let body = AlterPartitionRequest::default().with_topics(vec![topic]);
            encode(&body, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
            let found = alterations(&body, version);
            assert_eq!(
                (found.len(), found[0].partition, found[0].isr.as_slice()),
                (2, 4, &[(BrokerId(0), BrokerEpoch(-1))][..])
            );
            let state = PartitionState {
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(3),
                controller_epoch: ControllerEpoch(1),
                isr: vec![BrokerId(0)],
                recovery: LeaderRecoveryState::Recovering,
            };
            let altered = vec![Ok(Leadership { state, epoch: PartitionEpoch(8) }), Err(ErrorCode::IneligibleReplica)];
            let answer = response(&body, altered, version);
            encode(&answer, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
            let errors: Vec<_> = answer.topics[0].partitions.iter().map(|one| one.error_code).collect();
            assert_eq!(errors, [0, if version < TOPIC_IDS { 55 } else { 107 }]);
        }
    }
}
