//! Which fetcher follows which partition (class `ReplicaFetcherManager`).
//!
//! Invariant: a partition is with one fetcher at most.

use super::Leaders;
use super::driver::{Fetcher, Following};
use super::machine::FetcherSettings;
use crate::base::{BrokerId, TopicPartition};
use crate::replica::throttle::ReplicationQuota;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A leader, and which of the fetchers that follow it.
type FetcherKey = (BrokerId, usize);

#[derive(Default)]
struct Placed {
    fetchers: BTreeMap<FetcherKey, Arc<Fetcher>>,
    partitions: BTreeMap<TopicPartition, FetcherKey>,
}

pub struct FetcherManager {
    settings: FetcherSettings,
    fetchers_per_leader: usize,
    leaders: Arc<dyn Leaders>,
    quota: Arc<ReplicationQuota>,
    placed: Mutex<Placed>,
}

impl FetcherManager {
    /// `fetchers_per_leader` is `num.replica.fetchers`.
    pub fn new(
        settings: FetcherSettings,
        fetchers_per_leader: usize,
        leaders: Arc<dyn Leaders>,
        quota: Arc<ReplicationQuota>,
    ) -> FetcherManager {
        let fetchers_per_leader = fetchers_per_leader.max(1);
        FetcherManager { settings, fetchers_per_leader, leaders, quota, placed: Mutex::default() }
    }

    /// Follows the partitions on their leaders from now on, and nowhere else.
    pub fn follow(&self, followings: Vec<(BrokerId, Following)>) {
        let mut placed = self.placed.lock();
        let mut by_fetcher: BTreeMap<FetcherKey, Vec<Following>> = BTreeMap::new();
        for (leader, following) in followings {
            let key = (leader, self.share_of(&following.partition));
            match placed.partitions.insert(following.partition.clone(), key) {
                Some(before) if before != key => placed.take(before, &following.partition),
                _ => {}
            }
            by_fetcher.entry(key).or_default().push(following);
        }
        for (key, followings) in by_fetcher {
            let fetcher = placed
                .fetchers
                .entry(key)
                .or_insert_with(|| Fetcher::start(self.settings, self.leaders.connect(key.0), self.quota.clone()));
            fetcher.add(followings);
        }
        placed.stop_idle();
    }

    /// Stops following. After this nothing is appended to these logs any more.
    pub fn stop<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        let mut placed = self.placed.lock();
        for partition in partitions {
            if let Some(key) = placed.partitions.remove(partition) {
                placed.take(key, partition);
            }
        }
        placed.stop_idle();
    }

    pub fn stop_all(&self) {
        let mut placed = self.placed.lock();
        placed.partitions.clear();
        std::mem::take(&mut placed.fetchers).values().for_each(|fetcher| fetcher.stop());
    }

    fn share_of(&self, partition: &TopicPartition) -> usize {
        let mut hasher = DefaultHasher::new();
        partition.hash(&mut hasher);
        (hasher.finish() % self.fetchers_per_leader as u64) as usize
    }

    /// Largest lag behind any leader.
    pub fn max_lag(&self) -> i64 {
        self.placed.lock().fetchers.values().map(|fetcher| fetcher.max_lag()).max().unwrap_or(0)
    }
}

impl Placed {
    fn take(&mut self, key: FetcherKey, partition: &TopicPartition) {
        if let Some(fetcher) = self.fetchers.get(&key) {
            fetcher.remove(partition);
        }
    }

    fn stop_idle(&mut self) {
        self.fetchers.retain(|_, fetcher| {
            let is_used = !fetcher.is_empty();
            if !is_used {
                fetcher.stop();
            }
            is_used
        });
    }
}

impl Drop for FetcherManager {
    fn drop(&mut self) {
        self.stop_all();
    }
}
