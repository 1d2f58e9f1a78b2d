//! From the folder to the tree: the newest whole snapshot, then every transaction after it.
//!
//! Invariant: nothing is cut but an unfinished record at the very end of the newest log; whatever else is wrong stops the
//! start. Class `FileTxnSnapLog.restore`.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::super::tree::Tree;
use super::folder::{Folder, Named, create_whole};
use super::log::{End, Scan};
use super::{FileError, log, snapshot};

/// What the folder held.
pub struct Recovered {
    pub tree: Tree,
    /// The newest log, if writing can go on in it, and where.
    pub tail: Option<(PathBuf, u64)>,
    /// Transactions read from logs.
    pub replayed: u64,
    /// Digests in the logs that the tree does not have; tolerated, as by a stock server.
    pub digest_mismatches: u64,
    /// Loading changed what the files say, so a snapshot should be taken before anything is added.
    pub changed: bool,
}

/// Loads the folder; an empty one gets the snapshot that a stock server needs to accept it.
pub fn recover(folder: &Folder, entry_bytes_max: usize) -> Result<Recovered, FileError> {
    let logs = folder.logs()?;
    let snapshots = folder.snapshots()?;
    if logs.is_empty() && snapshots.is_empty() {
        let tree = Tree::fresh();
        create_whole(folder.dir(), "snapshot", 0, |file| snapshot::write(&tree, file))?;
        return Ok(Recovered { tree, tail: None, replayed: 0, digest_mismatches: 0, changed: false });
    }
    let base = newest_snapshot(folder, &snapshots, &logs)?;
    replay(base, &logs, entry_bytes_max)
}

/// The newest snapshot that is whole; an older one only if the logs reach back to it.
fn newest_snapshot(folder: &Folder, snapshots: &[Named], logs: &[Named]) -> Result<snapshot::Loaded, FileError> {
    let mut newest = true;
    for Named { zxid, path } in snapshots.iter().rev() {
        if path.extension().is_some_and(|ext| ext == "snappy") {
            return Err(FileError::damaged(path, 0, "snapshots packed with snappy are not supported; unpack it"));
        }
        let loaded = snapshot::read_bytes(path).and_then(|bytes| {
            if snapshot::is_finished(&bytes) {
                snapshot::load(path, &bytes, *zxid)
            } else {
                Err(FileError::damaged(path, bytes.len() as u64, "it ends early"))
            }
        });
        match loaded {
            Ok(loaded) if newest || logs.first().is_some_and(|log| log.zxid <= zxid + 1) => return Ok(loaded),
            Ok(_) => break,
            Err(error) => tracing::warn!(%error, "embedded ZooKeeper skips a snapshot and looks for an older one"),
        }
        newest = false;
    }
    Err(FileError::NoSnapshot { dir: folder.dir().display().to_string() })
}

fn replay(base: snapshot::Loaded, logs: &[Named], entry_bytes_max: usize) -> Result<Recovered, FileError> {
    let snapshot::Loaded { mut tree, digest_from } = base;
    let snapshot_zxid = tree.last_zxid();
    let first = logs.iter().rposition(|log| log.zxid <= snapshot_zxid).unwrap_or(0);
    let mut replayed = 0;
    let mut digest_mismatches = 0;
    let mut tail = None;
    let needed = logs.get(first..).unwrap_or_default();
    for (at, Named { path, .. }) in needed.iter().enumerate() {
        let file = File::open(path).map_err(FileError::io("open", path))?;
        let scan = log::scan(path, &mut BufReader::with_capacity(256 << 10, file), entry_bytes_max, |entry| {
            if entry.header.zxid <= snapshot_zxid {
                return;
            }
            tree.apply(&entry.header, &entry.txn, &mut Vec::new());
            replayed += 1;
            let checkable = entry.header.zxid >= digest_from;
            digest_mismatches += u64::from(checkable && entry.digest.is_some_and(|digest| digest != tree.digest()));
        })?;
        if at + 1 == needed.len() {
            tail = cut(path, &scan)?;
        }
    }
    if digest_mismatches > 0 {
        tracing::warn!(digest_mismatches, "embedded ZooKeeper: digests in the log differ from the tree it gives");
    }
    let orphans = tree.finish_loading();
    Ok(Recovered { tree, tail, replayed, digest_mismatches, changed: orphans > 0 })
}

/// Takes an unfinished record off the newest log, so that nothing ever follows it there.
fn cut(path: &PathBuf, scan: &Scan) -> Result<Option<(PathBuf, u64)>, FileError> {
    if scan.good_bytes < log::HEADER_BYTES {
        std::fs::remove_file(path).map_err(FileError::io("remove", path))?;
        return Ok(None);
    }
    let cut = || {
        let mut file = File::options().write(true).open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        if len > scan.good_bytes {
            file.set_len(scan.good_bytes)?;
            file.sync_all()?;
        }
        Ok(())
    };
    cut().map_err(FileError::io("cut the unfinished end of", path))?;
    if scan.end == End::Torn {
        tracing::info!(log = %path.display(), offset = scan.good_bytes, "embedded ZooKeeper cut an unfinished record");
    }
    Ok(Some((path.clone(), scan.good_bytes)))
}
