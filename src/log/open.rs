//! The logs of a start: those that need no recovery, or little of it, are loaded at once, several at a time; `recoveries` has the
//! others (class `LogManager.loadLogs`).
//!
//! Invariant: two logs of one partition are never both served. What a crash at the end of a move left of it is told apart from
//! two logs that contradict each other, at which the broker does not start.

use super::background::Background;
use super::error::LogError;
use super::load::LoadOptions;
use super::log_dir::LogDir;
use super::moves::is_superseded_by;
use super::names::{FileKind, Transit, parse_file_name};
use super::partition::Log;
use super::recovery::first_to_recover;
use crate::base::TopicPartition;
use crate::base::time::monotonic_ms;
use crate::config::BrokerConfig;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this do not help a disk.
pub(super) const THREADS_MAX: usize = 32;
const PROGRESS_EVERY_MS: i64 = 5_000;
/// What is checked before anything is served: of one log, and of all of them. It takes less than a tenth of a second.
pub(super) const AT_ONCE_BYTES_MAX: u64 = 1 << 20;
const AT_ONCE_BYTES_SUM_MAX: u64 = 64 << 20;

/// A partition's own log, or a copy of it on its way to another directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct LogKey {
    pub partition: TopicPartition,
    pub is_future: bool,
}

/// A partition directory that is to be loaded.
pub(super) struct FoundLog {
    pub key: LogKey,
    pub dir: Arc<LogDir>,
    pub path: PathBuf,
    pub options: LoadOptions,
}

impl FoundLog {
    pub fn load(&self, background: &Arc<Background>) -> Result<Arc<Log>, LogError> {
        let (partition, path, dir) = (self.key.partition.clone(), self.path.clone(), Arc::clone(&self.dir));
        Log::load(partition, path, dir, Arc::clone(background), self.options.clone())
    }

    /// Sizes of the segments, by their base offsets; of those from `first_of` on.
    fn segment_sizes(&self, first_of: impl Fn(&[i64]) -> usize) -> io::Result<Vec<u64>> {
        let mut bases = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Some((base, FileKind::Log, Transit::None)) = entry?.file_name().to_str().and_then(parse_file_name) {
                bases.push(base);
            }
        }
        bases.sort_unstable();
        let first = first_of(&bases);
        let size = |base: &i64| Ok(fs::metadata(self.path.join(FileKind::Log.file_name(*base)))?.len());
        bases.iter().skip(first).map(size).collect()
    }

    pub fn size_bytes(&self) -> u64 {
        self.segment_sizes(|_| 0).map_or(0, |sizes| sizes.iter().sum())
    }

    /// Bytes that are to be checked; 0 as well where that cannot be said, since then there is an error to be found soon.
    fn estimate(&self) -> u64 {
        if self.options.is_clean {
            return 0;
        }
        let sizes = self.segment_sizes(|bases| first_to_recover(bases, self.options.recovery_point));
        let sizes = sizes.unwrap_or_default();
        let bytes = sizes.iter().sum();
        self.options.progress.expect(sizes.len(), bytes);
        bytes
    }
}

/// Those that are loaded at once, and those that are recovered while the others serve.
pub(super) fn split(found: Vec<FoundLog>, at_once_bytes_max: u64) -> (Vec<Arc<FoundLog>>, Vec<Arc<FoundLog>>) {
    let mut count: HashMap<&LogKey, usize> = HashMap::new();
    found.iter().for_each(|log| *count.entry(&log.key).or_default() += 1);
    // Of two logs of one partition nobody knows yet which one counts.
    let mut bytes: Vec<u64> =
        found.iter().map(|log| if count.get(&log.key) == Some(&1) { log.estimate() } else { 0 }).collect();
    let mut small: Vec<usize> = (0..found.len()).filter(|&at| bytes[at] <= at_once_bytes_max).collect();
    small.sort_unstable_by_key(|&at| bytes[at]);
    let mut sum = 0;
    for at in small {
        sum += bytes[at];
        if sum <= AT_ONCE_BYTES_SUM_MAX {
            bytes[at] = 0;
        }
    }
    let (mut at_once, mut later) = (Vec::new(), Vec::new());
    for (log, bytes) in found.into_iter().zip(bytes) {
        if bytes == 0 { at_once.push(Arc::new(log)) } else { later.push(Arc::new(log)) }
    }
    (at_once, later)
}

/// What a start has loaded.
#[derive(Default)]
pub(super) struct LoadedLogs {
    pub logs: HashMap<TopicPartition, Arc<Log>>,
    /// Copies that replicas are being moved by.
    pub futures: HashMap<TopicPartition, Arc<Log>>,
    /// Of two logs the one that a move has left.
    pub superseded: Vec<Arc<Log>>,
    /// Logs that contradict themselves.
    pub refused: Vec<(Arc<FoundLog>, LogError)>,
}

/// What the threads of a start share.
struct Loading<'a> {
    found: Vec<Arc<FoundLog>>,
    background: &'a Arc<Background>,
    next: AtomicUsize,
    logs: Mutex<LoadedLogs>,
    error: Mutex<Option<LogError>>,
    reported_ms: Mutex<i64>,
}

/// Loads the logs. A log whose disk fails takes its directory offline; one that contradicts itself is left out.
pub(super) fn load_in_parallel(
    found: Vec<Arc<FoundLog>>,
    background: &Arc<Background>,
    config: &BrokerConfig,
) -> Result<LoadedLogs, LogError> {
    let threads = thread_count(config).min(found.len());
    let (count, started_ms) = (found.len(), monotonic_ms());
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
        let Some(first) = place.insert(partition.clone(), Arc::clone(&log)) else { return Ok(()) };
        if !is_future && is_superseded_by(&first, &log) {
            self.superseded.push(first);
            return Ok(());
        }
        if !is_future && is_superseded_by(&log, &first) {
            place.insert(partition, first);
            self.superseded.push(log);
            return Ok(());
        }
        let (first, second) = (first.dir(), log.dir());
        Err(LogError::DuplicateLog { log: partition, first, second })
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
            let log = found.load(self.background);
            let added = log.and_then(|log| self.logs.lock().add(log, found.key.is_future));
            match added {
                Ok(()) => {}
                Err(LogError::Storage { path, source }) => {
                    found.dir.set_offline(&format!("{}: {source}", path.display()));
                }
                Err(error @ LogError::Corrupt { .. }) => {
                    let log = &found.key.partition;
                    tracing::error!(%log, %error, "partition is refused; the others go on without it");
                    if !found.options.is_clean {
                        found.dir.set_incomplete();
                    }
                    self.logs.lock().refused.push((Arc::clone(found), error));
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
