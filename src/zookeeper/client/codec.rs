//! Requests and answers in bytes, as a client writes and reads them.
//!
//! Invariant: paths on the wire begin with the chroot, paths towards the caller never do; every znode created here has the ACL
//! that Kafka gives it (`ZkData.defaultAcls`).

use super::super::embedded::acl::perm;
use super::super::embedded::codes::op;
use super::super::embedded::jute::{JuteError, JuteReader, JuteWriter};
use super::super::embedded::request::write_multi_header;
use super::super::operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use super::{PASSWORD_BYTES, SessionKey};
use crate::zookeeper::paths;

/// What the server answers that is no [`super::super::embedded::codes::KeeperCode`] of ours, or that decides here.
pub mod code {
    pub const OK: i32 = 0;
    pub const CONNECTION_LOSS: i32 = -4;
    pub const OPERATION_TIMEOUT: i32 = -7;
    pub const NO_NODE: i32 = -101;
    pub const NO_AUTH: i32 = -102;
    pub const BAD_VERSION: i32 = -103;
    pub const NODE_EXISTS: i32 = -110;
    pub const NOT_EMPTY: i32 = -111;
    pub const SESSION_EXPIRED: i32 = -112;
    pub const AUTH_FAILED: i32 = -115;
    pub const SESSION_MOVED: i32 = -118;
    pub const SASL_REQUIRED: i32 = -124;
}

/// How znodes are named and guarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Empty, or a path without a slash at its end.
    pub chroot: String,
    /// `zookeeper.set.acl`
    pub secure: bool,
}

impl Naming {
    pub fn absolute(&self, path: &str) -> String {
        match path {
            "/" if !self.chroot.is_empty() => self.chroot.clone(),
            path => format!("{}{path}", self.chroot),
        }
    }

    fn relative(&self, path: &str) -> String {
        match path.strip_prefix(&self.chroot) {
            Some("") => "/".to_owned(),
            Some(rest) => rest.to_owned(),
            None => path.to_owned(),
        }
    }

    fn write_acl(&self, path: &str, to: &mut JuteWriter) {
        let world = |to: &mut JuteWriter, perms| {
            to.i32(perms).string("world").string("anyone");
        };
        // Old consumers write there as whoever they are.
        if !self.secure || path == paths::CONSUMERS {
            to.count(1);
            return world(to, perm::ALL);
        }
        let sensitive = paths::SENSITIVE.iter().any(|root| path.starts_with(root));
        to.count(if sensitive { 1 } else { 2 });
        to.i32(perm::ALL).string("auth").string("");
        if !sensitive {
            world(to, perm::READ);
        }
    }
}

/// The handshake.
pub fn connect(key: &SessionKey, last_zxid: i64, timeout_ms: i32) -> Vec<u8> {
    let mut to = JuteWriter::new();
    to.i32(0).i64(last_zxid).i32(timeout_ms).i64(key.id).buffer(Some(&key.password)).bool(false);
    to.into_bytes()
}

/// Answer to the handshake: the session and its time-out, or `None` if the server does not know the session any more.
pub fn connected(frame: &[u8]) -> Result<Option<(SessionKey, i32)>, JuteError> {
    let mut from = JuteReader::new(frame);
    let (_version, timeout_ms, id) = (from.i32()?, from.i32()?, from.i64()?);
    let password = from.buffer()?.and_then(|bytes| <[u8; PASSWORD_BYTES]>::try_from(bytes).ok());
    if timeout_ms <= 0 || id == 0 {
        return Ok(None);
    }
    let password = password.ok_or(JuteError::BadLength)?;
    Ok(Some((SessionKey { id, password }, timeout_ms)))
}

/// A frame without its length: header and body.
pub fn framed(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut to = JuteWriter::new();
    to.i32(xid).i32(op).raw(body);
    to.into_bytes()
}

/// Number and body of an operation.
pub fn request(operation: &Operation, naming: &Naming) -> (i32, Vec<u8>) {
    let mut to = JuteWriter::new();
    let kind = match operation {
        Operation::Get { path, watch } => {
            to.string(&naming.absolute(path)).bool(*watch);
            op::GET_DATA
        }
        Operation::Exists { path, watch } => {
            to.string(&naming.absolute(path)).bool(*watch);
            op::EXISTS
        }
        Operation::Children { path, watch } => {
            to.string(&naming.absolute(path)).bool(*watch);
            op::GET_CHILDREN2
        }
        Operation::Multi(writes) => {
            writes.iter().for_each(|write| write_change(write, naming, &mut to));
            write_multi_header(&mut to, -1, true, -1);
            op::MULTI
        }
    };
    (kind, to.into_bytes())
}

fn write_change(write: &Write, naming: &Naming, to: &mut JuteWriter) {
    match write {
        Write::Create { path, data, mode } => {
            write_multi_header(to, op::CREATE, false, -1);
            write_create(path, data, *mode, naming, to);
        }
        Write::Set { path, data, version } => {
            write_multi_header(to, op::SET_DATA, false, -1);
            to.string(&naming.absolute(path)).buffer(Some(data)).i32(version.unwrap_or(-1));
        }
        Write::Delete { path, version } => {
            write_multi_header(to, op::DELETE, false, -1);
            to.string(&naming.absolute(path)).i32(version.unwrap_or(-1));
        }
        Write::Check { path, version } => {
            write_multi_header(to, op::CHECK, false, -1);
            to.string(&naming.absolute(path)).i32(*version);
        }
    }
}

fn write_create(path: &str, data: &[u8], mode: CreateMode, naming: &Naming, to: &mut JuteWriter) {
    to.string(&naming.absolute(path)).buffer(Some(data));
    naming.write_acl(path, to);
    to.i32(match mode {
        CreateMode::Persistent => 0,
        CreateMode::Ephemeral => 1,
        CreateMode::PersistentSequential => 2,
    });
}

