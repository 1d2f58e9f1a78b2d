//! Replica states (class `ZkReplicaStateMachine`).
//!
//! Invariant: a replica that goes offline leaves the ISR in ZooKeeper, except as its last member: then the leader is none, and
//! only that replica may come back cleanly.

use super::context::{Leadership, Replica, ReplicaPhase};
use super::machine::{Answers, Controller, Waiting};
use super::states::{Groups, Settled, StateWrite, settle};
use crate::base::{BrokerId, LeaderEpoch, TopicPartition};
use crate::zookeeper::paths::{self, PartitionState};
use crate::zookeeper::{Operation, ZkError};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions, the replicas that go offline, and the state without them (none: nothing is to be written).
pub(super) type Removals = BTreeMap<TopicPartition, BTreeSet<BrokerId>>;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum ReplicaWait {
    Shrunk {
        states: Groups<BTreeSet<BrokerId>>,
        /// Of earlier writes: those that have to be read again.
        stale: Removals,
    },
    Reread(Removals),
}

impl Controller {
    /// What brokers are to hear of it is collected, not sent.
    pub(super) fn move_replicas(&mut self, replicas: Vec<Replica>, phase: ReplicaPhase) {
        use ReplicaPhase::*;
        let from: &[ReplicaPhase] = match phase {
            New => &[NonExistent],
            Online | Offline => &[New, Online, Offline, DeletionIneligible],
            DeletionStarted => &[Offline],
            DeletionSuccessful => &[DeletionStarted],
            DeletionIneligible => &[Offline, DeletionStarted],
            NonExistent => &[DeletionSuccessful],
        };
        let mut removals = Removals::new();
        for replica in replicas {
            let Some(partition) = self.context.partition_mut(&replica.tp) else { continue };
            let before = partition.replicas.get(&replica.broker).copied().unwrap_or_default();
            if !from.contains(&before) {
                continue;
            }
            partition.replicas.insert(replica.broker, phase);
            let leader = partition.leadership.as_ref().map(|leadership| leadership.state.leader);
            let Replica { tp, broker } = replica;
            match phase {
                New if leader.is_some() && leader != Some(broker) => {
                    self.batch.leader_and_isr(&self.context, &[broker], &tp, true);
                }
                Online if before != New && leader.is_some() => {
                    self.batch.leader_and_isr(&self.context, &[broker], &tp, false);
                }
                Offline => {
                    self.batch.stop_replica(&self.context, broker, &tp, false);
                    if leader.is_some() && !self.context.is_deleting(&tp.topic) {
                        removals.entry(tp).or_default().insert(broker);
                    } else if !self.context.is_deleting(&tp.topic) {
                        self.batch.update_metadata(&self.context, &[tp]);
                    }
                }
                DeletionStarted => self.batch.stop_replica(&self.context, broker, &tp, true),
                NonExistent => {
                    if let Some(partition) = self.context.partition_mut(&tp) {
                        partition.replicas.remove(&broker);
                    }
                }
                _ => {}
            }
        }
        self.shrink(removals);
    }

    /// Takes replicas out of ISRs.
    fn shrink(&mut self, removals: Removals) {
        let mut writes = Vec::new();
        for (tp, brokers) in removals {
            let Some(leadership) = self.context.partition(&tp).and_then(|partition| partition.leadership.clone())
            else {
                continue;
            };
            match self.without(&leadership, &brokers) {
                Some(state) => writes.push(StateWrite { tp, state, expected: leadership.epoch, what: brokers }),
                None => self.tell_others(&tp, &brokers),
            }
        }
        if !writes.is_empty() {
            let (operations, states) = self.state_writes(writes);
            self.ask(operations, Waiting::Replica(ReplicaWait::Shrunk { states, stale: Removals::new() }));
        }
    }

    /// The state without `brokers`, or `None` if none of them is in the ISR or leads.
    fn without(&self, leadership: &Leadership, brokers: &BTreeSet<BrokerId>) -> Option<PartitionState> {
        let state = &leadership.state;
        if !state.isr.iter().any(|member| brokers.contains(member)) {
            return None;
        }
        let remaining: Vec<BrokerId> = state.isr.iter().copied().filter(|member| !brokers.contains(member)).collect();
        let isr = match remaining.is_empty() {
            // The last member stays; of several that go at once, the first.
            true => state.isr.first().copied().into_iter().collect(),
            false => remaining,
        };
        let leader = if brokers.contains(&state.leader) { BrokerId::NONE } else { state.leader };
        if isr == state.isr && leader == state.leader {
            return None;
        }
        Some(PartitionState {
            leader,
            leader_epoch: LeaderEpoch(state.leader_epoch.0.saturating_add(1)),
            controller_epoch: self.active.map(|active| active.epoch).unwrap_or_default(),
            isr,
            recovery: state.recovery,
        })
    }

    fn tell_others(&mut self, tp: &TopicPartition, gone: &BTreeSet<BrokerId>) {
        let assigned = self.context.partition(tp).map(|partition| partition.assignment.replicas.clone());
        let others: Vec<BrokerId> =
            assigned.unwrap_or_default().into_iter().filter(|broker| !gone.contains(broker)).collect();
        self.batch.leader_and_isr(&self.context, &others, tp, false);
    }

    pub(super) fn replica_answered(&mut self, wait: ReplicaWait, answers: Answers) {
        match wait {
            ReplicaWait::Shrunk { states, stale } => self.shrunk(settle(states, answers), stale),
            ReplicaWait::Reread(removals) => {
                for (tp, answer) in removals.keys().zip(answers) {
                    if let Err(error) = self.take_state(tp, answer) {
                        self.warn(format!("state of {tp}: {error}"));
                    }
                }
                self.shrink(removals);
            }
        }
    }

    fn shrunk(&mut self, Settled { done, again }: Settled<BTreeSet<BrokerId>>, mut stale: Removals) {
        for (StateWrite { tp, state, what: brokers, .. }, outcome) in done {
            match outcome {
                Ok(epoch) => {
                    if let Some(partition) = self.context.partition_mut(&tp) {
                        partition.leadership = Some(Leadership { state, epoch });
                    }
                    self.tell_others(&tp, &brokers);
                }
                Err(ZkError::BadVersion) => {
                    stale.insert(tp, brokers);
                }
                Err(error) => self.warn(format!("{tp} keeps a replica in its ISR that is gone: {error}")),
            }
        }
        if !again.is_empty() {
            let operations = self.state_operations(&again);
            self.ask(operations, Waiting::Replica(ReplicaWait::Shrunk { states: again, stale }));
        } else if !stale.is_empty() {
            let read = |tp: &TopicPartition| Operation::get(paths::partition_state(&tp.topic, tp.partition));
            let operations = stale.keys().map(read).collect();
            self.ask(operations, Waiting::Replica(ReplicaWait::Reread(stale)));
        }
    }
}
