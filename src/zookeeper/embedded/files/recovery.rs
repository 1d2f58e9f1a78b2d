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

#[cfg(test)]
mod tests {
    use super::super::super::txn::{CreateTxn, Entry, Txn, TxnHeader};
    use super::super::super::{acl, codes::op};
    use super::super::writer::LogWriter;
    use super::*;

    const ENTRY_BYTES_MAX: usize = 1 << 20;

    fn record(tree: &mut Tree) -> (i64, Vec<u8>) {
        let zxid = tree.last_zxid() + 1;
        let (path, acl) = (format!("/n{zxid}"), acl::open());
        let parent_cversion = zxid as i32;
        let create = CreateTxn { op: op::CREATE, path, data: None, acl, ephemeral: false, parent_cversion, ttl_ms: 0 };
        let header = TxnHeader { zxid, ..TxnHeader::default() };
        let txn = Txn::Create(create);
        tree.apply(&header, &txn, &mut Vec::new());
        let entry = Entry { header, txn, digest: Some(tree.digest()) };
        let mut bytes = Vec::new();
        log::frame(&entry.encode(), &mut bytes);
        (zxid, bytes)
    }

    /// A folder with a log of so many records, and the log's path and bytes.
    fn folder_with(records: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path()).expect("a folder");
        let Recovered { mut tree, tail, .. } = recover(&folder, ENTRY_BYTES_MAX).expect("a tree");
        let mut log = LogWriter::new(folder.dir(), tail).expect("a log");
        for _ in 0..records {
            let (zxid, bytes) = record(&mut tree);
            log.append(zxid, &bytes).expect("on disk");
        }
        log.roll().expect("trimmed");
        let path = folder.dir().join("log.1");
        let bytes = std::fs::read(&path).expect("the log");
        (dir, path, bytes)
    }

    #[test]
    fn a_log_cut_anywhere_keeps_every_whole_record_and_can_go_on() {
        const RECORDS: usize = 2;
        let (dir, path, bytes) = folder_with(RECORDS);
        let each = (bytes.len() - 16) / RECORDS;
        for (cut, room) in (0..=bytes.len()).flat_map(|cut| [(cut, 0), (cut, 64)]) {
            std::fs::write(&path, [&bytes[..cut], &vec![0; room]].concat()).expect("a cut log");
            let folder = Folder::open(dir.path()).expect("a folder");
            let recovered = recover(&folder, ENTRY_BYTES_MAX).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let kept = cut.saturating_sub(16) / each;
            let Recovered { mut tree, tail, replayed, digest_mismatches, .. } = recovered;
            assert_eq!((replayed, digest_mismatches, tree.last_zxid()), (kept as u64, 0, kept as i64), "cut at {cut}");
            if cut % 8 != 1 {
                continue;
            }
            let mut log = LogWriter::new(folder.dir(), tail).expect("a log");
            let (zxid, bytes) = record(&mut tree);
            log.append(zxid, &bytes).expect("on disk");
            let again = recover(&folder, ENTRY_BYTES_MAX).unwrap_or_else(|error| panic!("after {cut}: {error}"));
            assert_eq!((again.tree.last_zxid(), again.tree.digest()), (kept as i64 + 1, tree.digest()), "after {cut}");
        }
    }

    #[test]
    fn damage_before_the_end_stops_the_start_and_says_where() {
        let (dir, path, mut bytes) = folder_with(3);
        bytes[40] ^= 1;
        std::fs::write(&path, &bytes).expect("a damaged log");
        let folder = Folder::open(dir.path()).expect("a folder");
        let error = recover(&folder, ENTRY_BYTES_MAX).err().expect("damage").to_string();
        assert!(error.contains("log.1 is damaged at offset 16") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn logs_without_a_snapshot_are_refused_and_a_damaged_snapshot_is_skipped_for_an_older_one() {
        let (dir, path, _) = folder_with(2);
        let files = path.parent().expect("a directory");
        std::fs::write(files.join("snapshot.2"), b"ZKSN damaged\0\0\0\x01/").expect("a file");
        let folder = Folder::open(dir.path()).expect("a folder");
        assert_eq!(recover(&folder, ENTRY_BYTES_MAX).expect("the older one").tree.last_zxid(), 2);
        std::fs::remove_file(files.join("snapshot.0")).expect("gone");
        assert!(matches!(recover(&folder, ENTRY_BYTES_MAX), Err(FileError::NoSnapshot { .. })));
    }
}
