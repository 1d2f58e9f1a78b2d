//! Reading (class `UnifiedLog.read`, `LocalLog.read`).
//!
//! Invariant: what is handed out are whole batches of this log from the one that holds the asked offset on, except that the
//! last may be cut by the size limit, and nothing at or beyond the caller's limit.

use super::error::LogError;
use super::partition::{Log, LogPosition};
use super::scan::BatchAt;
use super::segment::{Segment, StaleIndex};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A range of a `.log` file.
#[derive(Clone, Debug)]
pub struct FileSlice {
    pub file: Arc<File>,
    pub position: u64,
    pub len: usize,
}

impl FileSlice {
    /// The bytes, fewer if the file was truncated meanwhile.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], self.position + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct LogRead {
    /// In order; none if nothing is there below the limit.
    pub slices: Vec<FileSlice>,
    /// The size limit cuts off the first batch already.
    pub first_batch_incomplete: bool,
    /// No record at or beyond this offset is in the slices: how far aborted transactions have to be looked up.
    pub upper_bound_offset: i64,
}

impl LogRead {
    pub fn size_bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.len).sum()
    }

    fn empty(offset: i64) -> LogRead {
        LogRead { upper_bound_offset: offset, ..LogRead::default() }
    }
}

/// Why a lookup has to begin again.
pub(super) enum Retry {
    /// This segment's index does not belong to its file.
    Stale(Arc<Segment>),
    /// The segment was removed under the lookup.
    Removed,
}

/// A finished lookup, or the reason to repeat it.
pub(super) type Attempt<T> = Result<Result<T, Retry>, LogError>;

/// Segments may be removed or repaired under a read, but not for ever.
const ATTEMPTS_MAX: usize = 16;

