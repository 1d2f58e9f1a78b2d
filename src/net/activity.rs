//! When a connection last moved a byte: what `connections.max.idle.ms` looks at (class `Selector.IdleExpiryManager`).

use crate::base::Millis;
use crate::base::time::monotonic_ms;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub struct Activity {
    last_ms: AtomicI64,
}

impl Activity {
    pub fn new() -> Activity {
        Activity { last_ms: AtomicI64::new(monotonic_ms()) }
    }

    /// A byte came in or went out.
    pub fn touch(&self) {
        self.last_ms.store(monotonic_ms(), Ordering::Relaxed);
    }

    /// Returns once nothing has moved for `idle_ms_max`; never if that is negative. One timer for each idle period, however
    /// busy the connection is.
    pub async fn idle(&self, idle_ms_max: Millis) {
        if idle_ms_max < 0 {
            return std::future::pending().await;
        }
        loop {
            let quiet_ms = monotonic_ms() - self.last_ms.load(Ordering::Relaxed);
            let Ok(left_ms @ 1..) = u64::try_from(idle_ms_max.saturating_sub(quiet_ms)) else { return };
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
    }
}
