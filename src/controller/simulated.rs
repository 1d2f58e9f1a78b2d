//! A cluster in memory for scenarios: ZooKeeper as a map, controllers of several brokers, and a log of what they send.

use super::alter_partition::{Alteration, TopicKey};
use super::commands::{Command, CommandReply};
use super::context::{Context, Leadership};
use super::machine::{Answers, Controller, Effect, Event, Settings, Timer};
use super::requests::{ControlRequest, ControlResponse};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, PartitionEpoch, TopicId};
use crate::wire::messages::stop_replica_response::StopReplicaPartitionError;
use crate::wire::messages::{LeaderAndIsrResponse, StopReplicaResponse, UpdateMetadataResponse};
use crate::zookeeper::paths::{self, BrokerInfo, RegisteredEndpoint};
use crate::zookeeper::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

#[derive(Clone, Default)]
struct Znode {
    data: Vec<u8>,
    stat: Stat,
}

#[derive(Clone, Default)]
pub struct FakeZk {
    nodes: BTreeMap<String, Znode>,
    zxid: i64,
    watches: BTreeSet<(i32, String, bool)>,
    fired: Vec<(i32, String, bool)>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl FakeZk {
    fn fire(&mut self, path: &str, children: bool) {
        let hit: Vec<_> =
            self.watches.iter().filter(|(_, at, kind)| at == path && *kind == children).cloned().collect();
        for watch in hit {
            self.watches.remove(&watch);
            self.fired.push(watch);
        }
    }

    fn children(&self, path: &str) -> Vec<String> {
        self.nodes.keys().filter(|key| parent(key) == path).map(|key| key[path.len() + 1..].to_owned()).collect()
    }

    fn write_one(&mut self, session: i64, write: &Write) -> Result<Written, ZkError> {
        match write {
            Write::Create { path, data, mode } => {
                if self.nodes.contains_key(path) {
                    return Err(ZkError::NodeExists);
                }
                if !parent(path).is_empty() && !self.nodes.contains_key(parent(path)) {
                    return Err(ZkError::NoNode);
                }
                let owner = if *mode == CreateMode::Ephemeral { session } else { 0 };
                let stat = Stat { czxid: self.zxid, mzxid: self.zxid, owner, ..Stat::default() };
                self.nodes.insert(path.clone(), Znode { data: data.clone(), stat });
                self.fire(path, false);
                self.fire(parent(path), true);
                Ok(Written::Created(path.clone()))
            }
            Write::Set { path, data, version } => {
                let zxid = self.zxid;
                let node = self.nodes.get_mut(path).ok_or(ZkError::NoNode)?;
                if version.is_some_and(|version| version != node.stat.version) {
                    return Err(ZkError::BadVersion);
                }
                node.data = data.clone();
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                let stat = node.stat;
                self.fire(path, false);
                Ok(Written::Set(stat))
            }
            Write::Delete { path, version } => {
                let node = self.nodes.get(path).ok_or(ZkError::NoNode)?;
                if version.is_some_and(|version| version != node.stat.version) {
                    return Err(ZkError::BadVersion);
                }
                if !self.children(path).is_empty() {
                    return Err(ZkError::NotEmpty);
                }
                self.nodes.remove(path);
                self.fire(path, false);
                self.fire(parent(path), true);
                Ok(Written::Deleted)
            }
            Write::Check { path, version } => match self.nodes.get(path) {
                None => Err(ZkError::NoNode),
                Some(node) if node.stat.version != *version => Err(ZkError::BadVersion),
                Some(_) => Ok(Written::Checked),
            },
        }
    }

    pub fn multi(&mut self, session: i64, writes: &[Write]) -> Result<Vec<Written>, ZkError> {
        let before = self.clone();
        self.zxid += 1;
        let mut written = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            match self.write_one(session, write) {
                Ok(done) => written.push(done),
                Err(error) => {
                    *self = before;
                    return Err(ZkError::Multi { index, error: Box::new(error) });
                }
            }
        }
        Ok(written)
    }

    fn run(&mut self, broker: i32, session: i64, operation: &Operation) -> Result<Answer, ZkError> {
        let mut watch = |path: &str, children: bool| self.watches.insert((broker, path.to_owned(), children));
        match operation {
            Operation::Get { path, watch: armed } => {
                let node = self.nodes.get(path).ok_or(ZkError::NoNode)?;
                if *armed {
                    watch(path, false);
                }
                Ok(Answer::Data(node.data.clone(), node.stat))
            }
            Operation::Exists { path, watch: armed } => {
                if *armed {
                    watch(path, false);
                }
                Ok(Answer::Exists(self.nodes.get(path).map(|node| node.stat)))
            }
            Operation::Children { path, watch: armed } => {
                let node = self.nodes.get(path).ok_or(ZkError::NoNode)?;
                let stat = node.stat;
                if *armed {
                    watch(path, true);
                }
                Ok(Answer::Children(self.children(path), stat))
            }
            Operation::Multi(writes) => self.multi(session, writes).map(Answer::Multi),
        }
    }

