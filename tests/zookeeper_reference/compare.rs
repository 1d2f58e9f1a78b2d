//! The same seeded operations to both servers; every frame must be the same but for clocks, session ids and the order of
//! what has no order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla::zookeeper::embedded::acl;
use ottla::zookeeper::embedded::codes::op;
use ottla::zookeeper::embedded::jute::{JuteReader, JuteWriter};
use ottla::zookeeper::embedded::{EmbeddedConfig, Server, sessions};

use crate::jvm::Stock;
use crate::operations::{CONNECTIONS, Operation, Script};
use crate::raw::{Raw, err_of, xid_of};

/// One of the two servers with its clients.
pub struct Side {
    address: SocketAddr,
    clients: Vec<Raw>,
    /// Session ids in order of appearance.
    sessions: BTreeMap<i64, u64>,
}

/// What a step shows: frames of all connections, in their order, and how it was reconnected.
#[derive(PartialEq, Eq)]
pub struct Seen(Vec<(usize, Option<Vec<u8>>)>);

const TIMEOUT_MS: i32 = 40_000;

impl Side {
    pub fn new(address: SocketAddr) -> Self {
        let mut side = Self { address, clients: Vec::new(), sessions: BTreeMap::new() };
        for _ in 0..CONNECTIONS {
            let client = side.connect();
            side.clients.push(client);
        }
        side
    }

    pub fn clients(&mut self) -> &mut [Raw] {
        &mut self.clients
    }

    fn connect(&mut self) -> Raw {
        let client = Raw::connect(self.address, TIMEOUT_MS);
        assert_eq!(client.password, sessions::password(client.session), "the password is a function of the id");
        let next = self.sessions.len() as u64;
        self.sessions.insert(client.session, next);
        client
    }

    /// Sends one operation, then asks every other connection for a ping, so that all notifications are in.
    pub fn step(&mut self, operation: &Operation) -> Seen {
        let mut seen = Vec::new();
        let Operation { connection, xid, op, ref body } = *operation;
        let (notifications, reply) = self.clients[connection].call(xid, op, body);
        let ended = reply.is_none() || op == op::CLOSE_SESSION;
        let unordered = op == op::CLOSE_SESSION;
        self.note(&mut seen, connection, notifications, unordered);
        let reply = reply.map(|frame| normalised(op, frame));
        seen.push((connection, reply.map(|frame| self.masked(frame))));
        for other in 0..CONNECTIONS {
            if other != connection {
                let (notifications, reply) = self.clients[other].call(-2, op::PING, &[]);
                self.note(&mut seen, other, notifications, unordered);
                seen.push((other, reply.map(|frame| self.masked(frame))));
            }
        }
        if ended || self.is_refused(&seen, connection) {
            self.come_back(connection, op == op::CLOSE_SESSION);
        }
        Seen(seen)
    }

    fn is_refused(&self, seen: &[(usize, Option<Vec<u8>>)], connection: usize) -> bool {
        let reply =
            seen.iter().find(|(at, frame)| *at == connection && frame.as_ref().is_some_and(|f| xid_of(f) != -1));
        let Some((_, Some(reply))) = reply else { return true };
        let zxid = i64::from_be_bytes(reply[4..12].try_into().expect("a zxid"));
        err_of(reply) == -115 || err_of(reply) == -6 && zxid == -1
    }

    fn come_back(&mut self, connection: usize, fresh: bool) {
        let old = &self.clients[connection];
        let resumed = if fresh {
            None
        } else {
            let client = Raw::resume(self.address, TIMEOUT_MS, old.session, &old.password, old.last_zxid);
            Some(client.expect("the session goes on"))
        };
        self.clients[connection] = match resumed {
            Some(client) => client,
            None => self.connect(),
        };
    }

    fn note(
        &self,
        seen: &mut Vec<(usize, Option<Vec<u8>>)>,
        connection: usize,
        mut frames: Vec<Vec<u8>>,
        unordered: bool,
    ) {
        if unordered {
            frames.sort();
        }
        seen.extend(frames.into_iter().map(|frame| (connection, Some(frame))));
    }

