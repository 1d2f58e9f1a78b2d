//! One-shot watches as messages (class `ZooKeeperClient`'s handler maps).
//!
//! Invariant: at most one watch per path and kind. Arming again replaces the old one, which is safe because arming is always
//! part of a read: what the old watch would have said is in what was just read.

use super::operation::Operation;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use zookeeper_client::OneshotWatcher;

/// Something below a watched path may have changed: read it again (which arms the watch again).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    pub path: String,
    /// The children of the path, not its data or existence.
    pub children: bool,
}

/// Path and kind of a watch, its number, the task that waits for it.
type Armed = HashMap<(String, bool), (u64, AbortHandle)>;

/// The watches of one owner. Dropping it disarms them.
pub struct Watches {
    sender: UnboundedSender<Changed>,
    armed: Arc<Mutex<Armed>>,
    next: Mutex<u64>,
}

impl Watches {
    pub fn new(sender: UnboundedSender<Changed>) -> Watches {
        Watches { sender, armed: Arc::default(), next: Mutex::new(0) }
    }

    /// Disarms everything.
    pub fn clear(&self) {
        for (_, (_, task)) in self.armed.lock().drain() {
            task.abort();
        }
    }

    pub(super) fn arm(&self, operation: &Operation, watcher: OneshotWatcher) {
        let (path, children) = match operation {
            Operation::Children { path, .. } => (path.clone(), true),
            Operation::Get { path, .. } | Operation::Exists { path, .. } => (path.clone(), false),
            Operation::Multi(_) => return,
        };
        let number = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        let key = (path, children);
        let (sender, armed, own) = (self.sender.clone(), self.armed.clone(), key.clone());
        let mut guard = self.armed.lock();
        let task = tokio::spawn(async move {
            // The end of the session also ends the watch: then the reader has to look again as well.
            watcher.changed().await;
            {
                let mut armed = armed.lock();
                if armed.get(&own).is_some_and(|(at, _)| *at == number) {
                    armed.remove(&own);
                }
            }
            let (path, children) = own;
            let _ = sender.send(Changed { path, children });
        });
        if let Some((_, old)) = guard.insert(key, (number, task.abort_handle())) {
            old.abort();
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.clear();
    }
}
