//! All partitions of this broker (class `ReplicaManager`), and who is told when their leadership changes.

use super::error::ReplicaError;
use super::metadata_cache::MetadataCache;
use super::partition::Partition;
use super::waiters::Registration;
use crate::base::{BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, TopicPartition};
use crate::config::LogConfig;
use crate::log::LogManager;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

pub struct ReplicaManager {
    pub(super) local: BrokerId,
    pub(super) broker_epoch: AtomicI64,
    pub(super) logs: Arc<LogManager>,
    pub(super) metadata: Arc<MetadataCache>,
    pub(super) topic_configs: Arc<dyn TopicConfigs>,
    /// Highest controller epoch seen: requests of older controllers are refused. The lock serialises control requests.
    pub(super) control: tokio::sync::Mutex<ControllerEpoch>,
    partitions: ArcSwap<Partitions>,
    /// Serialises changes of `partitions`.
    writer: Mutex<()>,
    listeners: RwLock<Vec<Arc<dyn LeadershipListener>>>,
}

impl ReplicaManager {
    pub fn new(
        local: BrokerId,
        logs: Arc<LogManager>,
        metadata: Arc<MetadataCache>,
        topic_configs: Arc<dyn TopicConfigs>,
    ) -> ReplicaManager {
        ReplicaManager {
            local,
            broker_epoch: AtomicI64::new(BrokerEpoch::UNKNOWN.0),
            logs,
            metadata,
            topic_configs,
            control: tokio::sync::Mutex::new(ControllerEpoch(0)),
            partitions: ArcSwap::default(),
            writer: Mutex::new(()),
            listeners: RwLock::default(),
        }
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
            return Ok(found.clone());
        }
        match self.metadata.image().partition(topic, partition) {
            Some(_) => Err(ReplicaError::NotLeader),
            None => Err(ReplicaError::UnknownPartition),
        }
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

/// Waits until each partition has committed what is below its offset, or the time is over: `None` for those still pending.
pub async fn wait_committed(
    pending: Vec<(Arc<Partition>, i64)>,
    timeout: Duration,
) -> Vec<Option<Result<(), ReplicaError>>> {
    let look = || pending.iter().map(|(partition, offset)| partition.committed(*offset)).collect::<Vec<_>>();
    let now = look();
    if now.iter().all(Option::is_some) {
        return now;
    }
    let registration = Registration::new(pending.iter().map(|(partition, _)| partition.clone()).collect());
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let now = look();
        if now.iter().all(Option::is_some) {
            return now;
        }
        if tokio::time::timeout_at(deadline, registration.woken()).await.is_err() {
            return look();
        }
    }
}
