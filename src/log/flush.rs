//! Flushing (class `UnifiedLog.flush`).
//!
//! Invariant: the recovery point moves only after everything below it is on the disk: data, the indexes of closed segments,
//! the snapshot at their end, and the directory entries. The active segment's indexes are rebuilt after a crash, so they wait.

use super::disk::{sync_data, sync_directory};
use super::error::LogError;
use super::names::{self, FileKind};
use super::partition::Log;
use super::segment::Segment;
use crate::base::time::monotonic_ms;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Log {
    /// Flushes everything that was appended so far.
    pub fn flush(&self) -> Result<(), LogError> {
        self.flush_to(self.log_end_offset())
    }

    /// Flushes what is below `offset`. Whoever waits here for an earlier flush often finds its own work done.
    pub(super) fn flush_to(&self, offset: i64) -> Result<(), LogError> {
        if offset <= self.recovery_point() {
            return Ok(());
        }
        let _flushing = self.flushing.lock();
        // What an earlier flush in this line has covered, and what is appended meanwhile, goes along.
        let recovery_point = self.recovery_point();
        if offset <= recovery_point {
            return Ok(());
        }
        self.check_usable()?;
        let end = self.log_end_offset();
        self.flush_segments(recovery_point, end)?;
        self.recovery_point.fetch_max(end, Ordering::AcqRel);
        self.last_flush_ms.store(monotonic_ms(), Ordering::Release);
        Ok(())
    }

    /// Syncs what `close` wrote: with the active segment closed as well, everything.
    pub(super) fn sync_closed(&self) -> Result<(), LogError> {
        let end = self.log_end_offset();
        self.flush_segments(self.recovery_point(), end)?;
        let active = self.active();
        active
            .sync_log()
            .and_then(|()| active.sync_indexes())
            .map_err(|error| self.log_dir().failed(active.path(), error))?;
        let snapshot = FileKind::ProducerSnapshot.file_name(end);
        for name in [snapshot.as_str(), names::LEADER_EPOCHS, names::PARTITION_METADATA] {
            self.sync_if_there(&self.dir().join(name))?;
        }
        sync_directory(&self.dir()).map_err(|error| self.log_dir().failed(&self.dir(), error))
    }

    fn flush_segments(&self, recovery_point: i64, end: i64) -> Result<(), LogError> {
        let segments = self.segments.load_full();
        let first = segments.partition_point(|segment| segment.base_offset() <= recovery_point).saturating_sub(1);
        let mut is_directory_changed = recovery_point <= self.log_start_offset();
        for (at, segment) in segments.iter().enumerate().skip(first) {
            if segment.base_offset() >= end {
                break;
            }
            match segment.sync_log() {
                // Retention took it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has(segment) => continue,
                synced => synced.map_err(|error| self.log_dir().failed(segment.path(), error))?,
            }
            if let Some(next) = segments.get(at + 1) {
                self.flush_closed(segment, next)?;
                is_directory_changed = true;
            }
        }
        if is_directory_changed {
            sync_directory(&self.dir()).map_err(|error| self.log_dir().failed(&self.dir(), error))?;
            let log_dir = self.log_dir();
            let parent = log_dir.path();
            sync_directory(parent).map_err(|error| log_dir.failed(parent, error))?;
        }
        Ok(())
    }

    fn flush_closed(&self, segment: &Arc<Segment>, next: &Arc<Segment>) -> Result<(), LogError> {
        segment.sync_indexes().map_err(|error| self.log_dir().failed(segment.path(), error))?;
        self.sync_if_there(&self.dir().join(FileKind::ProducerSnapshot.file_name(next.base_offset())))
    }

    pub(super) fn sync_snapshot(&self, offset: i64) -> Result<(), LogError> {
        self.sync_if_there(&self.dir().join(FileKind::ProducerSnapshot.file_name(offset)))?;
        sync_directory(&self.dir()).map_err(|error| self.log_dir().failed(&self.dir(), error))
    }

    fn sync_if_there(&self, path: &Path) -> Result<(), LogError> {
        match File::open(path).and_then(|file| sync_data(&file, path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.log_dir().failed(path, error)),
            _ => Ok(()),
        }
    }

    /// Milliseconds since the last flush, if there is something to flush.
    pub(super) fn unflushed_for_ms(&self, now_ms: i64) -> Option<i64> {
        let is_dirty = self.log_end_offset() > self.recovery_point();
        is_dirty.then(|| now_ms - self.last_flush_ms.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests;
