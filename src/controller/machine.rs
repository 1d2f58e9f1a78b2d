//! The controller as a pure machine (class `KafkaController`): events in, effects out.
//!
//! Invariant: one event is worked on at a time, however many reads and writes it takes; the others wait in line, as behind
//! Kafka's single controller thread. Work is a stack of [`Task`]s; a task that needs ZooKeeper asks once and goes on when the
//! answer with its token comes. Every write of an active controller is fenced by the zkVersion of `/controller_epoch` that its
//! election wrote. No clock, no I/O, no randomness of its own.

use super::alter_partition::AlterWait;
use super::brokers::BrokerWait;
use super::candidacy::CandidacyWait;
use super::commands::{Command, CommandReply};
use super::context::{Context, Replica, ReplicaPhase};
use super::deletion::DeletionWait;
use super::elections::Strategy;
pub use super::event::{Answers, Effect, Event, Settings, Timer};
use super::load::LoadWait;
use super::partitions::PartitionWait;
use super::reassign_znode::{Trim, ZnodeWait};
use super::reassignment::{Moves, ReassignWait};
use super::replicas::ReplicaWait;
use super::requests::{ControlRequest, ControlResponse, RequestBatch, Sender};
use super::topics::TopicWait;
use crate::base::{BrokerId, ControllerEpoch, ErrorCode, Millis, TopicId, TopicPartition};
use crate::zookeeper::paths;
use crate::zookeeper::{Operation, Write, ZkError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Active {
    pub epoch: ControllerEpoch,
    /// zkVersion of `/controller_epoch`: the fence.
    pub version: i32,
}

/// What a partition is to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    New,
    Online(Strategy),
    Offline,
    NonExistent,
}

/// A piece of work. Tasks of one event run one after the other.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Task {
    ReadController,
    Load,
    /// The context is loaded: bring the cluster in line with it.
    Start,
    Partitions {
        partitions: Vec<TopicPartition>,
        target: Target,
    },
    Replicas {
        replicas: Vec<Replica>,
        phase: ReplicaPhase,
    },
    /// The same, but what is to be sent waits for the next flush.
    Collect {
        replicas: Vec<Replica>,
        phase: ReplicaPhase,
    },
    /// Send what has been collected.
    Flush,
    /// UpdateMetadata without partitions to all brokers.
    AnnounceBrokers,
    /// UpdateMetadata of these partitions to all brokers.
    AnnouncePartitions(Vec<TopicPartition>),
    /// Election of everything that has no leader.
    ElectOffline,
    Elect {
        partitions: Vec<TopicPartition>,
        strategy: Strategy,
    },
    BrokersChanged,
    BrokersFailed(BTreeSet<BrokerId>),
    BrokersStarted(Vec<(BrokerId, super::context::LiveBroker)>),
    BrokerChanged(BrokerId),
    TopicsChanged,
    TopicChanged(Arc<str>),
    PartitionsCreated(Vec<TopicPartition>),
    DeleteMarkersChanged,
    ResumeDeletions,
    StartDeletion(Arc<str>),
    CompleteDeletion(Arc<str>),
    PreferredElectionZnode,
    ReassignZnode,
    TrimReassignZnode(Trim),
    Reassign(Moves),
    CheckReassignments(Vec<TopicPartition>),
    BumpEpochs(Vec<TopicPartition>),
    FinishReassignments(Vec<TopicPartition>),
    WriteAssignments(Vec<Arc<str>>),
    ReassignmentsDone(Vec<TopicPartition>),
    ResumeReassignments,
    TakenOver,
    IsrNotifications,
    LogDirNotifications,
    ReplyElection {
        token: u64,
        partitions: Vec<TopicPartition>,
        all: bool,
    },
    ReplyShutdown {
        token: u64,
        broker: BrokerId,
    },
    ReplyReassignment {
        token: u64,
        asked: Vec<TopicPartition>,
    },
}

