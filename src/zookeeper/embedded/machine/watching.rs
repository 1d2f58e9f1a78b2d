//! Watches at work: setting them, taking them away, and telling who waits.

use std::collections::BTreeSet;

use super::super::acl::{AclList, perm};
use super::super::codes::{EventType, KeeperCode};
use super::super::path;
use super::super::reply;
use super::super::request::SetWatches;
use super::super::tree::Event;
use super::super::watches::{ConnectionId, WatchMode};
use super::{Effect, Machine};

impl Machine {
    /// Data watches of the node first, then child watches of the node, then child watches of its parent.
    pub(super) fn notify(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        if self.data_watches.is_empty() && self.child_watches.is_empty() {
            return;
        }
        match event {
            Event::Created { key, acl, parent_acl } => {
                let heard = self.data_watches.trigger(path::shown(key), EventType::Created);
                self.tell(&heard, EventType::Created, path::shown(key), acl, effects);
                self.notify_parent(key, parent_acl, effects);
            }
            Event::Changed { key, acl } => {
                let heard = self.data_watches.trigger(path::shown(key), EventType::DataChanged);
                self.tell(&heard, EventType::DataChanged, path::shown(key), acl, effects);
            }
            Event::Deleted { key, acl, parent_acl } => {
                // Whoever hears of it by a data watch is not told again by a child watch.
                let mut heard = self.data_watches.trigger(path::shown(key), EventType::Deleted);
                heard.extend(self.child_watches.trigger(path::shown(key), EventType::Deleted));
                self.tell(&heard, EventType::Deleted, path::shown(key), acl, effects);
                self.notify_parent(key, parent_acl, effects);
            }
        }
    }

    fn notify_parent(&mut self, key: &str, acl: &AclList, effects: &mut Vec<Effect>) {
        let Some((parent, _)) = path::split(key) else { return };
        let heard = self.child_watches.trigger(path::shown(parent), EventType::ChildrenChanged);
        self.tell(&heard, EventType::ChildrenChanged, path::shown(parent), acl, effects);
    }

    /// Those who may not read the node hear nothing; their watch is used up all the same.
    fn tell(
        &self,
        heard: &BTreeSet<ConnectionId>,
        event: EventType,
        path: &str,
        acl: &AclList,
        effects: &mut Vec<Effect>,
    ) {
        let may_hear = heard.iter().filter(|id| self.permits(**id, acl, perm::READ));
        effects.extend(may_hear.map(|id| Effect::Send { to: *id, frame: reply::notification(event, path) }));
    }

    /// After a reconnect: what the client missed is told, the rest is armed again.
    pub(super) fn set_watches(&mut self, id: ConnectionId, watches: SetWatches, effects: &mut Vec<Effect>) {
        let seen = watches.relative_zxid;
        let mut tell = |event, path: &str| {
            effects.push(Effect::Send { to: id, frame: reply::notification(event, path) });
        };
        for path in &watches.data {
            match self.tree.get(path) {
                None => tell(EventType::Deleted, path),
                Some(node) if node.stat.mzxid > seen => tell(EventType::DataChanged, path),
                Some(_) => self.data_watches.add(path, id, WatchMode::OneShot),
            }
        }
        for path in &watches.exist {
            match self.tree.get(path) {
                Some(_) => tell(EventType::Created, path),
                None => self.data_watches.add(path, id, WatchMode::OneShot),
            }
        }
        for path in &watches.child {
            match self.tree.get(path) {
                None => tell(EventType::Deleted, path),
                Some(node) if node.stat.pzxid > seen => tell(EventType::ChildrenChanged, path),
                Some(_) => self.child_watches.add(path, id, WatchMode::OneShot),
            }
        }
        for path in &watches.persistent {
            self.watch_both(path, id, WatchMode::Persistent);
        }
        for path in &watches.recursive {
            self.watch_both(path, id, WatchMode::PersistentRecursive);
        }
    }

    pub(super) fn add_watch(&mut self, id: ConnectionId, path: &str, mode: i32) -> Result<(), KeeperCode> {
        let mode = match mode {
            0 => WatchMode::Persistent,
            1 => WatchMode::PersistentRecursive,
            _ => return Err(KeeperCode::MarshallingError),
        };
        self.watch_both(path, id, mode);
        Ok(())
    }

    fn watch_both(&mut self, path: &str, id: ConnectionId, mode: WatchMode) {
        self.data_watches.add(path, id, mode);
        self.child_watches.add(path, id, mode);
    }

    pub(super) fn check_watches(&self, id: ConnectionId, path: &str, kind: i32) -> Result<(), KeeperCode> {
        let (child, data) = tables(kind)?;
        let found = child && self.child_watches.contains(path, id) || data && self.data_watches.contains(path, id);
        if found { Ok(()) } else { Err(KeeperCode::NoWatcher) }
    }

    pub(super) fn remove_watches(&mut self, id: ConnectionId, path: &str, kind: i32) -> Result<(), KeeperCode> {
        let (child, data) = tables(kind)?;
        let child = child && self.child_watches.remove(path, id);
        let data = data && self.data_watches.remove(path, id);
        if child || data { Ok(()) } else { Err(KeeperCode::NoWatcher) }
    }
}

/// Which tables a watcher type means: children, data.
fn tables(kind: i32) -> Result<(bool, bool), KeeperCode> {
    match kind {
        1 => Ok((true, false)),
        2 => Ok((false, true)),
        3 => Ok((true, true)),
        _ => Err(KeeperCode::MarshallingError),
    }
}
