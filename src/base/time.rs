//! Time as plain numbers. Pure cores get `now` as an argument; only drivers ask the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::time::Instant as RuntimeInstant;

/// Milliseconds: since the Unix epoch for wall time, since process start for monotonic time.
pub type Millis = i64;

/// Wall-clock time in milliseconds since the Unix epoch: for record timestamps, znodes and anything that leaves the process.
pub fn wall_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as Millis).unwrap_or(0)
}

/// Monotonic time in milliseconds since the first call: for every deadline and time-out, so that a clock jump expires nothing. By the
/// runtime's clock, which tests can stop and move.
pub fn monotonic_ms() -> Millis {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    RuntimeInstant::now().into_std().saturating_duration_since(start).as_millis() as Millis
}
