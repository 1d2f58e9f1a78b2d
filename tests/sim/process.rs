//! One life of a broker: the real replica manager, log manager and controller machine, joined to the simulated world.

use super::clock::{now_ms, sleep_ms};
use super::keeper::{self, Frame, Incoming};
use super::links::{Alterer, Endpoints, NoOverrides};
use super::mistake;
use super::world::{BROKERS, MIN_ISR, World, partitions};
use ottla::base::{BrokerEpoch, BrokerId, ControllerEpoch, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::controller::commands::{Command, CommandReply};
use ottla::controller::machine::{Controller, Effect, Event};
use ottla::controller::{ControlRequest, ControlResponse, Settings};
use ottla::log::LogManager;
use ottla::replica::fetch_session::FetchSessionCache;
use ottla::replica::{MetadataCache, ReplicaManager, ReplicaParts};
use ottla::wire::messages::UpdateMetadataResponse;
use ottla::zookeeper::embedded::watches::ConnectionId;
use ottla::zookeeper::paths::{self, BrokerInfo, RegisteredEndpoint};
use ottla::zookeeper::{Answer, Operation, Write, Written, ZkError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PING_EVERY_MS: u64 = 600;
const RETRY_MS: u64 = 100;
const LAG_MAX_MS: i64 = 3000;
/// The longest that the recovery of one log takes.
const LOG_RECOVERY_MS: u64 = 2500;

/// Where the reply to a request goes.
type Asked = oneshot::Sender<Result<Vec<u8>, i32>>;

/// The way to the server within a session. Frames without a reply are pings.
type Requests = UnboundedSender<(Frame, Option<Asked>)>;

/// To one broker, while this one is the controller.
struct Channel {
    queue: UnboundedSender<ControlRequest>,
    task: JoinHandle<()>,
}

pub struct Process {
    pub id: i32,
    /// Of this life, among all of all brokers.
    pub life: u64,
    world: Arc<World>,
    alive: AtomicBool,
    pub metadata: Arc<MetadataCache>,
    /// Of followers that fetch here.
    pub sessions: FetchSessionCache,
    replicas: Mutex<Option<Arc<ReplicaManager>>>,
    events: UnboundedSender<Event>,
    session: Mutex<Option<Requests>>,
    /// The controller as this broker knows it, and its epoch if it is this one.
    controller: Mutex<(Option<i32>, Option<ControllerEpoch>)>,
    replies: Mutex<BTreeMap<u64, oneshot::Sender<CommandReply>>>,
    channels: Mutex<BTreeMap<i32, Channel>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    tokens: AtomicU64,
}

fn config(world: &World, id: i32) -> (BrokerConfig, LogConfig) {
    let log = LogConfig { min_insync_replicas: MIN_ISR, segment_bytes: 4096, ..LogConfig::default() };
    let mut broker = BrokerConfig { broker_id: id, log_dirs: vec![world.folder_of(id)], ..BrokerConfig::default() };
    broker.log = log.clone();
    broker.replication.lag_time_max_ms = LAG_MAX_MS;
    (broker, log)
}

impl Process {
    pub async fn start(world: &Arc<World>, id: i32) -> Arc<Process> {
        static LIVES: AtomicU64 = AtomicU64::new(0);
        let (config, log) = config(world, id);
        mistake::before_start(world, &world.folder_of(id));
        let of_topic = log.clone();
        // Some take long to recover their logs, and are there before they have all of them.
        let at_once_bytes_max = if world.below(2) == 0 { 0 } else { u64::MAX };
        let logs = LogManager::open_up_to(at_once_bytes_max, &config, &move |_| of_topic.clone());
        let logs = logs.expect("the logs open after any end");
        let (events, incoming) = unbounded_channel();
        let process = Arc::new(Process {
            id,
            life: LIVES.fetch_add(1, Ordering::Relaxed),
            world: world.clone(),
            alive: AtomicBool::new(true),
            metadata: Arc::new(MetadataCache::new()),
            // In some worlds too few for all followers, or none.
            sessions: FetchSessionCache::new((world.seed % BROKERS as u64) as usize),
            replicas: Mutex::default(),
            events,
            session: Mutex::default(),
            controller: Mutex::default(),
            replies: Mutex::default(),
            channels: Mutex::default(),
            tasks: Mutex::default(),
            tokens: AtomicU64::new(1),
        });
        let replicas = Arc::new(ReplicaManager::new(ReplicaParts {
            local: BrokerId(id),
            broker_epoch: Arc::default(),
            logs,
            metadata: process.metadata.clone(),
            topic_configs: Arc::new(NoOverrides(log)),
            leaders: Arc::new(Endpoints(Arc::downgrade(&process))),
            replication: config.replication.clone(),
        }));
        replicas.start(Arc::new(Alterer(Arc::downgrade(&process))), || ());
        *process.replicas.lock() = Some(replicas);
        process.spawn(process.clone().control(incoming));
        process.spawn(process.clone().keep_registered());
        process.spawn(process.clone().recover_logs());
        process
    }

    async fn recover_logs(self: Arc<Process>) {
        loop {
            sleep_ms(self.world.below(LOG_RECOVERY_MS)).await;
            if !self.replicas().is_some_and(|replicas| replicas.logs().recover_next()) {
                return;
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().push(tokio::spawn(task));
    }

    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// `None` once it is dead.
    pub fn replicas(&self) -> Option<Arc<ReplicaManager>> {
        self.replicas.lock().clone()
    }

    /// The controller, as this broker knows.
    pub fn controller(&self) -> Option<i32> {
        self.controller.lock().0
    }

    pub fn active_epoch(&self) -> Option<ControllerEpoch> {
        self.controller.lock().1
    }

    /// Nothing of this life acts any more when this returns.
    pub async fn kill(&self) {
        self.alive.store(false, Ordering::SeqCst);
        *self.session.lock() = None;
        let replicas = self.replicas.lock().take();
        self.channels.lock().values().for_each(|channel| channel.task.abort());
        self.channels.lock().clear();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.replies.lock().clear();
        let Some(replicas) = replicas else { return };
        replicas.stop_fetching();
        let logs = Arc::downgrade(replicas.logs());
        drop(replicas);
        // Requests that are being served let go of it within their waits.
        for _ in 0..10_000 {
            if logs.strong_count() == 0 {
                return;
            }
            sleep_ms(1).await;
        }
        panic!("seed {}: something of a killed broker lives on", self.world.seed);
    }

    // ZooKeeper.

    /// Holds a session, and is registered in it.
    async fn keep_registered(self: Arc<Process>) {
        loop {
            self.world.travel_to_keeper(self.id).await;
            let (connection, id, frames) = self.world.keeper.lock().connect();
            let closed = self.open(connection, frames);
            if let Some(epoch) = self.register().await {
                if let Some(replicas) = self.replicas() {
                    replicas.set_broker_epoch(epoch);
                }
                self.tell_controller(Event::Session { id });
            }
            let _ = closed.await;
            *self.session.lock() = None;
            self.tell_controller(Event::SessionExpired);
        }
    }

    fn tell_controller(&self, event: Event) {
        if mistake::reaches_controller(&self.world, self.active_epoch()) {
            let _ = self.events.send(event);
        }
    }

    /// Both directions of a connection, each in order. The receiver fires when the server has closed it.
    fn open(
        self: &Arc<Process>,
        connection: ConnectionId,
        mut frames: UnboundedReceiver<Frame>,
    ) -> oneshot::Receiver<()> {
        let waiting: Arc<Mutex<VecDeque<Asked>>> = Arc::default();
        let (requests, mut outgoing) = unbounded_channel::<(Frame, Option<Asked>)>();
        *self.session.lock() = Some(requests.clone());
        let (process, replies) = (self.clone(), waiting.clone());
        self.spawn(async move {
            while let Some((frame, reply)) = outgoing.recv().await {
                process.world.travel_to_keeper(process.id).await;
                let is_open = match reply {
                    Some(reply) => {
                        replies.lock().push_back(reply);
                        process.world.keeper.lock().request(connection, &frame)
                    }
                    None => process.world.keeper.lock().ping(connection),
                };
                if !is_open {
                    replies.lock().clear();
                }
                process.world.look();
            }
        });
        self.spawn(async move {
            while requests.send((Vec::new(), None)).is_ok() {
                sleep_ms(PING_EVERY_MS).await;
            }
        });
        let (close, closed) = oneshot::channel();
        let process = self.clone();
        self.spawn(async move {
            while let Some(frame) = frames.recv().await {
                process.world.travel_to_keeper(process.id).await;
                match keeper::read_frame(&frame).expect("the server's frames can be read") {
                    Incoming::Pong => {}
                    Incoming::Changed { path, children } => {
                        let _ = process.events.send(Event::Changed { path, children });
                    }
                    // On a connection that is closed nobody waits for the last replies.
                    Incoming::Reply(reply) => {
                        if let Some(asked) = waiting.lock().pop_front() {
                            let _ = asked.send(reply);
                        }
                    }
                }
            }
            waiting.lock().clear();
            process.world.travel_to_keeper(process.id).await;
            let _ = close.send(());
        });
        closed
    }

    /// Sends operations in order; the answers come by and by.
    fn ask(&self, operations: Vec<Operation>) -> impl Future<Output = Vec<Result<Answer, ZkError>>> + Send + 'static {
        let session = self.session.lock().clone();
        let asked: Vec<_> = operations
            .into_iter()
            .map(|operation| {
                let (sender, receiver) = oneshot::channel();
                if let Some(session) = &session {
                    let _ = session.send((keeper::encode(&operation), Some(sender)));
                }
                (operation, receiver)
            })
            .collect();
        async move {
            let mut answers = Vec::new();
            for (operation, receiver) in asked {
                answers.push(match receiver.await {
                    Ok(reply) => keeper::decode(&operation, reply),
                    Err(_) => Err(ZkError::SessionExpired),
                });
            }
            answers
        }
    }

    async fn register(&self) -> Option<BrokerEpoch> {
        let endpoint = RegisteredEndpoint {
            listener: "PLAINTEXT".into(),
            host: format!("h{}", self.id),
            port: 9092,
            security_protocol: "PLAINTEXT".into(),
        };
        let info = BrokerInfo { endpoints: vec![endpoint], rack: None, timestamp_ms: 0, features: BTreeMap::new() };
        let path = paths::broker_id(BrokerId(self.id));
        loop {
            let writes = vec![Write::create_ephemeral(&path, ""), Write::set(&path, info.to_json(), Some(0))];
            match self.ask(vec![Operation::Multi(writes)]).await.pop()? {
                Ok(Answer::Multi(written)) => match written.last() {
                    Some(Written::Set(stat)) => return Some(BrokerEpoch(stat.czxid)),
                    other => panic!("a registration was answered with {other:?}"),
                },
                // An earlier life is still registered: its session has to end.
                Err(ZkError::Multi { index: 0, .. }) => sleep_ms(RETRY_MS).await,
                _ => return None,
            }
        }
    }

    // The controller.

    async fn control(self: Arc<Process>, mut incoming: UnboundedReceiver<Event>) {
        let settings = Settings {
            broker: BrokerId(self.id),
            inter_broker_listener: "PLAINTEXT".into(),
            delete_topic_enable: true,
            unclean_leader_election: mistake::allows_unclean_elections(&self.world),
            leader_recovery: true,
            auto_rebalance: Some((5000, 10)),
        };
        let mut machine = Controller::new(settings, Box::new(|| TopicId(uuid::Uuid::from_u128(0xc0ffee))));
        while let Some(event) = incoming.recv().await {
            for effect in machine.step(now_ms(), 0, event) {
                self.apply(effect);
            }
            self.world.look();
        }
    }

    fn apply(self: &Arc<Process>, effect: Effect) {
        match effect {
            Effect::Zk { token, operations } => {
                let operations = mistake::in_controller(&self.world, operations);
                let (answers, events) = (self.ask(operations), self.events.clone());
                self.spawn(async move {
                    let _ = events.send(Event::Zk { token, answers: answers.await });
                });
            }
            Effect::OpenChannel { broker, .. } => self.open_channel(broker.0),
            Effect::CloseChannel { broker } => self.close_channel(broker.0),
            Effect::Send { broker, request } => {
                if let Some(channel) = self.channels.lock().get(&broker.0) {
                    let _ = channel.queue.send(request);
                }
            }
            Effect::Timer { timer, at } => {
                let events = self.events.clone();
                self.spawn(async move {
                    sleep_ms((at - now_ms()).max(0) as u64).await;
                    let _ = events.send(Event::Timer(timer));
                });
            }
            Effect::Reply { token, reply } => {
                if let Some(asked) = self.replies.lock().remove(&token) {
                    let _ = asked.send(reply);
                }
            }
            Effect::Controller { broker, active } => {
                *self.controller.lock() = (broker.map(|id| id.0), active);
                self.world.note(format!("{}: controller {broker:?} {active:?}", self.id));
            }
            // Watches that fire after this tell the machine something that it no longer asks for.
            Effect::TakenOver { .. } | Effect::ClearWatches | Effect::Warn(_) => {}
        }
    }

    fn close_channel(&self, broker: i32) {
        if let Some(channel) = self.channels.lock().remove(&broker) {
            channel.task.abort();
        }
    }

    fn open_channel(self: &Arc<Process>, broker: i32) {
        self.close_channel(broker);
        let (queue, mut requests) = unbounded_channel::<ControlRequest>();
        let process = self.clone();
        let task = tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                loop {
                    let sent = request.clone();
                    let serve = |target: Arc<Process>| async move { target.serve(sent).await };
                    match process.world.call(&process, broker, serve).await.flatten() {
                        Some(response) => {
                            let event = Event::Response { broker: BrokerId(broker), request, response };
                            let _ = process.events.send(event);
                            break;
                        }
                        None => sleep_ms(RETRY_MS).await,
                    }
                }
            }
        });
        self.channels.lock().insert(broker, Channel { queue, task });
    }

    /// A control request arrives.
    async fn serve(&self, request: ControlRequest) -> Option<ControlResponse> {
        let replicas = self.replicas()?;
        let request = mistake::in_control(&self.world, &replicas, request);
        Some(match request {
            ControlRequest::LeaderAndIsr(request) => {
                let response = replicas.leader_and_isr(&request).await;
                ControlResponse::LeaderAndIsr(mistake::in_control_answer(&self.world, &replicas, response))
            }
            ControlRequest::UpdateMetadata(request) => {
                let code = replicas.update_metadata(&request).await.err().map_or(0, |code| code.code());
                ControlResponse::UpdateMetadata(UpdateMetadataResponse::default().with_error_code(code))
            }
            ControlRequest::StopReplica(request) => {
                self.world.observed.lock().leaves(self);
                ControlResponse::StopReplica(replicas.stop_replica(&request).await)
            }
        })
    }

    /// Something is asked of the controller that this broker may be.
    pub async fn command(&self, command: Command) -> Option<CommandReply> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.replies.lock().insert(token, sender);
        let _ = self.events.send(Event::Command { token, command });
        receiver.await.ok()
    }

    /// Where each of its logs ends; `None` while nobody knows.
    pub fn log_ends(&self) -> BTreeMap<i32, Option<i64>> {
        let Some(replicas) = self.replicas() else { return BTreeMap::new() };
        let end = |partition: TopicPartition| match replicas.logs().unready(&partition) {
            Some(_) => Some((partition.partition, None)),
            None => Some((partition.partition, Some(replicas.logs().log(&partition)?.log_end_offset()))),
        };
        partitions().filter_map(end).collect()
    }
}

pub fn all_brokers() -> Vec<i32> {
    (1..=BROKERS).collect()
}
