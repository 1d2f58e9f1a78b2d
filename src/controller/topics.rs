//! Topics that appear, grow and vanish, and what old tools ask for through znodes (class `KafkaController`).

use super::context::{PartitionContext, ReplicaPhase};
use super::elections::Strategy;
use super::machine::{Answers, Controller, Target, Task, Waiting};
use crate::base::{TopicPartition, topic_name};
use crate::zookeeper::paths::{self, PartitionList, TopicZnode};
use crate::zookeeper::{Answer, Operation, Stat, Write, ZkError};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum TopicWait {
    List,
    New(Vec<Arc<str>>),
    IdsWritten(Vec<TopicPartition>),
    Changed(Arc<str>),
    Restored,
    PreferredElection,
    Done,
    IsrList,
    IsrNotifications(Vec<String>),
    IsrStates { partitions: Vec<TopicPartition>, children: Vec<String> },
}

impl Controller {
    pub(super) fn read_topics(&mut self) {
        self.ask(vec![Operation::children_and_watch(paths::BROKER_TOPICS)], Waiting::Topic(TopicWait::List));
    }

    pub(super) fn read_topic(&mut self, topic: Arc<str>) {
        if !self.context.topics.contains_key(&topic) {
            // It made no sense when it was listed; perhaps it does now.
            return self.read_topics();
        }
        let read = Operation::get_and_watch(paths::topic(&topic));
        self.ask(vec![read], Waiting::Topic(TopicWait::Changed(topic)));
    }

    pub(super) fn read_preferred_election(&mut self) {
        let operations = vec![
            Operation::exists_and_watch(paths::PREFERRED_REPLICA_ELECTION),
            Operation::get(paths::PREFERRED_REPLICA_ELECTION),
        ];
        self.ask(operations, Waiting::Topic(TopicWait::PreferredElection));
    }

    pub(super) fn read_isr_notifications(&mut self) {
        self.ask(vec![Operation::children_and_watch(paths::ISR_CHANGES)], Waiting::Topic(TopicWait::IsrList));
    }

    pub(super) fn topic_answered(&mut self, wait: TopicWait, mut answers: Answers) {
        match wait {
            TopicWait::List => {
                if let Some(Ok(Answer::Children(children, _))) = answers.pop() {
                    self.topics_listed(children);
                }
            }
            TopicWait::New(topics) => self.new_topics_read(topics, answers),
            TopicWait::IdsWritten(partitions) => self.first(Task::PartitionsCreated(partitions)),
            TopicWait::Changed(topic) => {
                if let Some(Ok(Answer::Data(data, stat))) = answers.pop() {
                    self.topic_read(&topic, &data, &stat);
                }
            }
            TopicWait::Restored | TopicWait::Done => {}
            TopicWait::PreferredElection => {
                if let Some(Ok(Answer::Data(data, _))) = answers.pop() {
                    self.preferred_election_read(&data);
                }
            }
            TopicWait::IsrList => {
                let Some(Ok(Answer::Children(children, _))) = answers.pop() else { return };
                let read = |child: &String| Operation::get(format!("{}/{child}", paths::ISR_CHANGES));
                self.ask(children.iter().map(read).collect(), Waiting::Topic(TopicWait::IsrNotifications(children)));
            }
            TopicWait::IsrNotifications(children) => self.isr_notifications_read(children, answers),
            TopicWait::IsrStates { partitions, children } => self.isr_states_read(partitions, children, answers),
        }
    }

    fn topics_listed(&mut self, children: Vec<String>) {
        let listed: BTreeSet<Arc<str>> =
            children.into_iter().filter(|name| topic_name::is_legal(name)).map(Into::into).collect();
        let vanished: Vec<Arc<str>> =
            self.context.topics.keys().filter(|topic| !listed.contains(*topic)).cloned().collect();
        for topic in vanished {
            self.context.topics.remove(&topic);
        }
        let new: Vec<Arc<str>> = listed.into_iter().filter(|topic| !self.context.topics.contains_key(topic)).collect();
        if new.is_empty() {
            return;
        }
        let read = |topic: &Arc<str>| Operation::get_and_watch(paths::topic(topic));
        self.ask(new.iter().map(read).collect(), Waiting::Topic(TopicWait::New(new)));
    }

    fn new_topics_read(&mut self, topics: Vec<Arc<str>>, answers: Answers) {
        let mut id_writes = Vec::new();
        let mut partitions = Vec::new();
        for (topic, answer) in topics.iter().zip(answers) {
            match answer {
                Ok(Answer::Data(data, stat)) => {
                    id_writes.extend(self.add_topic(topic, &data, &stat));
                    partitions.extend(self.context.partitions_of(topic));
                }
                Ok(_) | Err(ZkError::NoNode) => {}
                Err(error) => self.warn(format!("cannot read topic {topic}: {error}")),
            }
        }
        if id_writes.is_empty() {
            self.first(Task::PartitionsCreated(partitions));
        } else {
            self.ask(id_writes, Waiting::Topic(TopicWait::IdsWritten(partitions)));
        }
    }

