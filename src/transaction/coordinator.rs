//! The transaction coordinator of this broker: finds the partition of an id, loads and unloads partitions as leadership moves, and
//! ticks those whose timers are due (class `TransactionCoordinator`; the pure half is [`TransactionShard`]).
//!
//! Invariant: loading one partition makes nobody else wait.

use super::answer::Answer;
use super::log::TransactionsLog;
use super::markers::MarkerSender;
use super::message::{AddRequest, EndRequest, Event, InitRequest, ReplyToken, Response};
use super::partition::{Clock, Drivers, NEVER, Outcome, Partition};
use super::producer_ids::ProducerIdManager;
use super::shard::{TransactionConfig, TransactionShard};
use super::view::{Description, ListFilter, Listing};
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{ErrorCode, LeaderEpoch, coordinator_partition};
use crate::config::BrokerConfig;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Partitions that are read from disk at the same time.
const LOADS_AT_ONCE: usize = 4;

impl From<&BrokerConfig> for TransactionConfig {
    fn from(config: &BrokerConfig) -> TransactionConfig {
        TransactionConfig {
            max_timeout_ms: config.transaction_max_timeout_ms,
            id_expiration_ms: config.transactional_id_expiration_ms.into(),
            abort_interval_ms: config.transaction_abort_interval_ms.into(),
            expiry_interval_ms: config.transaction_remove_expired_interval_ms.into(),
            marker_retry_ms: 50,
        }
    }
}

pub struct TransactionCoordinator {
    config: Arc<TransactionConfig>,
    drivers: Arc<Drivers>,
    partitions: RwLock<HashMap<i32, Arc<Partition>>>,
    partition_count: AtomicI32,
    loads: Arc<Semaphore>,
}

impl TransactionCoordinator {
    /// Starts to tick on `runtime`; ends when the last reference is dropped.
    pub fn new(
        config: &BrokerConfig,
        log: Arc<dyn TransactionsLog>,
        markers: Arc<dyn MarkerSender>,
        producer_ids: Arc<ProducerIdManager>,
        runtime: Handle,
    ) -> Arc<TransactionCoordinator> {
        let drivers = Arc::new(Drivers { log, markers, producer_ids, runtime, clock: Clock::default() });
        let coordinator = Arc::new(TransactionCoordinator {
            config: Arc::new(config.into()),
            drivers: drivers.clone(),
            partitions: RwLock::new(HashMap::new()),
            partition_count: AtomicI32::new(config.transaction_state_log_num_partitions),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
        });
        drivers.runtime.spawn(tick(Arc::downgrade(&coordinator), drivers.clone()));
        coordinator
    }

    /// How many partitions `__transaction_state` has, once it exists. Ids would move if that changed later.
    pub fn set_partition_count(&self, count: i32) {
        self.partition_count.store(count, Ordering::Relaxed);
    }

    pub fn partition_for(&self, id: &str) -> i32 {
        coordinator_partition(id, self.partition_count.load(Ordering::Relaxed))
    }

    /// This broker leads a partition from now on. Returns at once; requests are served when the log has been read. The epoch goes
    /// into every marker, so a new one means a new coordinator even if the leader is the old one.
    pub fn on_elected(&self, index: i32, epoch: LeaderEpoch) {
        let mut partitions = self.partitions.write();
        if partitions.get(&index).is_some_and(|present| present.epoch >= epoch) {
            return;
        }
        let partition = Arc::new(Partition::loading(index, epoch, self.drivers.clone()));
        if let Some(before) = partitions.insert(index, partition.clone()) {
            before.resign();
        }
        drop(partitions);
        let mut shard = TransactionShard::new(self.config.clone(), epoch.0);
        if self.drivers.log.bounds(index).is_some_and(|bounds| bounds.is_empty()) {
            return partition.activate(shard);
        }
        let loads = self.loads.clone();
        self.drivers.runtime.spawn(async move {
            let permit = loads.acquire_owned().await;
            let reader = partition.clone();
            let read = tokio::task::spawn_blocking(move || (reader.read(&mut shard), shard)).await;
            drop(permit);
            if let Ok((read, shard)) = read {
                partition.serve(read, shard).await;
            }
        });
    }

