//! Deletion of topics (class `TopicDeletionManager`).
//!
//! Invariant: the znodes go last, when every replica has said that its log is gone, and the marker after everything else, so
//! that a deletion that was cut short is taken up again. A topic with a replica on a broker that is away waits for it.

use super::context::{Replica, ReplicaPhase};
use super::machine::{Answers, Controller, Effect, Target, Task, Timer, Waiting};
use crate::base::{BrokerId, ErrorCode, TopicPartition, topic_name};
use crate::wire::messages::{StopReplicaRequest, StopReplicaResponse};
use crate::zookeeper::paths::{self, ConfigEntity};
use crate::zookeeper::{Answer, Operation, Write, ZkError};
use std::collections::BTreeSet;
use std::sync::Arc;

const RETRY_AFTER_MS: i64 = 5_000;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum DeletionWait {
    Markers,
    MarkersRemoved,
    Partitions(Arc<str>),
    Gone {
        topic: Arc<str>,
        numbers: Vec<i32>,
    },
    /// A state that had no znode: its folder alone.
    FoldersGone(Arc<str>),
}

impl Controller {
    pub(super) fn read_delete_markers(&mut self) {
        let list = Operation::children_and_watch(paths::DELETE_TOPICS);
        self.ask(vec![list], Waiting::Deletion(DeletionWait::Markers));
    }

    pub(super) fn deletion_answered(&mut self, wait: DeletionWait, mut answers: Answers) {
        match wait {
            DeletionWait::Markers => {
                if let Some(Ok(Answer::Children(children, _))) = answers.pop() {
                    self.markers_read(children);
                }
            }
            DeletionWait::MarkersRemoved => {}
            DeletionWait::Partitions(topic) => {
                let children = match answers.pop() {
                    Some(Ok(Answer::Children(children, _))) => children,
                    _ => Vec::new(),
                };
                self.delete_znodes(topic, children);
            }
            DeletionWait::Gone { topic, numbers } => self.znodes_gone(topic, numbers, answers),
            DeletionWait::FoldersGone(topic) => self.delete_znodes(topic, Vec::new()),
        }
    }

    fn markers_read(&mut self, children: Vec<String>) {
        let (known, unknown): (Vec<String>, Vec<String>) = children
            .into_iter()
            .partition(|topic| self.settings.delete_topic_enable && self.context.topics.contains_key(topic.as_str()));
        self.context.deleting.extend(known.iter().map(|topic| Arc::from(topic.as_str())));
        self.first(Task::ResumeDeletions);
        let remove = |topic: &String| self.fenced([Write::delete(paths::delete_topic(topic), None)]);
        let removals: Vec<Operation> = unknown.iter().filter(|topic| topic_name::is_legal(topic)).map(remove).collect();
        if !removals.is_empty() {
            self.ask(removals, Waiting::Deletion(DeletionWait::MarkersRemoved));
        }
    }

    /// Starts deletions that have not begun and finishes those that can be.
    pub(super) fn resume_deletions(&mut self) {
        let mut tasks = Vec::new();
        for topic in self.context.deleting.clone() {
            let partitions = self.context.partitions_of(&topic);
            let replicas = self.context.replicas_of(&partitions);
            let phase = |replica: &Replica| {
                let partition = self.context.partition(&replica.tp);
                partition.and_then(|partition| partition.replicas.get(&replica.broker).copied()).unwrap_or_default()
            };
            if replicas.iter().all(|replica| phase(replica) == ReplicaPhase::DeletionSuccessful) {
                tasks.push(Task::CompleteDeletion(topic));
                continue;
            }
            let busy = replicas.iter().any(|replica| phase(replica) == ReplicaPhase::DeletionStarted);
            let moving = partitions.iter().any(|tp| self.context.reassigning.contains(tp));
            if !busy && !moving && !self.context.deletion_parked.contains(&topic) {
                tasks.push(Task::StartDeletion(topic));
            }
        }
        self.first_all(tasks);
    }

    pub(super) fn start_deletion(&mut self, topic: Arc<str>) {
        let partitions = self.context.partitions_of(&topic);
        let again = !self.context.deletion_started.insert(topic.clone());
        let (live, dead): (Vec<Replica>, Vec<Replica>) = self
            .context
            .replicas_of(&partitions)
            .into_iter()
            .partition(|replica| self.context.is_online(replica.broker, &replica.tp));
        // What a broker has deleted already stays so.
        let unfinished = |replica: &Replica| {
            let partition = self.context.partition(&replica.tp);
            let phase = partition.and_then(|partition| partition.replicas.get(&replica.broker).copied());
            phase != Some(ReplicaPhase::DeletionSuccessful)
        };
        let live: Vec<Replica> = live.into_iter().filter(unfinished).collect();
        let mut tasks = Vec::new();
        if !again {
            tasks.push(Task::Partitions { partitions: partitions.clone(), target: Target::Offline });
            tasks.push(Task::Partitions { partitions: partitions.clone(), target: Target::NonExistent });
            tasks.push(Task::AnnouncePartitions(partitions));
        }
        tasks.push(Task::Replicas { replicas: live.clone(), phase: ReplicaPhase::Offline });
        tasks.push(Task::Replicas { replicas: live, phase: ReplicaPhase::DeletionStarted });
        if !dead.is_empty() {
            self.warn(format!("deletion of topic {topic} waits for brokers that are away"));
            self.context.deletion_parked.insert(topic);
            tasks.push(Task::Replicas { replicas: dead.clone(), phase: ReplicaPhase::Offline });
            tasks.push(Task::Replicas { replicas: dead, phase: ReplicaPhase::DeletionIneligible });
        }
        self.first_all(tasks);
    }

