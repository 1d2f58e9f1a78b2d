//! Writing: records to the newest log, synced before anyone hears of them, and snapshots with the clean-up after them.
//!
//! Invariant: one write per group of records, then fdatasync; room is reserved ahead as a hole of zeros, so that the sync
//! rarely has to touch the file's metadata. Classes `FileTxnLog`, `PurgeTxnLog`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::tree::Tree;
use super::folder::{Folder, create_whole};
use super::{FileError, log, snapshot};

/// A log grows by this much at a time (`zookeeper.preAllocSize`).
const RESERVE_BYTES: u64 = 64 << 20;
/// Room is reserved when less than this is left.
const RESERVE_AHEAD_BYTES: u64 = 4096;
/// Snapshots kept, with the logs they need (`autopurge.snapRetainCount`).
const SNAPSHOTS_KEPT: usize = 3;

#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    open: Option<OpenLog>,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    path: PathBuf,
    /// Where the next record goes.
    position: u64,
    /// Length of the file, room included.
    len: u64,
}

impl LogWriter {
    /// Goes on at the tail that recovery found, if any.
    pub fn new(dir: &Path, tail: Option<(PathBuf, u64)>) -> Result<Self, FileError> {
        let reopen = |(path, position): (PathBuf, u64)| {
            let file = File::options().write(true).open(&path).map_err(FileError::io("open", &path))?;
            Ok(OpenLog { file, path, position, len: position })
        };
        Ok(Self { dir: dir.to_owned(), open: tail.map(reopen).transpose()? })
    }

    /// Puts whole records on disk; the first of them names the log if a new one is due.
    pub fn append(&mut self, first_zxid: i64, records: &[u8]) -> Result<(), FileError> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(OpenLog::create(&self.dir, first_zxid)?),
        };
        open.append(records).map_err(FileError::io("write", &open.path))
    }

    /// Ends the log where its records end; the next record starts a new one.
    pub fn roll(&mut self) -> Result<(), FileError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let trimmed = open.file.set_len(open.position).and_then(|()| open.file.sync_all());
        trimmed.map_err(FileError::io("trim", &open.path))
    }
}

impl OpenLog {
    fn create(dir: &Path, first_zxid: i64) -> Result<Self, FileError> {
        let header = log::header();
        let (file, path) = create_whole(dir, "log", first_zxid, |file| file.write_all_at(&header, 0))?;
        Ok(Self { file, path, position: log::HEADER_BYTES, len: log::HEADER_BYTES })
    }

    fn append(&mut self, records: &[u8]) -> std::io::Result<()> {
        let end = self.position + records.len() as u64;
        if end + RESERVE_AHEAD_BYTES >= self.len {
            self.len = end + RESERVE_BYTES;
            self.file.set_len(self.len)?;
        }
        self.file.write_all_at(records, self.position)?;
        self.file.sync_data()?;
        self.position = end;
        Ok(())
    }
}

/// Writes a snapshot of the tree and removes what the kept ones make superfluous.
pub fn take_snapshot(folder: &Folder, tree: &Tree) -> Result<(), FileError> {
    create_whole(folder.dir(), "snapshot", tree.last_zxid(), |file| snapshot::write(tree, file))?;
    purge(folder)
}

/// Keeps the newest snapshots and every log from the one that the oldest of them begins in.
fn purge(folder: &Folder) -> Result<(), FileError> {
    let snapshots = folder.snapshots()?;
    let Some(first_kept) = snapshots.len().checked_sub(SNAPSHOTS_KEPT) else { return Ok(()) };
    let (old, kept) = snapshots.split_at(first_kept);
    let Some(oldest) = kept.first() else { return Ok(()) };
    let logs = folder.logs()?;
    let needed_from = logs.iter().rposition(|log| log.zxid <= oldest.zxid).unwrap_or(0);
    for superfluous in old.iter().chain(logs.iter().take(needed_from)) {
        fs::remove_file(&superfluous.path).map_err(FileError::io("remove", &superfluous.path))?;
    }
    Ok(())
}
