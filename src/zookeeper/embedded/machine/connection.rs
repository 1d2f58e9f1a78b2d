//! One client connection: its session, its identities, its counters.

use std::net::SocketAddr;

use super::super::acl::{self, Id};
use super::super::codes::{KeeperCode, op};
use super::super::reply::{self, no_body};
use super::super::request::RequestHeader;
use super::super::watches::ConnectionId;
use super::{Effect, Machine};
use crate::base::Millis;

/// More identities than this help nobody but one who wants to fill memory.
const IDENTITIES_MAX: usize = 64;

/// How long replies took, in milliseconds (`ServerStats`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    pub last_ms: u64,
    pub max_ms: u64,
    min_ms: u64,
    sum_ms: u64,
    count: u64,
}

impl Latency {
    pub fn note(&mut self, millis: u64) {
        self.min_ms = if self.count == 0 { millis } else { self.min_ms.min(millis) };
        self.max_ms = self.max_ms.max(millis);
        self.last_ms = millis;
        self.sum_ms += millis;
        self.count += 1;
    }

    pub fn min_ms(&self) -> u64 {
        self.min_ms
    }

    pub fn average_ms(&self) -> f64 {
        self.sum_ms as f64 / self.count.max(1) as f64
    }
}

#[derive(Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub session: Option<i64>,
    pub timeout_ms: i32,
    pub identities: Vec<Id>,
    pub received: u64,
    pub sent: u64,
    pub last_op: i32,
    pub last_cxid: i32,
    pub last_zxid: i64,
    pub established_ms: Millis,
    pub last_response_ms: Millis,
    pub latency: Latency,
}

impl Connection {
    /// Everyone is first of all the address they come from.
    pub fn new(peer: SocketAddr, wall_ms: Millis) -> Self {
        Self {
            peer,
            session: None,
            timeout_ms: 0,
            identities: vec![Id::new("ip", &peer.ip().to_canonical().to_string())],
            received: 0,
            sent: 0,
            last_op: 0,
            last_cxid: 0,
            last_zxid: 0,
            established_ms: wall_ms,
            last_response_ms: 0,
            latency: Latency::default(),
        }
    }

    pub fn note_request(&mut self, header: RequestHeader) {
        self.received += 1;
        self.last_op = header.op;
        if header.xid > 0 {
            self.last_cxid = header.xid;
        }
    }
}

impl Machine {
    pub fn reset_connection_counters(&mut self) {
        for connection in self.connections.values_mut() {
            (connection.received, connection.sent, connection.latency) = (0, 0, Latency::default());
        }
    }

    /// The session that a connection holds, or 0.
    pub fn session_of(&self, id: ConnectionId) -> i64 {
        self.connections.get(&id).and_then(|connection| connection.session).unwrap_or(0)
    }

    /// Adds an identity; a scheme that is not there ends the connection.
    pub(super) fn authenticate(
        &mut self,
        id: ConnectionId,
        xid: i32,
        scheme: &str,
        auth: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut add = |identity: Id| {
            if !connection.identities.contains(&identity) {
                connection.identities.push(identity);
            }
        };
        match scheme {
            "digest" => {
                let digest = acl::digest_id(auth);
                if self.rules.super_digest.as_ref() == Some(&digest) {
                    add(Id::new("super", ""));
                }
                add(Id::new("digest", &digest));
            }
            "ip" => {}
            _ => return self.refuse(id, xid, effects),
        }
        if connection.identities.len() > IDENTITIES_MAX {
            return self.refuse(id, xid, effects);
        }
        effects.push(Effect::Send { to: id, frame: reply::reply(xid, 0, 0, no_body) });
    }

    fn refuse(&mut self, id: ConnectionId, xid: i32, effects: &mut Vec<Effect>) {
        let frame = reply::reply(xid, 0, KeeperCode::AuthFailed.code(), no_body);
        effects.push(Effect::Send { to: id, frame });
        self.close(id, effects);
    }
}

/// The short name of an operation that the `cons` command shows.
pub fn short_name(kind: i32) -> &'static str {
    match kind {
        op::CREATE | op::CREATE2 => "CREA",
        op::CREATE_CONTAINER => "CREC",
        op::CREATE_TTL => "CRET",
        op::DELETE => "DELE",
        op::DELETE_CONTAINER => "DELC",
        op::EXISTS => "EXIS",
        op::GET_DATA => "GETD",
        op::SET_DATA => "SETD",
        op::GET_ACL => "GETA",
        op::SET_ACL => "SETA",
        op::GET_CHILDREN | op::GET_CHILDREN2 => "GETC",
        op::SYNC => "SYNC",
        op::PING => "PING",
        op::CHECK => "CHEC",
        op::MULTI => "MULT",
        op::MULTI_READ => "MLTR",
        op::RECONFIG => "RECO",
        op::CHECK_WATCHES => "CHKW",
        op::REMOVE_WATCHES => "REMW",
        op::SET_WATCHES => "SETW",
        op::SET_WATCHES2 => "STW2",
        op::ADD_WATCH => "ADDW",
        op::GET_EPHEMERALS => "GETE",
        op::GET_ALL_CHILDREN_NUMBER => "GETACN",
        op::WHO_AM_I => "HOMI",
        op::CLOSE_SESSION => "CLOS",
        _ => "NA",
    }
}
