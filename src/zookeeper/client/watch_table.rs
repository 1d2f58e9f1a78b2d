//! The watches of a session (class `ZKWatchManager`): who is told when the server says that a path changed.
//!
//! Invariant: a watch lives until it has fired or the session has ended, whatever happens to connections meanwhile: after a
//! reconnect the server is told of all of them again, with the last transaction that was seen, and fires what was missed.

use super::super::embedded::codes::EventType;
use super::super::embedded::jute::JuteWriter;
use super::super::watches::{Changed, Owner};
use std::collections::HashMap;
use std::sync::Weak;

/// Bytes of paths in one message that sets watches again; ZooKeeper refuses requests of more than a MiB.
const SET_WATCHES_BYTES: usize = 128 * 1024;

/// What a read was asked to watch.
#[derive(Clone, Debug)]
pub struct Arm {
    /// As the server knows it.
    pub absolute: String,
    pub changed: Changed,
    pub owner: Weak<Owner>,
}

struct Armed {
    owner: Weak<Owner>,
    changed: Changed,
    /// The znode was absent when this was armed.
    absent: bool,
}

#[derive(Default)]
pub struct WatchTable {
    node: HashMap<String, Vec<Armed>>,
    children: HashMap<String, Vec<Armed>>,
}

impl WatchTable {
    /// One watch an owner and path: arming again replaces.
    pub fn arm(&mut self, arm: Arm, absent: bool) {
        let map = if arm.changed.children { &mut self.children } else { &mut self.node };
        let list = map.entry(arm.absolute).or_default();
        list.retain(|armed| armed.owner.strong_count() > 0 && !armed.owner.ptr_eq(&arm.owner));
        list.push(Armed { owner: arm.owner, changed: arm.changed, absent });
    }

    pub fn fire(&mut self, event: i32, path: &str) {
        const DELETED: i32 = EventType::Deleted as i32;
        const CHILDREN_CHANGED: i32 = EventType::ChildrenChanged as i32;
        if event != CHILDREN_CHANGED {
            tell(self.node.remove(path));
        }
        if matches!(event, DELETED | CHILDREN_CHANGED) {
            tell(self.children.remove(path));
        }
    }

    /// The session has ended, and its watches with it: who waits has to look again.
    pub fn fire_all(&mut self) {
        for (_, list) in self.node.drain().chain(self.children.drain()) {
            tell(Some(list));
        }
    }

    /// Bodies of the requests that tell another server of the watches.
    pub fn set_again(&mut self, last_zxid: i64) -> Vec<Vec<u8>> {
        for map in [&mut self.node, &mut self.children] {
            map.retain(|_, list| {
                list.retain(|armed| armed.owner.strong_count() > 0);
                !list.is_empty()
            });
        }
        let absent = |list: &Vec<Armed>| list.iter().all(|armed| armed.absent);
        let of_node = self.node.iter().map(|(path, list)| (path, usize::from(absent(list))));
        let all = of_node.chain(self.children.keys().map(|path| (path, 2)));
        let mut bodies = Vec::new();
        let (mut lists, mut bytes) = ([const { Vec::<&String>::new() }; 3], 0);
        for (path, kind) in all {
            if bytes + path.len() > SET_WATCHES_BYTES {
                bodies.push(body(last_zxid, &lists));
                (lists, bytes) = Default::default();
            }
            bytes += path.len() + 4;
            if let Some(list) = lists.get_mut(kind) {
                list.push(path);
            }
        }
        if bytes > 0 {
            bodies.push(body(last_zxid, &lists));
        }
        bodies
    }
}

fn body(last_zxid: i64, lists: &[Vec<&String>; 3]) -> Vec<u8> {
    let mut to = JuteWriter::new();
    to.i64(last_zxid);
    for list in lists {
        to.strings(list.iter());
    }
    to.into_bytes()
}

fn tell(list: Option<Vec<Armed>>) {
    for armed in list.into_iter().flatten() {
        if let Some(owner) = armed.owner.upgrade() {
            owner.tell(armed.changed);
        }
    }
}
