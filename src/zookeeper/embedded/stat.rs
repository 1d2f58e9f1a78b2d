//! What a znode remembers of its changes, as kept (`StatPersisted`) and as shown to clients (`Stat`).
//!
//! Invariant: the stored cversion counts creates only. It names sequential nodes and goes into digests and files; clients
//! see creates plus deletes, which is `stored * 2 - children`. Mixing the two breaks all three.

use super::jute::{JuteError, JuteReader, JuteWriter};

/// Owner of a container node.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of the owner of a TTL node; the low 40 bits are the time to live in ms.
const TTL_MARK: u64 = 0xff00_0000_0000_0000;
const TTL_MARK_MASK: u64 = 0xffff_ff00_0000_0000;
/// Longest time to live.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

/// What the ephemeral owner field says (`EphemeralType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    None,
    Session(i64),
    Container,
    Ttl(i64),
}

impl Owner {
    pub fn of(raw: i64) -> Self {
        match raw {
            0 => Owner::None,
            CONTAINER_OWNER => Owner::Container,
            raw if raw as u64 & TTL_MARK_MASK == TTL_MARK => Owner::Ttl(raw & TTL_MS_MAX),
            raw => Owner::Session(raw),
        }
    }

    pub fn raw(self) -> i64 {
        match self {
            Owner::None => 0,
            Owner::Container => CONTAINER_OWNER,
            Owner::Ttl(ms) => (TTL_MARK | (ms & TTL_MS_MAX) as u64) as i64,
            Owner::Session(id) => id,
        }
    }
}

/// The part of a stat that is stored; 60 bytes in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatPersisted {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Creates among the children, ever.
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub pzxid: i64,
}

impl StatPersisted {
    pub fn created(zxid: i64, time_ms: i64, owner: i64) -> Self {
        Self {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time_ms,
            mtime: time_ms,
            ephemeral_owner: owner,
            ..Self::default()
        }
    }

    pub fn owner(&self) -> Owner {
        Owner::of(self.ephemeral_owner)
    }

    pub fn read(from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        Ok(Self {
            czxid: from.i64()?,
            mzxid: from.i64()?,
            ctime: from.i64()?,
            mtime: from.i64()?,
            version: from.i32()?,
            cversion: from.i32()?,
            aversion: from.i32()?,
            ephemeral_owner: from.i64()?,
            pzxid: from.i64()?,
        })
    }

    pub fn write(&self, to: &mut JuteWriter) {
        to.i64(self.czxid).i64(self.mzxid).i64(self.ctime).i64(self.mtime);
        to.i32(self.version).i32(self.cversion).i32(self.aversion);
        to.i64(self.ephemeral_owner).i64(self.pzxid);
    }
}

/// A stat as clients see it; 68 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    pub stored: StatPersisted,
    pub data_length: i32,
    pub num_children: i32,
}

impl Stat {
    pub fn write(&self, to: &mut JuteWriter) {
        let stored = &self.stored;
        let shown_cversion = stored.cversion.wrapping_mul(2).wrapping_sub(self.num_children);
        let shown_owner = match stored.owner() {
            Owner::Session(id) => id,
            _ => 0,
        };
        to.i64(stored.czxid).i64(stored.mzxid).i64(stored.ctime).i64(stored.mtime);
        to.i32(stored.version).i32(shown_cversion).i32(stored.aversion).i64(shown_owner);
        to.i32(self.data_length).i32(self.num_children).i64(stored.pzxid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_field_tells_four_kinds_of_node() {
        for owner in [
            Owner::None,
            Owner::Session(0x0100_0000_0000_0001),
            Owner::Container,
            Owner::Ttl(1),
            Owner::Ttl(TTL_MS_MAX),
        ] {
            assert_eq!(Owner::of(owner.raw()), owner);
        }
    }

    #[test]
    fn clients_see_creates_plus_deletes() {
        let stored = StatPersisted { cversion: 3, ..StatPersisted::default() };
        let mut writer = JuteWriter::new();
        Stat { stored, data_length: 0, num_children: 2 }.write(&mut writer);
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), 68);
        let mut reader = JuteReader::new(&bytes);
        reader.take(36).expect("fits");
        assert_eq!(reader.i32(), Ok(4));
    }
}