    fn end_session(&mut self, session: i64) {
        self.zxid += 1;
        let owned: Vec<String> =
            self.nodes.iter().filter(|(_, node)| node.stat.owner == session).map(|(path, _)| path.clone()).collect();
        for path in owned {
            self.nodes.remove(&path);
            self.fire(&path, false);
            self.fire(parent(&path), true);
        }
    }

    /// Transactions so far, those that failed left out.
    pub fn transactions(&self) -> i64 {
        self.zxid
    }

    pub fn text(&self, path: &str) -> Option<String> {
        self.nodes.get(path).map(|node| String::from_utf8_lossy(&node.data).into_owned())
    }

    /// Creates or overwrites, parents included.
    pub fn put(&mut self, path: &str, data: &str) {
        for (at, _) in path.match_indices('/').skip(1) {
            if !self.nodes.contains_key(&path[..at]) {
                self.multi(0, &[Write::create(&path[..at], "")]).expect("a parent");
            }
        }
        let write = match self.nodes.contains_key(path) {
            true => Write::set(path, data, None),
            false => Write::create(path, data),
        };
        self.multi(0, &[write]).expect("written");
    }
}

pub struct Sim {
    pub zk: FakeZk,
    brokers: BTreeMap<i32, (Controller, i64)>,
    sessions: i64,
    events: VecDeque<(i32, Event)>,
    /// What controllers have sent and said.
    pub log: String,
    /// Brokers that answer StopReplica with an error.
    pub refusing: BTreeSet<i32>,
    /// A write that comes in between a controller's read and its write.
    pub interference: Option<(String, String)>,
    now: i64,
    timers: Vec<(i32, Timer)>,
}

impl Sim {
    pub fn new() -> Sim {
        let mut zk = FakeZk::default();
        for path in paths::PERSISTENT {
            zk.put(path, "");
        }
        Sim {
            zk,
            brokers: BTreeMap::new(),
            sessions: 0,
            events: VecDeque::new(),
            log: String::new(),
            refusing: BTreeSet::new(),
            interference: None,
            now: 0,
            timers: Vec::new(),
        }
    }

    fn epoch(&self, broker: i32) -> i64 {
        self.zk.nodes.get(&paths::broker_id(BrokerId(broker))).map_or(-1, |node| node.stat.czxid)
    }

    /// A broker registers in a new session, as a new process.
    pub fn up(&mut self, broker: i32) {
        let mut next_id = 0;
        let settings = Settings {
            broker: BrokerId(broker),
            inter_broker_listener: "PLAINTEXT".into(),
            delete_topic_enable: true,
            unclean_leader_election: false,
            leader_recovery: true,
            auto_rebalance: Some((300_000, 10)),
        };
        let ids = Box::new(move || {
            next_id += 1;
            TopicId(uuid::Uuid::from_u128(0xabc0 + next_id))
        });
        self.brokers.insert(broker, (Controller::new(settings, ids), 0));
        self.register(broker);
    }

    fn register(&mut self, broker: i32) {
        self.sessions += 1;
        let session = self.sessions;
        let endpoint = RegisteredEndpoint {
            listener: "PLAINTEXT".into(),
            host: format!("h{broker}"),
            port: 9092,
            security_protocol: "PLAINTEXT".into(),
        };
        let info = BrokerInfo { endpoints: vec![endpoint], rack: None, timestamp_ms: 0, features: BTreeMap::new() };
        let path = paths::broker_id(BrokerId(broker));
        let writes = [Write::create_ephemeral(&path, ""), Write::set(&path, info.to_json(), Some(0))];
        self.zk.multi(session, &writes).expect("registered");
        self.brokers.get_mut(&broker).expect("known").1 = session;
        self.events.push_back((broker, Event::Session { id: session }));
        self.settle();
    }

    /// The process dies and a new one has registered before anybody looks.
    pub fn restart_unseen(&mut self, broker: i32) {
        let (_, session) = self.brokers.remove(&broker).expect("known");
        self.zk.watches.retain(|(owner, _, _)| *owner != broker);
        self.zk.end_session(session);
        self.up(broker);
    }

