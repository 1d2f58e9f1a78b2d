//! What brokers and operators ask of the active controller: controlled shutdown and elections here, the rest where it is done. Timers
//! too.
//!
//! Invariant: every command is answered once, also when the office is lost in the middle of it.

use super::alter_partition::{Alteration, Altered};
use super::context::{Replica, ReplicaPhase};
use super::elections::Strategy;
use super::machine::{Controller, Effect, Task, Timer};
use super::reassignment::Wishes;
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, TopicPartition};
use crate::zookeeper::paths::ReplicaAssignment;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A broker is about to stop.
    ControlledShutdown {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    /// `partitions` of `None` means all that need it.
    ElectLeaders {
        partitions: Option<Vec<TopicPartition>>,
        unclean: bool,
    },
    /// A leader wants other ISRs.
    AlterPartitions {
        broker: BrokerId,
        epoch: BrokerEpoch,
        alterations: Vec<Alteration>,
    },
    AlterReassignments(Wishes),
    ListReassignments,
    /// Whether a broker that asks for something is registered in this epoch.
    CheckBroker {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandReply {
    /// Partitions that the broker still leads.
    ControlledShutdown(Result<Vec<TopicPartition>, ErrorCode>),
    ElectLeaders(Result<BTreeMap<TopicPartition, ErrorCode>, ErrorCode>),
    AlterPartitions(Result<Altered, ErrorCode>),
    AlterReassignments(Result<BTreeMap<TopicPartition, ErrorCode>, ErrorCode>),
    ListReassignments(Result<BTreeMap<TopicPartition, ReplicaAssignment>, ErrorCode>),
    CheckBroker(Result<(), ErrorCode>),
}

impl CommandReply {
    pub(super) fn not_controller(command: &Command) -> CommandReply {
        let refused = ErrorCode::NotController;
        match command {
            Command::ControlledShutdown { .. } => CommandReply::ControlledShutdown(Err(refused)),
            Command::ElectLeaders { .. } => CommandReply::ElectLeaders(Err(refused)),
            Command::AlterPartitions { .. } => CommandReply::AlterPartitions(Err(refused)),
            Command::AlterReassignments(_) => CommandReply::AlterReassignments(Err(refused)),
            Command::ListReassignments => CommandReply::ListReassignments(Err(refused)),
            Command::CheckBroker { .. } => CommandReply::CheckBroker(Err(refused)),
        }
    }
}

impl Controller {
    pub(super) fn command(&mut self, token: u64, command: Command) {
        if self.active.is_none() {
            return self.emit(Effect::Reply { token, reply: CommandReply::not_controller(&command) });
        }
        self.unanswered = Some((token, CommandReply::not_controller(&command)));
        match command {
            Command::ControlledShutdown { broker, epoch } => self.controlled_shutdown(token, broker, epoch),
            Command::ElectLeaders { partitions, unclean } => self.elect_leaders(token, partitions, unclean),
            Command::AlterPartitions { broker, epoch, alterations } => {
                self.alter_partitions(token, broker, epoch, alterations);
            }
            Command::AlterReassignments(wishes) => self.alter_reassignments(token, wishes),
            Command::ListReassignments => self.list_reassignments(token),
            Command::CheckBroker { broker, epoch } => self.check_broker(token, broker, epoch),
        }
    }

    pub(super) fn reply(&mut self, token: u64, reply: CommandReply) {
        self.unanswered = None;
        self.emit(Effect::Reply { token, reply });
    }

    fn check_broker(&mut self, token: u64, broker: BrokerId, epoch: BrokerEpoch) {
        let checked = match self.context.brokers.get(&broker) {
            None => Err(ErrorCode::BrokerIdNotRegistered),
            Some(known) if known.epoch != epoch => Err(ErrorCode::StaleBrokerEpoch),
            Some(_) => Ok(()),
        };
        self.reply(token, CommandReply::CheckBroker(checked));
    }

    fn controlled_shutdown(&mut self, token: u64, broker: BrokerId, epoch: BrokerEpoch) {
        let refused = match self.context.brokers.get(&broker) {
            None => Some(ErrorCode::BrokerNotAvailable),
            Some(known) if epoch != BrokerEpoch::UNKNOWN && epoch < known.epoch => Some(ErrorCode::StaleBrokerEpoch),
            Some(_) => None,
        };
        if let Some(error) = refused {
            return self.reply(token, CommandReply::ControlledShutdown(Err(error)));
        }
        self.context.shutting_down.insert(broker);
        let mut led = Vec::new();
        let mut followed = Vec::new();
        for (tp, partition) in self.context.partitions() {
            let Some(leadership) = &partition.leadership else { continue };
            let replicas = &partition.assignment.replicas;
            if replicas.len() < 2 || !replicas.contains(&broker) || self.context.is_deleting(&tp.topic) {
                continue;
            }
            if leadership.state.leader == broker {
                led.push(tp);
            } else {
                followed.push(Replica { tp, broker });
            }
        }
        self.first_all(vec![
            Task::Elect { partitions: led, strategy: Strategy::ControlledShutdown },
            Task::Flush,
            Task::Replicas { replicas: followed, phase: ReplicaPhase::Offline },
            Task::ReplyShutdown { token, broker },
        ]);
    }

    pub(super) fn reply_shutdown(&mut self, token: u64, broker: BrokerId) {
        let remaining = self
            .context
            .partitions()
            .filter(|(tp, partition)| {
                let leads = partition.leadership.as_ref().is_some_and(|leadership| leadership.state.leader == broker);
                leads && partition.assignment.replicas.len() > 1 && !self.context.is_deleting(&tp.topic)
            })
            .map(|(tp, _)| tp)
            .collect();
        self.reply(token, CommandReply::ControlledShutdown(Ok(remaining)));
    }

    fn elect_leaders(&mut self, token: u64, partitions: Option<Vec<TopicPartition>>, unclean: bool) {
        let all = partitions.is_none();
        let asked = partitions.unwrap_or_else(|| self.context.partitions().map(|(tp, _)| tp).collect());
        let mut wanted = Vec::new();
        for tp in &asked {
            let outcome = match self.context.partition(tp) {
                None => ErrorCode::UnknownTopicOrPartition,
                Some(_) if self.context.is_deleting(&tp.topic) => ErrorCode::InvalidTopicException,
                Some(partition) => {
                    let leader = partition.leadership.as_ref().map(|leadership| leadership.state.leader);
                    let led = leader.is_some_and(|leader| self.context.is_online(leader, tp));
                    let needed = if unclean { !led } else { self.lacks_preferred_leader(tp) };
                    if needed {
                        wanted.push(tp.clone());
                        continue;
                    }
                    ErrorCode::ElectionNotNeeded
                }
            };
            self.outcomes.insert(tp.clone(), outcome);
        }
        let strategy = if unclean { Strategy::Offline { unclean: true } } else { Strategy::Preferred };
        self.first_all(vec![
            Task::Elect { partitions: wanted, strategy },
            Task::Flush,
            Task::ReplyElection { token, partitions: asked, all },
        ]);
    }

    pub(super) fn reply_election(&mut self, token: u64, partitions: Vec<TopicPartition>, all: bool) {
        let mut outcomes = BTreeMap::new();
        for tp in partitions {
            let outcome = self.outcomes.get(&tp).copied().unwrap_or(ErrorCode::UnknownServerError);
            if !(all && outcome == ErrorCode::ElectionNotNeeded) {
                outcomes.insert(tp, outcome);
            }
        }
        self.reply(token, CommandReply::ElectLeaders(Ok(outcomes)));
    }

    pub(super) fn timer(&mut self, timer: Timer) {
        let Some(active) = self.active else { return };
        match (timer, self.settings.auto_rebalance) {
            (Timer::AutoRebalance(epoch), Some((interval_ms, percent))) if epoch == active.epoch => {
                self.rebalance(percent);
                self.emit(Effect::Timer { timer, at: self.now.saturating_add(interval_ms) });
            }
            (Timer::AutoRebalance(_), _) => {}
            (Timer::RetryDeletions, _) => self.retry_deletions(),
        }
    }
}