impl Log {
    /// Ranges of at most `max_bytes` from `offset` on, below `limit_offset`; with `min_one_batch` at least one whole batch.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        limit_offset: i64,
        min_one_batch: bool,
    ) -> Result<LogRead, LogError> {
        self.attempt(|| self.try_read(offset, max_bytes, limit_offset, min_one_batch))
    }

    /// The same, read into memory.
    pub fn read_bytes(
        &self,
        offset: i64,
        max_bytes: usize,
        limit_offset: i64,
        min_one_batch: bool,
    ) -> Result<Bytes, LogError> {
        let read = self.read(offset, max_bytes, limit_offset, min_one_batch)?;
        let Some(slice) = read.slices.first() else { return Ok(Bytes::new()) };
        slice.read().map_err(|error| self.log_dir().failed(&self.dir(), error))
    }

    /// The same without repairing an index that stands in the way, which takes locks: `None` then.
    pub(super) fn read_bytes_once(
        &self,
        offset: i64,
        max_bytes: usize,
        limit_offset: i64,
    ) -> Result<Option<Bytes>, LogError> {
        let _no_truncation = self.truncation.read();
        let Ok(read) = self.try_read(offset, max_bytes, limit_offset, true)? else { return Ok(None) };
        let Some(slice) = read.slices.first() else { return Ok(None) };
        slice.read().map(Some).map_err(|error| self.log_dir().failed(&self.dir(), error))
    }

    /// Bytes between two offsets, exact within a segment.
    pub fn bytes_between(&self, from: i64, to: i64) -> u64 {
        if from >= to {
            return 0;
        }
        let positions = self.attempt(|| {
            let to = self.position_of(to)?;
            let from = self.position_of(from)?;
            Ok(from.and_then(|from| to.map(|to| (from, to))))
        });
        let Ok((from, to)) = positions else { return 1 };
        let segments = self.segments.load();
        let between = segments.iter().filter(|s| (from.segment_base..to.segment_base).contains(&s.base_offset()));
        let full: u64 = between.map(|segment| segment.size()).sum();
        (full + to.position).saturating_sub(from.position)
    }

    /// Repeats a lookup after repairing what stood in its way.
    pub(super) fn attempt<T>(&self, mut work: impl FnMut() -> Attempt<T>) -> Result<T, LogError> {
        for _ in 0..ATTEMPTS_MAX {
            let outcome = {
                let _no_truncation = self.truncation.read();
                work()?
            };
            match outcome {
                Ok(found) => return Ok(found),
                Err(Retry::Removed) => {}
                Err(Retry::Stale(segment)) => self.repair_indexes(&segment)?,
            }
        }
        Err(LogError::corrupt(&self.dir(), "indexes do not fit the log even after a rebuild"))
    }

    fn try_read(&self, offset: i64, max_bytes: usize, limit_offset: i64, min_one_batch: bool) -> Attempt<LogRead> {
        let end = *self.end.read();
        if offset < self.log_start_offset() || offset > end.offset {
            return Err(self.out_of_range(offset));
        }
        if offset >= limit_offset.min(end.offset) {
            return Ok(Ok(LogRead::empty(offset)));
        }
        let limit = match self.position_of(limit_offset.min(end.offset))? {
            Ok(limit) => limit,
            Err(retry) => return Ok(Err(retry)),
        };
        let segments = self.segments.load_full();
        let first = segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1);
        for (at, segment) in segments.iter().enumerate().skip(first) {
            if segment.base_offset() > limit.segment_base {
                break;
            }
            let batch = match self.find_in(segment, offset)? {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                Err(retry) => return Ok(Err(retry)),
            };
            let is_last = segment.base_offset() == limit.segment_base;
            let segment_end = if is_last { limit.position } else { segment.size() };
            if batch.position >= segment_end {
                break;
            }
            let next_base = segments.get(at + 1).map(|next| next.base_offset());
            let bound = if is_last { limit.offset } else { next_base.unwrap_or(limit.offset) };
            return match slice(segment, &batch, segment_end, max_bytes, min_one_batch, bound) {
                Ok(read) => Ok(Ok(read)),
                Err(error) => self.lookup_failed(segment, error).map(Err),
            };
        }
        Ok(Ok(LogRead::empty(offset)))
    }

    /// Where the first batch at or beyond `offset` begins. Log end and high watermark are remembered.
    fn position_of(&self, offset: i64) -> Attempt<LogPosition> {
        let end = *self.end.read();
        if offset >= end.offset {
            return Ok(Ok(end));
        }
        let high_watermark = *self.high_watermark.read();
        if let Some(position) = high_watermark.position.filter(|position| position.offset == offset) {
            return Ok(Ok(position));
        }
        let segments = self.segments.load_full();
        let Some(at) = segments.partition_point(|segment| segment.base_offset() <= offset).checked_sub(1) else {
            return Err(self.out_of_range(offset));
        };
        let segment = &segments[at];
        let position = match self.find_in(segment, offset)? {
            Ok(found) => found.map_or(segment.size(), |batch| batch.position),
            Err(retry) => return Ok(Err(retry)),
        };
        let found = LogPosition { offset, segment_base: segment.base_offset(), position };
        let mut high_watermark = self.high_watermark.write();
        if high_watermark.offset == offset {
            high_watermark.position = Some(found);
        }
        Ok(Ok(found))
    }

    pub(super) fn find_in(&self, segment: &Arc<Segment>, offset: i64) -> Attempt<Option<BatchAt>> {
        match segment.find(offset) {
            Ok(Ok(found)) => Ok(Ok(found)),
            Ok(Err(StaleIndex)) => Ok(Err(Retry::Stale(Arc::clone(segment)))),
            Err(error) => self.lookup_failed(segment, error).map(Err),
        }
    }

    /// Files of a segment that retention took meanwhile are no fault of the disk.
    pub(super) fn lookup_failed(&self, segment: &Arc<Segment>, error: io::Error) -> Result<Retry, LogError> {
        if error.kind() == io::ErrorKind::NotFound && !self.has(segment) {
            return Ok(Retry::Removed);
        }
        Err(self.read_failed(segment.path(), error))
    }

    pub(super) fn has(&self, segment: &Arc<Segment>) -> bool {
        self.segments.load().iter().any(|other| Arc::ptr_eq(other, segment))
    }
}

fn slice(
    segment: &Segment,
    first: &BatchAt,
    segment_end: u64,
    max_bytes: usize,
    min_one_batch: bool,
    bound: i64,
) -> io::Result<LogRead> {
    let available = segment_end - first.position;
    let wanted = if min_one_batch { (max_bytes as u64).max(first.size) } else { max_bytes as u64 };
    let len = available.min(wanted);
    let upper_bound_offset = if len == available {
        bound
    } else {
        let entry = segment.offset_index.at_or_after_position(first.position + len)?;
        entry.map_or(bound, |entry| (entry.offset + 1).min(bound))
    };
    let slices = match len {
        0 => Vec::new(),
        len => vec![FileSlice { file: segment.file()?, position: first.position, len: len as usize }],
    };
    Ok(LogRead { slices, first_batch_incomplete: len < first.size, upper_bound_offset })
}
