//! Brokers that come, go and change (class `KafkaController`: broker change, failure, start-up, log directories).
//!
//! Invariant: a broker is known by its epoch as well as its id: a larger epoch means that it was gone, however short.

use super::context::{LiveBroker, Replica, ReplicaPhase};
use super::elections::Strategy;
use super::machine::{Answers, Controller, Effect, Target, Task, Waiting};
use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::wire::messages::{LeaderAndIsrRequest, LeaderAndIsrResponse};
use crate::zookeeper::paths::{self, LogDirEvent};
use crate::zookeeper::{Answer, Operation, Write, ZkError};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum BrokerWait {
    List,
    Infos(Vec<BrokerId>),
    Info(BrokerId),
    LogDirList,
    LogDirEvents(Vec<String>),
    Deleted,
}

impl Controller {
    pub(super) fn read_brokers(&mut self) {
        self.ask(vec![Operation::children_and_watch(paths::BROKER_IDS)], Waiting::Broker(BrokerWait::List));
    }

    pub(super) fn read_broker(&mut self, broker: BrokerId) {
        if self.context.brokers.contains_key(&broker) {
            let read = Operation::get_and_watch(paths::broker_id(broker));
            self.ask(vec![read], Waiting::Broker(BrokerWait::Info(broker)));
        }
    }

    pub(super) fn read_log_dir_notifications(&mut self) {
        let list = Operation::children_and_watch(paths::LOG_DIR_EVENTS);
        self.ask(vec![list], Waiting::Broker(BrokerWait::LogDirList));
    }

    pub(super) fn broker_answered(&mut self, wait: BrokerWait, answers: Answers) {
        match wait {
            BrokerWait::List => {
                let Some(Ok(Answer::Children(children, _))) = answers.into_iter().next() else { return };
                let ids: Vec<BrokerId> = children.iter().filter_map(|child| paths::parse_broker_id(child)).collect();
                let read = |id: &BrokerId| Operation::get_and_watch(paths::broker_id(*id));
                self.ask(ids.iter().map(read).collect(), Waiting::Broker(BrokerWait::Infos(ids)));
            }
            BrokerWait::Infos(ids) => self.brokers_read(ids, answers),
            BrokerWait::Info(id) => self.broker_read(id, answers),
            BrokerWait::LogDirList => {
                let Some(Ok(Answer::Children(children, _))) = answers.into_iter().next() else { return };
                let read = |child: &String| Operation::get(format!("{}/{child}", paths::LOG_DIR_EVENTS));
                self.ask(children.iter().map(read).collect(), Waiting::Broker(BrokerWait::LogDirEvents(children)));
            }
            BrokerWait::LogDirEvents(children) => self.log_dir_events(children, answers),
            BrokerWait::Deleted => {}
        }
    }

    /// What the registrations say, against what is known.
    fn brokers_read(&mut self, ids: Vec<BrokerId>, answers: Answers) {
        let mut started = Vec::new();
        let mut failed: BTreeSet<BrokerId> = self.context.brokers.keys().copied().collect();
        for (id, answer) in ids.into_iter().zip(answers) {
            let found = match self.parse_broker(id, Some(answer)) {
                Ok(found) => found,
                Err(error) => return self.warn(format!("cannot read broker {id}: {error}")),
            };
            let Some(found) = found else { continue };
            match self.context.brokers.get(&id) {
                Some(known) if known.epoch == found.epoch => {
                    failed.remove(&id);
                }
                // A bounced broker has failed and started.
                _ => started.push((id, found)),
            }
        }
        let mut tasks = Vec::new();
        if !failed.is_empty() {
            tasks.push(Task::BrokersFailed(failed));
        }
        if !started.is_empty() {
            tasks.push(Task::BrokersStarted(started));
        }
        self.first_all(tasks);
    }

