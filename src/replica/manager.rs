//! All partitions of this broker (class `ReplicaManager`), and who is told when their leadership changes.

use super::alter_partition::{IsrQueue, PartitionAlterer};
use super::awaited::Awaited;
use super::error::ReplicaError;
use super::fetcher::{FetcherManager, FetcherSettings, Leaders};
use super::metadata_cache::MetadataCache;
use super::partition::{Partition, Surroundings};
use super::throttle::ReplicationQuota;
use crate::base::{BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, TopicId, TopicPartition, time};
use crate::config::{LogConfig, ReplicaSelector, ReplicationConfig};
use crate::log::LogManager;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// Told of leadership changes of partitions: the coordinators.
pub trait LeadershipListener: Send + Sync {
    /// This broker leads the partition in this epoch. Called again when the epoch rises.
    fn on_leader(&self, partition: &TopicPartition, epoch: LeaderEpoch);
    /// This broker no longer leads the partition, or no longer has it.
    fn on_resigned(&self, partition: &TopicPartition);
}

/// Where the settings of topics come from: the topics' own znodes over the broker's settings.
pub trait TopicConfigs: Send + Sync {
    fn log_configs(
        &self,
        topics: Vec<Arc<str>>,
    ) -> Pin<Box<dyn Future<Output = HashMap<Arc<str>, LogConfig>> + Send + '_>>;
}

type Partitions = HashMap<Arc<str>, Arc<BTreeMap<i32, Arc<Partition>>>>;

/// What a replica manager is made of.
pub struct ReplicaParts {
    pub local: BrokerId,
    /// Of the current registration: fetches carry it.
    pub broker_epoch: Arc<AtomicI64>,
    pub logs: Arc<LogManager>,
    pub metadata: Arc<MetadataCache>,
    pub topic_configs: Arc<dyn TopicConfigs>,
    pub leaders: Arc<dyn Leaders>,
    pub replication: ReplicationConfig,
}

pub struct ReplicaManager {
    pub(super) local: BrokerId,
    pub(super) broker_epoch: Arc<AtomicI64>,
    pub(super) logs: Arc<LogManager>,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) topic_configs: Arc<dyn TopicConfigs>,
    pub(super) around: Arc<Surroundings>,
    pub(super) fetchers: FetcherManager,
    pub(super) leader_quota: ReplicationQuota,
    pub(super) follower_quota: Arc<ReplicationQuota>,
    pub(super) selector: ReplicaSelector,
    /// Highest controller epoch seen: requests of older controllers are refused. The lock serialises control requests.
    pub(super) control: tokio::sync::Mutex<ControllerEpoch>,
    /// Partitions whose logs are still being recovered.
    pub(super) awaited: Mutex<HashMap<TopicPartition, Awaited>>,
    isr_queue: Arc<IsrQueue>,
    is_stopping: AtomicBool,
    partitions: ArcSwap<Partitions>,
    /// Serialises changes of `partitions`.
    writer: Mutex<()>,
    listeners: RwLock<Vec<Arc<dyn LeadershipListener>>>,
}

impl ReplicaManager {
    pub fn new(parts: ReplicaParts) -> ReplicaManager {
        let replication = parts.replication;
        let window_ms = replication.quota_window_size_seconds.saturating_mul(1000);
        let quota = |rate| ReplicationQuota::new(rate, window_ms, replication.quota_window_num);
        let follower_quota = Arc::new(quota(replication.follower_throttled_rate));
        let settings = FetcherSettings { backoff_ms: replication.fetch_backoff_ms };
        let isr_queue = Arc::new(IsrQueue::default());
        if replication.selector == ReplicaSelector::Other {
            tracing::warn!(
                "replica.selector.class names a class that Ottla does not have: consumers read from leaders"
            );
        }
        ReplicaManager {
            local: parts.local,
            broker_epoch: parts.broker_epoch,
            around: Arc::new(Surroundings {
                local: parts.local,
                logs: parts.logs.clone(),
                metadata: parts.metadata.clone(),
                isr_changes: isr_queue.clone(),
                lag_max_ms: replication.lag_time_max_ms,
                clock: Arc::new(time::monotonic_ms),
            }),
            logs: parts.logs,
            metadata: parts.metadata,
            topic_configs: parts.topic_configs,
            fetchers: FetcherManager::new(settings, replication.num_fetchers, parts.leaders, follower_quota.clone()),
            leader_quota: quota(replication.leader_throttled_rate),
            follower_quota,
            selector: replication.selector,
            control: tokio::sync::Mutex::new(ControllerEpoch(0)),
            awaited: Mutex::default(),
            isr_queue,
            is_stopping: AtomicBool::new(false),
            partitions: ArcSwap::default(),
            writer: Mutex::new(()),
            listeners: RwLock::default(),
        }
    }

