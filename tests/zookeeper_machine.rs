//! The embedded ZooKeeper's machine and decoders under seeded random input, without sockets or disks.

use std::net::{Ipv4Addr, SocketAddr};

use ottla::zookeeper::embedded::codes::op;
use ottla::zookeeper::embedded::files::snapshot;
use ottla::zookeeper::embedded::jute::{JuteReader, JuteWriter};
use ottla::zookeeper::embedded::machine::{Effect, Machine, Now, Rules};
use ottla::zookeeper::embedded::request::{ConnectRequest, Request};
use ottla::zookeeper::embedded::tree::{Node, Tree};
use ottla::zookeeper::embedded::txn::Entry;
use ottla::zookeeper::embedded::watches::ConnectionId;

use operations::{CONNECTIONS, Dice, Script};

#[path = "zookeeper_reference/operations.rs"]
mod operations;
#[path = "common/zookeeper_frames.rs"]
mod raw;

const ENTRY_BYTES_MAX: usize = 2 << 20;

fn machine(tree: Tree, now: Now) -> Machine {
    let rules = Rules {
        tick_ms: 2000,
        min_session_timeout_ms: 4000,
        max_session_timeout_ms: 40_000,
        extended_types: true,
        super_digest: None,
        entry_bytes_max: ENTRY_BYTES_MAX,
    };
    Machine::new(rules, tree, now)
}

/// A machine with its clients, a clock of its own, and the log it would have written.
struct World {
    machine: Machine,
    now: Now,
    next: u64,
    clients: Vec<ConnectionId>,
    log: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let now = Now { monotonic_ms: 1000, wall_ms: 1_700_000_000_000 };
        let machine = machine(Tree::fresh(), now);
        let mut world = Self { machine, now, next: 0, clients: Vec::new(), log: Vec::new() };
        for _ in 0..CONNECTIONS {
            let client = world.connect();
            world.clients.push(client);
        }
        world
    }

    fn connect(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        self.machine.accept(id, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), self.now);
        self.run(|machine, now, effects| machine.connect(id, &raw::handshake(10_000, 0, &[], 0), now, effects));
        id
    }

    fn run(&mut self, step: impl FnOnce(&mut Machine, Now, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        step(&mut self.machine, self.now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append { entry, .. } => self.log.push(entry),
                Effect::Send { frame, .. } => assert!(frame.len() >= 4, "a frame has a length"),
                Effect::Close(id) => self.machine.disconnected(id),
            }
        }
    }

    fn request(&mut self, client: usize, frame: &[u8]) {
        let id = self.clients[client];
        self.run(|machine, now, effects| machine.request(id, frame, now, effects));
        if self.machine.session_of(id) == 0 {
            self.clients[client] = self.connect();
        }
    }

    fn pass(&mut self, millis: i64) {
        self.now.monotonic_ms += millis;
        self.now.wall_ms += millis;
        self.run(|machine, now, effects| machine.tick(now, effects));
    }
}

fn dump(tree: &Tree) -> Vec<(String, Option<Vec<u8>>, ottla::zookeeper::embedded::stat::Stat)> {
    let mut nodes = Vec::new();
    tree.visit("", &mut |key, node: &Node| {
        nodes.push((key.to_owned(), node.data.as_ref().map(|data| data.to_vec()), node.stat()));
    });
    nodes
}

fn frame(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut to = JuteWriter::new();
    to.i32(xid).i32(op).raw(body);
    to.into_bytes()
}

#[test]
fn the_log_gives_the_same_tree_again() {
    for seed in 0..30 {
        let (mut world, mut script, mut dice) = (World::new(), Script::new(seed), Dice::new(seed));
        for _ in 0..600 {
            let operation = script.next();
            world.request(operation.connection, &frame(operation.xid, operation.op, &operation.body));
            if dice.one_in(20) {
                world.pass(dice.below(12_000) as i64);
            }
        }
        let mut again = Tree::fresh();
        for bytes in &world.log {
            let entry = Entry::decode(bytes).expect("what was logged can be read");
            assert_eq!(entry.encode(), *bytes, "and is written the same way");
            again.apply(&entry.header, &entry.txn, &mut Vec::new());
            assert!(entry.digest.is_none_or(|digest| digest == again.digest()), "seed {seed}: {entry:?}");
        }
        let tree = &world.machine.tree;
        assert_eq!(dump(&again), dump(tree), "seed {seed}");
        assert_eq!((again.sessions(), again.ephemerals()), (tree.sessions(), tree.ephemerals()));
        assert_eq!(again.last_zxid(), tree.last_zxid());
        check_snapshot(tree);
    }
}

