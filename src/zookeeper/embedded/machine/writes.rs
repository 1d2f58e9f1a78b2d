//! Writes: check, apply, log, tell the watchers, reply.

use super::super::codes::{KeeperCode, op};
use super::super::prepare::{Asker, Preparation};
use super::super::reply;
use super::super::request::Change;
use super::super::stat::Owner;
use super::super::tree::Outcome;
use super::super::txn::{Entry, Txn, TxnHeader};
use super::super::watches::ConnectionId;
use super::{Effect, Machine, Now};

impl Machine {
    pub(super) fn change(
        &mut self,
        id: ConnectionId,
        session: i64,
        xid: i32,
        change: Change,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let bare_check = matches!(change, Change::Check { .. });
        let prepared = match self.asker(id, session) {
            Some(asker) => Preparation::new(&self.tree, asker).change(change),
            None => return,
        };
        if bare_check {
            // In the log it would keep a stock server from ever starting again, so it is answered like a read.
            let code = prepared.err().unwrap_or(KeeperCode::Ok);
            return self.send_code(id, xid, code, effects);
        }
        let txn = prepared.unwrap_or_else(|code| Txn::Error(code.code()));
        self.write(id, session, xid, txn, now, effects);
    }

    pub(super) fn multi(
        &mut self,
        id: ConnectionId,
        session: i64,
        xid: i32,
        changes: Vec<Change>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(asker) = self.asker(id, session) else { return };
        let txn = Preparation::new(&self.tree, asker).multi(changes);
        self.write(id, session, xid, txn, now, effects);
    }

    fn asker(&self, id: ConnectionId, session: i64) -> Option<Asker<'_>> {
        let connection = self.connections.get(&id)?;
        Some(Asker { session, identities: &connection.identities, extended_types: self.rules.extended_types })
    }

    /// Commits a client's transaction and replies with what it gave.
    pub(super) fn write(
        &mut self,
        id: ConnectionId,
        session: i64,
        xid: i32,
        txn: Txn,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let (zxid, outcome) = self.commit(session, xid, txn, now, effects);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.last_zxid = zxid;
        }
        let code = match &outcome {
            Outcome::Error(code) => *code,
            _ => 0,
        };
        let frame = reply::reply(xid, zxid, code, |to| reply::write_outcome(&outcome, to));
        effects.push(Effect::Send { to: id, frame });
    }

    /// The next zxid for this transaction: into the log, into the tree, out to the watchers. A failed one takes a zxid too,
    /// since its reply tells one to the client.
    pub(super) fn commit(
        &mut self,
        session: i64,
        cxid: i32,
        txn: Txn,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> (i64, Outcome) {
        let zxid = self.tree.last_zxid() + 1;
        let header = TxnHeader { client_id: session, cxid, zxid, time_ms: now.wall_ms };
        let mut entry = Entry { header, txn, digest: None };
        let mut bytes = entry.encode();
        if bytes.len() > self.rules.entry_bytes_max {
            // Nobody could load it again. A session's end must not fail, and can be told without its list.
            entry.txn = match entry.txn {
                Txn::CloseSession { .. } => Txn::CloseSession { ephemerals: None },
                _ => Txn::Error(KeeperCode::MarshallingError.code()),
            };
            bytes = entry.encode();
        }
        let mut events = Vec::new();
        let outcome = self.tree.apply(&header, &entry.txn, &mut events);
        if !matches!(entry.txn, Txn::Error(_)) {
            Entry::append_digest(&mut bytes, self.tree.digest());
        }
        effects.push(Effect::Append { zxid, entry: bytes });
        for event in &events {
            self.notify(event, effects);
        }
        (zxid, outcome)
    }

    /// The transaction that ends a session.
    pub(super) fn closing(&self, session: i64) -> Txn {
        let ephemerals = self.tree.ephemerals_of(session).map(|key| key.to_string()).collect();
        Txn::CloseSession { ephemerals: Some(ephemerals) }
    }

    /// Removes empty containers that once had children, and empty TTL nodes that are too old.
    pub(super) fn sweep(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_due = |key: &str| {
            self.tree.get(key).is_some_and(|node| {
                node.children.is_empty()
                    && match node.stat.owner() {
                        Owner::Container => node.stat.cversion > 0,
                        Owner::Ttl(ttl_ms) => now.wall_ms - node.stat.mtime > ttl_ms,
                        _ => false,
                    }
            })
        };
        let due: Vec<String> = self.tree.perishable().filter(|key| is_due(key)).map(|key| key.to_string()).collect();
        for path in due {
            let txn = Txn::Delete { path, container: true };
            debug_assert_eq!(txn.op(), op::DELETE_CONTAINER);
            self.commit(0, 0, txn, now, effects);
        }
    }
}
