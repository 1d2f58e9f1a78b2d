//! The tree of znodes: nodes, who owns which ephemerals, the session table, and the digest of it all.
//!
//! Invariant: changes only by applying a transaction, live or replayed, and applying is idempotent: what was already done
//! is skipped, so a snapshot may be newer than its name. Class `DataTree`.

mod apply;
mod load;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::acl::AclList;
use super::path;
use super::quota::QuotaPaths;
use super::stat::{Stat, StatPersisted};

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
}

#[cfg(test)]
mod tests {
    use super::super::acl;
    use super::super::codes::op;
    use super::super::txn::{CreateTxn, Txn, TxnHeader};
    use super::*;

    /// Applies transactions one by one, each with the next zxid and that as its time.
    fn grow(tree: &mut Tree, txns: &[Txn]) -> (Vec<Outcome>, Vec<Event>) {
        let mut events = Vec::new();
        let mut one = |txn| {
            let zxid = tree.last_zxid() + 1;
            let header = TxnHeader { client_id: 9, cxid: 0, zxid, time_ms: zxid };
            tree.apply(&header, txn, &mut events)
        };
        let outcomes = txns.iter().map(&mut one).collect();
        (outcomes, events)
    }

    fn create(path: &str, parent_cversion: i32) -> Txn {
        make(op::CREATE, path, parent_cversion, false)
    }

    fn make(op: i32, path: &str, parent_cversion: i32, ephemeral: bool) -> Txn {
        let (path, data) = (path.to_owned(), Some(Bytes::from_static(b"data")));
        Txn::Create(CreateTxn { op, path, data, acl: acl::open(), ephemeral, parent_cversion, ttl_ms: 0 })
    }

    fn delete(path: &str) -> Txn {
        Txn::Delete { path: path.to_owned(), container: false }
    }

    fn set(path: &str, data: &'static [u8], version: i32) -> Txn {
        Txn::SetData { path: path.to_owned(), data: Some(Bytes::from_static(data)), version }
    }

    #[test]
    fn a_fresh_tree_has_the_known_digest_and_nodes() {
        let tree = Tree::fresh();
        assert_eq!(tree.digest(), 1_371_985_504);
        assert_eq!((tree.len(), tree.descendants("/")), (4, 3));
        assert!(tree.get("/").is_some() && tree.get("/zookeeper/config").is_some());
    }

    #[test]
    fn what_is_undone_leaves_no_trace_in_the_digest() {
        let mut tree = Tree::fresh();
        grow(&mut tree, &[create("/a", 1)]);
        let (digest, bytes) = (tree.digest(), tree.data_bytes());
        let before = tree.get("/a").map(Node::stat);
        grow(&mut tree, &[create("/zookeeper/mine", 1), delete("/zookeeper/mine")]);
        assert_eq!(tree.get("/a").map(Node::stat), before);
        assert_eq!(tree.data_bytes(), bytes);
        // Only the stat of /zookeeper is another one now.
        assert_ne!(tree.digest(), digest);
    }

    #[test]
    fn stats_follow_what_happens() {
        let mut tree = Tree::fresh();
        let txns = [create("/a", 1), create("/a/b", 1), set("/a", b"longer", 1), delete("/a/b"), create("/a/c", 2)];
        let (_, events) = grow(&mut tree, &txns);
        let stat = tree.get("/a").expect("a node").stat();
        assert_eq!((stat.stored.czxid, stat.stored.mzxid, stat.stored.pzxid), (1, 3, 5));
        assert_eq!((stat.stored.version, stat.stored.cversion), (1, 2));
        assert_eq!((stat.data_length, stat.num_children), (6, 1));
        assert_eq!(events.len(), 5);
    }

    #[test]
    fn replaying_over_a_newer_tree_changes_nothing_else() {
        let txns = [create("/a", 1), create("/a/b", 1), set("/a/b", b"two", 1), create("/a/c", 2), delete("/a/c")];
        let mut tree = Tree::fresh();
        grow(&mut tree, &txns);
        let mut again = tree.clone();
        again.set_last_zxid(0);
        grow(&mut again, &txns);
        for path in ["/", "/a", "/a/b"] {
            assert_eq!(again.get(path).map(Node::stat), tree.get(path).map(Node::stat), "{path}");
        }
        assert_eq!((again.len(), again.digest()), (tree.len(), tree.digest()));
    }

    #[test]
    fn a_session_takes_its_ephemerals_with_it() {
        let mut tree = Tree::fresh();
        let txns = [Txn::CreateSession { timeout_ms: 1 }, create("/a", 1), make(op::CREATE2, "/a/e", 1, true)];
        grow(&mut tree, &txns);
        assert_eq!(tree.ephemerals_of(9).count(), 1);
        let (_, events) = grow(&mut tree, &[Txn::CloseSession { ephemerals: None }]);
        assert!(matches!(events.as_slice(), [Event::Deleted { key, .. }] if &**key == "/a/e"));
        assert!(tree.get("/a/e").is_none() && tree.sessions().is_empty() && tree.ephemerals().is_empty());
    }

    #[test]
    fn a_failed_multi_does_nothing() {
        let mut tree = Tree::fresh();
        let digest = tree.digest();
        let (outcomes, events) =
            grow(&mut tree, &[Txn::Multi(vec![create("/a", 1), Txn::Error(-101), Txn::Error(-2)])]);
        let errors = [0, -101, -2].map(Outcome::Error).to_vec();
        assert_eq!(outcomes, [Outcome::Multi(errors)]);
        assert!(events.is_empty() && tree.get("/a").is_none() && tree.digest() == digest);
    }

    #[test]
    fn loading_repairs_what_a_standalone_server_must_not_have() {
        let mut tree = Tree::fresh();
        let txns = [create("/a", 1), make(op::CREATE, "/a/orphan", 1, true), set("/zookeeper/config", b"server.1", 1)];
        grow(&mut tree, &txns);
        assert_eq!(tree.finish_loading(), 1);
        assert!(tree.get("/a/orphan").is_none());
        assert_eq!(tree.get("/zookeeper/config").and_then(|node| node.data.clone()), Some(Bytes::new()));
    }
}
