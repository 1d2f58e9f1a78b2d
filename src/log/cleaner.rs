//! Compaction: of the records of a key the newest stays (classes `LogCleaner`, `LogCleanerManager`, `Cleaner`; KIP-58, KIP-354,
//! KIP-534).
//!
//! One thread takes one log after another, the dirtiest first, and sleeps when none is worth it. `plan` chooses, `offset_map`
//! remembers the newest offset of each key, `retain` judges a batch, `transactions` knows what was aborted, `rewrite` reads and
//! `output` writes, `swap` puts the result in place.
//!
//! Invariant: the newest record of a key, its offset and what producers have to be judged by survive every pass, and a crash at
//! any point of it. Memory for keys is taken only while a log is cleaned.

mod offset_map;
mod output;
mod plan;
mod retain;
mod rewrite;
mod swap;
mod throttle;
mod transactions;

#[cfg(test)]
mod tests;

use super::error::LogError;
use super::manager::LogManager;
use super::partition::Log;
use super::segment::Segment;
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{Millis, TopicPartition};
use crate::config::LogCleanerConfig;
use crate::record::RecordError;
use parking_lot::{Condvar, Mutex};
use plan::{Cleanable, SegmentInfo};
use rewrite::{Done, Pass};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use throttle::Throttle;

/// Whatever is configured, an idle cleaner does not look again sooner.
const BACKOFF_MS_MIN: Millis = 50;

/// What a log remembers for its cleaner.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// Everything below is clean: the cleaner's checkpoint.
    offset: AtomicI64,
    /// Counts truncations: what was read before one means nothing after it.
    generation: AtomicU64,
    /// Something in the log cannot be read. It is left alone until the next start.
    is_uncleanable: AtomicBool,
}

impl Cleaning {
    pub fn new(offset: i64) -> Cleaning {
        Cleaning { offset: AtomicI64::new(offset), ..Cleaning::default() }
    }

    pub fn offset(&self) -> i64 {
        self.offset.load(Ordering::Acquire)
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The segments lie elsewhere now: what was read before of them cannot be replaced.
    pub fn moved(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub fn truncated_to(&self, offset: i64) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.offset.fetch_min(offset, Ordering::AcqRel);
    }
}

/// Why a pass ended early.
#[derive(Debug)]
enum Halt {
    /// The broker stops, or the log was truncated, trimmed or deleted meanwhile.
    Aborted,
    Failed(LogError),
    /// A batch that is there cannot be read.
    Unreadable(RecordError),
}

impl Halt {
    /// An error with the files of a segment, which retention or a truncation may have taken meanwhile.
    fn of(log: &Log, segment: &Arc<Segment>, error: io::Error) -> Halt {
        log.lookup_failed(segment, error).map_or_else(Halt::Failed, |_| Halt::Aborted)
    }
}

impl From<LogError> for Halt {
    fn from(error: LogError) -> Halt {
        Halt::Failed(error)
    }
}

impl From<RecordError> for Halt {
    fn from(error: RecordError) -> Halt {
        Halt::Unreadable(error)
    }
}

/// Wakes the cleaner's thread for its end.
#[derive(Default)]
pub(super) struct StopSignal {
    is_set: Mutex<bool>,
    wake: Condvar,
}

impl StopSignal {
    fn set(&self) {
        *self.is_set.lock() = true;
        self.wake.notify_all();
    }

    fn is_set(&self) -> bool {
        *self.is_set.lock()
    }

