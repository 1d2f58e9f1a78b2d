//! Loading: what a snapshot needs besides applying the log after it.

use std::sync::Arc;

use bytes::Bytes;

use super::super::acl;
use super::super::path;
use super::super::quota;
use super::super::stat::StatPersisted;
use super::{Node, Tree};

impl Tree {
    /// Adds a node read from a snapshot; false if its parent is not there.
    pub fn load_node(&mut self, key: &str, node: Node) -> bool {
        if let Some((parent, name)) = path::split(key) {
            if !self.change(parent, |parent| {
                parent.children.insert(name.into());
            }) {
                return false;
            }
        } else if !key.is_empty() {
            return false;
        }
        self.put(key, node);
        true
    }

    pub fn load_session(&mut self, id: i64, timeout_ms: i32) {
        self.sessions.insert(id, timeout_ms);
    }

    pub fn set_last_zxid(&mut self, zxid: i64) {
        self.last_zxid = zxid;
    }

    /// After snapshot and log: built-in nodes are there, the ensemble's configuration is cleared (this is one server),
    /// quotas are counted, and ephemerals of sessions that are gone go too. Returns how many of those there were.
    pub fn finish_loading(&mut self) -> usize {
        for key in ["", path::ZOOKEEPER, path::QUOTA, path::CONFIG] {
            self.ensure(key);
        }
        self.change(path::CONFIG, |node| node.data = Some(Bytes::new()));
        let mut limits = Vec::new();
        self.visit(path::QUOTA, &mut |key, _| {
            if let Some((quota_node, quota::LIMIT_NODE)) = path::split(key) {
                limits.push(quota_node.to_owned());
            }
        });
        for quota_node in limits {
            self.quotas.add(&quota_node);
            self.recount(quota::governed(&quota_node).to_owned());
        }
        let dead: Vec<i64> = self.ephemerals.keys().filter(|id| !self.sessions.contains_key(id)).copied().collect();
        let orphans: Vec<Arc<str>> = dead.iter().flat_map(|id| self.ephemerals_of(*id).cloned()).collect();
        for key in &orphans {
            self.delete(key, self.last_zxid, &mut Vec::new());
        }
        orphans.len()
    }

    /// Adds a built-in node where it is missing; it never counts as a child created.
    pub(super) fn ensure(&mut self, key: &str) {
        if self.nodes.contains_key(key) {
            return;
        }
        if let Some((parent, name)) = path::split(key) {
            self.change(parent, |parent| {
                parent.children.insert(name.into());
            });
        }
        // ZooKeeper gives the configuration its ACL with a version of -1, and shows it.
        let (acl, aversion) = if key == path::CONFIG { (acl::read_only(), -1) } else { (acl::open(), 0) };
        let stat = StatPersisted { aversion, ..StatPersisted::default() };
        self.put(key, Node::new(Some(Bytes::new()), acl, stat));
    }
}
