//! What a new controller reads before it acts (spec: failover).

use super::context::{Leadership, LiveBroker, PartitionContext, PartitionPhase, ReplicaPhase, TopicContext};
use super::machine::{Answers, Controller, Effect, Task, Timer, Waiting};
use crate::base::{BrokerEpoch, BrokerId, PartitionEpoch, TopicPartition, topic_name};
use crate::zookeeper::paths::{self, BrokerInfo, FeatureStatus, FeatureZnode, PartitionState, TopicZnode};
use crate::zookeeper::{Answer, Operation, Stat, Write, ZkError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kafka waits so long after an election before it looks for leaders that have drifted.
const FIRST_REBALANCE_AFTER_MS: i64 = 5_000;

#[derive(Clone, PartialEq, Debug)]
pub(super) enum LoadWait {
    Lists,
    Details { brokers: Vec<BrokerId>, topics: Vec<Arc<str>>, deleting: Vec<Arc<str>> },
    States { partitions: Vec<TopicPartition> },
}

impl Controller {
    /// Lists, with the watches that keep them current.
    pub(super) fn load(&mut self) {
        let operations = vec![
            Operation::get(paths::FEATURE),
            Operation::children_and_watch(paths::BROKER_IDS),
            Operation::children_and_watch(paths::BROKER_TOPICS),
            Operation::children_and_watch(paths::DELETE_TOPICS),
            Operation::children_and_watch(paths::LOG_DIR_EVENTS),
            Operation::children_and_watch(paths::ISR_CHANGES),
            Operation::exists_and_watch(paths::PREFERRED_REPLICA_ELECTION),
            Operation::exists_and_watch(paths::REASSIGN_PARTITIONS),
        ];
        self.ask(operations, Waiting::Load(LoadWait::Lists));
    }

    pub(super) fn load_answered(&mut self, wait: LoadWait, answers: Answers) {
        let loaded = match wait {
            LoadWait::Lists => self.lists_read(answers),
            LoadWait::Details { brokers, topics, deleting } => self.details_read(brokers, topics, deleting, answers),
            LoadWait::States { partitions } => self.states_read(&partitions, answers),
        };
        if let Err(error) = loaded {
            self.abdicate(format!("the new controller cannot load the cluster: {error}"));
        }
    }

    fn lists_read(&mut self, answers: Answers) -> Result<(), ZkError> {
        let mut answers = answers.into_iter();
        let mut writes = feature_write(answers.next())?;
        let mut lists = Vec::new();
        for answer in answers {
            match answer? {
                Answer::Children(children, _) => lists.push(children),
                _ => lists.push(Vec::new()),
            }
        }
        let mut lists = lists.into_iter();
        let mut next = || lists.next().unwrap_or_default();
        let (brokers, topics, deleting, log_dirs, isr) = (next(), next(), next(), next(), next());
        // Everything is read below, so notifications from before the election say nothing new.
        let notification = |parent: &str, child: &String| Write::delete(format!("{parent}/{child}"), None);
        writes.extend(log_dirs.iter().map(|child| notification(paths::LOG_DIR_EVENTS, child)));
        writes.extend(isr.iter().map(|child| notification(paths::ISR_CHANGES, child)));

        let brokers: Vec<BrokerId> = brokers.iter().filter_map(|child| paths::parse_broker_id(child)).collect();
        let legal = |names: Vec<String>| -> Vec<Arc<str>> {
            names.into_iter().filter(|name| topic_name::is_legal(name)).map(Into::into).collect()
        };
        let (topics, deleting) = (legal(topics), legal(deleting));
        let mut operations: Vec<Operation> =
            brokers.iter().map(|id| Operation::get_and_watch(paths::broker_id(*id))).collect();
        operations.extend(topics.iter().map(|topic| Operation::get_and_watch(paths::topic(topic))));
        operations.extend(writes.into_iter().map(|write| self.fenced([write])));
        self.ask(operations, Waiting::Load(LoadWait::Details { brokers, topics, deleting }));
        Ok(())
    }

    fn details_read(
        &mut self,
        brokers: Vec<BrokerId>,
        topics: Vec<Arc<str>>,
        deleting: Vec<Arc<str>>,
        answers: Answers,
    ) -> Result<(), ZkError> {
        let mut answers = answers.into_iter();
        for id in brokers {
            if let Some(broker) = self.parse_broker(id, answers.next())? {
                self.context.brokers.insert(id, broker);
            }
        }
        let mut id_writes = Vec::new();
        for topic in topics {
            let found = match answers.next() {
                Some(Ok(Answer::Data(data, stat))) => (data, stat),
                Some(Err(ZkError::NoNode)) | None => continue,
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) => continue,
            };
            id_writes.extend(self.add_topic(&topic, &found.0, &found.1));
        }
        self.context.deleting = deleting.into_iter().collect();
        let partitions: Vec<TopicPartition> = self.context.partitions().map(|(tp, _)| tp).collect();
        let mut operations: Vec<Operation> =
            partitions.iter().map(|tp| Operation::get(paths::partition_state(&tp.topic, tp.partition))).collect();
        operations.extend(id_writes);
        self.ask(operations, Waiting::Load(LoadWait::States { partitions }));
        Ok(())
    }

    /// A broker's registration; `None` if it is gone again or makes no sense.
    pub(super) fn parse_broker(
        &mut self,
        id: BrokerId,
        answer: Option<Result<Answer, ZkError>>,
    ) -> Result<Option<LiveBroker>, ZkError> {
        match answer {
            Some(Ok(Answer::Data(data, stat))) => match BrokerInfo::parse(&data) {
                Ok(info) => Ok(Some(LiveBroker { info, epoch: BrokerEpoch(stat.czxid) })),
                Err(error) => {
                    self.warn(format!("broker {id} is ignored: {error}"));
                    Ok(None)
                }
            },
            Some(Err(ZkError::NoNode)) | None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Ok(None),
        }
    }

    /// Takes a topic's znode into the context and returns the write that gives it an id, if it lacks one.
    pub(super) fn add_topic(&mut self, topic: &Arc<str>, data: &[u8], stat: &Stat) -> Option<Operation> {
        let mut znode = match TopicZnode::parse(data) {
            Ok(znode) => znode,
            Err(error) => {
                self.warn(format!("topic {topic} is ignored: {error}"));
                return None;
            }
        };
        let mut version = stat.version;
        let mut write = None;
        if znode.topic_id.is_none() {
            znode.topic_id = Some((self.new_topic_id)());
            write = Some(self.fenced([Write::set(paths::topic(topic), znode.to_json(), Some(version))]));
            version = version.wrapping_add(1);
        }
        let partitions: BTreeMap<i32, PartitionContext> = znode
            .partitions
            .into_iter()
            .map(|(number, assignment)| (number, PartitionContext { assignment, ..PartitionContext::default() }))
            .collect();
        let id = znode.topic_id.unwrap_or_default();
        self.context.topics.insert(topic.clone(), TopicContext { id, version, partitions });
        write
    }

    fn states_read(&mut self, partitions: &[TopicPartition], answers: Answers) -> Result<(), ZkError> {
        for (tp, answer) in partitions.iter().zip(answers) {
            self.take_state(tp, answer)?;
        }
        self.first(Task::Start);
        Ok(())
    }

    /// Takes a partition's state into the context.
    pub(super) fn take_state(&mut self, tp: &TopicPartition, answer: Result<Answer, ZkError>) -> Result<(), ZkError> {
        let leadership = match answer {
            Ok(Answer::Data(data, stat)) => match PartitionState::parse(&data) {
                Ok(state) => Some(Leadership { state, epoch: PartitionEpoch(stat.version) }),
                Err(error) => {
                    self.warn(format!("state of {tp}: {error}"));
                    None
                }
            },
            Ok(_) | Err(ZkError::NoNode) => None,
            Err(error) => return Err(error),
        };
        if let Some(partition) = self.context.partition_mut(tp) {
            partition.leadership = leadership;
        }
        Ok(())
    }

    /// Brings every broker in line with what was loaded.
    pub(super) fn start(&mut self) {
        for (broker, live) in self.context.brokers.clone() {
            self.emit(Effect::OpenChannel { broker, info: live.info });
        }
        let partitions: Vec<TopicPartition> = self.context.partitions().map(|(tp, _)| tp).collect();
        let mut online = Vec::new();
        let mut offline = Vec::new();
        for tp in &partitions {
            let live = self.context.online_replicas(tp);
            let deleting = self.context.is_deleting(&tp.topic);
            let Some(partition) = self.context.partition_mut(tp) else { continue };
            partition.phase = match &partition.leadership {
                None => PartitionPhase::New,
                Some(leadership) if live.contains(&leadership.state.leader) => PartitionPhase::Online,
                Some(_) => PartitionPhase::Offline,
            };
            for broker in partition.assignment.replicas.clone() {
                let is_online = live.contains(&broker);
                let phase = match (is_online, deleting) {
                    (true, _) => ReplicaPhase::Online,
                    (false, true) => ReplicaPhase::DeletionIneligible,
                    (false, false) => ReplicaPhase::Offline,
                };
                partition.replicas.insert(broker, phase);
                let replica = super::context::Replica { tp: tp.clone(), broker };
                if is_online {
                    online.push(replica)
                } else if !deleting {
                    offline.push(replica)
                }
            }
        }
        let tasks = vec![
            // Brokers have to know who is alive before any LeaderAndIsr names a leader.
            Task::AnnounceBrokers,
            // The first LeaderAndIsr has all partitions of its broker, with the leaders that are elected now: who waits for one does not
            // wait until everybody was told who has died. An election takes the dead out of the ISR with the same write, too.
            Task::Collect { replicas: online, phase: ReplicaPhase::Online },
            Task::ElectOffline,
            Task::Replicas { replicas: offline, phase: ReplicaPhase::Offline },
            Task::TakenOver,
            Task::ReassignZnode,
            Task::ResumeReassignments,
            Task::DeleteMarkersChanged,
            Task::PreferredElectionZnode,
        ];
        self.first_all(tasks);
        if let (Some(active), Some(_)) = (self.active, self.settings.auto_rebalance) {
            let timer = Timer::AutoRebalance(active.epoch);
            self.emit(Effect::Timer { timer, at: self.now + FIRST_REBALANCE_AFTER_MS });
        }
    }
}

impl Controller {
    pub(super) fn taken_over(&mut self) {
        let is_leaderless = |partition: &PartitionContext| partition.phase != PartitionPhase::Online;
        let leaderless = self.context.partitions().filter(|(_, partition)| is_leaderless(partition)).count();
        let (brokers, partitions) = (self.context.brokers.len(), self.context.partitions().count());
        self.emit(Effect::TakenOver { brokers, partitions, leaderless });
    }
}

/// The write that makes `/feature` that of a controller in ZooKeeper mode, if it is not.
fn feature_write(answer: Option<Result<Answer, ZkError>>) -> Result<Vec<Write>, ZkError> {
    let json = FeatureZnode::enabled().to_json();
    match answer {
        Some(Ok(Answer::Data(data, stat))) => {
            let stale = FeatureZnode::parse(&data)?.status == FeatureStatus::Disabled;
            Ok(stale.then(|| Write::set(paths::FEATURE, json, Some(stat.version))).into_iter().collect())
        }
        Some(Err(ZkError::NoNode)) => Ok(vec![Write::create(paths::FEATURE, json)]),
        Some(Err(error)) => Err(error),
        _ => Ok(Vec::new()),
    }
}
