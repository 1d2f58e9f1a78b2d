//! How far the recovery of a log has come, how fast it may go, and whether it is to go on (KIP-831's remaining logs and segments).
//!
//! Invariant: a recovery that is called off has changed nothing that a kill at the same moment would not have: the next start begins
//! it again.

use super::error::LogError;
use crate::base::time::monotonic_ms;
use parking_lot::{Condvar, Mutex};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Longer waits are taken in pieces.
const WAIT_MS_MAX: f64 = 1_000.0;

/// What is left to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecoveryLeft {
    pub logs: usize,
    pub segments: usize,
    pub bytes: u64,
}

/// Bytes per second of several threads together; no limit at first. Time that nobody used is not saved up.
#[derive(Default)]
pub(super) struct Pace {
    is_limited: AtomicBool,
    account: Mutex<Account>,
    changed: Condvar,
}

#[derive(Default)]
struct Account {
    bytes_per_ms: f64,
    /// Monotonic: when everything spent so far is paid for.
    paid_ms: f64,
}

impl Pace {
    /// A rate of 0 or less, or one without bounds, is no limit.
    pub fn limit(&self, bytes_per_second: f64) {
        let is_limited = bytes_per_second > 0.0 && bytes_per_second < f64::MAX;
        let bytes_per_ms = if is_limited { bytes_per_second / 1000.0 } else { f64::INFINITY };
        *self.account.lock() = Account { bytes_per_ms, paid_ms: monotonic_ms() as f64 };
        self.is_limited.store(is_limited, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whoever waits looks again whether it is to go on.
    pub fn wake(&self) {
        drop(self.account.lock());
        self.changed.notify_all();
    }

    /// Counts the bytes, and returns when they are paid for, or nobody wants them any more.
    pub fn spend(&self, bytes: u64, is_wanted: impl Fn() -> bool) {
        if !self.is_limited.load(Ordering::Acquire) {
            return;
        }
        let mut account = self.account.lock();
        account.paid_ms = account.paid_ms.max(monotonic_ms() as f64) + bytes as f64 / account.bytes_per_ms;
        while is_wanted() {
            let wait_ms = account.paid_ms - monotonic_ms() as f64;
            if wait_ms < 1.0 {
                return;
            }
            self.changed.wait_for(&mut account, Duration::from_millis(wait_ms.min(WAIT_MS_MAX) as u64));
        }
    }
}

/// Of one log: its loader says how far it is, others look, or call it off.
#[derive(Default)]
pub(super) struct Progress {
    segments: AtomicUsize,
    bytes: AtomicU64,
    is_cancelled: AtomicBool,
    pace: Arc<Pace>,
}

impl Progress {
    pub fn new(pace: Arc<Pace>) -> Progress {
        Progress { pace, ..Progress::default() }
    }

    /// What has to be checked, as far as it is known.
    pub fn expect(&self, segments: usize, bytes: u64) {
        self.segments.store(segments, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// What was read of a segment. An error: do not go on.
    pub fn read(&self, path: &Path, bytes: u64) -> Result<(), LogError> {
        // It may be more than was expected, in a log that is read anew.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        self.pace.spend(bytes, || !self.is_cancelled());
        match self.is_cancelled() {
            true => Err(LogError::CalledOff { path: path.to_owned() }),
            false => Ok(()),
        }
    }

    pub fn segment_done(&self) {
        let _ = self.segments.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    }

    pub fn left(&self) -> (usize, u64) {
        (self.segments.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.pace.wake();
    }

    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_off_does_not_wait_for_its_pace() {
        let pace = Arc::new(Pace::default());
        pace.limit(1.0);
        let progress = Arc::new(Progress::new(Arc::clone(&pace)));
        progress.expect(2, 1000);
        let reader = Arc::clone(&progress);
        let thread = std::thread::spawn(move || reader.read(Path::new("log"), 600));
        while progress.left() != (2, 400) {
            std::thread::yield_now();
        }
        progress.cancel();
        assert!(matches!(thread.join().unwrap(), Err(LogError::CalledOff { .. })));
    }

    #[test]
    fn a_limit_that_is_lifted_lets_go() {
        let pace = Arc::new(Pace::default());
        pace.limit(1.0);
        let progress = Arc::new(Progress::new(Arc::clone(&pace)));
        let reader = Arc::clone(&progress);
        let thread = std::thread::spawn(move || reader.read(Path::new("log"), 1 << 30));
        pace.limit(0.0);
        thread.join().unwrap().unwrap();
        assert_eq!(progress.left(), (0, 0), "more than was expected");
    }
}