    /// A broker has deleted replicas, or has not.
    pub(super) fn stop_replica_answered(
        &mut self,
        broker: BrokerId,
        request: &StopReplicaRequest,
        response: &StopReplicaResponse,
    ) {
        let mut done = Vec::new();
        let mut refused = Vec::new();
        for topic in &request.topic_states {
            for state in topic.partition_states.iter().filter(|state| state.delete_partition) {
                let tp = TopicPartition::new(topic.topic_name.as_str(), state.partition_index);
                if !self.context.is_deleting(&tp.topic) {
                    continue;
                }
                let own = response
                    .partition_errors
                    .iter()
                    .find(|error| error.partition_index == tp.partition && error.topic_name.as_str() == &*tp.topic);
                let error =
                    if response.error_code != 0 { response.error_code } else { own.map_or(0, |own| own.error_code) };
                let list = if error == ErrorCode::None.code() { &mut done } else { &mut refused };
                list.push(Replica { tp, broker });
            }
        }
        if done.is_empty() && refused.is_empty() {
            return;
        }
        let mut tasks = vec![Task::Replicas { replicas: done, phase: ReplicaPhase::DeletionSuccessful }];
        if !refused.is_empty() {
            let topics: BTreeSet<Arc<str>> = refused.iter().map(|replica| replica.tp.topic.clone()).collect();
            self.warn(format!("broker {broker} could not delete replicas of {topics:?}; trying again later"));
            self.context.deletion_parked.extend(topics);
            tasks.push(Task::Replicas { replicas: refused, phase: ReplicaPhase::DeletionIneligible });
            self.emit(Effect::Timer { timer: Timer::RetryDeletions, at: self.now + RETRY_AFTER_MS });
        }
        tasks.push(Task::ResumeDeletions);
        self.first_all(tasks);
    }

    pub(super) fn retry_deletions(&mut self) {
        let live = |topic: &Arc<str>| {
            let partitions = self.context.partitions_of(topic);
            self.context
                .replicas_of(&partitions)
                .iter()
                .all(|replica| self.context.is_online(replica.broker, &replica.tp))
        };
        let again: Vec<Arc<str>> = self.context.deletion_parked.iter().filter(|topic| live(topic)).cloned().collect();
        for topic in again {
            self.context.deletion_parked.remove(&topic);
        }
        self.first(Task::ResumeDeletions);
    }

    pub(super) fn complete_deletion(&mut self, topic: Arc<str>) {
        let list = Operation::children(paths::partitions(&topic));
        self.ask(vec![list], Waiting::Deletion(DeletionWait::Partitions(topic)));
    }

    /// Deletes everything below the topic, its configuration, and the marker, in this order.
    fn delete_znodes(&mut self, topic: Arc<str>, partitions: Vec<String>) {
        let numbers: Vec<i32> = partitions.iter().filter_map(|child| child.parse().ok()).collect();
        let mut operations: Vec<Operation> = numbers
            .iter()
            .map(|number| {
                let state = Write::delete(paths::partition_state(&topic, *number), None);
                self.fenced([state, Write::delete(paths::partition(&topic, *number), None)])
            })
            .collect();
        operations.push(self.fenced([Write::delete(paths::partitions(&topic), None)]));
        operations.push(self.fenced([Write::delete(paths::topic(&topic), None)]));
        operations.push(self.fenced([Write::delete(ConfigEntity::Topic(topic.to_string()).path(), None)]));
        operations.push(self.fenced([Write::delete(paths::delete_topic(&topic), None)]));
        self.ask(operations, Waiting::Deletion(DeletionWait::Gone { topic, numbers }));
    }

    fn znodes_gone(&mut self, topic: Arc<str>, numbers: Vec<i32>, answers: Answers) {
        let failed = |answer: &Result<Answer, ZkError>| {
            answer.as_ref().is_err_and(|error| error.clone().flatten() != ZkError::NoNode)
        };
        let topic_is_left = answers.iter().skip(numbers.len()).take(2).any(failed);
        if topic_is_left && !numbers.is_empty() {
            // Folders without a state, as a controller leaves them that ends between the two.
            let folder = |number: &i32| self.fenced([Write::delete(paths::partition(&topic, *number), None)]);
            let operations: Vec<Operation> = numbers.iter().map(folder).collect();
            return self.ask(operations, Waiting::Deletion(DeletionWait::FoldersGone(topic)));
        }
        if topic_is_left {
            self.warn(format!("znodes of the deleted topic {topic} cannot be removed; trying again later"));
            self.emit(Effect::Timer { timer: Timer::RetryDeletions, at: self.now + RETRY_AFTER_MS });
            return;
        }
        self.context.topics.remove(&topic);
        self.context.deleting.remove(&topic);
        self.context.reassigning.retain(|tp| tp.topic != topic);
        self.context.deletion_started.remove(&topic);
        self.context.deletion_parked.remove(&topic);
        for offline in self.context.offline_dirs.values_mut() {
            offline.retain(|tp| tp.topic != topic);
        }
    }
}
