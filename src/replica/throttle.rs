//! Quotas of replication (KIP-73, class `ReplicationQuotaManager`): bytes per second over a sliding window, for the replicas that
//! a topic names in `leader.` and `follower.replication.throttled.replicas`.
//!
//! Invariant: only throttled replicas count, and only those that are not in sync are held back: the ISR never shrinks by a quota.

use crate::base::Millis;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Bytes of the last windows.
#[derive(Debug)]
struct Samples {
    /// Start of a window, and its bytes; oldest first.
    windows: VecDeque<(Millis, u64)>,
    rate_max: i64,
}

#[derive(Debug)]
pub struct ReplicationQuota {
    samples: Mutex<Samples>,
    window_ms: Millis,
    window_count: usize,
}

impl ReplicationQuota {
    /// `rate_max` in bytes per second.
    pub fn new(rate_max: i64, window_ms: Millis, window_count: usize) -> ReplicationQuota {
        let samples = Samples { windows: VecDeque::new(), rate_max };
        ReplicationQuota {
            samples: Mutex::new(samples),
            window_ms: window_ms.max(1),
            window_count: window_count.max(1),
        }
    }

    pub fn set_rate(&self, rate_max: i64) {
        self.samples.lock().rate_max = rate_max;
    }

    pub fn record(&self, now_ms: Millis, size_bytes: usize) {
        let mut samples = self.samples.lock();
        self.drop_old(&mut samples, now_ms);
        match samples.windows.back_mut() {
            Some((start_ms, bytes)) if now_ms - *start_ms < self.window_ms => *bytes += size_bytes as u64,
            _ => samples.windows.push_back((now_ms, size_bytes as u64)),
        }
    }

    pub fn is_exceeded(&self, now_ms: Millis) -> bool {
        let mut samples = self.samples.lock();
        if samples.rate_max == i64::MAX {
            return false;
        }
        self.drop_old(&mut samples, now_ms);
        let bytes: u64 = samples.windows.iter().map(|(_, bytes)| bytes).sum();
        let Some((oldest_ms, _)) = samples.windows.front() else { return false };
        // All windows but the last count as full, so that a quota does not start with a burst.
        let elapsed_ms = (now_ms - oldest_ms).max(self.window_ms * (self.window_count as Millis - 1)).max(1);
        u128::from(bytes) * 1000 > samples.rate_max.max(0) as u128 * elapsed_ms as u128
    }

    fn drop_old(&self, samples: &mut Samples, now_ms: Millis) {
        let span_ms = self.window_ms * self.window_count as Millis;
        while samples.windows.front().is_some_and(|(start_ms, _)| now_ms - start_ms >= span_ms) {
            samples.windows.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_rate_over_all_windows() {
        let quota = ReplicationQuota::new(1000, 1000, 11);
        assert!(!quota.is_exceeded(0));
        quota.record(0, 10_000);
        assert!(!quota.is_exceeded(0));
        quota.record(500, 1);
        assert!(quota.is_exceeded(500));
        assert!(!quota.is_exceeded(10_500), "the same bytes over more time");
        quota.record(10_999, 5000);
        assert!(quota.is_exceeded(10_999));
        assert!(!quota.is_exceeded(11_000), "the first window is over");
        quota.set_rate(i64::MAX);
        quota.record(11_000, 1 << 30);
        assert!(!quota.is_exceeded(11_000));
    }
}
