//! Transactions: what a write request becomes once it is checked, what the log holds, and what the tree applies.
//!
//! Invariant: a transaction is complete (final names, fixed-up ACLs, new versions), so that applying it needs no decision
//! and replaying the log gives the same tree. `zookeeper.jute` module `txn`, class `SerializeUtils`.

use bytes::Bytes;

use super::acl::{self, AclList};
use super::codes::op;
use super::jute::{JuteError, JuteReader, JuteWriter};

/// Who did it, and when; 32 bytes with the type in front of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxnHeader {
    pub client_id: i64,
    pub cxid: i32,
    pub zxid: i64,
    pub time_ms: i64,
}

/// A create of any kind. The owner of an ephemeral is the header's client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTxn {
    /// create, create2, createContainer or createTTL.
    pub op: i32,
    pub path: String,
    pub data: Option<Bytes>,
    pub acl: AclList,
    pub ephemeral: bool,
    /// Stored cversion of the parent after this create; -1 in logs from before 3.4 means one more than it was.
    pub parent_cversion: i32,
    pub ttl_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Txn {
    Create(CreateTxn),
    Delete { path: String, container: bool },
    SetData { path: String, data: Option<Bytes>, version: i32 },
    SetAcl { path: String, acl: AclList, version: i32 },
    Check { path: String, version: i32 },
    Multi(Vec<Txn>),
    CreateSession { timeout_ms: i32 },
    CloseSession { ephemerals: Option<Vec<String>> },
    Error(i32),
}

/// Why an entry of a log is no transaction.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TxnError {
    #[error(transparent)]
    Jute(#[from] JuteError),
    #[error("unsupported transaction type {0}")]
    UnsupportedType(i32),
}

impl Txn {
    /// The type in the header.
    pub fn op(&self) -> i32 {
        match self {
            Txn::Create(create) => create.op,
            Txn::Delete { container: false, .. } => op::DELETE,
            Txn::Delete { container: true, .. } => op::DELETE_CONTAINER,
            Txn::SetData { .. } => op::SET_DATA,
            Txn::SetAcl { .. } => op::SET_ACL,
            Txn::Check { .. } => op::CHECK,
            Txn::Multi(_) => op::MULTI,
            Txn::CreateSession { .. } => op::CREATE_SESSION,
            Txn::CloseSession { .. } => op::CLOSE_SESSION,
            Txn::Error(_) => op::ERROR,
        }
    }

    fn write_body(&self, to: &mut JuteWriter) {
        match self {
            Txn::Create(create) => create.write(to),
            Txn::Delete { path, .. } => {
                to.string(path);
            }
            Txn::SetData { path, data, version } => {
                to.string(path).buffer(data.as_deref()).i32(*version);
            }
            Txn::SetAcl { path, acl: list, version } => {
                to.string(path);
                acl::write_list(list, to);
                to.i32(*version);
            }
            Txn::Check { path, version } => {
                to.string(path).i32(*version);
            }
            Txn::Multi(txns) => {
                to.count(txns.len());
                for txn in txns {
                    let mut body = JuteWriter::new();
                    txn.write_body(&mut body);
                    to.i32(txn.op()).buffer(Some(body.as_slice()));
                }
            }
            Txn::CreateSession { timeout_ms } => {
                to.i32(*timeout_ms);
            }
            Txn::CloseSession { ephemerals: None } => {}
            Txn::CloseSession { ephemerals: Some(paths) } => {
                to.strings(paths.iter());
            }
            Txn::Error(code) => {
                to.i32(*code);
            }
        }
    }

    fn read_body(kind: i32, from: &mut JuteReader<'_>, depth: u32) -> Result<Self, TxnError> {
        Ok(match kind {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                Txn::Create(CreateTxn::read(kind, from)?)
            }
            op::DELETE => Txn::Delete { path: from.string()?, container: false },
            op::DELETE_CONTAINER => Txn::Delete { path: from.string()?, container: true },
            op::SET_DATA | op::RECONFIG => {
                Txn::SetData { path: from.string()?, data: from.data()?, version: from.i32()? }
            }
            op::SET_ACL => {
                Txn::SetAcl { path: from.string()?, acl: acl::shared(acl::read_list(from)?), version: from.i32()? }
            }
            op::CHECK if depth > 0 => Txn::Check { path: from.string()?, version: from.i32()? },
            op::MULTI if depth == 0 => {
                let count = from.count(8)?;
                let one = |_| {
                    let kind = from.i32()?;
                    let body = from.buffer()?.ok_or(JuteError::Null)?;
                    Txn::read_body(kind, &mut JuteReader::new(body), depth + 1)
                };
                Txn::Multi((0..count).map(one).collect::<Result<_, _>>()?)
            }
            op::CREATE_SESSION => Txn::CreateSession { timeout_ms: from.i32()? },
            op::CLOSE_SESSION if from.is_empty() => Txn::CloseSession { ephemerals: None },
            op::CLOSE_SESSION => Txn::CloseSession { ephemerals: Some(from.strings()?) },
            op::ERROR => Txn::Error(from.i32()?),
            other => return Err(TxnError::UnsupportedType(other)),
        })
    }
}

