//! What the lock protects: the machine, the gate behind it, and the ways to the connections.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::machine::{Effect, Machine, Now};
use super::super::watches::ConnectionId;
use super::outbox::Outbox;
use crate::base::Millis;

/// An effect on a connection that waits for the log.
enum Held {
    Send(ConnectionId, Vec<u8>),
    Close(ConnectionId),
}

pub struct Core {
    pub machine: Machine,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    next_connection: u64,
    /// Log entries ever handed to the writer, and how many of them are on disk.
    appended: u64,
    durable: u64,
    held: VecDeque<(u64, Held)>,
    effects: Vec<Effect>,
}

impl Core {
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            outboxes: HashMap::new(),
            next_connection: 0,
            appended: 0,
            durable: 0,
            held: VecDeque::new(),
            effects: Vec::new(),
        }
    }

    /// Takes a connection in, unless its address has too many already; a limit of 0 is none.
    pub fn accept(&mut self, peer: SocketAddr, limit: usize) -> Option<(ConnectionId, Arc<Outbox>)> {
        let same_address = || self.machine.connections().filter(|(_, other)| other.peer.ip() == peer.ip()).count();
        if limit > 0 && same_address() >= limit {
            return None;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let outbox = Arc::new(Outbox::default());
        self.outboxes.insert(id, outbox.clone());
        self.machine.accept(id, peer);
        Some((id, outbox))
    }

    pub fn gone(&mut self, id: ConnectionId) {
        self.outboxes.remove(&id);
        self.machine.disconnected(id);
    }

    pub fn connect(&mut self, id: ConnectionId, frame: &[u8], now: Now) {
        self.step(|machine, effects| machine.connect(id, frame, now, effects));
    }

    pub fn request(&mut self, id: ConnectionId, frame: &[u8], now: Now) {
        self.step(|machine, effects| machine.request(id, frame, now, effects));
    }

    pub fn tick(&mut self, now: Now) {
        self.step(|machine, effects| machine.tick(now, effects));
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.machine.next_deadline()
    }

    fn step(&mut self, step: impl FnOnce(&mut Machine, &mut Vec<Effect>)) {
        let mut effects = std::mem::take(&mut self.effects);
        step(&mut self.machine, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { .. } => self.appended += 1,
                Effect::Send { to, frame } => self.hold(Held::Send(to, frame)),
                Effect::Close(id) => self.hold(Held::Close(id)),
            }
        }
        self.effects = effects;
        self.durable_up_to(self.appended);
    }

    fn hold(&mut self, effect: Held) {
        if self.durable == self.appended && self.held.is_empty() {
            self.release(effect);
        } else {
            self.held.push_back((self.appended, effect));
        }
    }

    /// Opens the gate for everything that depends on these entries only.
    pub fn durable_up_to(&mut self, durable: u64) {
        self.durable = durable;
        while self.held.front().is_some_and(|(needs, _)| *needs <= durable) {
            if let Some((_, effect)) = self.held.pop_front() {
                self.release(effect);
            }
        }
    }

    fn release(&mut self, effect: Held) {
        match effect {
            Held::Send(to, frame) => {
                if let Some(outbox) = self.outboxes.get(&to) {
                    outbox.push(&frame);
                    if let Some(connection) = self.machine.connection_mut(to) {
                        connection.sent += 1;
                    }
                }
            }
            Held::Close(id) => {
                if let Some(outbox) = self.outboxes.get(&id) {
                    outbox.close();
                }
            }
        }
    }
}
