//! Finding records by time, for ListOffsets (class `UnifiedLog.fetchOffsetByTimestamp`).

use super::error::LogError;
use super::partition::Log;
use super::read::{Attempt, Retry};
use super::scan::{BatchAt, Scanner, Step};
use super::segment::Segment;
use crate::base::time::wall_ms;
use crate::base::{LeaderEpoch, Millis};
use crate::record::RawBatch;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A batch may expand to this many bytes while it is searched.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

/// A record found by its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetForTimestamp {
    pub offset: i64,
    pub timestamp: i64,
    /// -1 if the batch has none.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// The first record, from the log start on, with this timestamp or a later one.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<OffsetForTimestamp>, LogError> {
        self.attempt(|| {
            let start = self.log_start_offset();
            for segment in self.segments.load_full().iter() {
                let largest = match segment.largest_timestamp() {
                    Ok(largest) => largest,
                    Err(error) => return self.lookup_failed(segment, error).map(Err),
                };
                if largest.is_none_or(|largest| largest.timestamp < timestamp) {
                    continue;
                }
                let is_match = |record: &OffsetForTimestamp| record.timestamp >= timestamp && record.offset >= start;
                match self.search(segment, timestamp, start, is_match)? {
                    Ok(None) => {}
                    found_or_retry => return Ok(found_or_retry),
                }
            }
            Ok(Ok(None))
        })
    }

    /// Where each segment begins and when it was last written (ms since the epoch), and last the log end with the time now: what
    /// ListOffsets version 0 chooses from.
    pub fn segment_boundaries(&self) -> Vec<(i64, Millis)> {
        let modified = |segment: &Arc<Segment>| {
            let modified = std::fs::metadata(segment.path()).and_then(|metadata| metadata.modified()).ok()?;
            Some(modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis() as Millis)
        };
        let segments = self.segments.load();
        let of_segment = |segment: &Arc<Segment>| {
            (segment.base_offset().max(self.log_start_offset()), modified(segment).unwrap_or_default())
        };
        let mut boundaries: Vec<(i64, Millis)> = segments.iter().map(of_segment).collect();
        if segments.last().is_some_and(|active| active.size() > 0) {
            boundaries.push((self.log_end_offset(), wall_ms()));
        }
        boundaries
    }

    /// The first record with the largest timestamp of the log.
    pub fn max_timestamp_offset(&self) -> Result<Option<OffsetForTimestamp>, LogError> {
        self.attempt(|| {
            let mut best = None;
            for segment in self.segments.load_full().iter() {
                let largest = match segment.largest_timestamp() {
                    Ok(largest) => largest,
                    Err(error) => return self.lookup_failed(segment, error).map(Err),
                };
                if let Some(largest) = largest
                    && best.as_ref().is_none_or(|(timestamp, _)| largest.timestamp > *timestamp)
                {
                    best = Some((largest.timestamp, Arc::clone(segment)));
                }
            }
            let Some((timestamp, segment)) = best else { return Ok(Ok(None)) };
            self.search(&segment, timestamp, i64::MIN, |record| record.timestamp >= timestamp)
        })
    }

    /// Walks over the batches that may hold the timestamp, and into those that do.
    fn search(
        &self,
        segment: &Arc<Segment>,
        timestamp: i64,
        from: i64,
        is_match: impl Fn(&OffsetForTimestamp) -> bool,
    ) -> Attempt<Option<OffsetForTimestamp>> {
        // The entry's own batch has the largest timestamp so far; with an equal one the search begins in it.
        let (indexed, file) =
            match segment.time_index.floor(timestamp.saturating_sub(1)).and_then(|i| Ok((i, segment.file()?))) {
                Ok(opened) => opened,
                Err(error) => return self.lookup_failed(segment, error).map(Err),
            };
        let offset = indexed.map_or(segment.base_offset(), |entry| entry.offset).max(from);
        let start = match self.find_in(segment, offset)? {
            Ok(Some(batch)) => batch.position,
            Ok(None) => return Ok(Ok(None)),
            Err(retry) => return Ok(Err(retry)),
        };
        let failed = |error| self.read_failed(segment.path(), error);
        let mut scanner = Scanner::new(&file, start, segment.size());
        while let Step::Batch(batch) = scanner.next_header().map_err(failed)? {
            if batch.max_timestamp < timestamp {
                continue;
            }
            let mut bytes = vec![0; batch.size as usize];
            file.read_exact_at(&mut bytes, batch.position).map_err(failed)?;
            if let Some(found) = self.search_batch(segment, &batch, &bytes, &is_match)? {
                return Ok(Ok(Some(found)));
            }
        }
        Ok(Ok::<_, Retry>(None))
    }

    fn search_batch(
        &self,
        segment: &Segment,
        batch: &BatchAt,
        bytes: &[u8],
        is_match: impl Fn(&OffsetForTimestamp) -> bool,
    ) -> Result<Option<OffsetForTimestamp>, LogError> {
        let bad = |reason: String| LogError::corrupt(segment.path(), format!("batch at {}: {reason}", batch.position));
        let raw = RawBatch::read(bytes).map_err(|error| bad(error.to_string()))?;
        let Some(raw) = raw else { return Ok(None) };
        let leader_epoch = LeaderEpoch(raw.partition_leader_epoch());
        let records = raw.records(DECOMPRESSED_BYTES_MAX).map_err(|error| bad(error.to_string()))?;
        for record in records.iter() {
            let record = record.map_err(|error| bad(error.to_string()))?;
            let found = OffsetForTimestamp { offset: record.offset, timestamp: record.timestamp, leader_epoch };
            if is_match(&found) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