impl CreateTxn {
    fn write(&self, to: &mut JuteWriter) {
        to.string(&self.path).buffer(self.data.as_deref());
        acl::write_list(&self.acl, to);
        if matches!(self.op, op::CREATE | op::CREATE2) {
            to.bool(self.ephemeral);
        }
        to.i32(self.parent_cversion);
        if self.op == op::CREATE_TTL {
            to.i64(self.ttl_ms);
        }
    }

    fn read(kind: i32, from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        let path = from.string()?;
        let data = from.data()?;
        let acl = acl::shared(acl::read_list(from)?);
        let ephemeral = matches!(kind, op::CREATE | op::CREATE2) && from.bool()?;
        // Before 3.4 a create ended here.
        let parent_cversion = if kind == op::CREATE && from.is_empty() { -1 } else { from.i32()? };
        let ttl_ms = if kind == op::CREATE_TTL { from.i64()? } else { 0 };
        Ok(Self { op: kind, path, data, acl, ephemeral, parent_cversion, ttl_ms })
    }
}

/// One entry of the log: header, transaction, and the digest of the tree after it where there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub header: TxnHeader,
    pub txn: Txn,
    pub digest: Option<i64>,
}

/// The only digest version there is (`DigestCalculator`).
pub const DIGEST_VERSION: i32 = 2;

impl Entry {
    pub fn encode(&self) -> Vec<u8> {
        let mut to = JuteWriter::new();
        let TxnHeader { client_id, cxid, zxid, time_ms } = self.header;
        to.i64(client_id).i32(cxid).i64(zxid).i64(time_ms).i32(self.txn.op());
        self.txn.write_body(&mut to);
        let mut bytes = to.into_bytes();
        if let Some(digest) = self.digest {
            Self::append_digest(&mut bytes, digest);
        }
        bytes
    }

    /// The digest comes last, so it can be added once the transaction is applied.
    pub fn append_digest(entry: &mut Vec<u8>, digest: i64) {
        entry.extend_from_slice(&DIGEST_VERSION.to_be_bytes());
        entry.extend_from_slice(&digest.to_be_bytes());
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, TxnError> {
        let mut from = JuteReader::new(bytes);
        let (client_id, cxid, zxid, time_ms) = (from.i64()?, from.i32()?, from.i64()?, from.i64()?);
        let header = TxnHeader { client_id, cxid, zxid, time_ms };
        let kind = from.i32()?;
        let txn = Txn::read_body(kind, &mut from, 0)?;
        let digest = match from.remaining() {
            0..12 => None,
            _ => Some(from.i32()?).filter(|version| *version == DIGEST_VERSION).map(|_| from.i64()).transpose()?,
        };
        Ok(Self { header, txn, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(op: i32, ttl_ms: i64) -> Txn {
        Txn::Create(CreateTxn {
            op,
            path: "/a".to_owned(),
            data: Some(Bytes::from_static(b"x")),
            acl: acl::open(),
            ephemeral: op == op::CREATE,
            parent_cversion: 7,
            ttl_ms,
        })
    }

    #[test]
    fn every_kind_survives_the_log() {
        let path = || "/a".to_owned();
        let txns = [
            create(op::CREATE, 0),
            create(op::CREATE2, 0),
            create(op::CREATE_CONTAINER, 0),
            create(op::CREATE_TTL, 5),
            Txn::Delete { path: path(), container: false },
            Txn::Delete { path: path(), container: true },
            Txn::SetData { path: path(), data: None, version: 3 },
            Txn::SetAcl { path: path(), acl: acl::read_only(), version: 1 },
            Txn::Multi(vec![Txn::Check { path: path(), version: 2 }, create(op::CREATE2, 0), Txn::Error(-2)]),
            Txn::Multi(vec![]),
            Txn::CreateSession { timeout_ms: 6000 },
            Txn::CloseSession { ephemerals: Some(vec![path()]) },
            Txn::Error(-101),
        ];
        for txn in txns {
            let header = TxnHeader { client_id: 1, cxid: 2, zxid: 3, time_ms: 4 };
            let digest = (!matches!(txn, Txn::Error(_))).then_some(99);
            let entry = Entry { header, txn, digest };
            assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        }
    }

    #[test]
    fn old_forms_are_read() {
        let header = TxnHeader::default();
        let close = Entry { header, txn: Txn::CloseSession { ephemerals: None }, digest: None };
        assert_eq!(Entry::decode(&close.encode()), Ok(close));
        let mut v0 = Entry { header, txn: create(op::CREATE, 0), digest: None }.encode();
        v0.truncate(v0.len() - 4);
        let Ok(Entry { txn: Txn::Create(read), .. }) = Entry::decode(&v0) else { panic!("a create without cversion") };
        assert_eq!(read.parent_cversion, -1);
    }

    #[test]
    fn a_bare_check_and_unknown_types_are_refused() {
        let header = TxnHeader::default();
        let bare = Entry { header, txn: Txn::Check { path: "/a".to_owned(), version: 1 }, digest: None };
        assert_eq!(Entry::decode(&bare.encode()), Err(TxnError::UnsupportedType(op::CHECK)));
        let nested = Entry { header, txn: Txn::Multi(vec![Txn::Multi(vec![])]), digest: None };
        assert_eq!(Entry::decode(&nested.encode()), Err(TxnError::UnsupportedType(op::MULTI)));
    }
}
