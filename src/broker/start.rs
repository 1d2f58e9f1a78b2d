//! Start-up and shutdown, step by step. What each step touches in ZooKeeper is in `zookeeper::registration`.

use super::coordinators::{self, Coordinators};
use super::dynamic_configs::{DynamicConfigs, Followers};
use super::gate::Gate;
use super::guardian::Guardian;
use super::identity::{self, IdentityError};
use super::local_channel::LocalChannels;
use super::replication;
use super::shutdown;
use crate::api::{self, Services};
use crate::base::{BrokerId, TopicPartition};
use crate::config::{BrokerConfig, ControlledShutdownConfig};
use crate::console::{Console, ConsoleError, View};
use crate::controller::{self, AutoTopicCreation, ControllerClient, ControllerHandle};
use crate::log::{LogError, LogManager, read_meta_properties, write_meta_properties};
use crate::net::{NetError, Server};
use crate::replica::fetch_session::FetchSessionCache;
use crate::replica::{MetadataCache, ReplicaManager, ReplicaParts};
use crate::zookeeper::configs;
use crate::zookeeper::embedded::{self, EmbeddedConfig, EmbeddedError};
use crate::zookeeper::paths::EntityConfig;
use crate::zookeeper::registration::{self, Leftover, Registrar, RegistrationError};
use crate::zookeeper::{Zk, ZkConfig, ZkError};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// How long replies in flight may take to leave at shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// How long to wait for the controller before answering clients.
const LEADERS_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why the broker does not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the operating system refuses: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    ZooKeeper(#[from] ZkError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A broker that answers.
pub struct Running {
    server: Server,
    zookeeper: Zk,
    guardian: Option<Guardian>,
    embedded: Option<embedded::Server>,
    logs: Arc<LogManager>,
    controller: ControllerHandle,
    controlled_shutdown: ControlledShutdownConfig,
    controller_client: ControllerClient,
    coordinators: Coordinators,
    replicas: Arc<ReplicaManager>,
    console: Option<Console>,
    view: Arc<View>,
    /// Rung when the last log directory has failed.
    no_disk: Arc<Notify>,
    registrar: Registrar,
}

pub async fn start(config: BrokerConfig, data: &Handle) -> Result<Running, BrokerError> {
    let server = {
        let _on_data = data.enter();
        Server::bind(&config)?
    };
    let view = Arc::new(View::default());
    let console = Console::start(&config, view.clone(), data)?;
    let (embedded, connect) = embedded(&config).await?;
    let zk_config = ZkConfig::of(&config, connect)?;
    let zookeeper = Zk::connect(zk_config.clone()).await?;
    // A ZooKeeper in the same process ends together with the broker; there is nobody to tell.
    let guardian =
        embedded.is_none().then(|| Guardian::start(zookeeper.clone(), zk_config, config.zookeeper_security.clone()));
    registration::create_persistent_paths(&zookeeper).await?;
    let cluster_id = registration::cluster_id(&zookeeper).await?;
    let id = broker_id(&config, &cluster_id, &zookeeper).await?;
    let config = Arc::new(BrokerConfig { broker_id: id.0, ..config });
    let dynamic = DynamicConfigs::read(&zookeeper, config, id).await?;
    let logs = open_logs(&dynamic, id, &cluster_id, &zookeeper).await?;
    let _ = view.logs.set(logs.clone());
    let parts = Parts { zookeeper, guardian, embedded, logs: logs.clone(), dynamic, cluster_id, console, view };
    match join(server, parts, id, data).await {
        Ok(running) => Ok(running),
        Err(error) => {
            // What was opened in order is left in order.
            close(logs).await;
            Err(error)
        }
    }
}

/// What is there before the broker joins the cluster.
struct Parts {
    zookeeper: Zk,
    guardian: Option<Guardian>,
    embedded: Option<embedded::Server>,
    logs: Arc<LogManager>,
    dynamic: Arc<DynamicConfigs>,
    cluster_id: String,
    console: Option<Console>,
    view: Arc<View>,
}

/// Registers, runs for controller, and answers.
async fn join(mut server: Server, parts: Parts, id: BrokerId, data: &Handle) -> Result<Running, BrokerError> {
    let Parts { zookeeper, guardian, embedded, logs, dynamic, cluster_id, console, view } = parts;
    let config = dynamic.config();
    registration::check_features(&zookeeper).await?;
    let leftover = match embedded {
        Some(_) => Leftover::Remove,
        None => Leftover::Wait(millis(config.zookeeper_session_timeout_ms) + Duration::from_secs(2)),
    };
    let info = registration::broker_info(&config, crate::base::time::wall_ms());
    let registrar = Registrar::start(&zookeeper, id, info, leftover).await?;
    let metadata = Arc::new(MetadataCache::new());
    let broker_epoch = Arc::new(AtomicI64::new(registrar.epoch().0));
    let replicas = Arc::new(ReplicaManager::new(ReplicaParts {
        local: id,
        broker_epoch: broker_epoch.clone(),
        logs: logs.clone(),
        metadata: metadata.clone(),
        topic_configs: dynamic.clone(),
        leaders: replication::leaders(&config, id, broker_epoch.clone(), metadata.clone()),
        replication: config.replication.clone(),
    }));
    let coordinators = Coordinators::start(&config, &replicas, &metadata, &zookeeper, broker_epoch, data);
    follow_broker_epoch(&registrar, &replicas);
    let channels = Arc::new(LocalChannels {
        config: config.clone(),
        replicas: replicas.clone(),
        groups: coordinators.groups.clone(),
        data: data.clone(),
    });
    let controller = ControllerHandle::start(&zookeeper, &registrar, controller_settings(&config), channels);
    coordinators.count_partitions(&controller).await?;
    let _ = view.replicas.set(replicas.clone());
    let _ = view.controller.set(controller.clone());
    let no_disk = Arc::new(Notify::new());
    let dir_failed = {
        let (zookeeper, logs, no_disk) = (zookeeper.clone(), logs.clone(), no_disk.clone());
        move || match logs.are_all_dirs_offline() {
            true => no_disk.notify_one(),
            false => replication::announce_dir_failure(&zookeeper, id),
        }
    };
    let controller_client = replication::controller_client(&config, id, &controller, &metadata);
    coordinators.get_producer_ids_from(&controller_client);
    replicas.start(Arc::new(replication::Alterer(controller_client.clone())), dir_failed);
    let auto_creation = AutoTopicCreation::new(controller.clone(), config.clone(), metadata.clone());
    let verifier = coordinators.verifier(&config, &metadata);
    dynamic.follow(Followers {
        logs: logs.clone(),
        replicas: replicas.clone(),
        controller: controller.clone(),
        verifier: verifier.clone(),
    });
    let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let controlled_shutdown = config.controlled_shutdown;
    let services = Arc::new(Services {
        config,
        cluster_id: cluster_id.into(),
        metadata,
        replicas,
        fetch_sessions: FetchSessionCache::new(slots),
        groups: coordinators.groups.clone(),
        transactions: coordinators.transactions.clone(),
        verifier,
        producer_ids: coordinators.producer_ids.clone(),
        controller: controller.clone(),
        auto_creation: Arc::new(auto_creation),
        zookeeper: zookeeper.clone(),
    });
    let replicas = services.replicas.clone();
    let gate = Gate::new();
    {
        let _on_data = data.enter();
        let (gate, services) = (gate.clone(), services.clone());
        server.serve(Arc::new(move |request| {
            let services = services.clone();
            gate.pass(request, move |request| api::dispatch(&services, request))
        }));
    }
    partitions_known(&services).await;
    gate.open();
    view.set_ready(true);
    if services.config.internal_topics_at_start {
        tokio::spawn(coordinators::create_topics(services.auto_creation.clone(), services.metadata.clone()));
    }
    Ok(Running {
        server,
        zookeeper,
        guardian,
        embedded,
        logs,
        controller,
        controlled_shutdown,
        controller_client,
        coordinators,
        replicas,
        console,
        view,
        no_disk,
        registrar,
    })
}

/// Waits until the controller has said who leads the partitions that lie on this broker, so that its first answers are not errors.
/// Bounded, since the controller may be elsewhere, or a log may be left of a topic that is gone.
async fn partitions_known(services: &Services) {
    let mut updates = services.metadata.subscribe();
    let replicas = &services.replicas;
    let known = || {
        let is_live = services.metadata.image().brokers.contains_key(&replicas.local());
        // Those first: what is ready meanwhile is among the others.
        let mut names = replicas.logs().recovering();
        names.extend(replicas.logs().all().iter().map(|log| log.topic_partition().clone()));
        let is_known = |TopicPartition { topic, partition }: &TopicPartition| {
            replicas.hosted(topic, *partition).is_some() || replicas.is_awaited(topic, *partition)
        };
        is_live && names.iter().all(is_known)
    };
    let all = async {
        // What is recovered meanwhile comes without an update.
        while !known() && !matches!(tokio::time::timeout(LOOK_AGAIN, updates.changed()).await, Ok(Err(_))) {}
    };
    if tokio::time::timeout(LEADERS_WITHIN, all).await.is_err() {
        tracing::warn!("the controller has not yet said who leads all partitions of this broker");
    }
}

/// The id from the configuration, the log directories, or a new one from ZooKeeper.
async fn broker_id(config: &BrokerConfig, cluster_id: &str, zookeeper: &Zk) -> Result<BrokerId, BrokerError> {
    let mut dirs = Vec::new();
    for dir in &config.log_dirs {
        match read_meta_properties(dir) {
            Ok(meta) => dirs.push((dir.clone(), meta)),
            // A disk that does not work stands alone, as long as another one does: that is judged when the logs are opened.
            Err(LogError::Storage { .. }) if config.log_dirs.len() > 1 => {}
            Err(error) => return Err(error.into()),
        }
    }
    match identity::identify(config.broker_id, cluster_id, &dirs)? {
        Some(id) => Ok(id),
        None => Ok(registration::generate_broker_id(zookeeper, config.reserved_broker_max_id).await?),
    }
}

/// Locks and loads the log directories, each log with its topic's settings, and writes who they belong to.
async fn open_logs(
    dynamic: &Arc<DynamicConfigs>,
    id: BrokerId,
    cluster_id: &str,
    zookeeper: &Zk,
) -> Result<Arc<LogManager>, BrokerError> {
    let topics = configs::read_all_topics(zookeeper).await?;
    let dynamic = dynamic.clone();
    let load = move || {
        let none = EntityConfig::default();
        let of_topic = |topic: &str| dynamic.log_config(topic, topics.get(topic).unwrap_or(&none));
        LogManager::open_early(&dynamic.config(), &of_topic)
    };
    let logs = tokio::task::spawn_blocking(load).await.map_err(|error| BrokerError::Runtime(error.into()))??;
    for dir in logs.dirs().iter().filter(|dir| !dir.is_offline) {
        if read_meta_properties(&dir.path)?.is_none() {
            write_meta_properties(&dir.path, id, cluster_id)?;
        }
    }
    logs.start_background().map_err(BrokerError::Runtime)?;
    Ok(logs)
}

/// Closes the logs. That writes to disk, and the ZooKeeper session has to be kept alive meanwhile.
async fn close(logs: Arc<LogManager>) {
    if tokio::task::spawn_blocking(move || logs.shutdown()).await.is_err() {
        tracing::error!("closing the logs failed; the next start recovers them");
    }
}

fn controller_settings(config: &BrokerConfig) -> controller::Settings {
    let interval_ms = config.leader_imbalance_check_interval_seconds.saturating_mul(1000);
    let auto_rebalance = (interval_ms, config.leader_imbalance_per_broker_percentage);
    controller::Settings {
        broker: BrokerId(config.broker_id),
        inter_broker_listener: config.inter_broker_listener_name.clone(),
        delete_topic_enable: config.delete_topic_enable,
        unclean_leader_election: config.log.unclean_leader_election_enable,
        leader_recovery: config.inter_broker_protocol.knows_leader_recovery(),
        auto_rebalance: config.auto_leader_rebalance_enable.then_some(auto_rebalance),
    }
}

/// Each new registration has a new epoch, by which requests meant for an earlier life are refused.
fn follow_broker_epoch(registrar: &Registrar, replicas: &Arc<ReplicaManager>) {
    let (mut epochs, replicas) = (registrar.subscribe(), replicas.clone());
    tokio::spawn(async move {
        while epochs.changed().await.is_ok() {
            replicas.set_broker_epoch(*epochs.borrow_and_update());
        }
    });
}

pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}