    /// The process dies and its session ends.
    pub fn down(&mut self, broker: i32) {
        let (_, session) = self.brokers.remove(&broker).expect("known");
        self.zk.watches.retain(|(owner, _, _)| *owner != broker);
        self.zk.end_session(session);
        self.settle();
    }

    /// The session expires under a living broker, which registers again.
    pub fn expire(&mut self, broker: i32) {
        let session = self.brokers[&broker].1;
        self.zk.watches.retain(|(owner, _, _)| *owner != broker);
        self.zk.end_session(session);
        self.events.push_back((broker, Event::SessionExpired));
        self.settle();
        self.register(broker);
    }

    /// The session expires, but the broker does not know yet: its controller acts on.
    pub fn expire_unnoticed(&mut self, broker: i32) {
        let session = self.brokers[&broker].1;
        self.zk.watches.retain(|(owner, _, _)| *owner != broker);
        self.zk.end_session(session);
        self.settle();
    }

    pub fn command(&mut self, broker: i32, command: Command) {
        self.events.push_back((broker, Event::Command { token: 1, command }));
        self.settle();
    }

    /// The leader of a partition asks for an ISR, on top of what ZooKeeper has.
    pub fn alter_isr(&mut self, topic: &str, partition: i32, isr: &[i32]) {
        let node = self.zk.nodes.get(&paths::partition_state(topic, partition)).expect("a state");
        let state = paths::PartitionState::parse(&node.data).expect("a state");
        let alteration = Alteration {
            topic: TopicKey::Name(topic.into()),
            partition,
            leader_epoch: state.leader_epoch,
            isr: isr.iter().map(|id| (BrokerId(*id), BrokerEpoch::UNKNOWN)).collect(),
            recovery: state.recovery,
            partition_epoch: PartitionEpoch(node.stat.version),
        };
        let (broker, epoch) = (state.leader, self.broker_epoch(state.leader.0));
        let controller = self.controllers()[0];
        self.command(controller, Command::AlterPartitions { broker, epoch, alterations: vec![alteration] });
    }

    pub fn broker_epoch(&self, broker: i32) -> BrokerEpoch {
        BrokerEpoch(self.epoch(broker))
    }

    pub fn shutdown(&mut self, controller: i32, broker: i32) {
        let epoch = BrokerEpoch(self.epoch(broker));
        self.command(controller, Command::ControlledShutdown { broker: BrokerId(broker), epoch });
    }

    pub fn event(&mut self, broker: i32, event: Event) {
        self.events.push_back((broker, event));
        self.settle();
    }

    /// Fires the timers that were set.
    pub fn pass_time(&mut self) {
        self.now += 1_000_000;
        for (broker, timer) in std::mem::take(&mut self.timers) {
            self.events.push_back((broker, Event::Timer(timer)));
        }
        self.settle();
    }

    pub fn context(&self, broker: i32) -> &Context {
        self.brokers[&broker].0.context()
    }

    pub fn controllers(&self) -> Vec<i32> {
        self.brokers.iter().filter(|(_, (machine, _))| machine.is_active()).map(|(id, _)| *id).collect()
    }

    /// `leader/epoch/isr` of a partition, as ZooKeeper has it.
    pub fn state(&self, topic: &str, partition: i32) -> String {
        let Some(text) = self.zk.text(&paths::partition_state(topic, partition)) else { return "-".into() };
        let state = paths::PartitionState::parse(text.as_bytes()).expect("a state");
        format!("{}/{}/{}", state.leader, state.leader_epoch, join(state.isr.iter().map(|id| id.0)))
    }

    /// Empties the log and returns it.
    pub fn said(&mut self) -> String {
        std::mem::take(&mut self.log)
    }

