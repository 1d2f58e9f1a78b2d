//! Partition states and elections (class `ZkPartitionStateMachine`).
//!
//! Invariant: a leader is written to ZooKeeper, on the condition that nobody else wrote since, before any broker hears of it.
//! The cached state is tried first; when its version turns out old the znode is read again.

use super::context::{Leadership, PartitionPhase};
use super::elections::{Candidates, Elected, Strategy, elect, first};
use super::event::UncleanChange;
use super::machine::{Answers, Controller, Target, Task, Waiting};
use super::states::{Groups, Settled, StateWrite, settle};
use crate::base::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicPartition};
use crate::zookeeper::paths::{self, ConfigEntity, EntityConfig, LeaderRecoveryState, PartitionState};
use crate::zookeeper::{Answer, Operation, Write, Written, ZkError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// New partitions whose znodes are made in one transaction: two znodes each.
const CREATED_AT_ONCE: usize = 100;

/// Topics that were looked up, and whether they allow unclean elections.
pub(super) type UncleanTopics = BTreeMap<Arc<str>, bool>;

/// Partitions and what one of their operations creates: nothing but the folder, or first states.
pub(super) type Created = Vec<(TopicPartition, PartitionState)>;

/// The state that an election gives a partition, and who hears of it.
type Election = StateWrite<Vec<BrokerId>>;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum PartitionWait {
    FirstLeaders(Vec<Created>),
    /// Two operations per partition: its folder and its state.
    CreatedSingly(Created),
    UncleanTopics {
        topics: Vec<Arc<str>>,
        known: UncleanTopics,
        partitions: Vec<TopicPartition>,
        strategy: Strategy,
    },
    Elections {
        elections: Groups<Vec<BrokerId>>,
        /// Of earlier writes of the same elections: those that have to be read again.
        stale: Vec<TopicPartition>,
        unclean: UncleanTopics,
        strategy: Strategy,
    },
    Reread {
        partitions: Vec<TopicPartition>,
        unclean: UncleanTopics,
        strategy: Strategy,
    },
}

impl Controller {
    pub(super) fn move_partitions(&mut self, partitions: Vec<TopicPartition>, target: Target) {
        use PartitionPhase::*;
        let (from, to): (&[PartitionPhase], PartitionPhase) = match target {
            Target::New => (&[NonExistent], New),
            Target::Offline => (&[New, Online, Offline], Offline),
            Target::NonExistent => (&[Offline], NonExistent),
            Target::Online(strategy) => return self.bring_online(partitions, strategy),
        };
        for tp in partitions {
            let Some(partition) = self.context.partition_mut(&tp) else { continue };
            if from.contains(&partition.phase) {
                partition.phase = to;
            }
        }
    }

    /// Every partition that never had a leader or has lost it.
    pub(super) fn elect_offline(&mut self) {
        let leaderless = |(tp, partition): (TopicPartition, &super::context::PartitionContext)| {
            let waiting = matches!(partition.phase, PartitionPhase::New | PartitionPhase::Offline);
            (waiting && !self.context.is_deleting(&tp.topic)).then_some(tp)
        };
        let partitions: Vec<TopicPartition> = self.context.partitions().filter_map(leaderless).collect();
        self.bring_online(partitions, Strategy::Offline { unclean: false });
    }

    /// Partitions may get a leader who could not lead before.
    pub(super) fn unclean_changed(&mut self, change: UncleanChange) {
        let topic = match change {
            UncleanChange::Default(allowed) => {
                let was = std::mem::replace(&mut self.settings.unclean_leader_election, allowed);
                if was || !allowed {
                    return;
                }
                None
            }
            UncleanChange::Allowed(topic) => topic,
        };
        if self.active.is_none() {
            return;
        }
        match topic {
            None => self.first(Task::ElectOffline),
            Some(topic) => {
                let mut partitions = self.context.partitions_of(&topic);
                partitions.retain(|tp| {
                    let phase = self.context.partition(tp).map(|partition| partition.phase);
                    matches!(phase, Some(PartitionPhase::New | PartitionPhase::Offline))
                        && !self.context.is_deleting(&topic)
                });
                self.bring_online(partitions, Strategy::Offline { unclean: false });
            }
        }
    }

    fn bring_online(&mut self, partitions: Vec<TopicPartition>, strategy: Strategy) {
        let mut new: Vec<Created> = Vec::new();
        let mut existing = Vec::new();
        let epoch = self.active.map(|active| active.epoch).unwrap_or_default();
        for tp in partitions {
            let Some(partition) = self.context.partition(&tp) else { continue };
            match partition.phase {
                PartitionPhase::New => {
                    let online = self.context.online_replicas(&tp);
                    let Some((leader, isr)) = first(&partition.assignment.replicas, &online) else {
                        self.warn(format!("no replica of the new partition {tp} is alive"));
                        self.outcomes.insert(tp, ErrorCode::EligibleLeadersNotAvailable);
                        continue;
                    };
                    let recovery = LeaderRecoveryState::Recovered;
                    let state =
                        PartitionState { leader, leader_epoch: LeaderEpoch(0), controller_epoch: epoch, isr, recovery };
                    match new.last_mut() {
                        Some(group)
                            if group.len() < CREATED_AT_ONCE
                                && group.first().is_some_and(|(first, _)| first.topic == tp.topic) =>
                        {
                            group.push((tp, state));
                        }
                        _ => new.push(vec![(tp, state)]),
                    }
                }
                PartitionPhase::Online | PartitionPhase::Offline => existing.push(tp),
                PartitionPhase::NonExistent => {}
            }
        }
        let mut after = Vec::new();
        if !existing.is_empty() {
            after.push(Task::Elect { partitions: existing, strategy });
        }
        after.push(Task::Flush);
        self.first_all(after);
        if !new.is_empty() {
            self.create_states(new);
        }
    }

    fn create_states(&mut self, groups: Vec<Created>) {
        let mut operations = Vec::new();
        let mut wait = Vec::new();
        let mut folder_of = None;
        for group in groups {
            let Some((first, _)) = group.first() else { continue };
            if folder_of.as_ref() != Some(&first.topic) {
                operations.push(self.fenced([Write::create(paths::partitions(&first.topic), "")]));
                wait.push(Vec::new());
                folder_of = Some(first.topic.clone());
            }
            let writes = group.iter().flat_map(|(tp, state)| {
                let folder = Write::create(paths::partition(&tp.topic, tp.partition), "");
                [folder, Write::create(paths::partition_state(&tp.topic, tp.partition), state.to_json())]
            });
            operations.push(self.fenced(writes));
            wait.push(group);
        }
        self.ask(operations, Waiting::Partition(PartitionWait::FirstLeaders(wait)));
    }

    pub(super) fn partition_answered(&mut self, wait: PartitionWait, answers: Answers) {
        match wait {
            PartitionWait::FirstLeaders(groups) => self.first_leaders_written(groups, answers),
            PartitionWait::CreatedSingly(created) => self.created_singly(created, answers),
            PartitionWait::UncleanTopics { topics, known, partitions, strategy } => {
                let known = self.unclean_read(topics, known, answers);
                self.elect(partitions, strategy, Some(known));
            }
            PartitionWait::Elections { elections, stale, unclean, strategy } => {
                self.elections_written(settle(elections, answers), stale, unclean, strategy);
            }
            PartitionWait::Reread { partitions, unclean, strategy } => {
                for (tp, answer) in partitions.iter().zip(answers) {
                    if let Err(error) = self.take_state(tp, answer) {
                        self.warn(format!("state of {tp}: {error}"));
                    }
                }
                self.elect(partitions, strategy, Some(unclean));
            }
        }
    }

    fn first_leaders_written(&mut self, groups: Vec<Created>, answers: Answers) {
        let mut singly = Vec::new();
        for (group, answer) in groups.into_iter().zip(answers) {
            match answer {
                Ok(_) => group.into_iter().for_each(|(tp, state)| self.leads_first(&tp, state, PartitionEpoch(0))),
                // An earlier controller began with these.
                Err(ZkError::Multi { error, .. }) if *error == ZkError::NodeExists => singly.extend(group),
                Err(error) => {
                    let topic = group.first().map(|(tp, _)| tp.topic.to_string()).unwrap_or_default();
                    self.warn(format!("partitions of {topic} get no first leader: {error}"));
                }
            }
        }
        if singly.is_empty() {
            return;
        }
        let mut operations = Vec::new();
        for (tp, state) in &singly {
            operations.push(self.fenced([Write::create(paths::partition(&tp.topic, tp.partition), "")]));
            let path = paths::partition_state(&tp.topic, tp.partition);
            operations.push(self.fenced([Write::create(path, state.to_json())]));
        }
        self.ask(operations, Waiting::Partition(PartitionWait::CreatedSingly(singly)));
    }

    fn created_singly(&mut self, created: Created, answers: Answers) {
        let mut led_already = Vec::new();
        for ((tp, state), answer) in created.into_iter().zip(answers.into_iter().skip(1).step_by(2)) {
            match answer {
                Ok(_) => self.leads_first(&tp, state, PartitionEpoch(0)),
                Err(ZkError::Multi { error, .. }) if *error == ZkError::NodeExists => {
                    if let Some(partition) = self.context.partition_mut(&tp) {
                        partition.phase = PartitionPhase::Offline;
                    }
                    led_already.push(tp);
                }
                Err(error) => self.warn(format!("{tp} gets no first leader: {error}")),
            }
        }
        if !led_already.is_empty() {
            self.reread(led_already, UncleanTopics::new(), Strategy::Offline { unclean: false });
        }
    }

    fn leads_first(&mut self, tp: &TopicPartition, state: PartitionState, epoch: PartitionEpoch) {
        let isr = state.isr.clone();
        let Some(partition) = self.context.partition_mut(tp) else { return };
        partition.phase = PartitionPhase::Online;
        partition.leadership = Some(Leadership { state, epoch });
        self.batch.leader_and_isr(&self.context, &isr, tp, true);
        self.outcomes.insert(tp.clone(), ErrorCode::None);
    }

    fn reread(&mut self, partitions: Vec<TopicPartition>, unclean: UncleanTopics, strategy: Strategy) {
        let read = |tp: &TopicPartition| Operation::get(paths::partition_state(&tp.topic, tp.partition));
        let operations = partitions.iter().map(read).collect();
        self.ask(operations, Waiting::Partition(PartitionWait::Reread { partitions, unclean, strategy }));
    }

    /// Elects leaders of partitions that have had one. `unclean` is absent until topics were asked whether they allow that.
    pub(super) fn elect(
        &mut self,
        partitions: Vec<TopicPartition>,
        strategy: Strategy,
        unclean: Option<UncleanTopics>,
    ) {
        let ask = unclean.is_none() && strategy == Strategy::Offline { unclean: false };
        let mut elections = Vec::new();
        let mut undecided = Vec::new();
        for tp in partitions {
            match self.elect_one(&tp, &strategy, unclean.as_ref()) {
                Ok(election) => elections.push(election),
                Err(ErrorCode::EligibleLeadersNotAvailable) if ask => undecided.push(tp),
                Err(error) => {
                    self.outcomes.insert(tp, error);
                }
            }
        }
        if !undecided.is_empty() {
            let names: BTreeSet<Arc<str>> = undecided.iter().map(|tp| tp.topic.clone()).collect();
            self.ask_unclean(names.into_iter().collect(), undecided, strategy.clone(), elections);
            return;
        }
        self.write_elections(elections, unclean.unwrap_or_default(), strategy);
    }

    fn ask_unclean(
        &mut self,
        topics: Vec<Arc<str>>,
        mut partitions: Vec<TopicPartition>,
        strategy: Strategy,
        elections: Vec<Election>,
    ) {
        partitions.extend(elections.into_iter().map(|election| election.tp));
        let config = |topic: &Arc<str>| Operation::get(ConfigEntity::Topic(topic.to_string()).path());
        let operations = topics.iter().map(config).collect();
        let known = UncleanTopics::new();
        self.ask(operations, Waiting::Partition(PartitionWait::UncleanTopics { topics, known, partitions, strategy }));
    }

    fn unclean_read(&mut self, topics: Vec<Arc<str>>, mut known: UncleanTopics, answers: Answers) -> UncleanTopics {
        for (topic, answer) in topics.into_iter().zip(answers) {
            let config = match answer {
                Ok(Answer::Data(data, _)) => EntityConfig::parse(&data).unwrap_or_default(),
                _ => EntityConfig::default(),
            };
            let allowed = match config.0.get("unclean.leader.election.enable") {
                Some(value) => value.eq_ignore_ascii_case("true"),
                None => self.settings.unclean_leader_election,
            };
            known.insert(topic, allowed);
        }
        known
    }

    fn elect_one(
        &self,
        tp: &TopicPartition,
        strategy: &Strategy,
        unclean: Option<&UncleanTopics>,
    ) -> Result<Election, ErrorCode> {
        let active = self.active.ok_or(ErrorCode::NotController)?;
        let partition = self.context.partition(tp).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let leadership = partition.leadership.as_ref().ok_or(ErrorCode::EligibleLeadersNotAvailable)?;
        if leadership.state.controller_epoch > active.epoch {
            return Err(ErrorCode::StaleControllerEpoch);
        }
        let candidates = Candidates {
            assignment: &partition.assignment.replicas,
            state: &leadership.state,
            online: &self.context.online_replicas(tp),
            shutting_down: &self.context.shutting_down,
        };
        let allowed = unclean.and_then(|topics| topics.get(&tp.topic)).copied().unwrap_or(false);
        let Some(elected) = elect(strategy, allowed, &candidates) else {
            return Err(match strategy {
                Strategy::Preferred => ErrorCode::PreferredLeaderNotAvailable,
                _ => ErrorCode::EligibleLeadersNotAvailable,
            });
        };
        let Elected { leader, isr, mut recovery, recipients } = elected;
        if !self.settings.leader_recovery {
            recovery = LeaderRecoveryState::Recovered;
        }
        let leader_epoch = leadership.state.leader_epoch.0.checked_add(1).ok_or(ErrorCode::UnknownServerError)?;
        let state = PartitionState {
            leader,
            leader_epoch: LeaderEpoch(leader_epoch),
            controller_epoch: active.epoch,
            isr,
            recovery,
        };
        Ok(Election { tp: tp.clone(), state, expected: leadership.epoch, what: recipients })
    }

    fn write_elections(&mut self, elections: Vec<Election>, unclean: UncleanTopics, strategy: Strategy) {
        if elections.is_empty() {
            return;
        }
        let (operations, elections) = self.state_writes(elections);
        let wait = PartitionWait::Elections { elections, stale: Vec::new(), unclean, strategy };
        self.ask(operations, Waiting::Partition(wait));
    }

    fn elections_written(
        &mut self,
        Settled { done, again }: Settled<Vec<BrokerId>>,
        mut stale: Vec<TopicPartition>,
        unclean: UncleanTopics,
        strategy: Strategy,
    ) {
        for (election, outcome) in done {
            match outcome {
                Ok(epoch) => {
                    let Some(partition) = self.context.partition_mut(&election.tp) else { continue };
                    partition.phase = PartitionPhase::Online;
                    partition.leadership = Some(Leadership { state: election.state, epoch });
                    self.batch.leader_and_isr(&self.context, &election.what, &election.tp, false);
                    self.outcomes.insert(election.tp, ErrorCode::None);
                }
                Err(ZkError::BadVersion) => stale.push(election.tp),
                Err(error) => {
                    self.warn(format!("election for {} failed: {error}", election.tp));
                    self.outcomes.insert(election.tp, ErrorCode::UnknownServerError);
                }
            }
        }
        if !again.is_empty() {
            let operations = self.state_operations(&again);
            let wait = PartitionWait::Elections { elections: again, stale, unclean, strategy };
            self.ask(operations, Waiting::Partition(wait));
        } else if !stale.is_empty() {
            self.reread(stale, unclean, strategy);
        }
    }
}

/// The version that the last write of a transaction left, if that was a set.
pub(super) fn set_version(answer: &Answer) -> Option<PartitionEpoch> {
    match answer {
        Answer::Multi(written) => match written.last() {
            Some(Written::Set(stat)) => Some(PartitionEpoch(stat.version)),
            _ => None,
        },
        _ => None,
    }
}
