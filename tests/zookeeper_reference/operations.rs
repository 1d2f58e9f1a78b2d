//! Operations from a seed: which connection asks, what, with which bytes.

use ottla::zookeeper::embedded::codes::op;
use ottla::zookeeper::embedded::jute::JuteWriter;

use crate::raw::body;

/// A small generator of our own, so that a seed means the same for ever (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Connections that take part.
pub const CONNECTIONS: usize = 4;
/// This one only ever sets persistent watches: 3.8 mixes them up with one-shot ones of the same connection.
pub const WATCHER: usize = 3;

#[derive(Clone)]
pub struct Operation {
    pub connection: usize,
    pub xid: i32,
    pub op: i32,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connection, xid, op, body } = self;
        write!(f, "connection {connection} xid {xid} op {op} {:?}", String::from_utf8_lossy(body))
    }
}

type Acl = &'static [(i32, &'static str, &'static str)];

const ACLS: &[Acl] = &[
    &[(31, "world", "anyone")],
    &[(31, "world", "anyone")],
    &[(31, "world", "anyone")],
    &[(31, "world", "anyone"), (31, "world", "anyone")],
    &[(1, "world", "anyone"), (31, "auth", "")],
    &[(31, "digest", "u1:fNd4E3ApGbkBdaTZAlWMPZHW5bU=")],
    &[(31, "auth", "")],
    &[(31, "ip", "127.0.0.1")],
    &[(30, "ip", "127.0.0.0/8"), (1, "world", "anyone")],
    &[(31, "ip", "10.0.0.0/8"), (16, "world", "anyone")],
    &[(1, "world", "anyone")],
    &[(14, "world", "anyone"), (1, "auth", "")],
    &[],
    &[(31, "sasl", "kafka")],
    &[(31, "digest", "nohash")],
    &[(31, "digest", "a:b:c")],
    &[(31, "world", "someone")],
    &[(31, "ip", "300.1.1.1")],
    &[(0, "world", "anyone")],
];

const ROOTS: &[&str] = &["/a", "/b", "/c", "/a/x", "/a/y", "/b/x", "/a/x/1", "/a/x/2", "/b/x/1", "/c/d/e"];
const ODD: &[&str] = &[
    "/",
    "",
    "a",
    "//",
    "/a/",
    "/a//x",
    "/a/./x",
    "/a/..",
    "/a/\u{0}b",
    "/a/\u{1}",
    "/\u{e000}",
    "/ä/ö",
    "/ä",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/mine",
    "/a b",
    "/x/",
    "x/y",
];

pub struct Script {
    dice: Dice,
    xids: [i32; CONNECTIONS],
    /// Whether ACLs that lock nodes away are used.
    acls: bool,
    /// Whether operation and flags disagree on containers: the stock server then logs digests that are not the tree's.
    pub mixed_containers: bool,
}

