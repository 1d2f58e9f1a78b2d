//! What the lock protects: the machine, the gate behind it, and the ways to the connections.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::codes::XID_NOTIFICATION;
use super::super::machine::{Effect, Machine, Now};
use super::super::watches::ConnectionId;
use super::four_letters::Counters;
use super::journal::Journal;
use super::outbox::Outbox;
use crate::base::Millis;
use crate::base::time::{monotonic_ms, wall_ms};

/// Replies held back beyond this stop the reading of requests.
const HELD_BYTES_MAX: usize = 8 << 20;
/// So much in the log calls for a snapshot, however few transactions it is.
const SNAPSHOT_LOG_BYTES: u64 = 256 << 20;

/// An effect on a connection that waits for the log.
enum Held {
    Send(ConnectionId, Vec<u8>),
    Close(ConnectionId),
}

impl Held {
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        match self {
            Held::Send(_, frame) => OVERHEAD + frame.len(),
            Held::Close(_) => OVERHEAD,
        }
    }
}

pub struct Core {
    pub machine: Machine,
    journal: Arc<Journal>,
    snapshot_every: u64,
    /// Since the last snapshot.
    log_entries: u64,
    log_bytes: u64,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    next_connection: u64,
    /// Log entries ever handed to the writer, and how many of them are on disk.
    appended: u64,
    durable: u64,
    /// With the entries each needs, and since when it waits.
    held: VecDeque<(u64, Millis, Held)>,
    held_bytes: usize,
    effects: Vec<Effect>,
    pub counters: Counters,
}

impl Core {
    /// `log_entries` are in the log already and not in a snapshot.
    pub fn new(machine: Machine, journal: Arc<Journal>, snapshot_every: u64, log_entries: u64) -> Self {
        Self {
            machine,
            journal,
            snapshot_every: snapshot_every.max(1),
            log_entries,
            log_bytes: 0,
            outboxes: HashMap::new(),
            next_connection: 0,
            appended: 0,
            durable: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            effects: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a connection in, unless its address has too many already; a limit of 0 is none.
    pub fn accept(&mut self, peer: SocketAddr, limit: usize, now: Now) -> Option<(ConnectionId, Arc<Outbox>)> {
        let same_address = || self.machine.connections().filter(|(_, other)| other.peer.ip() == peer.ip()).count();
        if limit > 0 && same_address() >= limit {
            return None;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let outbox = Arc::new(Outbox::default());
        self.outboxes.insert(id, outbox.clone());
        self.machine.accept(id, peer, now);
        Some((id, outbox))
    }

    pub fn gone(&mut self, id: ConnectionId) {
        self.outboxes.remove(&id);
        self.machine.disconnected(id);
    }

    pub fn connect(&mut self, id: ConnectionId, frame: &[u8], now: Now) {
        self.counters.received += 1;
        self.step(now, |machine, effects| machine.connect(id, frame, now, effects));
    }

    pub fn request(&mut self, id: ConnectionId, frame: &[u8], now: Now) {
        self.counters.received += 1;
        self.step(now, |machine, effects| machine.request(id, frame, now, effects));
    }

    pub fn tick(&mut self, now: Now) {
        self.step(now, |machine, effects| machine.tick(now, effects));
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.machine.next_deadline()
    }

    /// Effects that wait for the disk.
    pub fn outstanding(&self) -> usize {
        self.held.len()
    }

    fn step(&mut self, now: Now, step: impl FnOnce(&mut Machine, &mut Vec<Effect>)) {
        let mut effects = std::mem::take(&mut self.effects);
        step(&mut self.machine, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { zxid, entry } => self.append(zxid, &entry),
                Effect::Send { to, frame } => self.hold(now, Held::Send(to, frame)),
                Effect::Close(id) => self.hold(now, Held::Close(id)),
            }
        }
        self.effects = effects;
        if self.log_entries >= self.snapshot_every || self.log_bytes >= SNAPSHOT_LOG_BYTES {
            self.snapshot();
        }
        if self.durable < self.appended {
            self.journal.wake();
        }
    }

    fn append(&mut self, zxid: i64, entry: &[u8]) {
        self.appended += 1;
        self.log_entries += 1;
        self.log_bytes += entry.len() as u64;
        self.journal.append(zxid, entry);
    }

    /// Has the tree as it is now written, and a new log begun after it.
    pub fn snapshot(&mut self) {
        self.log_entries = 0;
        self.log_bytes = 0;
        self.journal.snapshot(self.machine.tree.clone());
        self.journal.wake();
    }

    /// Whether so much waits for the disk that no more requests should be taken.
    pub fn is_congested(&self) -> bool {
        self.held_bytes + self.journal.waiting_bytes() > HELD_BYTES_MAX
    }

    fn hold(&mut self, now: Now, effect: Held) {
        if self.durable == self.appended && self.held.is_empty() {
            self.release(0, effect);
        } else {
            self.held_bytes += effect.bytes();
            self.held.push_back((self.appended, now.monotonic_ms, effect));
        }
    }

    /// So many entries more are on disk: opens the gate for everything that needs only those.
    pub fn durable(&mut self, count: u64) {
        self.durable += count;
        let now_ms = monotonic_ms();
        while self.held.front().is_some_and(|(needs, ..)| *needs <= self.durable) {
            if let Some((_, since_ms, effect)) = self.held.pop_front() {
                self.held_bytes -= effect.bytes();
                self.release(u64::try_from(now_ms - since_ms).unwrap_or(0), effect);
            }
        }
    }

    fn release(&mut self, waited_ms: u64, effect: Held) {
        match effect {
            Held::Send(to, frame) => {
                if let Some(outbox) = self.outboxes.get(&to) {
                    outbox.push(&frame);
                    self.note_sent(to, &frame, waited_ms);
                }
            }
            Held::Close(id) => {
                if let Some(outbox) = self.outboxes.get(&id) {
                    outbox.close();
                }
            }
        }
    }

    fn note_sent(&mut self, to: ConnectionId, frame: &[u8], waited_ms: u64) {
        self.counters.sent += 1;
        let is_reply = frame.get(4..8) != Some(&XID_NOTIFICATION.to_be_bytes());
        if is_reply {
            self.counters.latency.note(waited_ms);
        }
        if let Some(connection) = self.machine.connection_mut(to) {
            connection.sent += 1;
            connection.last_response_ms = wall_ms();
            if is_reply {
                connection.latency.note(waited_ms);
            }
        }
    }
}
