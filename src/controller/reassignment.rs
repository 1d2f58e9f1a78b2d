//! Moving partitions to other replicas (class `KafkaController.onPartitionReassignment`, KIP-455).
//!
//! While a partition moves its assignment lists old and new replicas together. Letters are those of Kafka's description: *U*, the wish is
//! written to the topic's znode; *A*, as long as a new replica is missing in the ISR, everybody is told to replicate; *B*, when all are in,
//! the old ones go. Invariant: the topic's znode is written first in U and last in B, so that a controller that takes over
//! half way knows both what was there and what is wanted.

use super::commands::CommandReply;
use super::context::{PartitionPhase, Replica, ReplicaPhase};
use super::elections::Strategy;
use super::machine::{Answers, Controller, Task, Waiting};
use super::partitions::set_version;
use super::reassign_znode::Trim;
use crate::base::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicPartition};
use crate::zookeeper::paths::{self, PartitionState, ReplicaAssignment, TopicZnode};
use crate::zookeeper::{Answer, Operation, Write, ZkError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions and the replicas that they are to have; none cancels.
pub type Wishes = BTreeMap<TopicPartition, Option<Vec<BrokerId>>>;

/// Partitions and their next assignment.
pub(super) type Moves = BTreeMap<TopicPartition, ReplicaAssignment>;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum ReassignWait {
    /// Topic znodes of U.
    Wished {
        topics: Vec<Arc<str>>,
        moves: Moves,
    },
    States(Vec<TopicPartition>),
    Bumped(Vec<(TopicPartition, PartitionState)>),
    BumpReread(Vec<TopicPartition>),
    /// Topic znodes of B.
    Finished(Vec<Arc<str>>),
}

impl ReplicaAssignment {
    /// Replicas from before the move.
    fn origin(&self) -> Vec<BrokerId> {
        self.replicas.iter().copied().filter(|replica| !self.adding.contains(replica)).collect()
    }

    /// Replicas after it.
    fn target(&self) -> Vec<BrokerId> {
        self.replicas.iter().copied().filter(|replica| !self.removing.contains(replica)).collect()
    }

    /// The assignment on the way to `target`; a move under way starts again from where it came from.
    fn towards(&self, target: &[BrokerId]) -> ReplicaAssignment {
        let origin = self.origin();
        let mut replicas = target.to_vec();
        replicas.extend(origin.iter().filter(|replica| !target.contains(replica)));
        let without =
            |other: &[BrokerId]| replicas.iter().copied().filter(|replica| !other.contains(replica)).collect();
        ReplicaAssignment { adding: without(&origin), removing: without(target), replicas }
    }
}

impl Controller {
    /// What an operator asks for through the API.
    pub(super) fn alter_reassignments(&mut self, token: u64, wishes: Wishes) {
        let asked: Vec<TopicPartition> = wishes.keys().cloned().collect();
        let moves = self.accepted(wishes);
        let overtaken = Trim::Any(moves.keys().cloned().collect());
        self.first_all(vec![
            Task::TrimReassignZnode(overtaken),
            Task::Reassign(moves),
            Task::ReplyReassignment { token, asked },
        ]);
    }

    /// The moves that can begin; the others get their outcome.
    pub(super) fn accepted(&mut self, wishes: Wishes) -> Moves {
        let mut moves = Moves::new();
        for (tp, wish) in wishes {
            match self.next_assignment(&tp, wish.as_deref()) {
                Ok(assignment) => {
                    moves.insert(tp, assignment);
                }
                Err(error) => {
                    self.outcomes.insert(tp, error);
                }
            }
        }
        moves
    }

    /// A wish that leaves no member of the ISR is refused, as later Kafka refuses it: all records would be out of reach. 3.9 takes a
    /// partition back to its old replicas also when only a new one has its records.
    fn next_assignment(&self, tp: &TopicPartition, wish: Option<&[BrokerId]>) -> Result<ReplicaAssignment, ErrorCode> {
        let next = self.wished_assignment(tp, wish)?;
        let leadership = self.context.partition(tp).and_then(|partition| partition.leadership.as_ref());
        let isr = leadership.map(|leadership| leadership.state.isr.as_slice()).unwrap_or_default();
        let keeps_records = isr.is_empty() || isr.iter().any(|member| next.replicas.contains(member));
        if keeps_records { Ok(next) } else { Err(ErrorCode::InvalidReplicaAssignment) }
    }

    fn wished_assignment(
        &self,
        tp: &TopicPartition,
        wish: Option<&[BrokerId]>,
    ) -> Result<ReplicaAssignment, ErrorCode> {
        let partition = self.context.partition(tp).filter(|_| !self.context.is_deleting(&tp.topic));
        let Some(partition) = partition else { return Err(ErrorCode::UnknownTopicOrPartition) };
        let current = &partition.assignment;
        let Some(target) = wish else {
            return match current.is_being_reassigned() {
                true => Ok(current.towards(&current.origin())),
                false => Err(ErrorCode::NoReassignmentInProgress),
            };
        };
        let unique: BTreeSet<&BrokerId> = target.iter().collect();
        let is_legal = !target.is_empty() && unique.len() == target.len() && target.iter().all(|id| id.0 >= 0);
        let is_there = |id: &BrokerId| current.replicas.contains(id) || self.context.is_live(*id);
        if !is_legal || !target.iter().all(is_there) {
            return Err(ErrorCode::InvalidReplicaAssignment);
        }
        Ok(current.towards(target))
    }

    /// U: writes what is wanted, topic by topic.
    pub(super) fn reassign(&mut self, mut moves: Moves) {
        let unchanged = |(tp, next): &(&TopicPartition, &ReplicaAssignment)| {
            self.context.partition(tp).is_some_and(|partition| partition.assignment == **next)
        };
        let same: Vec<TopicPartition> = moves.iter().filter(unchanged).map(|(tp, _)| tp.clone()).collect();
        for tp in &same {
            moves.remove(tp);
            self.outcomes.insert(tp.clone(), ErrorCode::None);
            self.context.reassigning.insert(tp.clone());
        }
        if !same.is_empty() {
            self.first(Task::CheckReassignments(same));
        }
        let topics: BTreeSet<Arc<str>> = moves.keys().map(|tp| tp.topic.clone()).collect();
        let topics: Vec<Arc<str>> =
            topics.into_iter().filter(|topic| self.context.topics.contains_key(topic)).collect();
        let operations: Vec<Operation> = topics.iter().map(|topic| self.assignment_write(topic, &moves)).collect();
        if !operations.is_empty() {
            self.ask(operations, Waiting::Reassign(ReassignWait::Wished { topics, moves }));
        }
    }

    /// The write of a topic's znode as the context has it, with `moves` over it.
    fn assignment_write(&self, topic: &Arc<str>, moves: &Moves) -> Operation {
        let known = self.context.topics.get(topic);
        let partitions = known.into_iter().flat_map(|known| &known.partitions).map(|(number, partition)| {
            let next = moves.get(&TopicPartition::new(topic.clone(), *number));
            (*number, next.unwrap_or(&partition.assignment).clone())
        });
        let topic_id = known.map(|known| known.id).filter(|id| !id.is_zero());
        let znode = TopicZnode { topic_id, partitions: partitions.collect() };
        let version = known.map_or(i32::MIN, |known| known.version);
        self.fenced([Write::set(paths::topic(topic), znode.to_json(), Some(version))])
    }

    pub(super) fn reassign_answered(&mut self, wait: ReassignWait, answers: Answers) {
        match wait {
            ReassignWait::Wished { topics, moves } => self.wished(topics, moves, answers),
            ReassignWait::States(partitions) => {
                for (tp, answer) in partitions.iter().zip(answers) {
                    if let Err(error) = self.take_state(tp, answer) {
                        self.warn(format!("state of {tp}: {error}"));
                    }
                }
                self.decide(partitions);
            }
            ReassignWait::Bumped(bumped) => self.epochs_bumped(bumped, answers),
            ReassignWait::BumpReread(partitions) => {
                for (tp, answer) in partitions.iter().zip(answers) {
                    if let Err(error) = self.take_state(tp, answer) {
                        self.warn(format!("state of {tp}: {error}"));
                    }
                }
                self.bump_epochs(partitions);
            }
            ReassignWait::Finished(topics) => self.finished_written(topics, answers),
        }
    }

    fn wished(&mut self, topics: Vec<Arc<str>>, mut moves: Moves, answers: Answers) {
        let mut unneeded = Vec::new();
        let mut begun = Vec::new();
        let mut again = Moves::new();
        let mut reread = Vec::new();
        for (topic, answer) in topics.into_iter().zip(answers) {
            let (own, others): (Moves, Moves) = moves.into_iter().partition(|(tp, _)| tp.topic == topic);
            moves = others;
            match answer.map_err(ZkError::flatten) {
                Ok(answer) => {
                    self.topic_written(&topic, &answer);
                    for (tp, next) in own {
                        unneeded.extend(self.take_assignment(&tp, next));
                        self.context.reassigning.insert(tp.clone());
                        self.outcomes.insert(tp.clone(), ErrorCode::None);
                        begun.push(tp);
                    }
                }
                // The topic has grown meanwhile.
                Err(ZkError::BadVersion) => {
                    reread.push(Task::TopicChanged(topic));
                    again.extend(own);
                }
                Err(error) => {
                    self.warn(format!("topic {topic} cannot be reassigned: {error}"));
                    self.outcomes.extend(own.into_keys().map(|tp| (tp, ErrorCode::UnknownServerError)));
                }
            }
        }
        let mut tasks = removal(unneeded);
        tasks.push(Task::CheckReassignments(begun));
        tasks.extend(reread);
        if !again.is_empty() {
            tasks.push(Task::Reassign(again));
        }
        self.first_all(tasks);
    }

    fn topic_written(&mut self, topic: &Arc<str>, answer: &Answer) {
        if let (Some(PartitionEpoch(version)), Some(known)) = (set_version(answer), self.context.topics.get_mut(topic))
        {
            known.version = version;
        }
    }

    /// The context follows; returns the replicas of an earlier move that nobody wants any more.
    fn take_assignment(&mut self, tp: &TopicPartition, next: ReplicaAssignment) -> Vec<Replica> {
        let Some(partition) = self.context.partition_mut(tp) else { return Vec::new() };
        let before = std::mem::replace(&mut partition.assignment, next);
        let gone = before.replicas.into_iter().filter(|replica| !partition.assignment.replicas.contains(replica));
        gone.map(|broker| Replica { tp: tp.clone(), broker }).collect()
    }

    /// Of partitions whose ISR has changed, those whose move can be finished now. The others are left alone: telling everybody
    /// again would cost a leader epoch.
    pub(super) fn complete_of(&self, changed: Vec<TopicPartition>) -> Task {
        let is_complete = |tp: &TopicPartition| self.context.reassigning.contains(tp) && self.is_complete(tp);
        Task::CheckReassignments(changed.into_iter().filter(is_complete).collect())
    }

    /// Whether every replica that is to stay is in the ISR, as far as the context knows.
    fn is_complete(&self, tp: &TopicPartition) -> bool {
        let Some(partition) = self.context.partition(tp) else { return false };
        let isr = partition.leadership.as_ref().map(|leadership| leadership.state.isr.as_slice()).unwrap_or_default();
        let assignment = &partition.assignment;
        !assignment.is_being_reassigned() || assignment.target().iter().all(|replica| isr.contains(replica))
    }

    /// Reads how far the moves are.
    pub(super) fn check_reassignments(&mut self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        let read = |tp: &TopicPartition| Operation::get(paths::partition_state(&tp.topic, tp.partition));
        let operations = partitions.iter().map(read).collect();
        self.ask(operations, Waiting::Reassign(ReassignWait::States(partitions)));
    }

    /// A or B for each partition.
    fn decide(&mut self, partitions: Vec<TopicPartition>) {
        let known = partitions.into_iter().filter(|tp| self.context.partition(tp).is_some());
        let (complete, under_way): (Vec<_>, Vec<_>) = known.partition(|tp| self.is_complete(tp));
        let adding = |tps: &[TopicPartition]| -> Vec<Replica> {
            let of = |tp: &TopicPartition| {
                let adding = self.context.partition(tp).map(|partition| partition.assignment.adding.clone());
                adding
                    .unwrap_or_default()
                    .into_iter()
                    .map(|broker| Replica { tp: tp.clone(), broker })
                    .collect::<Vec<_>>()
            };
            tps.iter().flat_map(of).collect()
        };
        let mut tasks = Vec::new();
        if !under_way.is_empty() {
            let new = adding(&under_way);
            tasks.push(Task::BumpEpochs(under_way));
            tasks.push(Task::Replicas { replicas: new, phase: ReplicaPhase::New });
        }
        if !complete.is_empty() {
            tasks.push(Task::Replicas { replicas: adding(&complete), phase: ReplicaPhase::Online });
            tasks.push(Task::FinishReassignments(complete));
        }
        self.first_all(tasks);
    }

    /// A new leader epoch, without which nobody would take over another assignment.
    pub(super) fn bump_epochs(&mut self, partitions: Vec<TopicPartition>) {
        let Some(active) = self.active else { return };
        let mut bumped = Vec::new();
        let mut operations = Vec::new();
        for tp in partitions {
            let leadership = self.context.partition(&tp).and_then(|partition| partition.leadership.as_ref());
            let Some(leadership) = leadership else { continue };
            if leadership.state.controller_epoch > active.epoch {
                self.warn(format!("{tp} was written by a newer controller"));
                continue;
            }
            let leader_epoch = LeaderEpoch(leadership.state.leader_epoch.0.saturating_add(1));
            let state = PartitionState { leader_epoch, controller_epoch: active.epoch, ..leadership.state.clone() };
            let path = paths::partition_state(&tp.topic, tp.partition);
            operations.push(self.fenced([Write::set(path, state.to_json(), Some(leadership.epoch.0))]));
            bumped.push((tp, state));
        }
        if !operations.is_empty() {
            self.ask(operations, Waiting::Reassign(ReassignWait::Bumped(bumped)));
        }
    }

    fn epochs_bumped(&mut self, bumped: Vec<(TopicPartition, PartitionState)>, answers: Answers) {
        let mut stale = Vec::new();
        for ((tp, state), answer) in bumped.into_iter().zip(answers) {
            match answer.map_err(ZkError::flatten) {
                Ok(answer) => {
                    let Some(epoch) = set_version(&answer) else { continue };
                    let Some(partition) = self.context.partition_mut(&tp) else { continue };
                    partition.leadership = Some(super::context::Leadership { state, epoch });
                    let (origin, adding) = (partition.assignment.origin(), partition.assignment.adding.clone());
                    self.batch.leader_and_isr(&self.context, &origin, &tp, false);
                    self.batch.leader_and_isr(&self.context, &adding, &tp, true);
                }
                Err(ZkError::BadVersion) => stale.push(tp),
                Err(error) => self.warn(format!("{tp} keeps its leader epoch: {error}")),
            }
        }
        if !stale.is_empty() {
            let read = |tp: &TopicPartition| Operation::get(paths::partition_state(&tp.topic, tp.partition));
            let operations = stale.iter().map(read).collect();
            self.ask(operations, Waiting::Reassign(ReassignWait::BumpReread(stale)));
        }
    }

    /// B, after the new replicas are online.
    pub(super) fn finish_reassignments(&mut self, partitions: Vec<TopicPartition>) {
        let (mut moved, mut kept, mut removed, mut done) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let mut topics = BTreeSet::new();
        for tp in &partitions {
            let Some(partition) = self.context.partition_mut(tp) else { continue };
            let target = partition.assignment.target();
            let removing = std::mem::take(&mut partition.assignment).removing;
            partition.assignment = ReplicaAssignment::new(target.clone());
            removed.extend(removing.into_iter().map(|broker| Replica { tp: tp.clone(), broker }));
            let leader = partition.leadership.as_ref().map_or(BrokerId::NONE, |leadership| leadership.state.leader);
            let is_led = target.contains(&leader) && self.context.is_online(leader, tp);
            if is_led {
                kept.push(tp.clone())
            } else {
                moved.push(tp.clone())
            }
            done.insert(tp.clone(), target);
            topics.insert(tp.topic.clone());
        }
        let mut tasks = vec![
            Task::Elect { partitions: moved, strategy: Strategy::Reassignment },
            Task::BumpEpochs(kept),
            Task::Flush,
        ];
        tasks.extend(removal(removed));
        tasks.extend([
            Task::WriteAssignments(topics.into_iter().collect()),
            Task::ReassignmentsDone(partitions.clone()),
            Task::TrimReassignZnode(Trim::Done(done)),
            Task::AnnouncePartitions(partitions),
            Task::ResumeDeletions,
        ]);
        self.first_all(tasks);
    }

    pub(super) fn write_assignments(&mut self, topics: Vec<Arc<str>>) {
        let topics: Vec<Arc<str>> =
            topics.into_iter().filter(|topic| self.context.topics.contains_key(topic)).collect();
        let none = Moves::new();
        let operations: Vec<Operation> = topics.iter().map(|topic| self.assignment_write(topic, &none)).collect();
        if !operations.is_empty() {
            self.ask(operations, Waiting::Reassign(ReassignWait::Finished(topics)));
        }
    }

    fn finished_written(&mut self, topics: Vec<Arc<str>>, answers: Answers) {
        let mut tasks = Vec::new();
        let mut again = Vec::new();
        for (topic, answer) in topics.into_iter().zip(answers) {
            match answer.map_err(ZkError::flatten) {
                Ok(answer) => self.topic_written(&topic, &answer),
                Err(ZkError::BadVersion) => {
                    tasks.push(Task::TopicChanged(topic.clone()));
                    again.push(topic);
                }
                Err(error) => self.warn(format!("the new assignment of topic {topic} is not written: {error}")),
            }
        }
        if !again.is_empty() {
            tasks.push(Task::WriteAssignments(again));
        }
        self.first_all(tasks);
    }

    /// After a failover: what was on its way goes on, unless the znode of old tools has just started it anew.
    pub(super) fn resume_reassignments(&mut self) {
        let moving = |(tp, partition): (TopicPartition, &super::context::PartitionContext)| {
            let is_moving =
                partition.assignment.is_being_reassigned() && partition.phase != PartitionPhase::NonExistent;
            (is_moving && !self.context.reassigning.contains(&tp)).then_some(tp)
        };
        let moving: Vec<TopicPartition> = self.context.partitions().filter_map(moving).collect();
        self.context.reassigning.extend(moving.iter().cloned());
        self.first(Task::CheckReassignments(moving));
    }

    pub(super) fn reply_reassignment(&mut self, token: u64, asked: Vec<TopicPartition>) {
        let outcome = |tp: TopicPartition| {
            let error = self.outcomes.get(&tp).copied().unwrap_or(ErrorCode::UnknownServerError);
            (tp, error)
        };
        let outcomes = asked.into_iter().map(outcome).collect();
        self.reply(token, CommandReply::AlterReassignments(Ok(outcomes)));
    }

    pub(super) fn list_reassignments(&mut self, token: u64) {
        let moving = self.context.partitions().filter(|(_, partition)| partition.assignment.is_being_reassigned());
        let moving = moving.map(|(tp, partition)| (tp, partition.assignment.clone())).collect();
        self.reply(token, CommandReply::ListReassignments(Ok(moving)));
    }
}

/// Replicas leave the ISR and their brokers, whose answers nobody waits for.
fn removal(replicas: Vec<Replica>) -> Vec<Task> {
    use ReplicaPhase::*;
    if replicas.is_empty() {
        return Vec::new();
    }
    let step = |phase| Task::Replicas { replicas: replicas.clone(), phase };
    [Offline, DeletionStarted, DeletionSuccessful, NonExistent].map(step).into()
}
