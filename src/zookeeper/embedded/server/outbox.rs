//! What waits to be written to one connection.
//!
//! Invariant: requests of a connection whose outbox is full are not read, so a client that does not read its replies holds
//! a bounded amount of memory; only notifications can add to a full one, and too many of those end the connection.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Above this no more requests are read.
const FULL_BYTES: usize = 1 << 20;
/// Above this the connection is given up.
const OVERFLOW_BYTES: usize = 64 << 20;
/// How long a closing connection may take to accept its last bytes.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    closed: bool,
    overflowed: bool,
}

#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
    closed: Notify,
}

impl Outbox {
    pub fn push(&self, frame: &[u8]) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if state.bytes.len() + frame.len() > OVERFLOW_BYTES.max(frame.len() + FULL_BYTES) {
            state.overflowed = true;
            self.closed.notify_one();
            return;
        }
        state.bytes.extend_from_slice(frame);
        self.filled.notify_one();
    }

    /// Nothing is taken any more; what is in goes out, then the connection ends.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
        self.drained.notify_one();
        self.closed.notify_one();
    }

    /// The bytes to write next, or `None` after the last.
    pub async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.state.lock();
                if !state.bytes.is_empty() {
                    let bytes = std::mem::take(&mut state.bytes);
                    self.drained.notify_one();
                    return Some(bytes);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Waits until there is room for more replies; false if none are wanted any more.
    pub async fn room(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if state.closed || state.bytes.len() <= FULL_BYTES {
                    return !state.closed;
                }
            }
            self.drained.notified().await;
        }
    }

    /// Whether requests may still be taken.
    pub fn is_open(&self) -> bool {
        let state = self.state.lock();
        !state.closed && state.bytes.len() <= FULL_BYTES
    }

    /// Closed, and all of it taken.
    pub fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.bytes.is_empty()
    }

    /// Returns when the connection must end even if its peer reads nothing.
    pub async fn expired(&self) {
        loop {
            let (closed, overflowed) = {
                let state = self.state.lock();
                (state.closed, state.overflowed)
            };
            if overflowed {
                return;
            }
            if closed {
                return tokio::time::sleep(LINGER).await;
            }
            self.closed.notified().await;
        }
    }
}
