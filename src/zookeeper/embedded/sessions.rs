//! Live sessions: when each one expires, which connection holds it, and the password that proves it.
//!
//! Invariant: every session sits in exactly one bucket, the time-out rounded up to a whole tick, so expiry costs one look
//! per tick and touching is cheap. Ids and passwords are ZooKeeper's own, so sessions survive a change of server.
//! Classes `SessionTrackerImpl`, `ExpiryQueue`; `java.util.Random` makes the password.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::watches::ConnectionId;
use crate::base::Millis;

/// Longest password a client can have: 16 bytes.
pub const PASSWORD_BYTES: usize = 16;
/// The high byte of session ids: the id of a standalone server.
const SERVER_ID: i64 = 1;

#[derive(Clone, Debug)]
pub struct Session {
    /// What its touches are worth; a resume may change it.
    pub timeout_ms: i32,
    pub connection: Option<ConnectionId>,
    expires_ms: Millis,
}

#[derive(Debug)]
pub struct Sessions {
    tick_ms: i64,
    next_id: i64,
    sessions: HashMap<i64, Session>,
    buckets: BTreeMap<Millis, HashSet<i64>>,
}

impl Sessions {
    /// Ids start from the wall clock, so they do not repeat after a restart.
    pub fn new(tick_ms: i64, wall_ms: Millis) -> Self {
        let next_id = SERVER_ID << 56 | (wall_ms << 16) & 0x00ff_ffff_ffff_0000;
        Self { tick_ms: tick_ms.max(1), next_id, sessions: HashMap::new(), buckets: BTreeMap::new() }
    }

    pub fn next_id(&mut self) -> i64 {
        while self.sessions.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    pub fn insert(&mut self, id: i64, timeout_ms: i32, now_ms: Millis) {
        self.sessions.insert(id, Session { timeout_ms, connection: None, expires_ms: 0 });
        self.touch(id, now_ms);
    }

    pub fn get(&self, id: i64) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub fn get_mut(&mut self, id: i64) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub fn touch(&mut self, id: i64, now_ms: Millis) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let due = now_ms + i64::from(session.timeout_ms);
        let bucket = (due / self.tick_ms + 1) * self.tick_ms;
        if bucket == session.expires_ms {
            return;
        }
        let before = std::mem::replace(&mut session.expires_ms, bucket);
        self.leave_bucket(id, before);
        self.buckets.entry(bucket).or_default().insert(id);
    }

    pub fn remove(&mut self, id: i64) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        self.leave_bucket(id, session.expires_ms);
        Some(session)
    }

    fn leave_bucket(&mut self, id: i64, bucket: Millis) {
        if let Some(ids) = self.buckets.get_mut(&bucket) {
            ids.remove(&id);
            if ids.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }

    /// When to look next; never without sessions.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.buckets.keys().next().copied()
    }

    /// Sessions whose time is over, oldest first. They stay until removed.
    pub fn expired(&self, now_ms: Millis) -> Vec<i64> {
        let due = self.buckets.range(..=now_ms).flat_map(|(_, ids)| {
            let mut ids: Vec<i64> = ids.iter().copied().collect();
            ids.sort_unstable();
            ids
        });
        due.collect()
    }

    /// Buckets with their sessions, soonest first.
    pub fn by_expiry(&self) -> impl Iterator<Item = (Millis, &HashSet<i64>)> {
        self.buckets.iter().map(|(at, ids)| (*at, ids))
    }
}

/// The password of a session: 16 bytes of `java.util.Random`, seeded with the id and ZooKeeper's constant.
pub fn password(session_id: i64) -> [u8; PASSWORD_BYTES] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session_id as u64 ^ 0xB341_5C00) ^ MULTIPLIER) & MASK;
    let mut password = [0; PASSWORD_BYTES];
    for chunk in password.chunks_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        chunk.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_javas_random() {
        // What new java.util.Random(id ^ 0xB3415C00L).nextBytes gave.
        let cases = [
            (0x0100_0000_0000_0000, 0xf22a_cd4a_97e6_9d6d_20a4_9bb6_38ea_db38),
            (0x0101_9a8c_3f2b_0001, 0x6ab2_96ba_3889_e69e_82d8_f341_752c_eb6e_u128),
        ];
        for (id, expected) in cases {
            assert_eq!(password(id), expected.to_be_bytes());
        }
    }

    #[test]
    fn sessions_expire_between_timeout_and_one_tick_later() {
        let mut sessions = Sessions::new(2000, 1_700_000_000_000);
        let id = sessions.next_id();
        assert_eq!(id >> 56, 1);
        sessions.insert(id, 4000, 500);
        assert_eq!(sessions.next_expiry(), Some(6000));
        assert!(sessions.expired(5999).is_empty());
        sessions.touch(id, 3000);
        assert!(sessions.expired(6000).is_empty());
        assert_eq!(sessions.expired(8000), [id]);
        sessions.remove(id);
        assert_eq!(sessions.next_expiry(), None);
        assert!(sessions.is_empty());
    }

    #[test]
    fn ids_do_not_repeat() {
        let mut sessions = Sessions::new(2000, 0x1234_5678_9abc);
        let first = sessions.next_id();
        assert_eq!(first, 0x0134_5678_9abc_0000);
        sessions.insert(first + 1, 1, 0);
        assert_eq!(sessions.next_id(), first + 2);
    }
}
