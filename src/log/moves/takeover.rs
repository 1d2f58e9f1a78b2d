//! The copy of a log that takes its place.

use crate::base::time::wall_ms;
use crate::log::checkpoint::Durability;
use crate::log::disk::{self, sync_directory};
use crate::log::error::LogError;
use crate::log::manager::LogManager;
use crate::log::partition::{HighWatermark, Log, LogPosition, Place};
use crate::log::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Copied at a time while producers wait, of the little that is left.
const LAST_CHUNK_BYTES: usize = 1 << 20;

/// How far a copy got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub bytes: usize,
    /// So little is left that producers may wait for it.
    pub is_nearly_complete: bool,
}

impl Log {
    /// Gives `future` the next batches that it lacks, and cuts it back where this log was cut.
    pub(super) fn copy_to(&self, future: &Log, max_bytes: usize) -> Result<Copied, LogError> {
        let end = self.prepare(future)?;
        let from = future.log_end_offset();
        let bytes = match self.read_bytes(from, max_bytes, end, true) {
            Ok(bytes) => bytes,
            // Cut or trimmed meanwhile: the next time sees it.
            Err(LogError::OffsetOutOfRange { .. }) => return Ok(Copied { bytes: 0, is_nearly_complete: false }),
            Err(error) => return Err(error),
        };
        future.append_copy(&bytes)?;
        future.update_high_watermark(self.high_watermark());
        let left = self.bytes_between(future.log_end_offset(), self.log_end_offset());
        Ok(Copied { bytes: bytes.len(), is_nearly_complete: left <= max_bytes as u64 })
    }

    /// Has `future` end and begin where it can go on, and gives this log's end.
    fn prepare(&self, future: &Log) -> Result<i64, LogError> {
        let cut = self.lowest_truncation.swap(i64::MAX, Ordering::AcqRel);
        if cut < future.log_end_offset() {
            future.truncate_to(cut.max(0))?;
        }
        let start = self.log_start_offset();
        if future.log_end_offset() < start {
            future.truncate_fully_and_start_at(start)?;
        }
        Ok(self.log_end_offset())
    }

    /// With `writer` held, so that nothing is appended. `false`: it cannot be done now.
    fn copy_rest_to(&self, future: &Log) -> Result<bool, LogError> {
        loop {
            let end = self.prepare(future)?;
            let from = future.log_end_offset();
            if from == end {
                return Ok(true);
            }
            let Some(bytes) = self.read_bytes_once(from, LAST_CHUNK_BYTES, end)? else { return Ok(false) };
            if bytes.is_empty() {
                return Ok(false);
            }
            future.append_copy(&bytes)?;
        }
    }

    /// Goes on with the files of `future`, which are renamed to what they are now, and has `retire` take the old ones away before
    /// anything is appended. Gives the place that was left; `None` if not everything was copied.
    fn take_over(&self, future: &Log, retire: impl FnOnce(&Place)) -> Result<Option<Arc<Place>>, LogError> {
        let mut writer = self.writer.lock();
        self.check_usable()?;
        if !self.copy_rest_to(future)? {
            return Ok(None);
        }
        let _flushing = self.flushing.lock();
        let _no_reader = self.truncation.write();
        future.close()?;
        future.sync_closed()?;
        let log_dir = future.log_dir();
        let dir = log_dir.path().join(self.topic_partition.to_string());
        let failed = |error| log_dir.failed(&future.dir(), error);
        // A crash between this and the old directory's end leaves both: see [`is_superseded_by`].
        disk::rename(&future.dir(), &dir).and_then(|()| sync_directory(log_dir.path())).map_err(failed)?;
        let old = future.segments.load_full();
        let segments: Vec<_> =
            old.iter().map(|old| Arc::new(Segment::open(&dir, old.base_offset(), old.size(), wall_ms()))).collect();
        let end = LogPosition { position: old.last().map_or(0, |active| active.size()), ..*future.end.read() };
        self.segments.store(Arc::new(segments));
        *self.end.write() = end;
        let mut high_watermark = self.high_watermark.write();
        *high_watermark = HighWatermark { position: None, ..*high_watermark };
        drop(high_watermark);
        writer.snapshot_offset = future.writer.lock().snapshot_offset;
        self.recovery_point.store(end.offset, Ordering::Release);
        self.cleaning.moved();
        self.topic_id.lock().is_synced = false;
        let left = self.place.swap(Arc::new(Place { dir, log_dir }));
        retire(&left);
        // The copy knows only epochs that have records. What cannot be written now is written with the next append, or at the end.
        if let Err(error) = self.write_epochs(Durability::Written) {
            tracing::warn!(partition = %self.topic_partition, %error, "leader epochs are not on file yet");
        }
        Ok(Some(left))
    }
}

