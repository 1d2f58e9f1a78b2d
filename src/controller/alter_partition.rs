//! What leaders ask for: another ISR (class `KafkaController.processAlterPartition`, KIP-497).
//!
//! Invariant: an ISR changes only on top of the state that the leader had in view - same leader epoch, same version of the znode - and
//! keeps the leader epoch, so that nobody has to hear of it by LeaderAndIsr. The order of the checks is Kafka's: a leader
//! that asks again for what it already got is told so before it is told that its version is old. What one request changes goes to
//! ZooKeeper together: a broker that is back joins thousands of ISRs at once.

use super::commands::CommandReply;
use super::context::Leadership;
use super::machine::{Answers, Controller, Task, Waiting};
use super::states::{Groups, Settled, StateWrite, settle};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use crate::zookeeper::ZkError;
use crate::zookeeper::paths::{LeaderRecoveryState, PartitionState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a request names a topic: by name before version 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// What a leader wants of one of its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alteration {
    pub topic: TopicKey,
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    /// With the epoch in which the leader saw the member, if it knows that.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    pub recovery: LeaderRecoveryState,
    pub partition_epoch: PartitionEpoch,
}

/// For each alteration in its order: the state of the partition by then, or why nothing was done.
pub type Altered = Vec<Result<Leadership, ErrorCode>>;

/// A request that is worked on. What is written knows its place in the answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct AlterWait {
    token: u64,
    states: Groups<usize>,
    altered: Altered,
    named: Vec<TopicPartition>,
    changed: Vec<TopicPartition>,
}

/// What the checks have made of an alteration.
enum Judged {
    Write(PartitionState),
    /// It is as it is asked for.
    Done(Leadership),
}

impl Controller {
    pub(super) fn alter_partitions(
        &mut self,
        token: u64,
        broker: BrokerId,
        epoch: BrokerEpoch,
        alterations: Vec<Alteration>,
    ) {
        if self.context.brokers.get(&broker).is_none_or(|known| known.epoch != epoch) {
            return self.reply(token, CommandReply::AlterPartitions(Err(ErrorCode::StaleBrokerEpoch)));
        }
        let names: BTreeMap<TopicId, Arc<str>> =
            self.context.topics.iter().map(|(name, topic)| (topic.id, name.clone())).collect();
        let (mut altered, mut named, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, alteration) in alterations.into_iter().enumerate() {
            let topic = match &alteration.topic {
                TopicKey::Name(name) => Some(name.clone()),
                TopicKey::Id(id) => names.get(id).cloned(),
            };
            let Some(topic) = topic else {
                altered.push(Err(ErrorCode::UnknownTopicId));
                continue;
            };
            let tp = TopicPartition::new(topic, alteration.partition);
            altered.push(match self.judge(&tp, &alteration) {
                Ok(Judged::Done(leadership)) => Ok(leadership),
                Ok(Judged::Write(state)) => {
                    writes.push(StateWrite { tp: tp.clone(), state, expected: alteration.partition_epoch, what: at });
                    // Until ZooKeeper has answered.
                    Err(ErrorCode::UnknownServerError)
                }
                Err(error) => Err(error),
            });
            named.push(tp);
        }
        let (operations, states) = self.state_writes(writes);
        let wait = AlterWait { token, states, altered, named, changed: Vec::new() };
        if operations.is_empty() {
            return self.alterations_done(wait, Vec::new());
        }
        self.ask(operations, Waiting::Alter(wait));
    }

    fn judge(&self, tp: &TopicPartition, asked: &Alteration) -> Result<Judged, ErrorCode> {
        let active = self.active.ok_or(ErrorCode::NotController)?;
        let partition = self.context.partition(tp).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let current = partition.leadership.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let state = &current.state;
        if asked.partition_epoch > current.epoch || asked.leader_epoch > state.leader_epoch {
            // The leader knows more than this controller: another one is at work.
            return Err(ErrorCode::NotController);
        }
        if asked.leader_epoch < state.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let isr: Vec<BrokerId> = asked.isr.iter().map(|(member, _)| *member).collect();
        if isr == state.isr && asked.recovery == state.recovery {
            return Ok(Judged::Done(current.clone()));
        }
        if asked.partition_epoch < current.epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let recovering = asked.recovery == LeaderRecoveryState::Recovering;
        if recovering && (isr.len() > 1 || state.recovery == LeaderRecoveryState::Recovered) {
            return Err(ErrorCode::InvalidRequest);
        }
        if isr.is_empty() || isr.iter().any(|member| !partition.assignment.replicas.contains(member)) {
            return Err(ErrorCode::InvalidRequest);
        }
        if asked.isr.iter().any(|(member, epoch)| !self.may_join(*member, *epoch)) {
            return Err(ErrorCode::IneligibleReplica);
        }
        Ok(Judged::Write(PartitionState {
            controller_epoch: active.epoch,
            isr,
            recovery: asked.recovery,
            ..state.clone()
        }))
    }

    /// A member must be live, and be the one that the leader saw: a broker that has restarted since may have lost its log (KIP-903).
    fn may_join(&self, member: BrokerId, seen: BrokerEpoch) -> bool {
        let known = self.context.brokers.get(&member).map(|broker| broker.epoch);
        self.context.is_live(member) && (seen == BrokerEpoch::UNKNOWN || known == Some(seen))
    }

    pub(super) fn alterations_done(&mut self, mut wait: AlterWait, answers: Answers) {
        let Settled { done, again } = settle(std::mem::take(&mut wait.states), answers);
        for (StateWrite { tp, state, what: at, .. }, outcome) in done {
            let outcome = match outcome {
                Ok(epoch) => {
                    let leadership = Leadership { state, epoch };
                    if let Some(partition) = self.context.partition_mut(&tp) {
                        partition.leadership = Some(leadership.clone());
                        wait.changed.push(tp);
                    }
                    Ok(leadership)
                }
                Err(ZkError::BadVersion) => Err(ErrorCode::InvalidUpdateVersion),
                Err(ZkError::NoNode) => Err(ErrorCode::UnknownTopicOrPartition),
                Err(error) => {
                    self.warn(format!("the ISR of {tp} is left as it was: {error}"));
                    Err(ErrorCode::UnknownServerError)
                }
            };
            if let Some(place) = wait.altered.get_mut(at) {
                *place = outcome;
            }
        }
        if !again.is_empty() {
            let operations = self.state_operations(&again);
            return self.ask(operations, Waiting::Alter(AlterWait { states: again, ..wait }));
        }
        self.reply(wait.token, CommandReply::AlterPartitions(Ok(wait.altered)));
        if !wait.named.is_empty() {
            self.first_all(vec![Task::AnnouncePartitions(wait.named), self.complete_of(wait.changed)]);
        }
    }
}
