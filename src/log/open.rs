//! Loading all logs of a start, several at a time (class `LogManager.loadLogs`).

use super::background::Background;
use super::error::LogError;
use super::load::LoadOptions;
use super::log_dir::LogDir;
use super::moves::{are_equal, reconcile};
use super::partition::Log;
use crate::base::TopicPartition;
use crate::base::time::monotonic_ms;
use crate::config::BrokerConfig;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this do not help a disk.
const THREADS_MAX: usize = 32;
const PROGRESS_EVERY_MS: i64 = 5_000;

/// A partition directory that is to be loaded.
pub(super) struct FoundLog {
    /// A copy on its way, not the partition's own log.
    pub is_future: bool,
    pub partition: TopicPartition,
    pub dir: Arc<LogDir>,
    pub path: PathBuf,
    pub options: LoadOptions,
}

/// What a start has loaded.
#[derive(Default)]
pub(super) struct LoadedLogs {
    pub logs: HashMap<TopicPartition, Arc<Log>>,
    /// Copies that replicas are being moved by.
    pub futures: HashMap<TopicPartition, Arc<Log>>,
    /// The second of two equal logs, which a crash at the end of a move left.
    pub superseded: Vec<Arc<Log>>,
}

/// What the threads of a start share.
struct Loading<'a> {
    found: Vec<FoundLog>,
    background: &'a Arc<Background>,
    next: AtomicUsize,
    logs: Mutex<LoadedLogs>,
    error: Mutex<Option<LogError>>,
    reported_ms: Mutex<i64>,
}

/// Loads the logs. A log whose disk fails takes its directory offline; one that contradicts itself is left out.
pub(super) fn load_in_parallel(
    found: Vec<FoundLog>,
    background: &Arc<Background>,
    config: &BrokerConfig,
) -> Result<LoadedLogs, LogError> {
    let threads = thread_count(config).min(found.len());
    let (count, started_ms) = (found.len(), monotonic_ms());
    let needs_recovery = found.iter().filter(|log| !log.options.is_clean).count();
    if needs_recovery > 0 {
        tracing::info!(
            logs = count,
            needs_recovery,
            threads,
            "no clean shutdown: checking logs from their recovery points"
        );
    }
    let loading = Loading {
        logs: Mutex::default(),
        found,
        background,
        next: AtomicUsize::new(0),
        error: Mutex::new(None),
        reported_ms: Mutex::new(started_ms),
    };
    if threads <= 1 {
        loading.work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| loading.work());
            }
        });
    }
    if let Some(error) = loading.error.into_inner() {
        return Err(error);
    }
    tracing::info!(logs = count, took_ms = monotonic_ms() - started_ms, "logs are loaded");
    let mut loaded = loading.logs.into_inner();
    loaded.logs.retain(|_, log| !log.log_dir().is_offline());
    loaded.futures.retain(|_, log| !log.log_dir().is_offline());
    loaded.match_futures()?;
    Ok(loaded)
}

/// At least one for each processor: `num.recovery.threads.per.data.dir` was made for disks that seek.
fn thread_count(config: &BrokerConfig) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let configured = (config.num_recovery_threads_per_data_dir.max(1) as usize) * config.log_dirs.len().max(1);
    configured.max(processors).min(THREADS_MAX)
}

impl LoadedLogs {
    fn add(&mut self, log: Arc<Log>, is_future: bool) -> Result<(), LogError> {
        let partition = log.topic_partition().clone();
        let place = if is_future { &mut self.futures } else { &mut self.logs };
        let Some(first) = place.insert(partition, Arc::clone(&log)) else { return Ok(()) };
        if !is_future && are_equal(&first, &log) {
            self.superseded.push(first);
            return Ok(());
        }
        let (partition, first, second) = (log.topic_partition().clone(), first.dir(), log.dir());
        Err(LogError::DuplicateLog { log: partition, first, second })
    }

    /// A copy goes on from where it agrees with its log. One without a log is left as it is: the log may lie on a disk that is away.
    fn match_futures(&mut self) -> Result<(), LogError> {
        let logs = &self.logs;
        self.futures.retain(|partition, future| {
            let has_log = logs.contains_key(partition);
            if !has_log {
                tracing::warn!(dir = %future.dir().display(), "copy of a replica that is not here: it is left as it is");
            }
            has_log
        });
        for (partition, future) in &self.futures {
            if let Some(current) = logs.get(partition) {
                reconcile(current, future)?;
            }
        }
        Ok(())
    }
}

impl Loading<'_> {
    fn work(&self) {
        while self.error.lock().is_none() {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(found) = self.found.get(at) else { return };
            self.report(at);
            if found.dir.is_offline() {
                continue;
            }
            let log = Log::load(
                found.partition.clone(),
                found.path.clone(),
                Arc::clone(&found.dir),
                Arc::clone(self.background),
                found.options.clone(),
            );
            match log {
                Ok(log) => {
                    if let Err(error) = self.logs.lock().add(log, found.is_future) {
                        *self.error.lock() = Some(error);
                    }
                }
                Err(LogError::Storage { path, source }) => {
                    found.dir.set_offline(&format!("{}: {source}", path.display()));
                }
                Err(error @ LogError::Corrupt { .. }) => {
                    tracing::error!(log = %found.partition, %error, "partition is refused; the others go on without it");
                    if !found.options.is_clean {
                        found.dir.set_incomplete();
                    }
                }
                Err(error) => *self.error.lock() = Some(error),
            }
        }
    }

    fn report(&self, done: usize) {
        let now_ms = monotonic_ms();
        let mut reported_ms = self.reported_ms.lock();
        if now_ms - *reported_ms >= PROGRESS_EVERY_MS {
            *reported_ms = now_ms;
            tracing::info!(done, of = self.found.len(), "loading logs");
        }
    }
}
