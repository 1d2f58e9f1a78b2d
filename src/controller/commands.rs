//! What brokers and operators ask of the active controller: controlled shutdown and elections. Timers too.

use super::context::{Replica, ReplicaPhase};
use super::elections::Strategy;
use super::machine::{Controller, Effect, Task, Timer};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, TopicPartition};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A broker is about to stop.
    ControlledShutdown { broker: BrokerId, epoch: BrokerEpoch },
    /// `partitions` of `None` means all that need it.
    ElectLeaders { partitions: Option<Vec<TopicPartition>>, unclean: bool },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandReply {
    /// Partitions that the broker still leads.
    ControlledShutdown(Result<Vec<TopicPartition>, ErrorCode>),
    ElectLeaders(Result<BTreeMap<TopicPartition, ErrorCode>, ErrorCode>),
}

impl CommandReply {
    pub(super) fn not_controller(command: &Command) -> CommandReply {
        match command {
            Command::ControlledShutdown { .. } => CommandReply::ControlledShutdown(Err(ErrorCode::NotController)),
            Command::ElectLeaders { .. } => CommandReply::ElectLeaders(Err(ErrorCode::NotController)),
        }
    }
}

impl Controller {
    pub(super) fn command(&mut self, token: u64, command: Command) {
        if self.active.is_none() {
            return self.emit(Effect::Reply { token, reply: CommandReply::not_controller(&command) });
        }
        match command {
            Command::ControlledShutdown { broker, epoch } => self.controlled_shutdown(token, broker, epoch),
            Command::ElectLeaders { partitions, unclean } => self.elect_leaders(token, partitions, unclean),
        }
    }

    fn controlled_shutdown(&mut self, token: u64, broker: BrokerId, epoch: BrokerEpoch) {
        let refused = match self.context.brokers.get(&broker) {
            None => Some(ErrorCode::BrokerNotAvailable),
            Some(known) if epoch != BrokerEpoch::UNKNOWN && epoch < known.epoch => Some(ErrorCode::StaleBrokerEpoch),
            Some(_) => None,
        };
        if let Some(error) = refused {
            let reply = CommandReply::ControlledShutdown(Err(error));
            return self.emit(Effect::Reply { token, reply });
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
        self.emit(Effect::Reply { token, reply: CommandReply::ControlledShutdown(Ok(remaining)) });
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
        self.emit(Effect::Reply { token, reply: CommandReply::ElectLeaders(Ok(outcomes)) });
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
