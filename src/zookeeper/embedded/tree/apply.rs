//! Applying transactions: the only way a tree changes.

use std::sync::Arc;

use bytes::Bytes;

use super::super::acl::{self, AclList};
use super::super::codes::{KeeperCode, op};
use super::super::path;
use super::super::quota::{self, Usage};
use super::super::stat::{Owner, StatPersisted};
use super::super::txn::{CreateTxn, Txn, TxnHeader};
use super::{Event, Node, Outcome, Tree};

impl Tree {
    /// Applies one transaction; every change that watches may wait for is appended to `events`, in order.
    pub fn apply(&mut self, header: &TxnHeader, txn: &Txn, events: &mut Vec<Event>) -> Outcome {
        let outcome = self.apply_one(header, txn, events);
        self.last_zxid = self.last_zxid.max(header.zxid);
        outcome
    }

    fn apply_one(&mut self, header: &TxnHeader, txn: &Txn, events: &mut Vec<Event>) -> Outcome {
        match txn {
            Txn::Create(create) => self.create(header, create, events),
            Txn::Delete { path, .. } => {
                self.delete(path::key(path), header.zxid, events);
                Outcome::Done { op: txn.op() }
            }
            Txn::SetData { path, data, version } => self.set_data(header, path::key(path), data, *version, events),
            Txn::SetAcl { path, acl, version } => self.set_acl(path::key(path), acl, *version),
            Txn::Check { .. } => Outcome::Done { op: op::CHECK },
            Txn::Multi(txns) => {
                let failed = txns.iter().any(|txn| matches!(txn, Txn::Error(_)));
                let one = |txn: &Txn| match txn {
                    Txn::Error(code) => Outcome::Error(*code),
                    _ if failed => Outcome::Error(KeeperCode::Ok.code()),
                    txn => self.apply_one(header, txn, events),
                };
                Outcome::Multi(txns.iter().map(one).collect())
            }
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.client_id, *timeout_ms);
                Outcome::Done { op: op::CREATE_SESSION }
            }
            Txn::CloseSession { ephemerals } => {
                self.close_session(header, ephemerals.as_deref().unwrap_or_default(), events);
                Outcome::Done { op: op::CLOSE_SESSION }
            }
            Txn::Error(code) => Outcome::Error(*code),
        }
    }

    fn create(&mut self, header: &TxnHeader, create: &CreateTxn, events: &mut Vec<Event>) -> Outcome {
        let key = path::key(&create.path);
        let Some((parent_key, name)) = path::split(key) else { return Outcome::Error(KeeperCode::NodeExists.code()) };
        let Some(parent) = self.nodes.get(parent_key) else { return Outcome::Error(KeeperCode::NoNode.code()) };
        let parent_acl = parent.acl.clone();
        let parent_cversion =
            if create.parent_cversion == -1 { parent.stat.cversion.wrapping_add(1) } else { create.parent_cversion };
        // Only over a snapshot that is newer than its name; the parent may still be older.
        let exists = parent.children.contains(name);
        self.change(parent_key, |parent| {
            if parent_cversion > parent.stat.cversion {
                parent.stat.cversion = parent_cversion;
                parent.stat.pzxid = parent.stat.pzxid.max(header.zxid);
            }
            if !exists {
                parent.children.insert(name.into());
            }
        });
        if exists {
            return Outcome::Error(KeeperCode::NodeExists.code());
        }
        let owner = match create.op {
            op::CREATE_CONTAINER => Owner::Container,
            op::CREATE_TTL => Owner::Ttl(create.ttl_ms),
            _ if create.ephemeral => Owner::Session(header.client_id),
            _ => Owner::None,
        };
        let stat = StatPersisted::created(header.zxid, header.time_ms, owner.raw());
        let node = Node::new(create.data.clone(), create.acl.clone(), stat);
        let outcome = Outcome::Created { op: create.op, path: create.path.clone(), stat: node.stat() };
        let bytes = node.data_len();
        let key = self.put(key, node);
        self.after_create(&key, parent_key, name, bytes);
        events.push(Event::Created { key, acl: create.acl.clone(), parent_acl });
        outcome
    }

    /// Adds a node as it is, with the indexes that follow from it; the parent must know it already.
    pub(super) fn put(&mut self, key: &str, mut node: Node) -> Arc<str> {
        let key: Arc<str> = Arc::from(key);
        match node.stat.owner() {
            Owner::Session(id) => {
                self.ephemerals.entry(id).or_default().insert(key.clone());
            }
            Owner::Container | Owner::Ttl(_) => {
                self.perishable.insert(key.clone());
            }
            Owner::None => {}
        }
        node.digest = node.compute_digest(&key);
        self.digest = self.digest.wrapping_add(node.digest);
        self.bytes += (key.len() + node.data_len()) as u64;
        self.nodes.insert(key.clone(), Arc::new(node));
        key
    }

    /// Changes a node in place and keeps the digest true.
    pub(super) fn change(&mut self, key: &str, change: impl FnOnce(&mut Node)) -> bool {
        let Some(node) = self.nodes.get_mut(key) else { return false };
        let node = Arc::make_mut(node);
        self.digest = self.digest.wrapping_sub(node.digest);
        self.bytes -= node.data_len() as u64;
        change(node);
        node.digest = node.compute_digest(key);
        self.digest = self.digest.wrapping_add(node.digest);
        self.bytes += node.data_len() as u64;
        true
    }

    pub(super) fn delete(&mut self, key: &str, zxid: i64, events: &mut Vec<Event>) {
        let Some((parent_key, name)) = path::split(key) else { return };
        let mut parent_acl = acl::open();
        self.change(parent_key, |parent| {
            parent.children.remove(name);
            parent.stat.pzxid = parent.stat.pzxid.max(zxid);
            parent_acl = parent.acl.clone();
        });
        let Some((key, node)) = self.nodes.remove_entry(key) else { return };
        self.digest = self.digest.wrapping_sub(node.digest);
        self.bytes -= (key.len() + node.data_len()) as u64;
        match node.stat.owner() {
            Owner::Session(id) => {
                if let Some(owned) = self.ephemerals.get_mut(&id) {
                    owned.remove(&key);
                    if owned.is_empty() {
                        self.ephemerals.remove(&id);
                    }
                }
            }
            Owner::Container | Owner::Ttl(_) => {
                self.perishable.remove(&key);
            }
            Owner::None => {}
        }
        if name == quota::LIMIT_NODE && parent_key.starts_with(path::QUOTA) {
            self.quotas.remove(parent_key);
        }
        self.use_quota(&key, -1, -(node.data_len() as i64));
        events.push(Event::Deleted { key, acl: node.acl.clone(), parent_acl });
    }

    fn set_data(
        &mut self,
        header: &TxnHeader,
        key: &str,
        data: &Option<Bytes>,
        version: i32,
        events: &mut Vec<Event>,
    ) -> Outcome {
        let mut grown = 0;
        let found = self.change(key, |node| {
            grown = data.as_ref().map_or(0, Bytes::len) as i64 - node.data_len() as i64;
            node.data = data.clone();
            node.stat.version = version;
            node.stat.mzxid = header.zxid;
            node.stat.mtime = header.time_ms;
        });
        let Some((key, node)) = self.nodes.get_key_value(key).filter(|_| found) else {
            return Outcome::Error(KeeperCode::NoNode.code());
        };
        let outcome = Outcome::Stat { op: op::SET_DATA, stat: node.stat() };
        let key = key.clone();
        events.push(Event::Changed { key: key.clone(), acl: node.acl.clone() });
        self.use_quota(&key, 0, grown);
        outcome
    }

    fn set_acl(&mut self, key: &str, acl: &AclList, version: i32) -> Outcome {
        self.change(key, |node| {
            node.acl = acl.clone();
            node.stat.aversion = version;
        });
        match self.nodes.get(key) {
            Some(node) => Outcome::Stat { op: op::SET_ACL, stat: node.stat() },
            None => Outcome::Error(KeeperCode::NoNode.code()),
        }
    }

    fn close_session(&mut self, header: &TxnHeader, listed: &[String], events: &mut Vec<Event>) {
        self.sessions.remove(&header.client_id);
        let is_mine = |tree: &Self, key: &str| {
            tree.nodes.get(key).is_some_and(|node| node.stat.owner() == Owner::Session(header.client_id))
        };
        for path in listed {
            if is_mine(self, path) {
                self.delete(path, header.zxid, events);
            }
        }
        for key in self.ephemerals.remove(&header.client_id).unwrap_or_default() {
            self.delete(&key, header.zxid, events);
        }
    }

    fn after_create(&mut self, key: &str, parent_key: &str, name: &str, bytes: usize) {
        if parent_key.starts_with(path::QUOTA) {
            match name {
                quota::LIMIT_NODE => self.quotas.add(parent_key),
                quota::STATS_NODE => self.recount(quota::governed(parent_key).to_owned()),
                _ => {}
            }
        }
        self.use_quota(key, 1, bytes as i64);
    }

    /// Sets a quota's stats to what is there.
    pub(super) fn recount(&mut self, governed: String) {
        let mut usage = Usage { count: 0, bytes: 0 };
        self.visit(&governed, &mut |_, node| {
            usage.count += 1;
            usage.bytes += node.data_len() as i64;
        });
        self.change(&quota::stats_path(&governed), |node| node.data = Some(Bytes::from(usage.text())));
    }

    fn use_quota(&mut self, key: &str, count: i64, bytes: i64) {
        let Some(stats) = self.quotas.covering(key).map(quota::stats_path) else { return };
        self.change(&stats, |node| {
            let before = Usage::parse(node.data.as_deref().unwrap_or_default());
            let after = Usage { count: before.count + count, bytes: before.bytes + bytes };
            node.data = Some(Bytes::from(after.text()));
        });
    }
}
