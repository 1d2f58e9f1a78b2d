//! All partitions that this broker coordinates: loaded and unloaded as leadership moves, found by what they coordinate, and ticked
//! when their timers are due.
//!
//! Invariant: loading one partition makes nobody else wait.

use super::answer::{Answer, Kind};
use super::log::CoordinatorLog;
use super::partition::{Clock, Drivers, NEVER, Partition};
use super::shard::{ReplyToken, Shard};
use crate::base::time::monotonic_ms;
use crate::base::{ErrorCode, LeaderEpoch, coordinator_partition};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Partitions that are read from disk at the same time.
const LOADS_AT_ONCE: usize = 4;

pub struct Partitions<S: Shard> {
    drivers: Arc<Drivers<S>>,
    present: RwLock<HashMap<i32, Arc<Partition<S>>>>,
    count: AtomicI32,
    loads: Arc<Semaphore>,
}

impl<S: Shard> Partitions<S> {
    /// Starts to tick on `runtime`; ends when the last reference is dropped. `count` is what the topic has, or will have.
    pub fn new(log: Arc<dyn CoordinatorLog>, hands: S::Hands, count: i32, runtime: Handle) -> Arc<Partitions<S>> {
        let drivers = Arc::new(Drivers { log, hands, runtime, clock: Clock::default() });
        let partitions = Arc::new(Partitions {
            drivers: drivers.clone(),
            present: RwLock::default(),
            count: AtomicI32::new(count),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
        });
        drivers.runtime.spawn(tick(Arc::downgrade(&partitions), drivers.clone()));
        partitions
    }

    /// How many partitions the topic has, once it exists. What they coordinate would move if that changed later.
    pub fn set_count(&self, count: i32) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// Which partition coordinates a group or a transactional id.
    pub fn index_of(&self, id: &str) -> i32 {
        coordinator_partition(id, self.count.load(Ordering::Relaxed))
    }

    /// This broker leads a partition from now on. Returns at once; requests are served when the log has been read.
    pub fn elected(&self, index: i32, epoch: LeaderEpoch, shard: impl FnOnce() -> S) {
        let mut present = self.present.write();
        if present.get(&index).is_some_and(|partition| partition.outlives(epoch)) {
            return;
        }
        let partition = Arc::new(Partition::loading(index, epoch, self.drivers.clone()));
        if let Some(before) = present.insert(index, partition.clone()) {
            before.resign();
        }
        drop(present);
        let mut shard = shard();
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
    pub fn resigned(&self, index: i32) {
        let resigned = self.present.write().remove(&index);
        if let Some(partition) = resigned {
            partition.resign();
        }
    }

    /// The broker goes down: everyone who waits is sent elsewhere.
    pub fn shutdown(&self) {
        let present = std::mem::take(&mut *self.present.write());
        present.into_values().for_each(|partition| partition.resign());
    }

    pub fn all(&self) -> Vec<Arc<Partition<S>>> {
        self.present.read().values().cloned().collect()
    }

    pub fn at(&self, index: i32) -> Result<Arc<Partition<S>>, ErrorCode> {
        self.present.read().get(&index).cloned().ok_or(ErrorCode::NotCoordinator)
    }

    /// The partition that coordinates `id`, if it is here.
    pub fn of(&self, id: &str) -> Result<Arc<Partition<S>>, ErrorCode> {
        self.at(self.index_of(id))
    }

    /// Hands a request to the shard that coordinates `id`.
    pub fn ask<T: Kind<S::Response>>(
        &self,
        id: &str,
        make: impl FnOnce(ReplyToken) -> S::Event,
        failed: impl Fn(ErrorCode) -> T,
    ) -> Answer<T, S::Response> {
        match self.of(id) {
            Ok(partition) => partition.ask(make, failed),
            Err(error) => Answer::Now(failed(error)),
        }
    }
}

/// Ticks partitions when their timers are due, for as long as somebody has them.
async fn tick<S: Shard>(partitions: Weak<Partitions<S>>, drivers: Arc<Drivers<S>>) {
    let clock = &drivers.clock;
    loop {
        // While the next deadline is being looked for, any new one wakes.
        clock.sleeps_until.store(NEVER, Ordering::SeqCst);
        let Some(present) = partitions.upgrade().map(|partitions| partitions.all()) else { return };
        let now = monotonic_ms();
        for partition in present.iter().filter(|partition| partition.deadline() <= now) {
            partition.tell(S::tick());
        }
        let next = present.iter().map(|partition| partition.deadline()).min().unwrap_or(NEVER);
        drop(present);
        clock.sleeps_until.store(next, Ordering::SeqCst);
        // Wakes now and then even without a deadline, to see whether somebody still has them.
        let wait_ms = next.saturating_sub(monotonic_ms()).clamp(1, 60_000);
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms as u64), clock.wake.notified()).await;
    }
}