impl LogManager {
    /// Has the future log take the place of the current one, if nothing is missing.
    pub(super) fn finish_move(&self, current: &Arc<Log>, future: &Arc<Log>) -> Result<(), LogError> {
        let partition = current.topic_partition();
        let _changing = self.changing.lock();
        let is_same = |log: Option<Arc<Log>>, other: &Arc<Log>| log.is_some_and(|log| Arc::ptr_eq(&log, other));
        if !is_same(self.log(partition), current) || !is_same(self.future(partition), future) {
            return Ok(());
        }
        let retire = |left: &Place| {
            if let Err(error) = self.remove_directory(&left.dir, &left.log_dir, partition, &current.config()) {
                tracing::error!(%partition, %error, "the old files of a moved replica cannot be removed");
            }
        };
        let Some(left) = current.take_over(future, retire)? else { return Ok(()) };
        self.moves.futures.write().remove(partition);
        tracing::info!(%partition, from = %left.log_dir.path().display(), to = %current.log_dir().path().display(), "replica is moved");
        for dir in [&current.log_dir(), &left.log_dir] {
            if !dir.is_offline() {
                self.write_checkpoints(dir)?;
                self.write_cleaner_offsets(dir)?;
            }
        }
        Ok(())
    }
}

/// At start: cuts off what a future log has and the current one has not.
pub(in crate::log) fn reconcile(current: &Log, future: &Log) -> Result<(), LogError> {
    loop {
        let end = current.log_end_offset().min(future.log_end_offset());
        let Some(epoch) = future.latest_epoch() else { return cut(future, end) };
        let (known, known_end) = current.end_offset_for_epoch(epoch);
        if known == epoch || current.latest_epoch().is_none() {
            return cut(future, if known == epoch { end.min(known_end) } else { end });
        }
        let start = future.epoch_start_offset(epoch).unwrap_or(0);
        // An epoch that the current log does not know goes whole; below it the next one is asked about.
        cut(future, if known_end >= 0 { start.min(known_end) } else { start })?;
        if future.latest_epoch() == Some(epoch) {
            return future.truncate_fully_and_start_at(current.log_start_offset());
        }
    }
}

fn cut(future: &Log, offset: i64) -> Result<(), LogError> {
    if offset < future.log_end_offset() {
        tracing::warn!(partition = %future.topic_partition(), offset, "what was copied of a replica goes beyond it: cut back");
    }
    future.truncate_to(offset)
}

/// Whether `old` is what the last steps of a move left behind, and `new` what it moved to. Without a crash of the machine they are
/// equal; with one the old log may have lost what was not on the disk yet, while the new one was synced before it got its name.
/// What cannot be read supersedes nothing.
pub(in crate::log) fn is_superseded_by(old: &Log, new: &Log) -> bool {
    supersede(old, new).unwrap_or_else(|error| {
        tracing::error!(partition = %old.topic_partition(), %error, "two logs cannot be compared");
        false
    })
}

fn supersede(old: &Log, new: &Log) -> Result<bool, LogError> {
    let end = old.log_end_offset();
    if old.topic_id().is_none() || old.topic_id() != new.topic_id() || end > new.log_end_offset() {
        return Ok(false);
    }
    // One offset and leader epoch, one batch: what is before it is the same as well.
    let is_trimmed = end <= new.log_start_offset();
    let is_prefix = is_trimmed || last_batch(old, end)? == last_batch(new, end)?;
    if is_prefix {
        // What only the old directory's checkpoints said.
        new.raise_high_watermark(old.high_watermark());
        let start = old.log_start_offset().min(new.high_watermark());
        if start > new.log_start_offset() {
            new.increment_log_start_offset(start)?;
        }
    }
    Ok(is_prefix)
}

/// Bytes of the batch that ends at `end`; nothing if the log holds nothing before.
fn last_batch(log: &Log, end: i64) -> Result<Vec<u8>, LogError> {
    if log.log_start_offset() >= end {
        return Ok(Vec::new());
    }
    let bytes = log.read_bytes(end - 1, 1, end, true)?;
    Ok(bytes.to_vec())
}
