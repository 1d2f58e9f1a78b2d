//! Cutting a log back (class `UnifiedLog.truncateTo`, `truncateFullyAndStartAt`).
//!
//! Invariant: files go from the end of the log backwards, so that a crash in between leaves a log without a hole.

use super::checkpoint::Durability;
use super::error::LogError;
use super::load::load_producers;
use super::partition::{HighWatermark, Log, LogPosition, Writer};
use super::producer_snapshot;
use super::segment::Segment;
use crate::base::time::wall_ms;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Log {
    /// Drops everything from `offset` on. Epochs that begin there go even if the log does not reach it.
    pub fn truncate_to(&self, offset: i64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.check_usable()?;
        if offset < self.first_segment_base() {
            return self.restart_at(&mut writer, offset);
        }
        if offset < self.log_end_offset() {
            if offset < self.high_watermark() {
                tracing::warn!(log = %self.topic_partition, offset, high_watermark = self.high_watermark(),
                    "truncating below the high watermark");
            }
            self.cut(&mut writer, offset)?;
        }
        let changed = self.epochs.write().truncate_from_end(offset);
        if changed { self.write_epochs(Durability::Written) } else { Ok(()) }
    }

    /// Drops everything; the log goes on, empty, at `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.check_usable()?;
        self.restart_at(&mut writer, offset)
    }

    fn cut(&self, writer: &mut Writer, offset: i64) -> Result<(), LogError> {
        let _flushing = self.flushing.lock();
        let _no_reader = self.truncation.write();
        let segments = self.segments.load_full();
        let keep = segments.partition_point(|segment| segment.base_offset() <= offset);
        let Some(last) = segments.get(keep - 1) else { return Err(self.out_of_range(offset)) };
        let failed = |error| self.read_failed(last.path(), error);
        let position = match last.find(offset).map_err(failed)? {
            Ok(Some(batch)) => batch.position,
            Ok(None) => last.size(),
            Err(_) => return Err(LogError::corrupt(last.path(), "index does not fit the log")),
        };
        self.recovery_point.fetch_min(offset, Ordering::AcqRel);
        self.lowest_truncation.fetch_min(offset, Ordering::AcqRel);
        self.cleaning.truncated_to(offset);
        self.segments.store(Arc::new(segments[..keep].to_vec()));
        for segment in segments[keep..].iter().rev() {
            self.remove_now(segment)?;
        }
        last.truncate_to(position, offset).map_err(failed)?;
        last.transaction_index.truncate_to(offset).map_err(failed)?;
        self.set_end(LogPosition { offset, segment_base: last.base_offset(), position });
        self.log_start.fetch_min(offset, Ordering::AcqRel);
        producer_snapshot::remove(&self.dir(), |at| at > offset)?;
        let mut snapshots = producer_snapshot::list(&self.dir())?;
        let (kept, start) = (&segments[..keep], self.log_start_offset());
        writer.producers = load_producers(&self.dir(), &mut snapshots, kept, start, offset, |_| true)?;
        writer.snapshot_offset = snapshots.last().copied().unwrap_or(0);
        writer.producers.on_high_watermark(self.high_watermark());
        // What a coordinator said to an earlier leader of this log says nothing of what is left.
        writer.verifications.clear_all();
        self.publish_first_unstable(writer);
        Ok(())
    }

    fn set_end(&self, end: LogPosition) {
        *self.end.write() = end;
        let mut high_watermark = self.high_watermark.write();
        let offset = high_watermark.offset.min(end.offset);
        // Positions beyond the cut mean nothing any more.
        *high_watermark = HighWatermark { offset, position: (offset == end.offset).then_some(end) };
    }

    fn restart_at(&self, writer: &mut Writer, offset: i64) -> Result<(), LogError> {
        let _flushing = self.flushing.lock();
        let _no_reader = self.truncation.write();
        // Nothing of what was there stays, not even below `offset`.
        self.lowest_truncation.store(0, Ordering::Release);
        self.cleaning.truncated_to(offset);
        for segment in self.segments.load_full().iter().rev() {
            self.remove_now(segment)?;
        }
        producer_snapshot::remove(&self.dir(), |_| true)?;
        let segment = Segment::create(&self.dir(), offset, wall_ms(), 0);
        let segment = segment.map_err(|error| self.log_dir().failed(&self.dir(), error))?;
        self.segments.store(Arc::new(vec![Arc::new(segment)]));
        self.log_start.store(offset, Ordering::Release);
        self.recovery_point.fetch_min(offset, Ordering::AcqRel);
        self.set_end(LogPosition { offset, segment_base: offset, position: 0 });
        self.high_watermark.write().offset = offset;
        writer.producers = super::producer_state::ProducerStates::new(offset);
        writer.snapshot_offset = 0;
        writer.verifications.clear_all();
        self.publish_first_unstable(writer);
        self.epochs.write().clear();
        self.write_epochs(Durability::Written)
    }
}
