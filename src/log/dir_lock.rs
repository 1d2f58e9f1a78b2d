//! `.lock`: at most one broker works in a log directory (class `FileLock`).
//!
//! Invariant: a POSIX record lock, the kind that the JVM takes, so that it excludes Apache Kafka as well as Ottla; a `flock`
//! would not. Closing ANY descriptor of the file in this process would drop it, so nothing else may open `.lock`.

use super::error::{AtPath, LogError};
use super::names;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, fcntl_lock};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Directories that this process holds. Record locks do not exclude their own process, so this set does.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Held while it lives.
#[derive(Debug)]
pub struct DirLock {
    file: Option<File>,
    path: PathBuf,
}

impl DirLock {
    pub fn acquire(dir: &Path) -> Result<DirLock, LogError> {
        let path = dir.canonicalize().at(dir)?;
        let mut held = HELD.lock();
        if held.contains(&path) {
            return Err(LogError::Locked { path: dir.to_path_buf() });
        }
        let lock_path = path.join(names::LOCK);
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&lock_path).at(&lock_path)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
            Ok(()) => {
                held.insert(path.clone());
                Ok(DirLock { file: Some(file), path })
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied) => {
                Err(LogError::Locked { path: dir.to_path_buf() })
            }
            Err(error) => Err(error).at(&lock_path),
        }
    }
}

/// Whether a broker works in `dir`, looked up without taking the lock for longer than that.
pub fn is_held(dir: &Path) -> io::Result<bool> {
    let path = dir.canonicalize()?;
    let held = HELD.lock();
    if held.contains(&path) {
        return Ok(true);
    }
    let file = match File::open(path.join(names::LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match fcntl_lock(&file, FlockOperation::NonBlockingLockShared).map_err(io::Error::from) {
        Ok(()) => Ok(false),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::PermissionDenied) => Ok(true),
        Err(error) => Err(error),
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        self.file = None;
        held.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_a_second_holder_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().contains("another broker"), "{error}");
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }
}
