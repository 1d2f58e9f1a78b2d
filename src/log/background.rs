//! Work that waits for the housekeeping threads: flushes after a roll, delayed removal of files (class `KafkaScheduler`).
//!
//! Invariant: each lane has a thread of its own, so that a disk that is slow to sync keeps no space from becoming free, and the
//! other way round.

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

/// What a thread is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    Flush,
    Checkpoint,
    /// Retention, and the files that it and deletions leave.
    Removal,
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
    wake_flush: Condvar,
    wake_checkpoint: Condvar,
    wake_removal: Condvar,
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
        self.wake_flush.notify_all();
    }

    pub fn remove_later(&self, removal: Removal) {
        self.state.lock().removals.push(removal);
        self.wake_removal.notify_all();
    }

    pub fn stop(&self) {
        self.state.lock().is_stopping = true;
        for wake in [&self.wake_flush, &self.wake_checkpoint, &self.wake_removal] {
            wake.notify_all();
        }
    }

    /// The work of a lane.
    pub fn take(&self, lane: Lane, now_ms: Millis) -> Work {
        let mut state = self.state.lock();
        let is_stopping = state.is_stopping;
        match lane {
            Lane::Flush => Work { flushes: std::mem::take(&mut state.flushes), is_stopping, ..Work::default() },
            Lane::Checkpoint => Work { is_stopping, ..Work::default() },
            Lane::Removal => Work { removals: state.due_removals(now_ms), is_stopping, ..Work::default() },
        }
    }

    /// Sleeps until `deadline_ms`, the first removal that falls due, or new work.
    pub fn wait(&self, lane: Lane, now_ms: Millis, deadline_ms: Millis) {
        let mut state = self.state.lock();
        if state.is_stopping || (lane == Lane::Flush && !state.flushes.is_empty()) {
            return;
        }
        let (wake, until_ms) = match lane {
            Lane::Flush => (&self.wake_flush, deadline_ms),
            Lane::Checkpoint => (&self.wake_checkpoint, deadline_ms),
            Lane::Removal => {
                (&self.wake_removal, state.first_removal_ms().map_or(deadline_ms, |ms| ms.min(deadline_ms)))
            }
        };
        let sleep_ms = until_ms.saturating_sub(now_ms).max(0);
        if sleep_ms > 0 {
            wake.wait_for(&mut state, Duration::from_millis(sleep_ms as u64));
        }
    }
}

impl State {
    fn due_removals(&mut self, now_ms: Millis) -> Vec<PathBuf> {
        let (due, later): (Vec<Removal>, _) =
            std::mem::take(&mut self.removals).into_iter().partition(|removal| removal.due_ms <= now_ms);
        self.removals = later;
        due.into_iter().flat_map(|removal| removal.paths).collect()
    }

    fn first_removal_ms(&self) -> Option<Millis> {
        self.removals.iter().map(|removal| removal.due_ms).min()
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
        assert!(background.take(Lane::Removal, 99).removals.is_empty());
        assert_eq!(background.take(Lane::Removal, 100).removals, [PathBuf::from("a")]);
        assert_eq!(background.take(Lane::Removal, 1000).removals, [PathBuf::from("b")]);
        background.stop();
        assert!(background.take(Lane::Flush, 0).is_stopping);
    }
}
