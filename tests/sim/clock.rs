//! Simulated time: the runtime's paused clock, which moves when nothing else can.

use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Time is 0 now.
pub fn start() {
    START.set(Some(Instant::now()));
}

pub fn now_ms() -> i64 {
    START.get().map_or(0, |start| start.elapsed().as_millis() as i64)
}

pub async fn sleep_ms(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
