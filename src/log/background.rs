//! Work that waits for the housekeeping thread: flushes after a roll, delayed removal of files (class `KafkaScheduler`).

use super::partition::Log;
use crate::base::Millis;
use parking_lot::{Condvar, Mutex};
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

/// Something to be removed when its time has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    /// Monotonic.
    pub due_ms: Millis,
    /// Files, or one directory with all that is in it.
    pub paths: Vec<PathBuf>,
}

/// What one round of housekeeping takes from the queue.
#[derive(Default)]
pub struct Work {
    /// Logs to be flushed up to an offset.
    pub flushes: Vec<(Weak<Log>, i64)>,
    pub removals: Vec<PathBuf>,
    pub is_stopping: bool,
}

#[derive(Default)]
pub struct Background {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    flushes: Vec<(Weak<Log>, i64)>,
    removals: Vec<Removal>,
    is_stopping: bool,
}

impl Background {
    pub fn flush_later(&self, log: Weak<Log>, offset: i64) {
        self.state.lock().flushes.push((log, offset));
        self.wake.notify_all();
    }

    pub fn remove_later(&self, removal: Removal) {
        self.state.lock().removals.push(removal);
        self.wake.notify_all();
    }

    pub fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.wake.notify_all();
    }

    pub fn take(&self, now_ms: Millis) -> Work {
        let mut state = self.state.lock();
        let (due, later) = std::mem::take(&mut state.removals).into_iter().partition(|r: &Removal| r.due_ms <= now_ms);
        state.removals = later;
        let due: Vec<Removal> = due;
        Work {
            flushes: std::mem::take(&mut state.flushes),
            removals: due.into_iter().flat_map(|removal| removal.paths).collect(),
            is_stopping: state.is_stopping,
        }
    }

    /// Sleeps until `deadline_ms`, the first removal that falls due, or new work.
    pub fn wait(&self, now_ms: Millis, deadline_ms: Millis) {
        let mut state = self.state.lock();
        if state.is_stopping || !state.flushes.is_empty() {
            return;
        }
        let first = state.removals.iter().map(|removal| removal.due_ms).min().unwrap_or(deadline_ms);
        let sleep_ms = first.min(deadline_ms).saturating_sub(now_ms).max(0);
        if sleep_ms > 0 {
            self.wake.wait_for(&mut state, Duration::from_millis(sleep_ms as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_wait_for_their_time() {
        let background = Background::default();
        for (due_ms, name) in [(100, "a"), (300, "b")] {
            background.remove_later(Removal { due_ms, paths: vec![name.into()] });
        }
        assert!(background.take(99).removals.is_empty());
        assert_eq!(background.take(100).removals, [PathBuf::from("a")]);
        assert_eq!(background.take(1000).removals, [PathBuf::from("b")]);
        background.stop();
        assert!(background.take(0).is_stopping);
    }
}
