//! How long the cleaner has to wait so that it stays below `log.cleaner.io.max.bytes.per.second` (class `Throttler`).

use crate::base::Millis;

/// Longer waits are taken in pieces, so that a stop is seen.
const WAIT_MS_MAX: f64 = 1_000.0;

/// Counts what was read and written since it began, and compares it with what was allowed.
pub struct Throttle {
    bytes_per_ms: f64,
    started_ms: Millis,
    bytes: f64,
}

impl Throttle {
    /// No limit unless it is a rate above 0.
    pub fn new(bytes_per_second: f64, now_ms: Millis) -> Throttle {
        let limited = bytes_per_second > 0.0;
        let bytes_per_ms = if limited { bytes_per_second / 1000.0 } else { f64::INFINITY };
        Throttle { bytes_per_ms, started_ms: now_ms, bytes: 0.0 }
    }

    pub fn add(&mut self, bytes: u64) {
        self.bytes += bytes as f64;
    }

    /// How long to wait before going on; 0 if nothing has to be waited for.
    pub fn wait_ms(&self, now_ms: Millis) -> Millis {
        let due_ms = self.bytes / self.bytes_per_ms;
        let passed_ms = now_ms.saturating_sub(self.started_ms) as f64;
        (due_ms - passed_ms).clamp(0.0, WAIT_MS_MAX) as Millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_until_the_bytes_are_paid_for() {
        let mut throttle = Throttle::new(1000.0, 50);
        throttle.add(300);
        assert_eq!(throttle.wait_ms(50), 300);
        assert_eq!(throttle.wait_ms(250), 100);
        assert_eq!(throttle.wait_ms(351), 0);
        throttle.add(1_000_000);
        assert_eq!(throttle.wait_ms(351), 1000);
        for unlimited in [f64::MAX, f64::INFINITY, 0.0, -1.0, f64::NAN] {
            let mut throttle = Throttle::new(unlimited, 0);
            throttle.add(u64::MAX);
            assert_eq!(throttle.wait_ms(0), 0, "{unlimited}");
        }
    }
}