    /// New partitions, of a new topic or a grown one.
    pub(super) fn partitions_created(&mut self, partitions: Vec<TopicPartition>) {
        let replicas = self.context.replicas_of(&partitions);
        let online = Target::Online(Strategy::Offline { unclean: false });
        self.first_all(vec![
            Task::Partitions { partitions: partitions.clone(), target: Target::New },
            Task::Replicas { replicas: replicas.clone(), phase: ReplicaPhase::New },
            Task::Partitions { partitions, target: online },
            Task::Replicas { replicas, phase: ReplicaPhase::Online },
        ]);
    }

    fn topic_read(&mut self, topic: &Arc<str>, data: &[u8], stat: &Stat) {
        let mut znode = match TopicZnode::parse(data) {
            Ok(znode) => znode,
            Err(error) => return self.warn(format!("topic {topic} is left as it was: {error}")),
        };
        let Some(known) = self.context.topics.get_mut(topic) else { return };
        known.version = stat.version;
        let added: Vec<i32> =
            znode.partitions.keys().copied().filter(|number| !known.partitions.contains_key(number)).collect();
        if added.is_empty() {
            return;
        }
        if self.context.deleting.contains(topic) {
            for number in &added {
                znode.partitions.remove(number);
            }
            self.warn(format!("topic {topic} is being deleted: its new partitions are refused"));
            let restore = self.fenced([Write::set(paths::topic(topic), znode.to_json(), Some(stat.version))]);
            return self.ask(vec![restore], Waiting::Topic(TopicWait::Restored));
        }
        for number in &added {
            if let Some(assignment) = znode.partitions.remove(number) {
                known.partitions.insert(*number, PartitionContext { assignment, ..PartitionContext::default() });
            }
        }
        let partitions = added.into_iter().map(|number| TopicPartition::new(topic.clone(), number)).collect();
        self.first(Task::PartitionsCreated(partitions));
    }

    /// `kafka-preferred-replica-election` of old: one attempt, then the znode goes.
    fn preferred_election_read(&mut self, data: &[u8]) {
        let partitions = match PartitionList::parse(data) {
            Ok(list) => list.0,
            Err(error) => {
                self.warn(error.to_string());
                Vec::new()
            }
        };
        let wanted = partitions.into_iter().filter(|tp| self.lacks_preferred_leader(tp)).collect();
        self.first_all(vec![Task::Elect { partitions: wanted, strategy: Strategy::Preferred }, Task::Flush]);
        let delete = self.fenced([Write::delete(paths::PREFERRED_REPLICA_ELECTION, None)]);
        self.ask(vec![delete], Waiting::Topic(TopicWait::Done));
    }

    pub(super) fn lacks_preferred_leader(&self, tp: &TopicPartition) -> bool {
        let Some(partition) = self.context.partition(tp) else { return false };
        let leader = partition.leadership.as_ref().map(|leadership| leadership.state.leader);
        !self.context.is_deleting(&tp.topic) && leader != partition.assignment.replicas.first().copied()
    }

    fn isr_notifications_read(&mut self, children: Vec<String>, answers: Answers) {
        let mut partitions = BTreeSet::new();
        for answer in answers {
            if let Ok(Answer::Data(data, _)) = answer {
                match PartitionList::parse(&data) {
                    Ok(list) => partitions.extend(list.0),
                    Err(error) => self.warn(error.to_string()),
                }
            }
        }
        let partitions: Vec<TopicPartition> =
            partitions.into_iter().filter(|tp| self.context.partition(tp).is_some()).collect();
        let read = |tp: &TopicPartition| Operation::get(paths::partition_state(&tp.topic, tp.partition));
        let operations = partitions.iter().map(read).collect();
        self.ask(operations, Waiting::Topic(TopicWait::IsrStates { partitions, children }));
    }

    fn isr_states_read(&mut self, partitions: Vec<TopicPartition>, children: Vec<String>, answers: Answers) {
        for (tp, answer) in partitions.iter().zip(answers) {
            if let Err(error) = self.take_state(tp, answer) {
                self.warn(format!("state of {tp}: {error}"));
            }
        }
        let complete = self.complete_of(partitions.clone());
        self.first_all(vec![Task::AnnouncePartitions(partitions), complete]);
        let delete = |child: &String| self.fenced([Write::delete(format!("{}/{child}", paths::ISR_CHANGES), None)]);
        let operations: Vec<Operation> = children.iter().map(delete).collect();
        if !operations.is_empty() {
            self.ask(operations, Waiting::Topic(TopicWait::Done));
        }
    }
}
