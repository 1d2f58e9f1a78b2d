//! Closing a log so that Apache Kafka, or Ottla, opens it without recovery (class `UnifiedLog.close`).
//!
//! Invariant: afterwards the indexes end with their last entry, the newest snapshot carries the log's end as its name, and the
//! epochs and the topic id are on file. The caller syncs, then writes the clean-shutdown marker.

use super::checkpoint::Durability;
use super::error::LogError;
use super::partition::{Log, StoredTopicId};
use super::{partition_metadata, producer_snapshot};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Closes logs, several at a time: what it takes are thousands of small files. Gives those that have to be synced. All are closed,
/// even if one of them fails.
pub(super) fn close_in_parallel(logs: &[Arc<Log>]) -> Result<Vec<Arc<Log>>, LogError> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()).min(logs.len()).max(1);
    let (next, changed, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        while let Some(log) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match log.close() {
                Ok(true) => changed.lock().push(Arc::clone(log)),
                Ok(false) => {}
                Err(error) => *failed.lock() = Some(error),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(changed.into_inner()),
    }
}

impl Log {
    /// Whether nothing was written since the last flush and the files of a closed log are there.
    fn is_settled(&self, snapshot_offset: i64) -> bool {
        let end = self.log_end_offset();
        end == self.recovery_point() && (snapshot_offset == end || end == self.active().base_offset())
    }

    /// Refuses appends from now on and writes what a closed log has. Says whether anything has to be synced.
    pub(super) fn close(&self) -> Result<bool, LogError> {
        let mut writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        let topic_id = *self.topic_id.lock();
        if let StoredTopicId { id: Some(id), is_synced: false } = topic_id {
            partition_metadata::write(&self.dir(), id, Durability::Written)?;
        }
        if self.are_epochs_unwritten.load(Ordering::Acquire) {
            self.write_epochs(Durability::Written)?;
        }
        if self.is_settled(writer.snapshot_offset) && self.is_active_unwritten() {
            return Ok(!topic_id.is_synced);
        }
        let active = self.active();
        active.close_indexes().map_err(|error| self.log_dir().failed(active.path(), error))?;
        let end = self.log_end_offset();
        writer.producers.set_end_offset(end);
        if end > writer.snapshot_offset {
            producer_snapshot::write(&self.dir(), &writer.producers, Durability::Written)?;
            writer.snapshot_offset = end;
        }
        Ok(true)
    }

    /// The active segment has had no append in this process.
    fn is_active_unwritten(&self) -> bool {
        !self.active().is_written()
    }

    /// After the directory was synced.
    pub(super) fn mark_flushed(&self) {
        self.recovery_point.fetch_max(self.log_end_offset(), Ordering::AcqRel);
    }
}
