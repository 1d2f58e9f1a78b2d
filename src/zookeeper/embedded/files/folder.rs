//! The folder: its lock, its listing, and making a file appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{FileError, named};

const VERSION_DIR: &str = "version-2";
const LOCK_FILE: &str = "ottla.lock";
/// Does not parse as a name of ZooKeeper's, so a left-over is ignored by it.
const TEMPORARY: &str = "ottla.tmp";

/// A locked data directory.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// Held for as long as the folder is in use; the system lets go of it when the process dies.
    _lock: File,
}

/// A snapshot or log, by the zxid in its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Named {
    pub zxid: i64,
    pub path: PathBuf,
}

impl Folder {
    /// Makes the directories where they are missing, and locks.
    pub fn open(data_dir: &Path) -> Result<Self, FileError> {
        let dir = data_dir.join(VERSION_DIR);
        if !dir.is_dir() {
            fs::create_dir_all(&dir).and_then(|()| sync_dir(data_dir)).map_err(FileError::io("create", &dir))?;
        }
        let lock_path = data_dir.join(LOCK_FILE);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(FileError::io("open", &lock_path))?;
        // flock also keeps a second server of the same process out, which fcntl does not.
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(FileError::Locked { dir: data_dir.display().to_string() });
            }
            Err(errno) => return Err(FileError::io("lock", &lock_path)(errno.into())),
        }
        let folder = Self { dir, _lock: lock };
        folder.remove_temporary()?;
        Ok(folder)
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Logs, oldest first.
    pub fn logs(&self) -> Result<Vec<Named>, FileError> {
        list(&self.dir, "log", |rest| i64::from_str_radix(rest, 16).ok())
    }

    /// Snapshots, oldest first, compressed ones included.
    pub fn snapshots(&self) -> Result<Vec<Named>, FileError> {
        list(&self.dir, "snapshot", |rest| {
            let (zxid, _) =
                rest.split_once('.').filter(|(_, ext)| matches!(*ext, "gz" | "snappy")).unwrap_or((rest, ""));
            i64::from_str_radix(zxid, 16).ok()
        })
    }

    fn remove_temporary(&self) -> Result<(), FileError> {
        let entries = fs::read_dir(&self.dir).map_err(FileError::io("list", &self.dir))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path()).map_err(FileError::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

fn list(dir: &Path, kind: &str, parse: impl Fn(&str) -> Option<i64>) -> Result<Vec<Named>, FileError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(FileError::io("list", dir))? {
        let path = entry.map_err(FileError::io("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let zxid = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')).and_then(&parse);
        found.extend(zxid.map(|zxid| Named { zxid, path }));
    }
    found.sort();
    Ok(found)
}

/// Makes a file: written under another name, synced, renamed, and the name synced too.
pub fn create_whole(
    dir: &Path,
    kind: &str,
    zxid: i64,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(File, PathBuf), FileError> {
    let temporary = dir.join(format!("{TEMPORARY}.{kind}"));
    let path = named(dir, kind, zxid);
    let made = || {
        let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&temporary)?;
        write(&mut file)?;
        file.sync_data()?;
        fs::rename(&temporary, &path)?;
        sync_dir(dir)?;
        Ok(file)
    };
    let file = made().map_err(FileError::io("write", &path))?;
    Ok((file, path))
}

pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