/// The server inside, if no other is configured, and where to connect to.
async fn embedded(config: &BrokerConfig) -> Result<(Option<embedded::Server>, String), BrokerError> {
    if let Some(connect) = &config.zookeeper_connect {
        return Ok((None, connect.clone()));
    }
    let server = embedded::Server::start(EmbeddedConfig {
        address: config.zookeeper_embedded_address.clone(),
        port: config.zookeeper_embedded_port,
        ..EmbeddedConfig::new(&config.zookeeper_embedded_data_dir)
    })
    .await?;
    let connect = server.local_addr().to_string();
    Ok((Some(server), connect))
}

impl Running {
    /// Where it listens, for the log.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> =
            self.server.addresses().iter().map(|(listener, address)| format!("{listener}://{address}")).collect();
        if let Some(embedded) = &self.embedded {
            parts.push(format!("ZooKeeper inside on {}", embedded.local_addr()));
        }
        if let Some(console) = &self.console {
            parts.push(format!("console on http://{}/metrics", console.address()));
        }
        parts.join(", ")
    }

    /// Returns when the broker cannot go on: no log directory works, or the ZooKeeper inside does not.
    pub async fn failed(&self) -> BrokerError {
        let embedded = async {
            match &self.embedded {
                Some(embedded) => embedded.failed().await.into(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = embedded => error,
            () = self.no_disk.notified() => self.logs.all_failed().unwrap_or(LogError::NoLiveDirectory).into(),
        }
    }

    /// Stops in the order that loses nothing: leaderships, requests, logs, registration, ZooKeeper.
    pub async fn stop(self) {
        self.view.set_ready(false);
        if self.controlled_shutdown.enable {
            self.replicas.begin_stopping();
            shutdown::hand_over(&self.controlled_shutdown, &self.controller_client, self.registrar.epoch()).await;
        }
        // Who waits for a rebalance is answered, so that draining does not wait for it.
        self.coordinators.shutdown();
        self.replicas.stop_fetching();
        self.server.shutdown(DRAIN).await;
        close(self.logs).await;
        self.controller.stop().await;
        if self.zookeeper.close().await
            && let Some(guardian) = self.guardian
        {
            guardian.dismiss().await;
        }
        if let Some(embedded) = self.embedded {
            embedded.shutdown().await;
        }
    }
}