    /// Another broker leads, or the partition is gone.
    pub fn on_resigned(&self, index: i32) {
        let resigned = self.partitions.write().remove(&index);
        if let Some(partition) = resigned {
            partition.resign();
        }
    }

    /// The broker goes down: everyone who waits is sent elsewhere.
    pub fn shutdown(&self) {
        let partitions = std::mem::take(&mut *self.partitions.write());
        partitions.into_values().for_each(|partition| partition.resign());
    }

    fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }

    fn partition(&self, id: &str) -> Result<Arc<Partition>, ErrorCode> {
        self.partitions.read().get(&self.partition_for(id)).cloned().ok_or(ErrorCode::NotCoordinator)
    }

    fn request(
        &self,
        id: &str,
        make: impl FnOnce(ReplyToken) -> Event,
        failed: impl Fn(ErrorCode) -> Response,
    ) -> Answer {
        // Judged before anybody looks for a coordinator: no partition belongs to it.
        if id.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidRequest));
        }
        match self.partition(id).and_then(|partition| partition.request(make)) {
            Ok(Outcome::Now(response)) => Answer::Now(response),
            Ok(Outcome::Later(receiver)) => Answer::Later(receiver, failed(ErrorCode::NotCoordinator)),
            Err(error) => Answer::Now(failed(error)),
        }
    }

    /// Who may write under a transactional id from now on. Answered with [`Response::Init`].
    pub fn init(&self, request: InitRequest) -> Answer {
        let id = request.id.clone();
        self.request(&id, |token| Event::Init(token, request, None), |error| Response::Init(Err(error)))
    }

    /// Adds partitions to a transaction. Answered with [`Response::Done`].
    pub fn add(&self, request: AddRequest) -> Answer {
        let id = request.id.clone();
        self.request(&id, |token| Event::Add(token, request), Response::Done)
    }

    /// Commits or aborts. Answered with [`Response::Done`] once the decision is safe.
    pub fn end(&self, request: EndRequest) -> Answer {
        let id = request.id.clone();
        self.request(&id, |token| Event::End(token, request), Response::Done)
    }

    /// Whether partitions belong to a transaction (KIP-890), one code each.
    pub fn verify(&self, request: &AddRequest) -> Vec<ErrorCode> {
        let verified = self.partition(&request.id).and_then(|partition| partition.view(|shard| shard.verify(request)));
        verified.unwrap_or_else(|error| vec![error; request.partitions.len()])
    }

    pub fn describe(&self, id: &str) -> Result<Description, ErrorCode> {
        let described = self.partition(id)?.view(|shard| shard.describe(id))?;
        described.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// All transactional ids that this broker coordinates; an error if some are still being loaded.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<Listing>, ErrorCode> {
        let now_ms = wall_ms();
        let mut listings = Vec::new();
        for partition in self.all() {
            match partition.view(|shard| shard.list(filter, now_ms)) {
                Ok(listed) => listings.extend(listed),
                Err(ErrorCode::CoordinatorLoadInProgress) => return Err(ErrorCode::CoordinatorLoadInProgress),
                Err(_) => {}
            }
        }
        Ok(listings)
    }
}

/// Ticks partitions when their timers are due, for as long as the coordinator lives.
async fn tick(coordinator: Weak<TransactionCoordinator>, drivers: Arc<Drivers>) {
    let clock = &drivers.clock;
    loop {
        // While the next deadline is being looked for, any new one wakes.
        clock.sleeps_until.store(NEVER, Ordering::SeqCst);
        let Some(partitions) = coordinator.upgrade().map(|coordinator| coordinator.all()) else { return };
        let now = monotonic_ms();
        for partition in partitions.iter().filter(|partition| partition.deadline() <= now) {
            partition.tell(Event::Tick);
        }
        let next = partitions.iter().map(|partition| partition.deadline()).min().unwrap_or(NEVER);
        drop(partitions);
        clock.sleeps_until.store(next, Ordering::SeqCst);
        // Wakes now and then even without a deadline, to see whether the coordinator is still there.
        let wait_ms = next.saturating_sub(monotonic_ms()).clamp(1, 60_000);
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms as u64), clock.wake.notified()).await;
    }
}
