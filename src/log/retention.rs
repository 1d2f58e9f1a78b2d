//! Letting go of old segments (class `UnifiedLog.deleteOldSegments`).
//!
//! Invariant: the log start rises first, then files go; nothing at or beyond the high watermark goes.

use super::background::Removal;
use super::checkpoint::Durability;
use super::disk;
use super::error::LogError;
use super::names::FileKind;
use super::partition::{Log, Writer};
use super::segment::Segment;
use crate::base::Millis;
use crate::base::time::monotonic_ms;
use crate::config::LogConfig;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

/// A segment, as far as retention cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentAge {
    pub size: u64,
    /// Base offset of the next segment; the log's end for the active one.
    pub end_offset: i64,
    /// Largest timestamp, or the file's modification time if the segment has none.
    pub timestamp: Millis,
    pub is_active: bool,
}

/// How many of the oldest segments may go.
pub fn segments_to_delete(
    segments: &[SegmentAge],
    config: &LogConfig,
    now_ms: Millis,
    high_watermark: i64,
    log_start: i64,
) -> usize {
    let total: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut excess = match u64::try_from(config.retention_bytes) {
        Ok(limit) if config.cleanup_policy.delete => total.saturating_sub(limit),
        _ => 0,
    };
    let mut is_next_old = true;
    let mut is_next_excess = true;
    let mut count = 0;
    for segment in segments {
        is_next_old &= config.cleanup_policy.delete
            && config.retention_ms >= 0
            && now_ms.saturating_sub(segment.timestamp) > config.retention_ms;
        is_next_excess &= excess > 0 && segment.size <= excess;
        let is_before_start = !segment.is_active && segment.end_offset <= log_start;
        let is_empty_active = segment.is_active && segment.size == 0;
        let may_go = segment.end_offset <= high_watermark && !is_empty_active;
        if !may_go || !(is_next_old || is_next_excess || is_before_start) {
            break;
        }
        excess = excess.saturating_sub(segment.size);
        count += 1;
    }
    count
}

impl Log {
    /// Deletes what retention lets go, and gives the number of segments.
    pub fn apply_retention(&self, now_ms: Millis) -> Result<usize, LogError> {
        let config = self.config.load_full();
        let is_unlimited = config.retention_ms < 0 && config.retention_bytes < 0;
        if (is_unlimited || !config.cleanup_policy.delete) && self.segments.load().len() == 1 {
            return Ok(0);
        }
        let segments = self.segments.load_full();
        let Some(ages) = self.ages(&segments)? else { return Ok(0) };
        let count = segments_to_delete(&ages, &config, now_ms, self.high_watermark(), self.log_start_offset());
        if count > 0 {
            let reason = if config.cleanup_policy.delete { "retention" } else { "log start offset" };
            tracing::info!(log = %self.topic_partition, segments = count, reason, "old segments go");
            self.delete_oldest(&segments[..count])?;
        }
        Ok(count)
    }

