//! The server as a pure state machine: connections, sessions, watches and the tree in; log entries and frames out.
//!
//! Invariant: effects are in order, and a frame that could show a change comes after the change's log entry. The driver
//! holds every effect back until all entries before it are on disk, so nothing is seen that a crash could take back.
//! Classes `ZooKeeperServer`, `PrepRequestProcessor`, `FinalRequestProcessor`.

pub mod connection;
mod reads;
mod watching;
mod writes;

use std::collections::HashMap;
use std::net::SocketAddr;

pub use connection::Connection;

use super::codes::{KeeperCode, op};
use super::jute::JuteReader;
use super::reply::{self, no_body};
use super::request::{self, ConnectRequest, Request, RequestError, RequestHeader};
use super::sessions::{self, PASSWORD_BYTES, Sessions};
use super::tree::Tree;
use super::txn::Txn;
use super::watches::{ConnectionId, WatchTable};
use crate::base::Millis;

/// What the operator chose, as far as the machine needs it.
#[derive(Clone, Debug)]
pub struct Rules {
    pub tick_ms: i64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub extended_types: bool,
    /// `user:hash` of the one who may do everything.
    pub super_digest: Option<String>,
    /// Longest entry of the log that a reader takes.
    pub entry_bytes_max: usize,
}

/// The two clocks: one for expiry, one for znodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub monotonic_ms: Millis,
    pub wall_ms: Millis,
}

/// What the driver has to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    Append { zxid: i64, entry: Vec<u8> },
    Send { to: ConnectionId, frame: Vec<u8> },
    Close(ConnectionId),
}

pub struct Machine {
    rules: Rules,
    pub tree: Tree,
    pub sessions: Sessions,
    pub data_watches: WatchTable,
    pub child_watches: WatchTable,
    connections: HashMap<ConnectionId, Connection>,
    next_sweep_ms: Millis,
}

/// How often containers and TTL nodes are looked at.
const SWEEP_INTERVAL_MS: i64 = 60_000;