    /// Returns early when the stop comes.
    fn sleep(&self, duration: Duration) {
        let mut is_set = self.is_set.lock();
        if !*is_set {
            self.wake.wait_for(&mut is_set, duration);
        }
    }
}

/// The cleaner's thread.
#[derive(Default)]
pub(super) struct Cleaner {
    stop: Arc<StopSignal>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// One pass at a time.
    cleaning: Mutex<()>,
}

impl Cleaner {
    pub fn start(&self, manager: &Arc<LogManager>) -> io::Result<()> {
        let config = manager.config.log_cleaner;
        if !config.enable {
            return Ok(());
        }
        let (manager, stop) = (Arc::downgrade(manager), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new().name("log-cleaner".into());
        *self.thread.lock() = Some(thread.spawn(move || run(&manager, &stop, &config))?);
        Ok(())
    }

    pub fn stop(&self) {
        self.stop.set();
        if let Some(thread) = self.thread.lock().take() {
            // It cannot fail but by a panic, which is reported already.
            let _ = thread.join();
        }
    }
}

fn run(manager: &Weak<LogManager>, stop: &StopSignal, config: &LogCleanerConfig) {
    let backoff = Duration::from_millis(config.backoff_ms.max(BACKOFF_MS_MIN) as u64);
    while !stop.is_set() {
        let Some(manager) = manager.upgrade() else { return };
        let cleaned = manager.clean_dirtiest(wall_ms());
        manager.apply_retention_to_compacted();
        drop(manager);
        if cleaned.is_none() {
            stop.sleep(backoff);
        }
    }
}

/// A log that may be cleaned, as it was when it was looked at.
struct Candidate {
    log: Arc<Log>,
    segments: Arc<Vec<Arc<Segment>>>,
    infos: Vec<SegmentInfo>,
    generation: u64,
}

impl LogManager {
    /// Cleans the log that needs it most, and gives its name; `None` if none needs it, or it could not be done.
    pub fn clean_dirtiest(&self, now_ms: Millis) -> Option<TopicPartition> {
        let _one = self.cleaner.cleaning.lock();
        let candidates = self.all().into_iter().filter_map(|log| match candidate(&log, now_ms) {
            Ok(candidate) => candidate,
            Err(halt) => {
                report(&log, halt);
                None
            }
        });
        let (candidate, cleanable) = plan::choose(candidates)?;
        let log = &candidate.log;
        match self.clean(&candidate, &cleanable, now_ms) {
            Ok(done) => {
                log.cleaning.offset.store(done.end_offset, Ordering::Release);
                if log.cleaning.generation() != candidate.generation {
                    log.cleaning.offset.fetch_min(log.log_end_offset(), Ordering::AcqRel);
                }
                let Done { end_offset, bytes_before, bytes_after } = done;
                tracing::info!(log = %log.topic_partition(), end_offset, bytes_before, bytes_after, "log is compacted");
                if let Err(error) = self.write_cleaner_offsets(&log.log_dir()) {
                    report(log, Halt::Failed(error));
                }
                Some(log.topic_partition().clone())
            }
            Err(halt) => {
                report(log, halt);
                None
            }
        }
    }

    fn clean(&self, candidate: &Candidate, cleanable: &Cleanable, now_ms: Millis) -> Result<Done, Halt> {
        let config = self.config.log_cleaner;
        let mut pass = Pass {
            log: &candidate.log,
            stop: &self.cleaner.stop,
            config,
            throttle: Throttle::new(config.io_max_bytes_per_second, monotonic_ms()),
            generation: candidate.generation,
            now_ms,
        };
        pass.run(&candidate.segments, &candidate.infos, cleanable)
    }

    /// Logs that are compacted are trimmed as well: by retention if they have `delete`, by their log start if not.
    fn apply_retention_to_compacted(&self) {
        for log in self.all().into_iter().filter(|log| log.config.load().cleanup_policy.compact) {
            if let Err(error) = log.apply_retention(wall_ms()) {
                report(&log, Halt::Failed(error));
            }
        }
    }
}

fn candidate(log: &Arc<Log>, now_ms: Millis) -> Result<Option<(Candidate, Cleanable)>, Halt> {
    let config = log.config();
    let is_left_alone =
        log.is_closed() || log.log_dir().is_offline() || log.cleaning.is_uncleanable.load(Ordering::Relaxed);
    if !config.cleanup_policy.compact || is_left_alone {
        return Ok(None);
    }
    let generation = log.cleaning.generation();
    let segments = log.segments.load_full();
    let first_dirty = plan::first_dirty_offset(log.cleaning.offset(), log.log_start_offset(), log.log_end_offset());
    if segments.last().is_none_or(|active| active.base_offset() <= first_dirty) {
        return Ok(None);
    }
    let infos = rewrite::infos(log, &segments, &config)?;
    let cleanable = plan::cleanable(&infos, first_dirty, log.last_stable_offset(), &config, now_ms);
    Ok(cleanable.map(|cleanable| (Candidate { log: Arc::clone(log), segments, infos, generation }, cleanable)))
}

fn report(log: &Log, halt: Halt) {
    let reason = match halt {
        Halt::Aborted | Halt::Failed(LogError::Closed(_) | LogError::DirOffline { .. }) => return,
        Halt::Failed(error @ LogError::Corrupt { .. }) => error.to_string(),
        Halt::Failed(error) => {
            tracing::warn!(log = %log.topic_partition(), %error, "compaction failed: it will be tried again");
            return;
        }
        Halt::Unreadable(error) => error.to_string(),
    };
    log.cleaning.is_uncleanable.store(true, Ordering::Relaxed);
    tracing::error!(log = %log.topic_partition(), reason, "log cannot be compacted: it is left as it is until the next start");
}
