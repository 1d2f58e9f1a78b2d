//! Who waits for which changes: one-shot, persistent and recursive watches.
//!
//! Invariant: a watch belongs to a connection and goes with it. The modes of one connection on one path are kept apart, so
//! a later one-shot watch never weakens a persistent one (ZooKeeper does so since 3.9). Class `WatchManager`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::codes::EventType;
use super::path;

/// A connection, numbered in order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// How long a watch lives and what it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchMode {
    OneShot,
    Persistent,
    PersistentRecursive,
}

#[derive(Clone, Copy, Default, Debug)]
struct Modes {
    one_shot: bool,
    persistent: bool,
    recursive: bool,
}

/// One table: the server has one for data and one for children.
#[derive(Default, Debug)]
pub struct WatchTable {
    watchers: HashMap<Box<str>, BTreeMap<ConnectionId, Modes>>,
    paths: HashMap<ConnectionId, HashSet<Box<str>>>,
    recursive: usize,
}

impl WatchTable {
    pub fn add(&mut self, path: &str, connection: ConnectionId, mode: WatchMode) {
        let modes = self.watchers.entry(path.into()).or_default().entry(connection).or_default();
        match mode {
            WatchMode::OneShot => modes.one_shot = true,
            WatchMode::Persistent => modes.persistent = true,
            WatchMode::PersistentRecursive => {
                self.recursive += usize::from(!modes.recursive);
                modes.recursive = true;
            }
        }
        self.paths.entry(connection).or_default().insert(path.into());
    }

    pub fn contains(&self, path: &str, connection: ConnectionId) -> bool {
        self.watchers.get(path).is_some_and(|watchers| watchers.contains_key(&connection))
    }

    /// Forgets a connection's watches on a path; false if there were none.
    pub fn remove(&mut self, path: &str, connection: ConnectionId) -> bool {
        let Some(watchers) = self.watchers.get_mut(path) else { return false };
        let Some(modes) = watchers.remove(&connection) else { return false };
        self.recursive -= usize::from(modes.recursive);
        if watchers.is_empty() {
            self.watchers.remove(path);
        }
        if let Some(paths) = self.paths.get_mut(&connection) {
            paths.remove(path);
            if paths.is_empty() {
                self.paths.remove(&connection);
            }
        }
        true
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        for path in self.paths.remove(&connection).unwrap_or_default() {
            self.remove(&path, connection);
        }
    }

    /// Who hears of an event, in order of arrival; one-shot watches are used up by it.
    pub fn trigger(&mut self, at: &str, event: EventType) -> BTreeSet<ConnectionId> {
        let mut heard = BTreeSet::new();
        let mut spent = Vec::new();
        for (connection, modes) in self.watchers.get_mut(at).into_iter().flatten() {
            let recursive = modes.recursive && event != EventType::ChildrenChanged;
            if modes.one_shot || modes.persistent || recursive {
                heard.insert(*connection);
            }
            modes.one_shot = false;
            if !modes.persistent && !modes.recursive {
                spent.push(*connection);
            }
        }
        for connection in spent {
            self.remove(at, connection);
        }
        if self.recursive > 0 && event != EventType::ChildrenChanged {
            self.above(at, &mut heard);
        }
        heard
    }

    fn above(&self, at: &str, heard: &mut BTreeSet<ConnectionId>) {
        let mut key = path::key(at);
        while let Some((parent, _)) = path::split(key) {
            key = parent;
            let watchers = self.watchers.get(path::shown(key)).into_iter().flatten();
            heard.extend(watchers.filter(|(_, modes)| modes.recursive).map(|(connection, _)| *connection));
        }
    }

    /// Pairs of connection and path.
    pub fn len(&self) -> usize {
        self.paths.values().map(HashSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub fn connections(&self) -> usize {
        self.paths.len()
    }

    pub fn by_path(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = ConnectionId>)> {
        self.watchers.iter().map(|(path, watchers)| (path.as_ref(), watchers.keys().copied()))
    }

    pub fn by_connection(&self) -> impl Iterator<Item = (ConnectionId, impl Iterator<Item = &str>)> {
        self.paths.iter().map(|(connection, paths)| (*connection, paths.iter().map(AsRef::as_ref)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ConnectionId = ConnectionId(1);
    const OTHER: ConnectionId = ConnectionId(2);

    fn heard(table: &mut WatchTable, at: &str, event: EventType) -> Vec<u64> {
        table.trigger(at, event).into_iter().map(|connection| connection.0).collect()
    }

    #[test]
    fn one_shot_watches_fire_once_and_identical_ones_are_one() {
        let mut table = WatchTable::default();
        table.add("/a", ME, WatchMode::OneShot);
        table.add("/a", ME, WatchMode::OneShot);
        table.add("/a", OTHER, WatchMode::OneShot);
        assert_eq!(table.len(), 2);
        assert_eq!(heard(&mut table, "/a", EventType::DataChanged), [1, 2]);
        assert_eq!(heard(&mut table, "/a", EventType::DataChanged), [0; 0]);
        assert!(table.is_empty() && table.connections() == 0);
    }

    #[test]
    fn recursive_watches_hear_of_everything_below_but_not_of_lists_of_children() {
        let mut table = WatchTable::default();
        table.add("/", ME, WatchMode::PersistentRecursive);
        table.add("/a", OTHER, WatchMode::PersistentRecursive);
        assert_eq!(heard(&mut table, "/a/b/c", EventType::Created), [1, 2]);
        assert_eq!(heard(&mut table, "/ab", EventType::Created), [1]);
        assert_eq!(heard(&mut table, "/a", EventType::ChildrenChanged), [0; 0]);
        assert_eq!(heard(&mut table, "/a", EventType::Deleted), [1, 2]);
    }

    #[test]
    fn modes_are_kept_apart() {
        let mut table = WatchTable::default();
        table.add("/a", ME, WatchMode::Persistent);
        table.add("/a", ME, WatchMode::OneShot);
        for _ in 0..2 {
            assert_eq!(heard(&mut table, "/a", EventType::ChildrenChanged), [1]);
        }
        assert!(table.remove("/a", ME));
        assert!(!table.remove("/a", ME));
    }

    #[test]
    fn a_connection_takes_its_watches_with_it() {
        let mut table = WatchTable::default();
        table.add("/a", ME, WatchMode::PersistentRecursive);
        table.add("/b", OTHER, WatchMode::OneShot);
        table.forget(ME);
        assert_eq!(heard(&mut table, "/a/x", EventType::Created), [0; 0]);
        assert_eq!(table.len(), 1);
    }
}
