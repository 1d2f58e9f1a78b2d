//! Appending messages of the formats before 2, which only a follower does: its leader has them in old segments (class
//! `UnifiedLog.analyzeAndValidateRecords`).
//!
//! Invariant: they lie in the log byte for byte as the leader has them. They carry no leader epochs, so that the log then knows none
//! either, and is cut back to its high watermark should the leader change.

use super::append::Incoming;
use super::checkpoint::Durability;
use super::error::LogError;
use super::partition::{Log, LogPosition};
use super::segment::AppendedBatch;
use crate::config::LogConfig;
use crate::record::LegacyBatch;
use std::io::IoSlice;

impl Log {
    /// Writes what the leader has, offsets included.
    pub fn append_legacy_as_follower(&self, batches: &[LegacyBatch]) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let mut writer = self.writer.lock();
        self.check_usable()?;
        let config = self.config.load();
        let incoming = Incoming {
            size: self.check_legacy(batches, &config)?,
            first_offset: first.first_offset().unwrap_or_else(|| self.log_end_offset()),
            last_offset: last.last_offset(),
            max_timestamp: batches.iter().map(LegacyBatch::max_timestamp).max().unwrap_or(-1),
        };
        self.sync_topic_id()?;
        let segment = self.segment_for(&mut writer, &incoming, &config)?;
        let had_epochs = self.epochs.write().clear();
        if had_epochs {
            self.write_epochs(Durability::Written)?;
        }
        let mut slices: Vec<_> = batches.iter().map(|batch| IoSlice::new(batch.bytes())).collect();
        let appended = |batch: &LegacyBatch| AppendedBatch {
            size: batch.size_bytes() as u64,
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
        };
        let appended: Vec<_> = batches.iter().map(appended).collect();
        self.write_slices(&segment, &mut slices, &appended, &config)?;
        let next_offset = last.last_offset() + 1;
        writer.producers.set_end_offset(next_offset);
        *self.end.write() =
            LogPosition { offset: next_offset, segment_base: segment.base_offset(), position: segment.size() };
        drop(writer);
        self.flush_if_due()
    }

    /// Offsets rise from the log's end on, and all of it fits a segment. The size in bytes.
    fn check_legacy(&self, batches: &[LegacyBatch], config: &LogConfig) -> Result<u64, LogError> {
        let (mut expected, mut size) = (self.log_end_offset(), 0);
        for batch in batches {
            let offset = batch.last_offset();
            if offset < expected {
                return Err(LogError::UnexpectedOffset { log: self.topic_partition.clone(), offset, expected });
            }
            expected = offset.checked_add(1).ok_or_else(|| self.invalid("a message at the last of all offsets"))?;
            size += batch.size_bytes() as u64;
        }
        let limit = config.segment_bytes.max(0) as u64;
        if size > limit {
            return Err(LogError::RecordListTooLarge { log: self.topic_partition.clone(), size, limit });
        }
        Ok(size)
    }
}