/// Body of a create outside a multi.
pub fn create(path: &str, naming: &Naming) -> Vec<u8> {
    let mut to = JuteWriter::new();
    write_create(path, b"", CreateMode::Persistent, naming, &mut to);
    to.into_bytes()
}

/// Makes an answer of a code and a body.
pub fn answer(operation: &Operation, naming: &Naming, error: i32, body: &[u8]) -> Result<Answer, ZkError> {
    match (operation, error) {
        (Operation::Exists { .. }, code::NO_NODE) => return Ok(Answer::Exists(None)),
        (_, code::OK) => {}
        (_, error) => return Err(error_of(error)),
    }
    read(operation, naming, body)
        .unwrap_or_else(|error| Err(ZkError::Other(format!("its answer is malformed: {error}"))))
}

fn read(operation: &Operation, naming: &Naming, body: &[u8]) -> Result<Result<Answer, ZkError>, JuteError> {
    let mut from = JuteReader::new(body);
    Ok(Ok(match operation {
        Operation::Get { .. } => {
            let data = from.buffer()?.unwrap_or_default().to_vec();
            Answer::Data(data, stat(&mut from)?)
        }
        Operation::Exists { .. } => Answer::Exists(Some(stat(&mut from)?)),
        Operation::Children { .. } => Answer::Children(from.strings()?, stat(&mut from)?),
        Operation::Multi(_) => return multi(naming, &mut from),
    }))
}

fn multi(naming: &Naming, from: &mut JuteReader<'_>) -> Result<Result<Answer, ZkError>, JuteError> {
    let mut written = Vec::new();
    for index in 0.. {
        let (kind, done, _error) = (from.i32()?, from.bool()?, from.i32()?);
        if done {
            break;
        }
        written.push(match kind {
            op::CREATE => Written::Created(naming.relative(&from.string()?)),
            op::SET_DATA => Written::Set(stat(from)?),
            op::DELETE => Written::Deleted,
            op::CHECK => Written::Checked,
            op::ERROR => match from.i32()? {
                // One that was undone because a later one failed.
                code::OK => continue,
                error => return Ok(Err(ZkError::Multi { index, error: Box::new(error_of(error)) })),
            },
            _ => return Err(JuteError::BadLength),
        });
    }
    Ok(Ok(Answer::Multi(written)))
}

fn stat(from: &mut JuteReader<'_>) -> Result<Stat, JuteError> {
    let (czxid, mzxid, ctime_ms, _mtime_ms) = (from.i64()?, from.i64()?, from.i64()?, from.i64()?);
    let (version, _cversion, _aversion, owner) = (from.i32()?, from.i32()?, from.i32()?, from.i64()?);
    let (_data_length, children, _pzxid) = (from.i32()?, from.i32()?, from.i64()?);
    Ok(Stat { czxid, mzxid, ctime_ms, version, owner, children })
}

fn error_of(error: i32) -> ZkError {
    match error {
        code::NO_NODE => ZkError::NoNode,
        code::NODE_EXISTS => ZkError::NodeExists,
        code::BAD_VERSION => ZkError::BadVersion,
        code::NOT_EMPTY => ZkError::NotEmpty,
        code::NO_AUTH => ZkError::NoAuth,
        error => ZkError::Other(format!("it answers with error {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_chroot_on_the_wire_only() {
        let naming = Naming { chroot: "/a/b".into(), secure: false };
        assert_eq!(naming.absolute("/"), "/a/b");
        assert_eq!(naming.absolute("/x"), "/a/b/x");
        assert_eq!(naming.relative("/a/b"), "/");
        assert_eq!(naming.relative("/a/b/x0000000001"), "/x0000000001");
        let plain = Naming::default();
        assert_eq!(plain.absolute("/"), "/");
        assert_eq!(plain.relative("/"), "/");
    }

    fn acl_of(path: &str, secure: bool) -> Vec<(i32, String)> {
        let mut to = JuteWriter::new();
        Naming { chroot: String::new(), secure }.write_acl(path, &mut to);
        let bytes = to.into_bytes();
        let mut from = JuteReader::new(&bytes);
        let count = from.count(12).expect("a list");
        (0..count)
            .map(|_| {
                let perms = from.i32().expect("permissions");
                (perms, format!("{}:{}", from.string().expect("scheme"), from.string().expect("id")))
            })
            .collect()
    }

    #[test]
    fn secrets_are_for_their_creator_and_the_rest_for_all_to_read() {
        let (all, read) = ((perm::ALL, "auth:".to_owned()), (perm::READ, "world:anyone".to_owned()));
        let open = vec![(perm::ALL, "world:anyone".to_owned())];
        assert_eq!(acl_of("/brokers/ids", true), [all.clone(), read]);
        assert_eq!(acl_of("/config/users/alice", true), std::slice::from_ref(&all));
        assert_eq!(acl_of("/config/brokers", true), std::slice::from_ref(&all));
        assert_eq!(acl_of("/delegation_token/tokens/t", true), [all]);
        assert_eq!(acl_of("/consumers", true), open);
        assert_eq!(acl_of("/config/users/alice", false), open);
    }

    #[test]
    fn a_failed_multi_names_the_write_that_failed() {
        let mut to = JuteWriter::new();
        for error in [0, code::BAD_VERSION, -2] {
            write_multi_header(&mut to, op::ERROR, false, error);
            to.i32(error);
        }
        write_multi_header(&mut to, -1, true, -1);
        let answer = answer(&Operation::Multi(vec![]), &Naming::default(), 0, to.as_slice());
        assert_eq!(answer, Err(ZkError::Multi { index: 1, error: Box::new(ZkError::BadVersion) }));
    }
}