/// What the machine goes on with when ZooKeeper has answered.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Waiting {
    Candidacy(CandidacyWait),
    Load(LoadWait),
    Partition(PartitionWait),
    Replica(ReplicaWait),
    Broker(BrokerWait),
    Topic(TopicWait),
    Deletion(DeletionWait),
    Reassign(ReassignWait),
    ReassignZnode(ZnodeWait),
    Alter(AlterWait),
}

pub struct Controller {
    pub(super) settings: Settings,
    /// Makes topic ids: the machine has no randomness of its own.
    pub(super) new_topic_id: Box<dyn FnMut() -> TopicId + Send>,
    pub(super) session: Option<i64>,
    pub(super) active: Option<Active>,
    pub(super) context: Context,
    pub(super) batch: RequestBatch,
    pub(super) tasks: VecDeque<Task>,
    pub(super) now: Millis,
    pub(super) wall_ms: Millis,
    /// Outcomes of the elections of the current event.
    pub(super) outcomes: BTreeMap<TopicPartition, ErrorCode>,
    /// The command that is worked on, and its answer should the office be lost meanwhile.
    pub(super) unanswered: Option<(u64, CommandReply)>,
    queue: VecDeque<Event>,
    waiting: Option<(u64, Waiting)>,
    last_token: u64,
    effects: Vec<Effect>,
}

impl Controller {
    pub fn new(settings: Settings, new_topic_id: Box<dyn FnMut() -> TopicId + Send>) -> Controller {
        Controller {
            settings,
            new_topic_id,
            session: None,
            active: None,
            context: Context::default(),
            batch: RequestBatch::default(),
            tasks: VecDeque::new(),
            now: 0,
            wall_ms: 0,
            outcomes: BTreeMap::new(),
            unanswered: None,
            queue: VecDeque::new(),
            waiting: None,
            last_token: 0,
            effects: Vec::new(),
        }
    }

    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// What the controller knows; empty unless it is active.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Handles one event. `now` is monotonic, `wall_ms` goes into znodes.
    pub fn step(&mut self, now: Millis, wall_ms: Millis, event: Event) -> Vec<Effect> {
        self.now = now;
        self.wall_ms = wall_ms;
        match event {
            Event::Zk { token, answers } => self.answered(token, answers),
            Event::SessionExpired => {
                self.session = None;
                self.resign();
            }
            event => self.queue.push_back(event),
        }
        self.work();
        std::mem::take(&mut self.effects)
    }

