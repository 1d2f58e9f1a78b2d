//! ZooKeeper operations as plain values, so that pure cores can ask for them and a simulator can answer.

use crate::zookeeper::paths::ZnodeError;

/// The part of a znode's Stat that Kafka looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Transaction that created the znode.
    pub czxid: i64,
    pub mzxid: i64,
    /// Creation time in milliseconds, by the ZooKeeper leader's clock.
    pub ctime_ms: i64,
    /// The zkVersion.
    pub version: i32,
    /// Session that owns an ephemeral znode, 0 otherwise.
    pub owner: i64,
    pub children: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateMode {
    Persistent,
    PersistentSequential,
    Ephemeral,
}

/// A write, alone or in a multi. A version of `None` matches any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    Create { path: String, data: Vec<u8>, mode: CreateMode },
    Set { path: String, data: Vec<u8>, version: Option<i32> },
    Delete { path: String, version: Option<i32> },
    Check { path: String, version: i32 },
}

impl Write {
    pub fn create(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Write {
        Write::Create { path: path.into(), data: data.into(), mode: CreateMode::Persistent }
    }

    pub fn create_ephemeral(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Write {
        Write::Create { path: path.into(), data: data.into(), mode: CreateMode::Ephemeral }
    }

    pub fn set(path: impl Into<String>, data: impl Into<Vec<u8>>, version: Option<i32>) -> Write {
        Write::Set { path: path.into(), data: data.into(), version }
    }

    pub fn delete(path: impl Into<String>, version: Option<i32>) -> Write {
        Write::Delete { path: path.into(), version }
    }

    pub fn check(path: impl Into<String>, version: i32) -> Write {
        Write::Check { path: path.into(), version }
    }
}

/// One request to ZooKeeper. `watch` arms a one-shot watch together with the read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    Get {
        path: String,
        watch: bool,
    },
    Exists {
        path: String,
        watch: bool,
    },
    Children {
        path: String,
        watch: bool,
    },
    /// All or nothing.
    Multi(Vec<Write>),
}

impl Operation {
    pub fn get(path: impl Into<String>) -> Operation {
        Operation::Get { path: path.into(), watch: false }
    }

    pub fn get_and_watch(path: impl Into<String>) -> Operation {
        Operation::Get { path: path.into(), watch: true }
    }

    pub fn exists(path: impl Into<String>) -> Operation {
        Operation::Exists { path: path.into(), watch: false }
    }

    pub fn exists_and_watch(path: impl Into<String>) -> Operation {
        Operation::Exists { path: path.into(), watch: true }
    }

    pub fn children(path: impl Into<String>) -> Operation {
        Operation::Children { path: path.into(), watch: false }
    }

    pub fn children_and_watch(path: impl Into<String>) -> Operation {
        Operation::Children { path: path.into(), watch: true }
    }

    pub fn is_read(&self) -> bool {
        !matches!(self, Operation::Multi(_))
    }
}

impl From<Write> for Operation {
    fn from(write: Write) -> Operation {
        Operation::Multi(vec![write])
    }
}

/// What came back for one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// The path, with its number if it is sequential.
    Created(String),
    Set(Stat),
    Deleted,
    Checked,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Data(Vec<u8>, Stat),
    Exists(Option<Stat>),
    Children(Vec<String>, Stat),
    Multi(Vec<Written>),
}

/// Errors of the ZooKeeper room.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ZkError {
    #[error("znode does not exist")]
    NoNode,
    #[error("znode exists already")]
    NodeExists,
    #[error("znode has another version")]
    BadVersion,
    #[error("znode has children")]
    NotEmpty,
    #[error("ZooKeeper denies access")]
    NoAuth,
    #[error("ZooKeeper login failed: {0}")]
    AuthFailed(String),
    #[error("TLS to ZooKeeper: {0}")]
    Tls(String),
    /// A multi failed at this write; nothing of it was done.
    #[error("write {index} of a transaction failed: {error}")]
    Multi { index: usize, error: Box<ZkError> },
    #[error("the ZooKeeper session has expired")]
    SessionExpired,
    #[error("the ZooKeeper client is closed")]
    Closed,
    #[error("no ZooKeeper server at {connect} answered within {timeout_ms} ms")]
    ConnectTimeout { connect: String, timeout_ms: u128 },
    #[error("zookeeper.connect {connect:?} is not usable: {reason}")]
    ConnectString { connect: String, reason: String },
    #[error(transparent)]
    Malformed(#[from] ZnodeError),
    #[error("ZooKeeper: {0}")]
    Other(String),
}

impl ZkError {
    /// The error of the write that failed, if this is the failure of a multi of one write; else itself.
    pub fn flatten(self) -> ZkError {
        match self {
            ZkError::Multi { error, .. } => *error,
            other => other,
        }
    }

    /// A fence - the check op in front of a multi - refused the writes behind it.
    pub fn is_fenced(&self) -> bool {
        matches!(self, ZkError::Multi { index: 0, error } if matches!(**error, ZkError::BadVersion | ZkError::NoNode))
    }
}