    fn broker_read(&mut self, id: BrokerId, answers: Answers) {
        let Ok(Some(found)) = self.parse_broker(id, answers.into_iter().next()) else { return };
        let Some(known) = self.context.brokers.get_mut(&id) else { return };
        if known.epoch != found.epoch || known.info.same_as(&found.info) {
            return;
        }
        known.info = found.info.clone();
        // Its endpoint may be another one now.
        self.emit(Effect::CloseChannel { broker: id });
        self.emit(Effect::OpenChannel { broker: id, info: found.info });
        self.first(Task::AnnounceBrokers);
    }

    pub(super) fn brokers_started(&mut self, brokers: Vec<(BrokerId, LiveBroker)>) {
        let before: Vec<BrokerId> = self.context.brokers.keys().copied().collect();
        let ids: BTreeSet<BrokerId> = brokers.iter().map(|(id, _)| *id).collect();
        for (id, broker) in brokers {
            self.emit(Effect::OpenChannel { broker: id, info: broker.info.clone() });
            self.context.brokers.insert(id, broker);
        }
        // Both have to know each other before a LeaderAndIsr names a leader.
        self.batch.update_metadata_to(&before, &[]);
        self.flush();
        let new: Vec<BrokerId> = ids.iter().copied().collect();
        let partitions: Vec<TopicPartition> = self.context.partitions().map(|(tp, _)| tp).collect();
        self.batch.update_metadata_to(&new, &partitions);
        self.flush();
        let mut replicas = self.context.replicas_on(&ids);
        replicas.retain(|replica| !self.context.is_deleting(&replica.tp.topic));
        let returned = |topic: &Arc<str>| {
            let partitions = self.context.partitions_of(topic);
            self.context.replicas_of(&partitions).iter().any(|replica| ids.contains(&replica.broker))
        };
        let unparked: Vec<Arc<str>> =
            self.context.deletion_parked.iter().filter(|topic| returned(topic)).cloned().collect();
        for topic in unparked {
            self.context.deletion_parked.remove(&topic);
        }
        let waits_for_them = |tp: &&TopicPartition| {
            let assigned = self.context.partition(tp).map(|partition| &partition.assignment.replicas);
            assigned.is_some_and(|replicas| replicas.iter().any(|replica| ids.contains(replica)))
        };
        let moving = self.context.reassigning.iter().filter(waits_for_them).cloned().collect();
        self.first_all(vec![
            Task::Replicas { replicas, phase: ReplicaPhase::Online },
            Task::ElectOffline,
            Task::CheckReassignments(moving),
            Task::ResumeDeletions,
        ]);
    }

    pub(super) fn brokers_failed(&mut self, brokers: BTreeSet<BrokerId>) {
        for broker in &brokers {
            self.context.brokers.remove(broker);
            self.context.shutting_down.remove(broker);
            self.context.offline_dirs.remove(broker);
            self.emit(Effect::CloseChannel { broker: *broker });
        }
        let replicas = self.context.replicas_on(&brokers);
        self.replicas_lost(replicas);
    }

    /// Replicas that are gone with their broker or with a log directory.
    fn replicas_lost(&mut self, replicas: Vec<Replica>) {
        let (deleting, others): (Vec<Replica>, Vec<Replica>) =
            replicas.into_iter().partition(|replica| self.context.is_deleting(&replica.tp.topic));
        let leaderless: Vec<TopicPartition> = self
            .context
            .partitions()
            .filter(|(tp, partition)| {
                let leader = partition.leadership.as_ref().map(|leadership| leadership.state.leader);
                leader.is_some_and(|leader| !self.context.is_online(leader, tp)) && !self.context.is_deleting(&tp.topic)
            })
            .map(|(tp, _)| tp)
            .collect();
        let mut tasks =
            vec![Task::Partitions { partitions: leaderless.clone(), target: Target::Offline }, Task::ElectOffline];
        if others.is_empty() && leaderless.is_empty() {
            tasks.push(Task::AnnounceBrokers);
        }
        tasks.push(Task::Replicas { replicas: others, phase: ReplicaPhase::Offline });
        if !deleting.is_empty() {
            let topics: BTreeSet<Arc<str>> = deleting.iter().map(|replica| replica.tp.topic.clone()).collect();
            self.context.deletion_parked.extend(topics);
            tasks.push(Task::Replicas { replicas: deleting, phase: ReplicaPhase::DeletionIneligible });
        }
        self.first_all(tasks);
    }

