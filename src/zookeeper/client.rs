//! ZooKeeper's client protocol (classes `ClientCnxn` and `ZooKeeper`): one connection to a server of the ensemble.
//!
//! Ours because the broker has to know the password of its session: the session guardian ends the session of a dead broker with
//! it. [`link`] is what callers send requests through, [`connection`] the connection's one task, [`codec`] the bytes,
//! [`watch_table`] the watches that outlive a connection, [`sasl`] and [`tls`] who both sides are.
//!
//! Invariant: requests go out in the order of calls, and a request has one answer, or was lost together with its connection.

pub mod codec;
pub mod connection;
pub mod endpoints;
pub mod link;
pub mod sasl;
pub mod tls;
pub mod watch_table;

use std::fmt;

/// Bytes of a session's password.
pub const PASSWORD_BYTES: usize = 16;

/// Who knows these can resume the session, and end it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    pub id: i64,
    pub password: [u8; PASSWORD_BYTES],
}

impl SessionKey {
    /// Asks the server for a new session.
    pub const NONE: SessionKey = SessionKey { id: 0, password: [0; PASSWORD_BYTES] };
}

/// The password stays out of logs.
impl fmt::Debug for SessionKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "session {:#x}", self.id)
    }
}
