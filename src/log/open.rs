//! Loading all logs of a start, several at a time (class `LogManager.loadLogs`).

use super::background::Background;
use super::error::LogError;
use super::load::LoadOptions;
use super::log_dir::LogDir;
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
    pub partition: TopicPartition,
    pub dir: Arc<LogDir>,
    pub path: PathBuf,
    pub options: LoadOptions,
}

/// What the threads of a start share.
struct Loading<'a> {
    found: Vec<FoundLog>,
    background: &'a Arc<Background>,
    next: AtomicUsize,
    logs: Mutex<HashMap<TopicPartition, Arc<Log>>>,
    error: Mutex<Option<LogError>>,
    reported_ms: Mutex<i64>,
}

/// Loads the logs. A log whose disk fails takes its directory offline; one that contradicts itself is left out.
pub(super) fn load_in_parallel(
    found: Vec<FoundLog>,
    background: &Arc<Background>,
    config: &BrokerConfig,
) -> Result<HashMap<TopicPartition, Arc<Log>>, LogError> {
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
        logs: Mutex::new(HashMap::with_capacity(count)),
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
    let mut logs = loading.logs.into_inner();
    logs.retain(|_, log| !log.log_dir().is_offline());
    Ok(logs)
}

/// At least one for each processor: `num.recovery.threads.per.data.dir` was made for disks that seek.
fn thread_count(config: &BrokerConfig) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let configured = (config.num_recovery_threads_per_data_dir.max(1) as usize) * config.log_dirs.len().max(1);
    configured.max(processors).min(THREADS_MAX)
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
                    self.logs.lock().insert(found.partition.clone(), log);
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
