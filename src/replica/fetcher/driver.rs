//! The task behind a fetcher: it carries out what the machine wants, over the leader's endpoint.
//!
//! Invariant: the machine's lock is never held across a wait; whoever takes a partition away, and returns, has taken it away.

use super::machine::{FetcherMachine, FetcherSettings, Work};
use super::{FollowerReplica, LeaderAnswer, LeaderEndpoint, LeaderError, LeaderFetch};
use crate::base::{LeaderEpoch, Millis, TopicId, TopicPartition, time};
use crate::replica::throttle::ReplicationQuota;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A fetch that is older than this waits at the leader for records. New partitions do not wait with it: a leader that was just
/// elected cannot commit anything before its followers have asked it.
const PARKED_AFTER: Duration = Duration::from_millis(20);

/// One partition to follow.
pub struct Following {
    pub partition: TopicPartition,
    pub topic_id: TopicId,
    pub epoch: LeaderEpoch,
    pub replica: Arc<dyn FollowerReplica>,
}

pub struct Fetcher {
    leader: Arc<dyn LeaderEndpoint>,
    machine: Mutex<FetcherMachine>,
    quota: Arc<ReplicationQuota>,
    changed: Notify,
    is_stopped: AtomicBool,
}

impl Fetcher {
    /// Starts a fetcher without partitions, on the current runtime.
    pub fn start(
        settings: FetcherSettings,
        leader: Arc<dyn LeaderEndpoint>,
        quota: Arc<ReplicationQuota>,
    ) -> Arc<Fetcher> {
        let fetcher = Arc::new(Fetcher {
            leader,
            machine: Mutex::new(FetcherMachine::new(settings)),
            quota,
            changed: Notify::new(),
            is_stopped: AtomicBool::new(false),
        });
        tokio::spawn(fetcher.clone().run());
        fetcher
    }

    pub fn add(&self, followings: Vec<Following>) {
        let mut machine = self.machine.lock();
        for Following { partition, topic_id, epoch, replica } in followings {
            machine.add(partition, topic_id, epoch, replica);
        }
        drop(machine);
        self.changed.notify_one();
    }

    /// After this nothing is appended to the partition's log any more.
    pub fn remove(&self, partition: &TopicPartition) -> bool {
        self.machine.lock().remove(partition)
    }

    pub fn is_empty(&self) -> bool {
        self.machine.lock().is_empty()
    }

    pub fn max_lag(&self) -> i64 {
        self.machine.lock().max_lag()
    }

    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    async fn run(self: Arc<Fetcher>) {
        while !self.is_stopped.load(Ordering::Acquire) {
            let now_ms = time::monotonic_ms();
            let work = self.machine.lock().next(now_ms, self.quota.is_exceeded(now_ms));
            match work {
                Work::Idle { until_ms } => self.idle(now_ms, until_ms).await,
                Work::Fetch(fetch) => self.fetch(fetch).await,
                Work::Offsets(side, asked) => {
                    let answers = self.leader.offsets(side, asked.clone()).await;
                    let answers =
                        answers.inspect_err(|error| tracing::debug!(%error, "the leader's offsets are not known"));
                    self.machine.lock().offsets_answered(time::monotonic_ms(), side, asked, answers.ok());
                }
            }
        }
    }

    async fn idle(&self, now_ms: Millis, until_ms: Option<Millis>) {
        match until_ms {
            None => self.changed.notified().await,
            Some(until_ms) => {
                let pause = Duration::from_millis((until_ms - now_ms).max(1) as u64);
                let _ = tokio::time::timeout(pause, self.changed.notified()).await;
            }
        }
    }

    async fn fetch(&self, fetch: LeaderFetch) {
        let parked_at = Instant::now() + PARKED_AFTER;
        let mut asked = self.leader.fetch(fetch);
        tokio::select! {
            biased;
            answer = &mut asked => return self.answered(answer),
            () = self.changed.notified() => {}
        }
        // An answer that is near is better than a new connection.
        if let Ok(answer) = tokio::time::timeout_at(parked_at, &mut asked).await {
            return self.answered(answer);
        }
        drop(asked);
        self.machine.lock().fetch_abandoned();
        self.leader.hang_up();
    }

    fn answered(&self, answer: Result<LeaderAnswer, LeaderError>) {
        let now_ms = time::monotonic_ms();
        match answer {
            Ok(answer) => {
                let throttled_bytes = self.machine.lock().fetched(now_ms, answer);
                if throttled_bytes > 0 {
                    self.quota.record(now_ms, throttled_bytes);
                }
            }
            Err(error) => {
                tracing::info!(%error, "a fetch from a leader failed");
                self.machine.lock().fetch_failed(now_ms);
            }
        }
    }
}