    /// Replaces session ids by their numbers and times of about now by a mark.
    fn masked(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis() as i64;
        // Ids first: ours begin with the same bits as a time.
        mask_words(&mut frame, |word| self.sessions.get(&word).copied());
        mask_words(&mut frame, |word| (word.abs_diff(now) < 3_600_000).then_some(u64::MAX));
        frame
    }
}

fn mask_words(frame: &mut [u8], mask: impl Fn(i64) -> Option<u64>) {
    let mut at = 16;
    while let Some(word) = frame.get_mut(at..at + 8) {
        at += 1;
        let value = i64::from_be_bytes((&*word).try_into().expect("8 bytes"));
        if let Some(mask) = mask(value) {
            word.copy_from_slice(&mask.to_be_bytes());
            at += 7;
        }
    }
}

/// Sorts what a hash table ordered.
fn normalised(op: i32, frame: Vec<u8>) -> Vec<u8> {
    if err_of(&frame) != 0 || frame.len() <= 16 {
        return frame;
    }
    let (header, body) = frame.split_at(16);
    let mut from = JuteReader::new(body);
    let mut to = JuteWriter::new();
    to.raw(header);
    match op {
        op::GET_CHILDREN | op::GET_CHILDREN2 | op::GET_EPHEMERALS => sort_strings(&mut from, &mut to),
        op::WHO_AM_I => {
            let count = from.i32().expect("a count");
            let mut pairs: Vec<_> =
                (0..count).map(|_| (from.string().expect("s"), from.string().expect("s"))).collect();
            pairs.sort();
            to.i32(count);
            for (scheme, user) in &pairs {
                to.string(scheme).string(user);
            }
        }
        op::GET_ACL => {
            let mut list = acl::read_list(&mut from).expect("a list");
            list.sort_by(|a, b| (a.perms, &a.id.scheme, &a.id.id).cmp(&(b.perms, &b.id.scheme, &b.id.id)));
            acl::write_list(&list, &mut to);
        }
        op::MULTI_READ => loop {
            let header = from.take(9).expect("a header");
            to.raw(header);
            if header[4] != 0 {
                break;
            }
            match i32::from_be_bytes(header[..4].try_into().expect("a type")) {
                op::GET_CHILDREN => sort_strings(&mut from, &mut to),
                op::GET_DATA => {
                    to.buffer(from.buffer().expect("data"));
                    to.raw(from.take(68).expect("a stat"));
                }
                _ => {
                    to.i32(from.i32().expect("a code"));
                }
            }
        },
        _ => {}
    }
    to.raw(from.take(from.remaining()).expect("the rest"));
    to.into_bytes()
}

fn sort_strings(from: &mut JuteReader<'_>, to: &mut JuteWriter) {
    let mut names = from.strings().expect("names");
    names.sort();
    to.strings(names.iter());
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (connection, frame) in &self.0 {
            write!(f, "\n  {connection}: ")?;
            match frame {
                None => write!(f, "closed")?,
                Some(frame) => {
                    write!(
                        f,
                        "xid {} zxid {:x} err {} ",
                        xid_of(frame),
                        i64::from_be_bytes(frame[4..12].try_into().expect("zxid")),
                        err_of(frame)
                    )?;
                    frame[16..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                    write!(f, " {:?}", String::from_utf8_lossy(&frame[16..]))?;
                }
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_answer_the_same_bytes() {
    let seeds = std::env::var("OTTLA_SEED").ok().and_then(|seed| seed.parse().ok()).map_or(1..=3, |seed| seed..=seed);
    for seed in seeds {
        let (mine, theirs) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let config = EmbeddedConfig { port: 0, address: "127.0.0.1".to_owned(), ..EmbeddedConfig::new(mine.path()) };
        let server = Server::start(config).await.expect("the server starts");
        let address = server.local_addr();
        let compare = move || {
            let stock = Stock::start(theirs.path());
            let (mut ours, mut reference) = (Side::new(address), Side::new(stock.address));
            let mut script = Script::new(seed);
            for step in 0..800 {
                let operation = script.next();
                let (mine, theirs) = (ours.step(&operation), reference.step(&operation));
                assert!(mine == theirs, "seed {seed}, step {step}: {operation:?}\nours:{mine:?}\nstock:{theirs:?}");
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(compare).await {
            std::panic::resume_unwind(error.into_panic());
        }
        server.shutdown().await;
    }
}
