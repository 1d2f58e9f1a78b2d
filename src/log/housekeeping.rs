//! What no request waits for: flushes, checkpoints, retention, removals, expiry (class `LogManager`), a thread for each lane.
//!
//! Invariant: they sleep until something is due; there is no thread, timer or tick of a single log.

use super::background::{Background, Lane};
use super::error::LogError;
use super::manager::LogManager;
use super::partition::Log;
use crate::base::Millis;
use crate::base::time::{monotonic_ms, wall_ms};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

const RECOVERY_REPORT_MS: Millis = 5_000;
/// How long it may take to see that a topic was given a shorter `flush.ms`.
const FLUSH_PERIOD_CHECK_MS: Millis = 5_000;
/// Whatever is configured, no round begins sooner after another.
const PERIOD_MS_MIN: Millis = 50;

/// Something that is done every so often.
struct Chore {
    period_ms: Millis,
    due_ms: Millis,
    work: fn(&LogManager),
}

impl Chore {
    fn new(now_ms: Millis, period_ms: Millis, work: fn(&LogManager)) -> Chore {
        let period_ms = period_ms.max(PERIOD_MS_MIN);
        Chore { period_ms, due_ms: now_ms.saturating_add(period_ms), work }
    }
}

fn chores(lane: Lane, manager: &LogManager, now_ms: Millis) -> Vec<Chore> {
    let config = &manager.config;
    let chore = |period_ms, work| Chore::new(now_ms, period_ms, work);
    match lane {
        Lane::Flush => vec![chore(manager.flush_period_ms(), LogManager::flush_old)],
        Lane::Checkpoint => vec![
            chore(config.replica_high_watermark_checkpoint_interval_ms, LogManager::checkpoint_high_watermarks),
            chore(config.log_flush_offset_checkpoint_interval_ms, LogManager::checkpoint_recovery_points),
            chore(config.log_flush_start_offset_checkpoint_interval_ms, LogManager::checkpoint_log_starts),
            chore(RECOVERY_REPORT_MS, LogManager::report_recovery),
        ],
        Lane::Removal => vec![
            chore(config.log_retention_check_interval_ms, LogManager::apply_retention),
            chore(config.producer_id_expiration_check_interval_ms, LogManager::expire_producers),
        ],
    }
}

/// The threads of all lanes.
pub(super) fn start(manager: &Arc<LogManager>) -> io::Result<Vec<JoinHandle<()>>> {
    let lanes = [("log-flush", Lane::Flush), ("log-checkpoint", Lane::Checkpoint), ("log-housekeeping", Lane::Removal)];
    let start = |(name, lane): (&str, Lane)| {
        let (weak, background) = (Arc::downgrade(manager), Arc::clone(&manager.background));
        std::thread::Builder::new().name(name.into()).spawn(move || run(lane, &weak, &background))
    };
    lanes.into_iter().map(start).collect()
}

fn run(lane: Lane, manager: &Weak<LogManager>, background: &Background) {
    let Some(mut chores) = manager.upgrade().map(|manager| chores(lane, &manager, monotonic_ms())) else { return };
    loop {
        let now_ms = monotonic_ms();
        let work = background.take(lane, now_ms);
        if work.is_stopping {
            return;
        }
        for (log, offset) in work.flushes {
            if let Some(log) = log.upgrade() {
                report(&log, "flush", log.flush_to(offset));
            }
        }
        work.removals.iter().for_each(|path| remove(path));
        let Some(manager) = manager.upgrade() else { return };
        for chore in chores.iter_mut().filter(|chore| chore.due_ms <= now_ms) {
            (chore.work)(&manager);
            chore.due_ms = monotonic_ms().saturating_add(chore.period_ms);
        }
        if lane == Lane::Flush {
            // Topics come and go with `flush.ms` of their own.
            let period_ms = manager.flush_period_ms().max(PERIOD_MS_MIN);
            for flush in &mut chores {
                flush.due_ms = flush.due_ms.min(monotonic_ms().saturating_add(period_ms));
                flush.period_ms = period_ms;
            }
        }
        drop(manager);
        let mut deadline_ms = chores.iter().map(|chore| chore.due_ms).min().unwrap_or(now_ms);
        if lane == Lane::Flush {
            deadline_ms = deadline_ms.min(now_ms.saturating_add(FLUSH_PERIOD_CHECK_MS));
        }
        background.wait(lane, monotonic_ms(), deadline_ms);
    }
}

fn report(log: &Log, what: &str, outcome: Result<(), LogError>) {
    match outcome {
        Ok(()) | Err(LogError::Closed(_) | LogError::DirOffline { .. }) => {}
        Err(error) => tracing::warn!(log = %log.topic_partition(), %error, "{what} failed"),
    }
}

/// A file, or a directory with all that is in it.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove what was deleted");
        }
        _ => {}
    }
}

impl LogManager {
    fn for_each_dir(&self, work: impl Fn(&Arc<super::log_dir::LogDir>) -> Result<(), LogError>) {
        for dir in self.dirs.iter().filter(|dir| !dir.is_offline()) {
            if let Err(error) = work(dir) {
                tracing::warn!(dir = %dir.path().display(), %error, "cannot write a checkpoint");
            }
        }
    }

    fn checkpoint_high_watermarks(&self) {
        self.for_each_dir(|dir| self.write_high_watermarks(dir));
    }

    fn checkpoint_recovery_points(&self) {
        self.for_each_dir(|dir| self.write_recovery_points(dir));
    }

    fn checkpoint_log_starts(&self) {
        self.for_each_dir(|dir| self.write_log_starts(dir));
    }

    fn apply_retention(&self) {
        for log in self.all() {
            report(&log, "retention", log.apply_retention(wall_ms()).map(|_| ()));
        }
    }

    /// `producer.id.expiration.ms`, from the next round on.
    pub fn set_producer_expiration(&self, silent_ms: Millis) {
        self.producer_expiration_ms.store(silent_ms, Ordering::Relaxed);
    }

    pub(super) fn producer_expiration_ms(&self) -> Millis {
        self.producer_expiration_ms.load(Ordering::Relaxed)
    }

    fn expire_producers(&self) {
        let now_ms = wall_ms();
        for log in self.all() {
            log.expire_producers(now_ms, self.producer_expiration_ms());
        }
    }

    /// How often somebody has to look for logs that are due for a flush by time.
    fn flush_period_ms(&self) -> Millis {
        let logs = self.logs.read();
        let shortest = logs.values().map(|log| log.config.load().flush_ms).min().unwrap_or(i64::MAX);
        shortest.min(self.config.log_flush_scheduler_interval_ms)
    }

    fn flush_old(&self) {
        let now_ms = monotonic_ms();
        for log in self.all() {
            let flush_ms = log.config.load().flush_ms;
            if log.unflushed_for_ms(now_ms).is_some_and(|waited_ms| waited_ms >= flush_ms) {
                report(&log, "flush", log.flush());
            }
        }
    }
}

#[cfg(test)]
mod tests;