    /// Until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            for (broker, path, children) in std::mem::take(&mut self.zk.fired) {
                self.events.push_back((broker, Event::Changed { path, children }));
            }
            let Some((broker, event)) = self.events.pop_front() else { return };
            let Some((machine, _)) = self.brokers.get_mut(&broker) else { continue };
            for effect in machine.step(self.now, 0, event) {
                self.apply(broker, effect);
            }
        }
        panic!("the cluster does not come to rest\n{}", self.log);
    }

    fn apply(&mut self, broker: i32, effect: Effect) {
        match effect {
            Effect::Zk { token, operations } => {
                let session = self.brokers[&broker].1;
                let writes = operations.iter().any(|operation| !operation.is_read());
                if let Some((path, data)) = self.interference.take_if(|_| writes) {
                    self.zk.put(&path, &data);
                }
                let answers: Answers =
                    operations.iter().map(|operation| self.zk.run(broker, session, operation)).collect();
                self.events.push_back((broker, Event::Zk { token, answers }));
            }
            Effect::Send { broker: to, request } => self.send(broker, to, request),
            Effect::Timer { timer, .. } => self.timers.push((broker, timer)),
            Effect::Reply { reply, .. } => {
                let _ = match reply {
                    CommandReply::ControlledShutdown(Ok(left)) => writeln!(self.log, "shutdown: {} left", left.len()),
                    CommandReply::ControlledShutdown(Err(error)) => writeln!(self.log, "shutdown: {error:?}"),
                    CommandReply::ElectLeaders(outcome) => writeln!(self.log, "elected: {outcome:?}"),
                    CommandReply::AlterPartitions(Ok(altered)) => {
                        let each = altered.iter().map(|one| match one {
                            Ok(Leadership { state, epoch }) => format!(
                                "{}/{}/{} at {epoch}",
                                state.leader,
                                state.leader_epoch,
                                join(state.isr.iter().map(|id| id.0))
                            ),
                            Err(error) => format!("{error:?}"),
                        });
                        writeln!(self.log, "altered: {}", each.collect::<Vec<_>>().join(" | "))
                    }
                    CommandReply::AlterPartitions(Err(error)) => writeln!(self.log, "altered: {error:?}"),
                    CommandReply::AlterReassignments(outcome) => writeln!(self.log, "reassigned: {outcome:?}"),
                    CommandReply::ListReassignments(list) => writeln!(self.log, "moving: {list:?}"),
                    CommandReply::CheckBroker(outcome) => writeln!(self.log, "broker: {outcome:?}"),
                };
            }
            Effect::Warn(text) => {
                let _ = writeln!(self.log, "{broker} warns: {text}");
            }
            Effect::ClearWatches => self.zk.watches.retain(|(owner, _, _)| *owner != broker),
            Effect::TakenOver { .. }
            | Effect::Controller { .. }
            | Effect::OpenChannel { .. }
            | Effect::CloseChannel { .. } => {}
        }
    }

    fn send(&mut self, from: i32, to: BrokerId, request: ControlRequest) {
        let line = describe(&request);
        let _ = writeln!(self.log, "{from}>{to} {line}");
        if !self.brokers.contains_key(&to.0) {
            return;
        }
        let response = match &request {
            ControlRequest::LeaderAndIsr(_) => ControlResponse::LeaderAndIsr(LeaderAndIsrResponse::default()),
            ControlRequest::UpdateMetadata(_) => ControlResponse::UpdateMetadata(UpdateMetadataResponse::default()),
            ControlRequest::StopReplica(request) => {
                let code = if self.refusing.contains(&to.0) { ErrorCode::KafkaStorageError } else { ErrorCode::None };
                let errors = request.topic_states.iter().flat_map(|topic| {
                    topic.partition_states.iter().map(|state| {
                        StopReplicaPartitionError::default()
                            .with_topic_name(topic.topic_name.clone())
                            .with_partition_index(state.partition_index)
                            .with_error_code(code.code())
                    })
                });
                ControlResponse::StopReplica(StopReplicaResponse::default().with_partition_errors(errors.collect()))
            }
        };
        self.events.push_back((from, Event::Response { broker: to, request, response }));
    }
}

fn join(numbers: impl Iterator<Item = i32>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

fn describe(request: &ControlRequest) -> String {
    let mut text = String::new();
    match request {
        ControlRequest::LeaderAndIsr(request) => {
            text.push_str("LeaderAndIsr");
            for topic in &request.topic_states {
                for state in &topic.partition_states {
                    let isr = join(state.isr.iter().map(|id| id.0));
                    let new = if state.is_new { " new" } else { "" };
                    let (name, index) = (topic.topic_name.as_str(), state.partition_index);
                    let _ = write!(text, " [{name}-{index} {}/{}/{isr}{new}]", state.leader.0, state.leader_epoch);
                }
            }
        }
        ControlRequest::UpdateMetadata(request) => {
            let _ =
                write!(text, "UpdateMetadata brokers={}", join(request.live_brokers.iter().map(|broker| broker.id.0)));
            for topic in &request.topic_states {
                for state in &topic.partition_states {
                    let (name, index) = (topic.topic_name.as_str(), state.partition_index);
                    let _ = write!(text, " [{name}-{index} {}]", state.leader.0);
                }
            }
        }
        ControlRequest::StopReplica(request) => {
            text.push_str("StopReplica");
            for topic in &request.topic_states {
                for state in &topic.partition_states {
                    let delete = if state.delete_partition { " delete" } else { "" };
                    let (name, index) = (topic.topic_name.as_str(), state.partition_index);
                    let _ = write!(text, " [{name}-{index} {}{delete}]", state.leader_epoch);
                }
            }
        }
    }
    text
}
