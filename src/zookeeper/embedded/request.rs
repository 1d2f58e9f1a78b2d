//! Requests as clients send them: the handshake, the header, and one body an operation.
//!
//! Invariant: decoding allocates in proportion to the bytes received. `zookeeper.jute` module `proto`, class
//! `MultiOperationRecord`.

use bytes::Bytes;

use super::acl::{self, Acl};
use super::codes::op;
use super::jute::{JuteError, JuteReader, JuteWriter};

/// First frame of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest {
    pub last_zxid_seen: i64,
    pub timeout_ms: i32,
    pub session_id: i64,
    pub password: Vec<u8>,
    /// Clients from before 3.4 and the Go ones do not send the read-only byte, and then must not get it back.
    pub has_read_only: bool,
}

impl ConnectRequest {
    pub fn decode(frame: &[u8]) -> Result<Self, JuteError> {
        let mut from = JuteReader::new(frame);
        from.i32()?;
        Ok(Self {
            last_zxid_seen: from.i64()?,
            timeout_ms: from.i32()?,
            session_id: from.i64()?,
            password: from.buffer()?.unwrap_or_default().to_vec(),
            has_read_only: from.bool().is_ok(),
        })
    }
}

/// In front of every later frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    pub xid: i32,
    pub op: i32,
}

impl RequestHeader {
    pub fn read(from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        Ok(Self { xid: from.i32()?, op: from.i32()? })
    }
}

/// A change a client asks for, alone or inside a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Create { op: i32, path: String, data: Option<Bytes>, acl: Vec<Acl>, flags: i32, ttl_ms: Option<i64> },
    Delete { path: String, version: i32 },
    SetData { path: String, data: Option<Bytes>, version: i32 },
    SetAcl { path: String, acl: Vec<Acl>, version: i32 },
    Check { path: String, version: i32 },
    DeleteContainer,
    Reconfig,
}

/// A read allowed in a multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    Data(String),
    Children(String),
}

/// Paths whose watches a client sets again after it came back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetWatches {
    pub relative_zxid: i64,
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    pub persistent: Vec<String>,
    pub recursive: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Change(Change),
    Multi(Vec<Change>),
    MultiRead(Vec<Read>),
    Exists { path: String, watch: bool },
    GetData { path: String, watch: bool },
    GetAcl { path: String },
    GetChildren { path: String, watch: bool, with_stat: bool },
    Sync { path: String },
    Ping,
    CheckWatches { path: String, kind: i32 },
    RemoveWatches { path: String, kind: i32 },
    Auth { scheme: String, auth: Vec<u8> },
    SetWatches(SetWatches),
    Sasl,
    GetEphemerals { prefix: Option<String> },
    GetAllChildrenNumber { path: String },
    AddWatch { path: String, mode: i32 },
    WhoAmI,
    CloseSession,
}

/// Why a body gives no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    #[error("unknown operation")]
    UnknownOp,
    #[error("undecodable body: {0}")]
    Malformed(#[from] JuteError),
}

impl Request {
    pub fn decode(kind: i32, from: &mut JuteReader<'_>) -> Result<Self, RequestError> {
        let request = match kind {
            op::CREATE
            | op::CREATE2
            | op::CREATE_CONTAINER
            | op::CREATE_TTL
            | op::DELETE
            | op::SET_DATA
            | op::SET_ACL
            | op::CHECK => Request::Change(Change::read(kind, from)?),
            op::DELETE_CONTAINER => Request::Change(Change::DeleteContainer),
            op::RECONFIG => Request::Change(Change::read_reconfig(from)?),
            op::MULTI => Request::Multi(read_multi(from, Change::in_multi)?),
            op::MULTI_READ => Request::MultiRead(read_multi(from, Read::in_multi)?),
            op::EXISTS => Request::Exists { path: from.string()?, watch: from.bool()? },
            op::GET_DATA => Request::GetData { path: from.string()?, watch: from.bool()? },
            op::GET_ACL => Request::GetAcl { path: from.string()? },
            op::GET_CHILDREN | op::GET_CHILDREN2 => {
                Request::GetChildren { path: from.string()?, watch: from.bool()?, with_stat: kind == op::GET_CHILDREN2 }
            }
            op::SYNC => Request::Sync { path: from.string()? },
            op::PING => Request::Ping,
            op::CHECK_WATCHES => Request::CheckWatches { path: from.string()?, kind: from.i32()? },
            op::REMOVE_WATCHES => Request::RemoveWatches { path: from.string()?, kind: from.i32()? },
            op::AUTH => {
                from.i32()?;
                Request::Auth { scheme: from.string()?, auth: from.buffer()?.unwrap_or_default().to_vec() }
            }
            op::SET_WATCHES | op::SET_WATCHES2 => Request::SetWatches(SetWatches::read(kind, from)?),
            op::SASL => Request::Sasl,
            op::GET_EPHEMERALS => Request::GetEphemerals { prefix: from.nullable_string()? },
            op::GET_ALL_CHILDREN_NUMBER => Request::GetAllChildrenNumber { path: from.string()? },
            op::ADD_WATCH => Request::AddWatch { path: from.string()?, mode: from.i32()? },
            op::WHO_AM_I => Request::WhoAmI,
            op::CLOSE_SESSION => Request::CloseSession,
            _ => return Err(RequestError::UnknownOp),
        };
        Ok(request)
    }
}