impl Script {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let acls = dice.one_in(2);
        Self { dice, xids: [0; CONNECTIONS], acls, mixed_containers: true }
    }

    pub fn next(&mut self) -> Operation {
        let connection = self.dice.below(CONNECTIONS);
        let (op, body) =
            if connection == WATCHER && !self.dice.one_in(3) { self.watcher() } else { self.any(connection) };
        self.xids[connection] += 1;
        let xid = match op {
            op::PING => -2,
            op::AUTH => -4,
            op::SET_WATCHES | op::SET_WATCHES2 => -8,
            _ => self.xids[connection],
        };
        Operation { connection, xid, op, body }
    }

    fn path(&mut self) -> String {
        if self.dice.one_in(12) {
            return self.dice.pick(ODD).to_owned();
        }
        let mut path = self.dice.pick(ROOTS).to_owned();
        if self.dice.one_in(8) {
            path.push_str(&format!("/s{:010}", self.dice.below(6)));
        }
        path
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        match self.dice.below(8) {
            0 => None,
            1 => Some(Vec::new()),
            n => Some(vec![b'a' + n as u8; self.dice.below(40)]),
        }
    }

    fn version(&mut self) -> i32 {
        self.dice.pick(&[-1, -1, -1, 0, 0, 1, 2, 3, -2])
    }

    fn acl(&mut self) -> Acl {
        if self.acls { self.dice.pick(ACLS) } else { ACLS[0] }
    }

    fn any(&mut self, connection: usize) -> (i32, Vec<u8>) {
        let watch = connection != WATCHER && self.dice.one_in(3);
        match self.dice.below(100) {
            0..=19 => self.create(),
            20..=30 => self.delete(),
            31..=40 => self.set_data(),
            41..=46 => (op::EXISTS, self.read(watch)),
            47..=52 => (op::GET_DATA, self.read(watch)),
            53..=56 => (op::GET_CHILDREN, self.read(watch)),
            57..=61 => (op::GET_CHILDREN2, self.read(watch)),
            62..=64 => (op::GET_ACL, self.only_path()),
            65..=67 => self.set_acl(),
            68..=79 => self.multi(),
            80..=82 => self.multi_read(),
            83 => (op::SYNC, self.only_path()),
            84 => (op::PING, Vec::new()),
            85 => self.auth(),
            86..=87 => (op::GET_EPHEMERALS, self.prefix()),
            88..=89 => (op::GET_ALL_CHILDREN_NUMBER, self.descendants_of()),
            90 => (op::WHO_AM_I, Vec::new()),
            91..=92 if connection != WATCHER => self.set_watches(),
            93..=94 => self.remove_watches(),
            95 => self.oddity(),
            96..=97 => self.truncated(),
            98 if self.dice.one_in(3) => (op::CLOSE_SESSION, Vec::new()),
            _ => (op::GET_CHILDREN2, self.read(watch)),
        }
    }

    fn create(&mut self) -> (i32, Vec<u8>) {
        let op =
            self.dice.pick(&[op::CREATE, op::CREATE, op::CREATE2, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL]);
        let body = self.create_body(op);
        (op, body)
    }

    fn create_body(&mut self, op: i32) -> Vec<u8> {
        let flags = match op {
            op::CREATE_CONTAINER if self.mixed_containers => self.dice.pick(&[4, 4, 4, 0, 1, 2]),
            op::CREATE_CONTAINER => 4,
            op::CREATE_TTL => self.dice.pick(&[5, 6]),
            _ => self.dice.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 5, 7, -1, if self.mixed_containers { 4 } else { 0 }]),
        };
        let mut path = self.path();
        if matches!(flags, 2 | 3) {
            path.push_str(self.dice.pick(&["/s", "", "-", "/"]));
        }
        let (data, acl) = (self.data(), self.acl());
        body(|to| {
            to.string(&path).buffer(data.as_deref());
            write_acl(to, acl);
            to.i32(flags);
            if op == op::CREATE_TTL {
                to.i64(1000);
            }
            to
        })
    }

    fn delete(&mut self) -> (i32, Vec<u8>) {
        let (path, version) = (self.path(), self.version());
        (op::DELETE, body(|to| to.string(&path).i32(version)))
    }

    fn set_data(&mut self) -> (i32, Vec<u8>) {
        (op::SET_DATA, self.set_data_body())
    }

    fn set_data_body(&mut self) -> Vec<u8> {
        let (path, data, version) = (self.path(), self.data(), self.version());
        body(|to| to.string(&path).buffer(data.as_deref()).i32(version))
    }

    fn set_acl(&mut self) -> (i32, Vec<u8>) {
        let (path, acl, version) = (self.path(), self.acl(), self.version());
        (
            op::SET_ACL,
            body(|to| {
                to.string(&path);
                write_acl(to, acl);
                to.i32(version)
            }),
        )
    }

    fn read(&mut self, watch: bool) -> Vec<u8> {
        let path = self.path();
        body(|to| to.string(&path).bool(watch))
    }

    fn only_path(&mut self) -> Vec<u8> {
        let path = self.path();
        body(|to| to.string(&path))
    }

    /// The empty path is left out: the stock server counts the root twice there.
    fn descendants_of(&mut self) -> Vec<u8> {
        let path = Some(self.path()).filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        body(|to| to.string(&path))
    }

    fn prefix(&mut self) -> Vec<u8> {
        match self.dice.below(4) {
            0 => body(|to| to.buffer(None)),
            1 => body(|to| to.string(" ")),
            2 => body(|to| to.string("/")),
            _ => self.only_path(),
        }
    }

    fn auth(&mut self) -> (i32, Vec<u8>) {
        let (scheme, auth) = self.dice.pick(&[
            ("digest", "u1:p1"),
            ("digest", "u2:p2"),
            ("ip", ""),
            ("digest", "nobody"),
            ("nope", "x"),
        ]);
        (op::AUTH, body(|to| to.i32(0).string(scheme).buffer(Some(auth.as_bytes()))))
    }

    fn multi(&mut self) -> (i32, Vec<u8>) {
        let items = self.dice.below(5);
        let mut to = JuteWriter::new();
        for _ in 0..items {
            let kinds =
                [op::CREATE, op::CREATE2, op::DELETE, op::SET_DATA, op::CHECK, op::CREATE_CONTAINER, op::CREATE_TTL];
            let op = if self.dice.one_in(60) { op::SET_ACL } else { self.dice.pick(&kinds) };
            to.i32(op).bool(false).i32(-1);
            let body = match op {
                op::DELETE | op::CHECK => self.delete().1,
                op::SET_DATA => self.set_data_body(),
                op::SET_ACL => self.set_acl().1,
                op => self.create_body(op),
            };
            to.raw(&body);
        }
        to.i32(-1).bool(true).i32(-1);
        (op::MULTI, to.into_bytes())
    }

    fn multi_read(&mut self) -> (i32, Vec<u8>) {
        let mut to = JuteWriter::new();
        for _ in 0..self.dice.below(4) {
            to.i32(self.dice.pick(&[op::GET_DATA, op::GET_CHILDREN])).bool(false).i32(-1);
            let body = self.read(false);
            to.raw(&body);
        }
        to.i32(-1).bool(true).i32(-1);
        (op::MULTI_READ, to.into_bytes())
    }

    fn set_watches(&mut self) -> (i32, Vec<u8>) {
        let relative = self.dice.pick(&[0, 30, 100, 300]);
        let lists: Vec<Vec<String>> = (0..3).map(|_| (0..self.dice.below(3)).map(|_| self.path()).collect()).collect();
        (
            op::SET_WATCHES,
            body(|to| {
                to.i64(relative);
                for list in &lists {
                    to.strings(list.iter());
                }
                to
            }),
        )
    }

    fn remove_watches(&mut self) -> (i32, Vec<u8>) {
        // checkWatches is left out: 3.8 also finds the watches of other connections.
        let (path, kind) = (self.path(), self.dice.pick(&[1, 2, 3, 3]));
        (op::REMOVE_WATCHES, body(|to| to.string(&path).i32(kind)))
    }

    /// Persistent watches on some paths, recursive ones on others: 3.8 keeps one mode a path.
    fn watcher(&mut self) -> (i32, Vec<u8>) {
        if self.dice.one_in(4) {
            return self.remove_watches();
        }
        let path = self.dice.pick(ROOTS);
        let mode = i32::from(path.len() % 4 == 2);
        (op::ADD_WATCH, body(|to| to.string(path).i32(mode)))
    }

    fn oddity(&mut self) -> (i32, Vec<u8>) {
        match self.dice.below(8) {
            0 => (10, Vec::new()),
            1 => (op::DELETE_CONTAINER, self.only_path()),
            2 => (op::RECONFIG, body(|to| to.buffer(None).buffer(None).buffer(None).i64(-1))),
            3 => (op::ADD_WATCH, body(|to| to.string("/a").i32(9))),
            4 => (op::CHECK_WATCHES, body(|to| to.string("/a").i32(9))),
            5 => (op::SASL, body(|to| to.buffer(Some(b"token")))),
            6 => (op::MULTI, body(|to| to.i32(op::GET_DATA).bool(false).i32(-1).string("/a").bool(false))),
            _ => (99, Vec::new()),
        }
    }

    /// A body that ends early.
    fn truncated(&mut self) -> (i32, Vec<u8>) {
        let (op, mut body) = match self.dice.below(5) {
            0 => self.create(),
            1 => self.delete(),
            2 => self.set_acl(),
            3 => (op::GET_DATA, self.read(false)),
            _ => (op::GET_CHILDREN2, self.read(false)),
        };
        body.truncate(self.dice.below(body.len()));
        (op, body)
    }
}

fn write_acl(to: &mut JuteWriter, acl: Acl) {
    to.count(acl.len());
    for (perms, scheme, id) in acl {
        to.i32(*perms).string(scheme).string(id);
    }
}
