//! One-shot watches as messages (class `ZooKeeperClient`'s handler maps).
//!
//! Invariant: at most one watch per owner, path and kind. Arming again replaces the old one, which is safe because arming is
//! always part of a read: what the old watch would have said is in what was just read.

use super::client::codec::Naming;
use super::client::watch_table::Arm;
use super::operation::Operation;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// Something below a watched path may have changed: read it again (which arms the watch again).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    pub path: String,
    /// The children of the path, not its data or existence.
    pub children: bool,
}

/// Whom watches tell, as long as it exists.
#[derive(Debug)]
pub struct Owner {
    sender: UnboundedSender<Changed>,
}

impl Owner {
    pub(super) fn tell(&self, changed: Changed) {
        let _ = self.sender.send(changed);
    }
}

/// The watches of one owner. Dropping it disarms them.
pub struct Watches {
    owner: Mutex<Arc<Owner>>,
}

impl Watches {
    pub fn new(sender: UnboundedSender<Changed>) -> Watches {
        Watches { owner: Mutex::new(Arc::new(Owner { sender })) }
    }

    /// Disarms everything.
    pub fn clear(&self) {
        let mut owner = self.owner.lock();
        *owner = Arc::new(Owner { sender: owner.sender.clone() });
    }

    /// What to arm when this operation is answered, if it watches.
    pub(super) fn of(&self, operation: &Operation, naming: &Naming) -> Option<Arm> {
        let (path, children) = match operation {
            Operation::Children { path, watch: true } => (path, true),
            Operation::Get { path, watch: true } | Operation::Exists { path, watch: true } => (path, false),
            _ => return None,
        };
        let changed = Changed { path: path.clone(), children };
        Some(Arm { absolute: naming.absolute(path), changed, owner: Arc::downgrade(&self.owner.lock()) })
    }
}