/// Whether an operation goes through the log even if it fails; its body is then not decoded by the receiving side.
pub fn is_write(kind: i32) -> bool {
    matches!(
        kind,
        op::CREATE
            | op::CREATE2
            | op::CREATE_CONTAINER
            | op::CREATE_TTL
            | op::DELETE
            | op::DELETE_CONTAINER
            | op::SET_DATA
            | op::SET_ACL
            | op::MULTI
            | op::RECONFIG
            | op::CHECK
    )
}

impl Change {
    fn read(kind: i32, from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        let path = from.string()?;
        Ok(match kind {
            op::DELETE => Change::Delete { path, version: from.i32()? },
            op::SET_DATA => Change::SetData { path, data: from.data()?, version: from.i32()? },
            op::SET_ACL => Change::SetAcl { path, acl: acl::read_list(from)?, version: from.i32()? },
            op::CHECK => Change::Check { path, version: from.i32()? },
            kind => {
                let (data, acl, flags) = (from.data()?, acl::read_list(from)?, from.i32()?);
                let ttl_ms = if kind == op::CREATE_TTL { Some(from.i64()?) } else { None };
                Change::Create { op: kind, path, data, acl, flags, ttl_ms }
            }
        })
    }

    fn in_multi(kind: i32, from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        match kind {
            op::CREATE
            | op::CREATE2
            | op::CREATE_CONTAINER
            | op::CREATE_TTL
            | op::DELETE
            | op::SET_DATA
            | op::CHECK => match Change::read(kind, from)? {
                // Alone this is a bad argument; here the stock decoder already stumbles over it.
                Change::Create { flags, ttl_ms: None, .. } if !(0..=4).contains(&flags) => Err(JuteError::BadLength),
                Change::Create { flags, ttl_ms: Some(_), .. } if !(5..=6).contains(&flags) => Err(JuteError::BadLength),
                Change::Create { op: op::CREATE, path, data, acl, flags: 4, ttl_ms } => {
                    Ok(Change::Create { op: op::CREATE_CONTAINER, path, data, acl, flags: 4, ttl_ms })
                }
                change => Ok(change),
            },
            _ => Err(JuteError::BadLength),
        }
    }

    fn read_reconfig(from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        for _ in 0..3 {
            from.buffer()?;
        }
        from.i64()?;
        Ok(Change::Reconfig)
    }
}

impl Read {
    fn in_multi(kind: i32, from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        let path = from.string()?;
        from.bool()?;
        match kind {
            op::GET_DATA => Ok(Read::Data(path)),
            op::GET_CHILDREN => Ok(Read::Children(path)),
            _ => Err(JuteError::BadLength),
        }
    }
}

impl SetWatches {
    fn read(kind: i32, from: &mut JuteReader<'_>) -> Result<Self, JuteError> {
        let mut watches = Self {
            relative_zxid: from.i64()?,
            data: from.strings()?,
            exist: from.strings()?,
            child: from.strings()?,
            ..Self::default()
        };
        if kind == op::SET_WATCHES2 {
            watches.persistent = from.strings()?;
            watches.recursive = from.strings()?;
        }
        Ok(watches)
    }
}

/// Repeated header and body, until the header that says done.
fn read_multi<T>(
    from: &mut JuteReader<'_>,
    read: impl Fn(i32, &mut JuteReader<'_>) -> Result<T, JuteError>,
) -> Result<Vec<T>, JuteError> {
    let mut items = Vec::new();
    loop {
        let (kind, done, _err) = (from.i32()?, from.bool()?, from.i32()?);
        if done {
            return Ok(items);
        }
        items.push(read(kind, from)?);
    }
}

/// Header of one item of a multi, both ways.
pub fn write_multi_header(to: &mut JuteWriter, kind: i32, done: bool, err: i32) {
    to.i32(kind).bool(done).i32(err);
}
