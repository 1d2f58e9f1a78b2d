//! The ZooKeeper server inside: ZooKeeper's client protocol, semantics and files, for one server.
//!
//! A pure core and a driver around it. The core: [`tree`] holds the znodes and applies transactions, [`prepare`] turns what
//! clients ask for into transactions, [`machine`] adds sessions, watches and replies. The driver: [`server`] has the
//! sockets, the gate that holds replies back until the log is on disk, and the timers.
//!
//! Invariant: nothing is seen by anyone before it is on disk, and the folder is at every moment one that a stock ZooKeeper
//! 3.8 can be started on. Class `ZooKeeperServerMain`.

pub mod acl;
pub mod codes;
pub mod files;
pub mod jute;
pub mod machine;
pub mod path;
pub mod prepare;
pub mod quota;
pub mod reply;
pub mod request;
mod server;
pub mod sessions;
pub mod stat;
pub mod tree;
pub mod txn;
pub mod watches;

use std::path::PathBuf;

pub use files::FileError;
pub use server::Server;

/// ZooKeeper's own limit for requests; twice this is its limit for what a log may hold.
pub const JUTE_MAX_BUFFER: usize = 0xf_ffff;

/// How the server inside is to run.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// ZooKeeper's `dataDir`; files are in `version-2` below it.
    pub data_dir: PathBuf,
    /// Host name or address to listen on.
    pub address: String,
    /// 0 takes any free port.
    pub port: u16,
    pub tick_time_ms: u64,
    /// `None` is 2 ticks.
    pub min_session_timeout_ms: Option<u32>,
    /// `None` is 20 ticks.
    pub max_session_timeout_ms: Option<u32>,
    /// Connections from one address; 0 is no limit. ZooKeeper's 60 is soon reached where everything is on one machine.
    pub max_client_cnxns: usize,
    /// Longest request. The default is ZooKeeper's: what a raised limit lets in, a stock server may refuse to load.
    pub jute_max_buffer: usize,
    /// Allows TTL nodes, which a stock server deletes at start unless it is configured for them.
    pub extended_types_enabled: bool,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// `user:base64 hash` of the administrator whom no ACL stops.
    pub super_digest: Option<String>,
}

impl EmbeddedConfig {
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            address: "localhost".to_owned(),
            port: 2181,
            tick_time_ms: 2000,
            min_session_timeout_ms: None,
            max_session_timeout_ms: None,
            max_client_cnxns: 0,
            jute_max_buffer: JUTE_MAX_BUFFER,
            extended_types_enabled: false,
            snap_count: 100_000,
            super_digest: None,
        }
    }
}

/// Why the server inside cannot start or go on; each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "the embedded ZooKeeper cannot listen on {address}: the port is in use; stop what listens there, or set \
         zookeeper.embedded.port to a free one"
    )]
    PortInUse { address: String },
    #[error("the embedded ZooKeeper cannot listen on {address}: {source}; check zookeeper.embedded.address")]
    Listen { address: String, source: std::io::Error },
    #[error("embedded ZooKeeper: {0}")]
    Files(#[from] FileError),
    #[error("the embedded ZooKeeper cannot start its writer thread: {0}; allow this user more threads")]
    Thread(std::io::Error),
}