impl Machine {
    /// Every session of the loaded tree starts with its full time-out again.
    pub fn new(rules: Rules, tree: Tree, now: Now) -> Self {
        let mut sessions = Sessions::new(rules.tick_ms, now.wall_ms);
        for (id, timeout_ms) in tree.sessions() {
            sessions.insert(*id, *timeout_ms, now.monotonic_ms);
        }
        Self {
            rules,
            tree,
            sessions,
            data_watches: WatchTable::default(),
            child_watches: WatchTable::default(),
            connections: HashMap::new(),
            next_sweep_ms: now.monotonic_ms + SWEEP_INTERVAL_MS,
        }
    }

    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().map(|(id, connection)| (*id, connection))
    }

    pub fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    pub fn accept(&mut self, id: ConnectionId, peer: SocketAddr, now: Now) {
        self.connections.insert(id, Connection::new(peer, now.wall_ms));
    }

    /// The socket is gone; the session lives on until it expires.
    pub fn disconnected(&mut self, id: ConnectionId) {
        self.data_watches.forget(id);
        self.child_watches.forget(id);
        let session = self.connections.remove(&id).and_then(|connection| connection.session);
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(session))
            && session.connection == Some(id)
        {
            session.connection = None;
        }
    }

    /// The first frame of a connection.
    pub fn connect(&mut self, id: ConnectionId, frame: &[u8], now: Now, effects: &mut Vec<Effect>) {
        let Ok(request) = ConnectRequest::decode(frame) else { return effects.push(Effect::Close(id)) };
        if request.last_zxid_seen > self.tree.last_zxid() {
            // This client has seen a future that is not ours; ZooKeeper lets it try elsewhere.
            return effects.push(Effect::Close(id));
        }
        let range = (self.rules.min_session_timeout_ms, self.rules.max_session_timeout_ms);
        let timeout_ms = request.timeout_ms.max(range.0).min(range.1);
        let session = match request.session_id {
            0 => Some(self.new_session(timeout_ms, now, effects)),
            session => self.resume(session, &request.password, timeout_ms, now, effects).then_some(session),
        };
        let Some(session) = session else {
            let frame = reply::connected(0, 0, &[0; PASSWORD_BYTES], request.has_read_only);
            effects.push(Effect::Send { to: id, frame });
            return effects.push(Effect::Close(id));
        };
        if let Some(live) = self.sessions.get_mut(session) {
            live.connection = Some(id);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.session = Some(session);
            connection.timeout_ms = timeout_ms;
        }
        let frame = reply::connected(timeout_ms, session, &sessions::password(session), request.has_read_only);
        effects.push(Effect::Send { to: id, frame });
    }

    fn new_session(&mut self, timeout_ms: i32, now: Now, effects: &mut Vec<Effect>) -> i64 {
        let session = self.sessions.next_id();
        self.sessions.insert(session, timeout_ms, now.monotonic_ms);
        self.commit(session, 0, Txn::CreateSession { timeout_ms }, now, effects);
        session
    }

    /// The password is looked at first, so a stranger cannot cut a live connection.
    fn resume(&mut self, session: i64, password: &[u8], timeout_ms: i32, now: Now, effects: &mut Vec<Effect>) -> bool {
        if password != sessions::password(session) {
            return false;
        }
        let Some(live) = self.sessions.get_mut(session) else { return false };
        live.timeout_ms = timeout_ms;
        if let Some(old) = live.connection.take() {
            effects.push(Effect::Close(old));
            self.disconnected(old);
        }
        self.sessions.touch(session, now.monotonic_ms);
        true
    }

    /// Any later frame of a connection.
    pub fn request(&mut self, id: ConnectionId, frame: &[u8], now: Now, effects: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(session) = connection.session else { return };
        let mut from = JuteReader::new(frame);
        let Ok(header) = RequestHeader::read(&mut from) else { return self.close(id, effects) };
        connection.note_request(header);
        self.sessions.touch(session, now.monotonic_ms);
        match Request::decode(header.op, &mut from) {
            Ok(request) => self.answer(id, session, header.xid, request, now, effects),
            Err(RequestError::UnknownOp) => {
                let frame = reply::reply(header.xid, -1, KeeperCode::Unimplemented.code(), no_body);
                effects.push(Effect::Send { to: id, frame });
                self.close(id, effects);
            }
            Err(RequestError::Malformed(_)) if header.op == op::AUTH => self.close(id, effects),
            Err(RequestError::Malformed(_)) => {
                if request::is_write(header.op) && header.op != op::CHECK {
                    let failed = Txn::Error(KeeperCode::MarshallingError.code());
                    self.write(id, session, header.xid, failed, now, effects);
                } else {
                    self.send_code(id, header.xid, KeeperCode::MarshallingError, effects);
                }
            }
        }
    }

    fn answer(
        &mut self,
        id: ConnectionId,
        session: i64,
        xid: i32,
        request: Request,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match request {
            Request::Change(change) => self.change(id, session, xid, change, now, effects),
            Request::Multi(changes) => self.multi(id, session, xid, changes, now, effects),
            Request::CloseSession => {
                self.write(id, session, xid, self.closing(session), now, effects);
                self.sessions.remove(session);
                self.close(id, effects);
            }
            Request::Auth { scheme, auth } => self.authenticate(id, xid, &scheme, &auth, effects),
            read => self.read(id, session, xid, read, effects),
        }
    }

    /// When something is due without a request.
    pub fn next_deadline(&self) -> Option<Millis> {
        let sweep = self.tree.perishable().next().map(|_| self.next_sweep_ms);
        [self.sessions.next_expiry(), sweep].into_iter().flatten().min()
    }

    /// Closes expired sessions and removes containers and TTL nodes whose time has come.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for session in self.sessions.expired(now.monotonic_ms) {
            let connection = self.sessions.remove(session).and_then(|session| session.connection);
            if let Some(connection) = connection {
                self.disconnected(connection);
            }
            self.commit(session, 0, self.closing(session), now, effects);
            effects.extend(connection.map(Effect::Close));
        }
        if now.monotonic_ms >= self.next_sweep_ms {
            self.next_sweep_ms = now.monotonic_ms + SWEEP_INTERVAL_MS;
            self.sweep(now, effects);
        }
    }

    fn close(&mut self, id: ConnectionId, effects: &mut Vec<Effect>) {
        self.disconnected(id);
        effects.push(Effect::Close(id));
    }

    fn send_code(&self, to: ConnectionId, xid: i32, code: KeeperCode, effects: &mut Vec<Effect>) {
        let frame = reply::reply(xid, self.tree.last_zxid(), code.code(), no_body);
        effects.push(Effect::Send { to, frame });
    }
}