/// Written and read back, a snapshot is the same tree; with any byte changed it is that or an error.
fn check_snapshot(tree: &Tree) {
    let mut file = tempfile::tempfile().expect("a file");
    snapshot::write(tree, &mut file).expect("a snapshot");
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).expect("the beginning");
    std::io::Read::read_to_end(&mut file, &mut bytes).expect("the bytes");
    assert!(snapshot::is_finished(&bytes));
    let path = std::path::Path::new("snapshot");
    let loaded = snapshot::load(path, &bytes, tree.last_zxid()).expect("a tree");
    assert_eq!(dump(&loaded.tree), dump(tree));
    assert_eq!((loaded.tree.digest(), loaded.tree.sessions()), (tree.digest(), tree.sessions()));
    let mut dice = Dice::new(bytes.len() as u64);
    for _ in 0..100 {
        let (at, bit) = (dice.below(bytes.len()), 1 << dice.below(8));
        bytes[at] ^= bit;
        // The digest's own words are told from damage only by the second sum.
        assert!(snapshot::load(path, &bytes, tree.last_zxid()).is_err() || at < 16, "byte {at} may not change unseen");
        bytes[at] ^= bit;
        // Without its digest block it is a snapshot of before 3.6.
        let digest_block = at + 33 == bytes.len();
        assert!(snapshot::load(path, &bytes[..at], tree.last_zxid()).is_err() || digest_block, "cut at {at}");
    }
}

#[test]
fn spoiled_requests_neither_panic_nor_spoil_the_tree() {
    for seed in 0..20 {
        let (mut world, mut script, mut dice) = (World::new(), Script::new(seed), Dice::new(seed + 1000));
        for _ in 0..1500 {
            let operation = script.next();
            let mut bytes = frame(operation.xid, operation.op, &operation.body);
            spoil(&mut bytes, &mut dice);
            world.request(operation.connection, &bytes);
        }
        let mut again = Tree::fresh();
        for bytes in &world.log {
            let entry = Entry::decode(bytes).expect("what was logged can be read");
            again.apply(&entry.header, &entry.txn, &mut Vec::new());
        }
        assert_eq!(again.digest(), world.machine.tree.digest(), "seed {seed}");
    }
}

/// A few bytes changed, cut off or made a huge length.
fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(4) {
            0 => bytes[at] = dice.next() as u8,
            1 => bytes.truncate(at.max(8)),
            2 if at + 4 <= bytes.len() => {
                bytes[at..at + 4].copy_from_slice(&dice.pick(&[i32::MAX, i32::MIN, -1, -2, 1 << 20]).to_be_bytes());
            }
            _ => bytes.insert(at, dice.next() as u8),
        }
    }
}

#[test]
fn random_bytes_are_decoded_or_refused() {
    let mut dice = Dice::new(42);
    for _ in 0..40_000 {
        let len = dice.below(200);
        let bytes: Vec<u8> = (0..len).map(|_| if dice.one_in(2) { 0 } else { dice.next() as u8 }).collect();
        let kind = dice.below(130) as i32 - 20;
        let _ = Request::decode(kind, &mut JuteReader::new(&bytes));
        let _ = ConnectRequest::decode(&bytes);
        let _ = Entry::decode(&bytes);
        let _ = snapshot::load(std::path::Path::new("s"), &[b"ZKSN", bytes.as_slice()].concat(), 1);
    }
}

#[test]
fn containers_and_old_ttl_nodes_are_swept() {
    let mut world = World::new();
    let create = |path: &str, flags: i32| {
        let mut to = JuteWriter::new();
        to.string(path).buffer(None).i32(1).i32(31).string("world").string("anyone").i32(flags);
        to
    };
    world.request(0, &frame(1, op::CREATE_CONTAINER, create("/c", 4).as_slice()));
    world.request(0, &frame(2, op::CREATE_TTL, create("/t", 5).i64(30_000).as_slice()));
    world.request(0, &frame(3, op::CREATE_TTL, create("/late", 5).i64(300_000).as_slice()));
    world.pass(61_000);
    let there = |world: &World, path: &str| world.machine.tree.get(path).is_some();
    assert!(there(&world, "/c"), "a container that never had children stays");
    assert!(!there(&world, "/t"));
    world.clients[0] = world.connect();
    world.request(0, &frame(1, op::CREATE, create("/c/x", 0).as_slice()));
    world.request(0, &frame(2, op::DELETE, &raw::body(|to| to.string("/c/x").i32(-1))));
    world.pass(61_000);
    assert!(!there(&world, "/c"), "one whose children are gone goes");
    assert!(there(&world, "/late"));
}