    /// `None` if a segment was truncated away meanwhile.
    fn ages(&self, segments: &[Arc<Segment>]) -> Result<Option<Vec<SegmentAge>>, LogError> {
        let end = self.log_end_offset();
        let mut ages = Vec::with_capacity(segments.len());
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map(|next| next.base_offset());
            ages.push(SegmentAge {
                size: segment.size(),
                end_offset: next.unwrap_or(end),
                timestamp: match age_of(segment) {
                    Ok(timestamp) => timestamp,
                    Err(error) => return self.lookup_failed(segment, error).map(|_| None),
                },
                is_active: next.is_none(),
            });
        }
        Ok(Some(ages))
    }

    fn delete_oldest(&self, gone: &[Arc<Segment>]) -> Result<(), LogError> {
        // What the segments told of their producers is in the snapshot at their end only, from now on.
        if let Some(next) = self.segments.load().get(gone.len()) {
            self.sync_snapshot(next.base_offset())?;
        }
        let mut writer = self.writer.lock();
        self.check_usable()?;
        let is_oldest = |segments: &[Arc<Segment>]| {
            segments.len() >= gone.len() && segments.iter().zip(gone).all(|(have, go)| Arc::ptr_eq(have, go))
        };
        if !is_oldest(&self.segments.load()) {
            // Truncated meanwhile: the next round decides again.
            return Ok(());
        }
        if self.segments.load().len() == gone.len() {
            let config = self.config.load_full();
            let active = self.roll(&mut writer, self.log_end_offset(), &config)?;
            self.sync_snapshot(active.base_offset())?;
        }
        let segments = self.segments.load_full();
        let kept = segments.get(gone.len()..).unwrap_or_default();
        let Some(first) = kept.first() else { return Ok(()) };
        self.raise_log_start(&writer, first.base_offset())?;
        self.segments.store(Arc::new(kept.to_vec()));
        let mut paths = Vec::new();
        for segment in gone {
            paths.extend(self.rename_away(segment)?);
        }
        let due_ms = monotonic_ms().saturating_add(self.config.load().file_delete_delay_ms);
        self.background.remove_later(Removal { due_ms, paths });
        Ok(())
    }

    /// Gives the files of a segment their `.deleted` suffix, its snapshot's included.
    fn rename_away(&self, segment: &Segment) -> Result<Vec<PathBuf>, LogError> {
        let snapshot = self.dir().join(FileKind::ProducerSnapshot.file_name(segment.base_offset()));
        let mut renamed = Vec::new();
        for path in segment.paths().into_iter().chain([snapshot.as_path()]) {
            let mut target = path.as_os_str().to_owned();
            target.push(".deleted");
            match disk::rename(path, Path::new(&target)) {
                Ok(()) => renamed.push(target.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.log_dir().failed(path, error)),
            }
        }
        Ok(renamed)
    }

    /// Removes the files of a segment that never held anything, or was truncated away.
    pub(super) fn remove_now(&self, segment: &Segment) -> Result<(), LogError> {
        for path in segment.paths() {
            match disk::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.log_dir().failed(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// DeleteRecords, or a leader's log start: nothing below `offset` is served any more. Whole segments go at the next retention.
    pub fn increment_log_start_offset(&self, offset: i64) -> Result<(), LogError> {
        let writer = self.writer.lock();
        self.check_usable()?;
        if offset > self.high_watermark() {
            return Err(self.out_of_range(offset));
        }
        self.raise_log_start(&writer, offset)
    }

    fn raise_log_start(&self, writer: &Writer, offset: i64) -> Result<(), LogError> {
        if offset <= self.log_start.fetch_max(offset, Ordering::AcqRel) {
            return Ok(());
        }
        // An open transaction does not hold readers back below where they may begin.
        self.publish_first_unstable(writer);
        let changed = self.epochs.write().truncate_from_start(offset);
        if changed { self.write_epochs(Durability::Written) } else { Ok(()) }
    }

    pub fn first_segment_base(&self) -> i64 {
        self.segments.load().first().map_or(0, |segment| segment.base_offset())
    }
}

fn age_of(segment: &Segment) -> io::Result<Millis> {
    if let Some(largest) = segment.largest_timestamp()? {
        return Ok(largest.timestamp);
    }
    modified_ms(segment)
}

/// When the file of a segment was last changed.
pub(super) fn modified_ms(segment: &Segment) -> io::Result<Millis> {
    let modified = fs::metadata(segment.path())?.modified()?;
    Ok(modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CleanupPolicy;

    /// Three segments of 100 bytes, up to offsets 10, 20 and 30, with timestamps 1000, 2000, 3000.
    fn segments() -> Vec<SegmentAge> {
        (1..=3).map(|n| SegmentAge { size: 100, end_offset: n * 10, timestamp: n * 1000, is_active: n == 3 }).collect()
    }

    fn config(retention_ms: Millis, retention_bytes: i64) -> LogConfig {
        LogConfig { retention_ms, retention_bytes, ..LogConfig::default() }
    }

    #[test]
    fn what_goes() {
        let compact = LogConfig { cleanup_policy: CleanupPolicy { compact: true, delete: false }, ..config(1, 1) };
        // (name, config, now, high watermark, log start, count)
        let cases = [
            ("nothing is old", config(1000, -1), 2000, 30, 0, 0),
            ("the first is old", config(999, -1), 2000, 30, 0, 1),
            ("all are old", config(1, -1), 9000, 30, 0, 3),
            ("not beyond the high watermark", config(1, -1), 9000, 19, 0, 1),
            ("size is reached only by the first", config(-1, 200), 0, 30, 0, 1),
            ("size leaves more than the limit", config(-1, 150), 0, 30, 0, 1),
            ("size zero", config(-1, 0), 0, 30, 0, 3),
            ("no limits", config(-1, -1), i64::MAX, 30, 0, 0),
            ("below the log start", config(-1, -1), 0, 30, 20, 2),
            ("the log start is inside", config(-1, -1), 0, 30, 19, 1),
            ("the active one does not go by log start", config(-1, -1), 0, 30, 30, 2),
            ("compacted: only by log start", compact, 9000, 30, 10, 1),
        ];
        for (name, config, now_ms, high_watermark, log_start, expected) in cases {
            assert_eq!(segments_to_delete(&segments(), &config, now_ms, high_watermark, log_start), expected, "{name}");
        }
    }

    #[test]
    fn an_empty_active_segment_stays() {
        let mut segments = segments();
        segments[2].size = 0;
        assert_eq!(segments_to_delete(&segments, &config(1, -1), 99_000, 30, 0), 2);
    }
}