    fn work(&mut self) {
        while self.waiting.is_none() {
            if let Some(task) = self.tasks.pop_front() {
                self.perform(task);
            } else if let Some(event) = self.queue.pop_front() {
                self.outcomes.clear();
                self.begin(event);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, event: Event) {
        match event {
            Event::Session { id } => {
                self.session = Some(id);
                self.then(Task::ReadController);
            }
            Event::Changed { path, children } => self.changed(&path, children),
            Event::Response { broker, request, response } => self.responded(broker, &request, &response),
            Event::Timer(timer) => self.timer(timer),
            Event::Command { token, command } => self.command(token, command),
            Event::Unclean(change) => self.unclean_changed(change),
            Event::Stop => self.stop(),
            Event::Zk { .. } | Event::SessionExpired => {}
        }
    }

    /// Which task a changed znode asks for.
    fn changed(&mut self, path: &str, children: bool) {
        if self.session.is_none() {
            return;
        }
        if path == paths::CONTROLLER {
            return self.then(Task::ReadController);
        }
        if self.active.is_none() {
            return;
        }
        let task = match (path, children) {
            (paths::BROKER_IDS, true) => Task::BrokersChanged,
            (paths::BROKER_TOPICS, true) => Task::TopicsChanged,
            (paths::DELETE_TOPICS, true) => Task::DeleteMarkersChanged,
            (paths::ISR_CHANGES, true) => Task::IsrNotifications,
            (paths::LOG_DIR_EVENTS, true) => Task::LogDirNotifications,
            (paths::PREFERRED_REPLICA_ELECTION, false) => Task::PreferredElectionZnode,
            (paths::REASSIGN_PARTITIONS, false) => Task::ReassignZnode,
            (path, false) => match (paths::topic_of_path(path), paths::broker_of_path(path)) {
                (Some(topic), _) => Task::TopicChanged(topic.into()),
                (_, Some(broker)) => Task::BrokerChanged(broker),
                _ => return,
            },
            _ => return,
        };
        self.then(task);
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::ReadController => self.read_controller(),
            Task::Load => self.load(),
            Task::Start => self.start(),
            Task::Partitions { partitions, target } => self.move_partitions(partitions, target),
            Task::Replicas { replicas, phase } => {
                self.first(Task::Flush);
                self.move_replicas(replicas, phase);
            }
            Task::Collect { replicas, phase } => self.move_replicas(replicas, phase),
            Task::Flush => self.flush(),
            Task::AnnounceBrokers => {
                self.batch.update_metadata(&self.context, &[]);
                self.flush();
            }
            Task::AnnouncePartitions(partitions) => {
                self.batch.update_metadata(&self.context, &partitions);
                self.flush();
            }
            Task::ElectOffline => self.elect_offline(),
            Task::Elect { partitions, strategy } => self.elect(partitions, strategy, None),
            Task::BrokersChanged => self.read_brokers(),
            Task::BrokersFailed(brokers) => self.brokers_failed(brokers),
            Task::BrokersStarted(brokers) => self.brokers_started(brokers),
            Task::BrokerChanged(broker) => self.read_broker(broker),
            Task::TopicsChanged => self.read_topics(),
            Task::TopicChanged(topic) => self.read_topic(topic),
            Task::PartitionsCreated(partitions) => self.partitions_created(partitions),
            Task::DeleteMarkersChanged => self.read_delete_markers(),
            Task::ResumeDeletions => self.resume_deletions(),
            Task::StartDeletion(topic) => self.start_deletion(topic),
            Task::CompleteDeletion(topic) => self.complete_deletion(topic),
            Task::PreferredElectionZnode => self.read_preferred_election(),
            Task::ReassignZnode => self.read_reassign_znode(),
            Task::TrimReassignZnode(trim) => self.trim_reassign_znode(trim),
            Task::Reassign(moves) => self.reassign(moves),
            Task::CheckReassignments(partitions) => self.check_reassignments(partitions),
            Task::BumpEpochs(partitions) => self.bump_epochs(partitions),
            Task::FinishReassignments(partitions) => self.finish_reassignments(partitions),
            Task::WriteAssignments(topics) => self.write_assignments(topics),
            Task::ReassignmentsDone(partitions) => {
                for tp in partitions {
                    self.context.reassigning.remove(&tp);
                }
            }
            Task::ResumeReassignments => self.resume_reassignments(),
            Task::TakenOver => self.taken_over(),
            Task::IsrNotifications => self.read_isr_notifications(),
            Task::LogDirNotifications => self.read_log_dir_notifications(),
            Task::ReplyElection { token, partitions, all } => self.reply_election(token, partitions, all),
            Task::ReplyShutdown { token, broker } => self.reply_shutdown(token, broker),
            Task::ReplyReassignment { token, asked } => self.reply_reassignment(token, asked),
        }
    }

    /// A stale token is the answer to something that was given up.
    fn answered(&mut self, token: u64, answers: Answers) {
        let Some((_, waiting)) = self.waiting.take_if(|(awaited, _)| *awaited == token) else { return };
        let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
        if errors().any(|error| matches!(error.clone().flatten(), ZkError::SessionExpired | ZkError::Closed)) {
            // The event of the expiry, or the end, follows.
            self.give_up();
            return;
        }
        if self.active.is_some() && errors().any(ZkError::is_fenced) {
            self.warn("another controller was elected: this one resigns");
            self.resign();
            self.then(Task::ReadController);
            return;
        }
        match waiting {
            Waiting::Candidacy(wait) => self.candidacy_answered(wait, answers),
            Waiting::Load(wait) => self.load_answered(wait, answers),
            Waiting::Partition(wait) => self.partition_answered(wait, answers),
            Waiting::Replica(wait) => self.replica_answered(wait, answers),
            Waiting::Broker(wait) => self.broker_answered(wait, answers),
            Waiting::Topic(wait) => self.topic_answered(wait, answers),
            Waiting::Deletion(wait) => self.deletion_answered(wait, answers),
            Waiting::Reassign(wait) => self.reassign_answered(wait, answers),
            Waiting::ReassignZnode(wait) => self.reassign_znode_answered(wait, answers),
            Waiting::Alter(wait) => self.alterations_done(wait, answers),
        }
    }

    fn responded(&mut self, broker: BrokerId, request: &ControlRequest, response: &ControlResponse) {
        if self.active.is_none() {
            return;
        }
        match (request, response) {
            (ControlRequest::StopReplica(request), ControlResponse::StopReplica(response)) => {
                self.stop_replica_answered(broker, request, response);
            }
            (ControlRequest::LeaderAndIsr(request), ControlResponse::LeaderAndIsr(response)) => {
                self.leader_and_isr_answered(broker, request, response);
            }
            _ => {}
        }
    }

    /// Runs `task` before what is planned already.
    pub(super) fn first(&mut self, task: Task) {
        self.tasks.push_front(task);
    }

    /// Runs `task` after what is planned already.
    pub(super) fn then(&mut self, task: Task) {
        self.tasks.push_back(task);
    }

    /// Runs `tasks`, in order, before what is planned already.
    pub(super) fn first_all(&mut self, tasks: Vec<Task>) {
        for task in tasks.into_iter().rev() {
            self.tasks.push_front(task);
        }
    }

    pub(super) fn ask(&mut self, operations: Vec<Operation>, waiting: Waiting) {
        self.last_token += 1;
        self.waiting = Some((self.last_token, waiting));
        self.effects.push(Effect::Zk { token: self.last_token, operations });
    }

    /// A write that only the elected controller can do. Without an election it asks for a version that no znode has.
    pub(super) fn fenced(&self, writes: impl IntoIterator<Item = Write>) -> Operation {
        let version = self.active.map_or(i32::MIN, |active| active.version);
        let fence = Write::check(paths::CONTROLLER_EPOCH, version);
        Operation::Multi(std::iter::once(fence).chain(writes).collect())
    }

    pub(super) fn flush(&mut self) {
        let Some(active) = self.active else { return self.batch.clear() };
        let sender = Sender {
            controller: self.settings.broker,
            epoch: active.epoch,
            inter_broker_listener: self.settings.inter_broker_listener.clone(),
        };
        for (broker, request) in self.batch.flush(&self.context, &sender) {
            self.effects.push(Effect::Send { broker, request });
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.effects.push(Effect::Warn(text.into()));
    }

    /// Drops the current event.
    pub(super) fn give_up(&mut self) {
        self.waiting = None;
        self.tasks.clear();
        self.batch.clear();
        if let Some((token, refusal)) = self.unanswered.take() {
            self.emit(Effect::Reply { token, reply: refusal });
        }
    }

    /// Takes the commands out of the queue, for them to be refused.
    pub(super) fn drain_commands(&mut self) -> Vec<(u64, Command)> {
        let (commands, others) =
            std::mem::take(&mut self.queue).into_iter().partition(|event| matches!(event, Event::Command { .. }));
        self.queue = others;
        let commands: VecDeque<Event> = commands;
        commands
            .into_iter()
            .filter_map(|event| match event {
                Event::Command { token, command } => Some((token, command)),
                _ => None,
            })
            .collect()
    }
}