    /// Brokers that lost a log directory: ask them about every replica; their answers name those that are gone.
    fn log_dir_events(&mut self, children: Vec<String>, answers: Answers) {
        let mut brokers = BTreeSet::new();
        for answer in answers {
            match answer {
                Ok(Answer::Data(data, _)) => match LogDirEvent::parse(&data) {
                    Ok(event) => {
                        brokers.insert(event.broker);
                    }
                    Err(error) => self.warn(error.to_string()),
                },
                Err(ZkError::NoNode) | Ok(_) => {}
                Err(error) => self.warn(format!("cannot read a log directory event: {error}")),
            }
        }
        let replicas = self.context.replicas_on(&brokers);
        self.first(Task::Replicas { replicas, phase: ReplicaPhase::Online });
        let delete = |child: &String| self.fenced([Write::delete(format!("{}/{child}", paths::LOG_DIR_EVENTS), None)]);
        let operations: Vec<Operation> = children.iter().map(delete).collect();
        if !operations.is_empty() {
            self.ask(operations, Waiting::Broker(BrokerWait::Deleted));
        }
    }

    /// A broker says which of its replicas it cannot serve.
    pub(super) fn leader_and_isr_answered(
        &mut self,
        broker: BrokerId,
        request: &LeaderAndIsrRequest,
        response: &LeaderAndIsrResponse,
    ) {
        if response.error_code != ErrorCode::None.code() {
            return self.warn(format!("broker {broker} refused LeaderAndIsr with error {}", response.error_code));
        }
        let mut lost = Vec::new();
        for topic in &response.topics {
            let named = request.topic_states.iter().find(|state| state.topic_id == topic.topic_id);
            let Some(name) = named.map(|state| state.topic_name.as_str()) else { continue };
            for partition in &topic.partition_errors {
                let tp = TopicPartition::new(name, partition.partition_index);
                let offline = self.context.offline_dirs.entry(broker).or_default();
                if partition.error_code == ErrorCode::KafkaStorageError.code() {
                    if offline.insert(tp.clone()) {
                        lost.push(Replica { tp, broker });
                    }
                } else if partition.error_code == ErrorCode::None.code() {
                    offline.remove(&tp);
                }
            }
        }
        if !lost.is_empty() {
            self.replicas_lost(lost);
        }
    }

    /// Leaders that have drifted from the preferred replicas are brought back, broker by broker; not while partitions move.
    pub(super) fn rebalance(&mut self, tolerated_percent: i32) {
        if !self.context.reassigning.is_empty() {
            return;
        }
        let mut preferred: std::collections::BTreeMap<BrokerId, (i64, Vec<TopicPartition>)> = Default::default();
        for (tp, partition) in self.context.partitions() {
            let Some(first) = partition.assignment.replicas.first() else { continue };
            if self.context.is_deleting(&tp.topic) {
                continue;
            }
            let (total, elsewhere) = preferred.entry(*first).or_default();
            *total += 1;
            let Some(leadership) = &partition.leadership else { continue };
            if leadership.state.leader != *first
                && leadership.state.isr.contains(first)
                && self.context.is_online(*first, &tp)
            {
                elsewhere.push(tp);
            }
        }
        let drifted: Vec<TopicPartition> = preferred
            .into_values()
            .filter(|(total, elsewhere)| elsewhere.len() as i64 * 100 > i64::from(tolerated_percent) * total)
            .flat_map(|(_, elsewhere)| elsewhere)
            .collect();
        if !drifted.is_empty() {
            self.first_all(vec![Task::Elect { partitions: drifted, strategy: Strategy::Preferred }, Task::Flush]);
        }
    }
}
