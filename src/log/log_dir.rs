//! One directory of `log.dirs`: its lock, its checkpoints, whether it works (classes `LogManager`, `LogDirFailureChannel`).
//!
//! Invariant: after an I/O error a directory is offline until the next start: an fsync that failed once is never asked again,
//! since its second answer would be a lie. A full disk is not such an error: it refuses writes until there is room.

use super::checkpoint::{Durability, write_offsets};
use super::dir_lock::DirLock;
use super::disk::sync_file_system;
use super::error::LogError;
use crate::base::TopicPartition;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

pub struct LogDir {
    path: PathBuf,
    offline: AtomicBool,
    /// A log in it still has to be recovered, by a later start.
    incomplete: AtomicBool,
    /// A checkpoint file names offsets that a log does not reach.
    has_stale_checkpoints: AtomicBool,
    lock: Mutex<Option<DirLock>>,
    /// Why the directory is offline.
    reason: OnceLock<String>,
    /// Called once, when the directory goes offline.
    on_failure: Mutex<Vec<Arc<dyn Fn() + Send + Sync>>>,
    /// What the checkpoint files hold, so that nothing is written when nothing has changed.
    written: Mutex<HashMap<&'static str, Vec<(TopicPartition, i64)>>>,
}

impl LogDir {
    /// A directory that this process holds the lock of.
    pub fn new(path: PathBuf, lock: Option<DirLock>) -> LogDir {
        LogDir {
            path,
            offline: AtomicBool::new(false),
            incomplete: AtomicBool::new(false),
            has_stale_checkpoints: AtomicBool::new(false),
            lock: Mutex::new(lock),
            reason: OnceLock::new(),
            on_failure: Mutex::default(),
            written: Mutex::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Takes the directory out of use.
    pub fn set_offline(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        let mut listeners = self.on_failure.lock();
        if !self.offline.swap(true, Ordering::AcqRel) {
            tracing::error!(dir = %self.path.display(), reason, "log directory is offline");
            let listeners = std::mem::take(&mut *listeners);
            listeners.iter().for_each(|on_failure| on_failure());
        }
    }

    /// Tells `on_failure` when the directory goes offline, now if it is already.
    pub fn on_failure(&self, on_failure: Arc<dyn Fn() + Send + Sync>) {
        let mut listeners = self.on_failure.lock();
        if self.is_offline() {
            on_failure();
        } else {
            listeners.push(on_failure);
        }
    }

    /// A log that was not recovered stays behind: the next stop of this directory is not a clean one.
    pub fn set_incomplete(&self) {
        self.incomplete.store(true, Ordering::Release);
    }

    pub fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Acquire)
    }

    /// A log ends below an offset of a checkpoint file: that has to be written anew before the log gets there with other records.
    pub fn set_stale_checkpoints(&self) {
        self.has_stale_checkpoints.store(true, Ordering::Release);
    }

    pub fn has_stale_checkpoints(&self) -> bool {
        self.has_stale_checkpoints.load(Ordering::Acquire)
    }

    /// Why it is offline, if it is.
    pub fn failure(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    pub fn check_online(&self) -> Result<(), LogError> {
        if self.is_offline() { Err(LogError::DirOffline { path: self.path.clone() }) } else { Ok(()) }
    }

    /// Reports an I/O error; unless the disk is only full, or a limit is reached, the directory goes offline.
    pub fn failed(&self, path: &Path, error: io::Error) -> LogError {
        if !is_passing(&error) {
            self.set_offline(&format!("{}: {error}", path.display()));
        }
        LogError::Storage { path: path.to_path_buf(), source: error }
    }

    /// The same for an error that has its path already.
    pub fn reported(&self, error: LogError) -> LogError {
        match error {
            LogError::Storage { path, source } => self.failed(&path, source),
            other => other,
        }
    }

    /// What a checkpoint file held when the directory was opened. One without entries is written the first time, whatever it says.
    pub fn loaded_checkpoint<'a>(
        &self,
        name: &'static str,
        entries: impl IntoIterator<Item = (&'a TopicPartition, &'a i64)>,
    ) {
        let entries: Vec<_> = entries.into_iter().map(|(partition, offset)| (partition.clone(), *offset)).collect();
        if !entries.is_empty() {
            self.written.lock().insert(name, entries);
        }
    }

    /// Writes a checkpoint file if it would change.
    pub fn checkpoint(&self, name: &'static str, mut entries: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
        entries.sort_unstable();
        let mut written = self.written.lock();
        if written.get(name) == Some(&entries) {
            return Ok(());
        }
        let path = self.path.join(name);
        write_offsets(&path, &entries, Durability::Synced).map_err(|error| self.failed(&path, error))?;
        written.insert(name, entries);
        Ok(())
    }

    /// Whether a checkpoint file names a partition.
    pub fn remembers(&self, partition: &TopicPartition) -> bool {
        let written = self.written.lock();
        written.values().any(|entries| entries.binary_search_by(|(named, _)| named.cmp(partition)).is_ok())
    }

    /// One call for all files of a directory, where a thousand of `fsync` would take seconds.
    pub fn sync_all(&self) -> Result<(), LogError> {
        sync_file_system(&self.path).map_err(|error| self.failed(&self.path, error))
    }

    pub fn release(&self) {
        *self.lock.lock() = None;
    }
}

/// Errors that pass when somebody makes room.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | Interrupted)
        || matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::MFILE.raw_os_error()
            || code == rustix::io::Errno::NFILE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hard_errors_take_a_directory_offline() {
        let dir = LogDir::new(PathBuf::from("/none"), None);
        dir.failed(Path::new("x"), io::Error::from_raw_os_error(28));
        dir.failed(Path::new("x"), io::Error::from_raw_os_error(24));
        assert!(dir.check_online().is_ok());
        dir.failed(Path::new("x"), io::Error::from_raw_os_error(5));
        assert!(matches!(dir.check_online(), Err(LogError::DirOffline { .. })));
    }
}
