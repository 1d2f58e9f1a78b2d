//! The tree of znodes: nodes, who owns which ephemerals, the session table, and the digest of it all.
//!
//! Invariant: changes only by applying a transaction, live or replayed, and applying is idempotent: what was already done
//! is skipped, so a snapshot may be newer than its name. Class `DataTree`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::acl::{self, AclList};
use super::codes::{KeeperCode, op};
use super::path;
use super::quota::{self, QuotaPaths, Usage};
use super::stat::{Owner, Stat, StatPersisted};
use super::txn::{CreateTxn, Txn, TxnHeader};

/// One znode.
#[derive(Clone, Debug)]
pub struct Node {
    pub data: Option<Bytes>,
    pub acl: AclList,
    pub stat: StatPersisted,
    pub children: BTreeSet<Box<str>>,
    digest: u64,
}

impl Node {
    pub fn new(data: Option<Bytes>, acl: AclList, stat: StatPersisted) -> Self {
        Self { data, acl, stat, children: BTreeSet::new(), digest: 0 }
    }

    pub fn stat(&self) -> Stat {
        let int = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
        Stat { stored: self.stat, data_length: int(self.data_len()), num_children: int(self.children.len()) }
    }

    fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }

    /// Covers path, data and stat; ACL and children are left out, and so is everything below /zookeeper.
    fn compute_digest(&self, key: &str) -> u64 {
        if key.starts_with("/zookeeper/") {
            return 0;
        }
        let stat = &self.stat;
        let mut crc = crc32fast::Hasher::new();
        crc.update(key.as_bytes());
        crc.update(self.data.as_deref().unwrap_or_default());
        for long in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
            crc.update(&long.to_be_bytes());
        }
        for int in [stat.version, stat.cversion, stat.aversion] {
            crc.update(&int.to_be_bytes());
        }
        crc.update(&stat.ephemeral_owner.to_be_bytes());
        u64::from(crc.finalize())
    }
}

/// A change that watches may wait for; the ACLs say who may hear of it.
#[derive(Clone, Debug)]
pub enum Event {
    Created { key: Arc<str>, acl: AclList, parent_acl: AclList },
    Changed { key: Arc<str>, acl: AclList },
    Deleted { key: Arc<str>, acl: AclList, parent_acl: AclList },
}

/// What a transaction gave, for the reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Created { op: i32, path: String, stat: Stat },
    Stat { op: i32, stat: Stat },
    Done { op: i32 },
    Multi(Vec<Outcome>),
    Error(i32),
}

/// The tree. Clones share all nodes, so a clone is a consistent snapshot at the price of the map.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: HashMap<Arc<str>, Arc<Node>>,
    ephemerals: HashMap<i64, BTreeSet<Arc<str>>>,
    /// Containers and TTL nodes.
    perishable: BTreeSet<Arc<str>>,
    sessions: BTreeMap<i64, i32>,
    last_zxid: i64,
    digest: u64,
    quotas: QuotaPaths,
    bytes: u64,
}

impl Tree {
    /// The tree of an empty folder: the root and ZooKeeper's own three nodes.
    pub fn fresh() -> Self {
        let mut tree = Self::bare();
        for key in ["", path::ZOOKEEPER, path::QUOTA, path::CONFIG] {
            tree.ensure(key);
        }
        tree
    }

    /// Nothing at all: what a snapshot is read into.
    pub fn bare() -> Self {
        Self {
            nodes: HashMap::new(),
            ephemerals: HashMap::new(),
            perishable: BTreeSet::new(),
            sessions: BTreeMap::new(),
            last_zxid: 0,
            digest: 0,
            quotas: QuotaPaths::default(),
            bytes: 0,
        }
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path::key(path)).map(Arc::as_ref)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn data_bytes(&self) -> u64 {
        self.bytes
    }

    pub fn last_zxid(&self) -> i64 {
        self.last_zxid
    }

    pub fn digest(&self) -> i64 {
        self.digest as i64
    }

    pub fn sessions(&self) -> &BTreeMap<i64, i32> {
        &self.sessions
    }

    pub fn ephemerals(&self) -> &HashMap<i64, BTreeSet<Arc<str>>> {
        &self.ephemerals
    }

    pub fn ephemerals_of(&self, session: i64) -> impl Iterator<Item = &Arc<str>> {
        self.ephemerals.get(&session).into_iter().flatten()
    }

    /// Containers and TTL nodes: what the sweep looks at.
    pub fn perishable(&self) -> impl Iterator<Item = &Arc<str>> {
        self.perishable.iter()
    }

    /// Descendants of a node, itself not counted.
    pub fn descendants(&self, path: &str) -> usize {
        let mut count: usize = 0;
        self.visit(path::key(path), &mut |_, _| count += 1);
        count.saturating_sub(1)
    }

    /// The node and all below it, parents first.
    pub fn visit(&self, key: &str, each: &mut impl FnMut(&str, &Node)) {
        let mut open = vec![key.to_owned()];
        while let Some(key) = open.pop() {
            let Some(node) = self.nodes.get(key.as_str()) else { continue };
            each(&key, node);
            open.extend(node.children.iter().rev().map(|child| format!("{key}/{child}")));
        }
    }

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
        let exists = parent.children.contains(name);
        if exists && create.op != op::CREATE {
            return Outcome::Error(KeeperCode::NodeExists.code());
        }
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
    fn put(&mut self, key: &str, mut node: Node) -> Arc<str> {
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
    fn change(&mut self, key: &str, change: impl FnOnce(&mut Node)) -> bool {
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

    fn delete(&mut self, key: &str, zxid: i64, events: &mut Vec<Event>) {
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
    fn recount(&mut self, governed: String) {
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

    /// Adds a built-in node where it is missing; it never counts as a child created.
    fn ensure(&mut self, key: &str) {
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

/// Loading: what a snapshot needs besides `apply`.
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
}
