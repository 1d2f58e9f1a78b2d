//! ZooKeeper's files: transaction logs and snapshots in `version-2`, written so that a stock server can take over at any
//! moment, and read as a stock server reads them.
//!
//! ```text
//! data_dir/ottla.lock                  keeps a second Ottla out; ZooKeeper does not look at it
//! data_dir/version-2/snapshot.<zxid>   the tree as of that zxid; snapshot.0 exists before any log does
//! data_dir/version-2/log.<zxid>        transactions from that zxid on
//! data_dir/version-2/ottla.tmp.*       a file being made; renamed when whole and on disk
//! ```
//! Classes `FileTxnSnapLog`, `FileTxnLog`, `FileSnap`.

mod adler;
pub mod folder;
pub mod log;
pub mod recovery;
pub mod snapshot;
pub mod writer;

use std::io;
use std::path::{Path, PathBuf};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(
        "{dir} is in use by another Ottla (its ottla.lock is held); stop that one, or set zookeeper.embedded.data.dir to \
         another directory"
    )]
    Locked { dir: String },
    #[error("cannot {action} {path}: {source}; check that the directory exists, is writable and has space")]
    Io { action: &'static str, path: String, source: io::Error },
    #[error(
        "{path} is damaged at offset {offset}: {why}; restore zookeeper.embedded.data.dir from a copy, or move it away to \
         start empty"
    )]
    Damaged { path: String, offset: u64, why: String },
    #[error(
        "{dir} has ZooKeeper logs but no valid snapshot, so their beginning is unknown; restore the missing snapshot, or \
         move the directory away to start empty"
    )]
    NoSnapshot { dir: String },
}

impl FileError {
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }

    pub fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), offset, why: why.into() }
    }
}

/// A name in the folder that holds a zxid.
pub fn named(dir: &Path, kind: &str, zxid: i64) -> PathBuf {
    dir.join(format!("{kind}.{zxid:x}"))
}