    /// Starts what runs beside requests, on the current runtime: proposals to the controller, the look for followers that fall
    /// behind, the logs that come to the end of their recovery. `on_dir_failure` hears of log directories that fail, after their
    /// partitions were taken out of use, and of logs that cannot be recovered.
    pub fn start(
        self: &Arc<ReplicaManager>,
        alterer: Arc<dyn PartitionAlterer>,
        on_dir_failure: impl Fn() + Send + Sync + 'static,
    ) {
        tokio::spawn(self.isr_queue.clone().run(alterer, Arc::downgrade(self)));
        let replicas = Arc::downgrade(self);
        let period = Duration::from_millis((self.around.lag_max_ms / 2).max(1) as u64);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(replicas) = replicas.upgrade() else { return };
                replicas.all().iter().for_each(|partition| partition.shrink_isr());
            }
        });
        let on_dir_failure: Arc<dyn Fn() + Send + Sync> = Arc::new(on_dir_failure);
        self.follow_recovery(on_dir_failure.clone());
        self.follow_log_dirs(on_dir_failure);
    }

    /// Takes the partitions of a log directory out of use when the directory fails. The others go on.
    fn follow_log_dirs(self: &Arc<ReplicaManager>, on_dir_failure: Arc<dyn Fn() + Send + Sync>) {
        let replicas = Arc::downgrade(self);
        let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
        self.logs.on_dir_failure(move || {
            let _ = failed.send(());
        });
        tokio::spawn(async move {
            while failures.recv().await.is_some() {
                let Some(replicas) = replicas.upgrade() else { return };
                replicas.retire_offline();
                on_dir_failure();
            }
        });
    }

    fn retire_offline(&self) {
        let offline: Vec<_> = self.all().into_iter().filter(|partition| partition.is_offline()).collect();
        self.fetchers.stop(offline.iter().map(|partition| partition.topic_partition()));
        for partition in offline {
            partition.retire();
            self.tell(|listener| listener.on_resigned(partition.topic_partition()));
        }
    }

    /// The controller is about to be asked to move the leaderships of this broker away.
    pub fn begin_stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// No more fetches from leaders: the broker stops.
    pub fn stop_fetching(&self) {
        self.fetchers.stop_all();
    }

    /// New rates of the dynamic configs.
    pub fn set_throttles(&self, replication: &ReplicationConfig) {
        self.leader_quota.set_rate(replication.leader_throttled_rate);
        self.follower_quota.set_rate(replication.follower_throttled_rate);
    }

    pub fn broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.broker_epoch.load(Ordering::SeqCst))
    }

    pub fn local(&self) -> BrokerId {
        self.local
    }

    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    /// The epoch of the current registration: control requests meant for an earlier life are refused.
    pub fn set_broker_epoch(&self, epoch: BrokerEpoch) {
        self.broker_epoch.store(epoch.0, Ordering::SeqCst);
    }

    pub fn add_listener(&self, listener: Arc<dyn LeadershipListener>) {
        self.listeners.write().push(listener);
    }

    pub(super) fn tell(&self, tell: impl Fn(&dyn LeadershipListener)) {
        for listener in self.listeners.read().iter() {
            tell(&**listener);
        }
    }

    /// The partition, if this broker has a replica. Otherwise the error that makes a client look for the leader: it may be that
    /// only the client or only this broker does not know better.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ReplicaError> {
        let partitions = self.partitions.load();
        if let Some(found) = partitions.get(topic).and_then(|topic| topic.get(&partition)) {
            return if found.is_offline() { Err(ReplicaError::Offline) } else { Ok(found.clone()) };
        }
        match self.metadata.image().partition(topic, partition) {
            Some(_) => Err(ReplicaError::NotLeader),
            None if self.is_awaited(topic, partition) => Err(ReplicaError::NotLeader),
            None => Err(ReplicaError::UnknownPartition),
        }
    }

    /// Who leads a partition, as the controller last said in whichever request: LeaderAndIsr comes before UpdateMetadata, and a client
    /// that is sent on by an older word comes back.
    pub fn current_leader(&self, topic: &str, partition: i32) -> Option<(BrokerId, LeaderEpoch)> {
        let hosted = self.hosted(topic, partition).map(|partition| partition.leadership());
        let hosted = hosted.map(|leadership| (leadership.leader, leadership.leader_epoch));
        let image = self.metadata.image();
        let known = image.partition(topic, partition).map(|known| (known.leader, known.leader_epoch));
        [hosted, known].into_iter().flatten().max_by_key(|(_, epoch)| *epoch)
    }

    /// The name of a topic by its id. A follower may ask before UpdateMetadata has said what LeaderAndIsr said already.
    pub fn topic_name(&self, id: TopicId) -> Option<Arc<str>> {
        if let Some(name) = self.metadata.image().topic_name(id) {
            return Some(name.clone());
        }
        let has_id = |partition: &Arc<Partition>| partition.log().topic_id() == Some(id);
        let partitions = self.partitions.load();
        let found = partitions.iter().find(|(_, of_topic)| of_topic.values().next().is_some_and(has_id));
        found.map(|(name, _)| name.clone())
    }

    pub fn hosted(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.partitions.load().get(topic)?.get(&partition).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.load().values().flat_map(|topic| topic.values().cloned()).collect()
    }

    /// Partitions of one topic, in order.
    pub fn partitions_of(&self, topic: &str) -> Vec<Arc<Partition>> {
        self.partitions.load().get(topic).map(|topic| topic.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn insert(&self, added: Vec<Arc<Partition>>) {
        let _writer = self.writer.lock();
        let mut next = (**self.partitions.load()).clone();
        for partition in added {
            let TopicPartition { topic, partition: number } = partition.topic_partition().clone();
            Arc::make_mut(next.entry(topic).or_default()).insert(number, partition);
        }
        self.partitions.store(Arc::new(next));
    }

    pub(super) fn remove(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let _writer = self.writer.lock();
        let mut next = (**self.partitions.load()).clone();
        let of_topic = Arc::make_mut(next.get_mut(topic)?);
        let removed = of_topic.remove(&partition)?;
        if of_topic.is_empty() {
            next.remove(topic);
        }
        self.partitions.store(Arc::new(next));
        Some(removed)
    }

    /// Gives a topic's logs new settings.
    pub fn set_topic_config(&self, topic: &str, config: &LogConfig) {
        for partition in self.partitions_of(topic) {
            partition.log().set_config(config.clone());
        }
    }
}
