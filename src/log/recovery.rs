//! Reading a log again from its batches: indexes, producer state, leader epochs (class `LogLoader`, `LogSegment.recover`).
//!
//! Invariant: what is kept of a segment is the longest prefix of sound batches with rising offsets.

use super::epoch_cache::LeaderEpochCache;
use super::error::{AtPath, LogError};
use super::marker::read_marker;
use super::offset_index::OffsetEntry;
use super::partition::Log;
use super::producer_state::{AppendOrigin, ProducerStates, ProducerUpdate};
use super::progress::Progress;
use super::scan::{BatchAt, Scanner, Step};
use super::segment::Segment;
use super::split;
use super::time_index::TimeEntry;
use super::transaction_index::AbortedTransaction;
use crate::base::LeaderEpoch;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Larger control batches do not exist.
const CONTROL_BATCH_BYTES_MAX: u64 = 64 << 10;

/// Index entries as an append would have made them.
pub(super) struct IndexBuilder {
    interval: u64,
    since_entry: u64,
    largest: Option<TimeEntry>,
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
}

impl IndexBuilder {
    pub fn new(index_interval_bytes: i32) -> IndexBuilder {
        let interval = index_interval_bytes.max(0) as u64;
        IndexBuilder { interval, since_entry: 0, largest: None, offsets: Vec::new(), times: Vec::new() }
    }

    pub fn add(&mut self, batch: &BatchAt) {
        if batch.max_timestamp > self.largest.map_or(-1, |entry| entry.timestamp) {
            self.largest = Some(TimeEntry { timestamp: batch.max_timestamp, offset: batch.last_offset });
        }
        if self.since_entry > self.interval {
            self.offsets.push(OffsetEntry { offset: batch.last_offset, position: batch.position as u32 });
            self.push_time();
            self.since_entry = 0;
        }
        self.since_entry += batch.size;
    }

    /// With the final time entry of a closed segment.
    pub fn finish(&mut self) {
        self.push_time();
    }

    fn push_time(&mut self) {
        if let Some(largest) = self.largest
            && self.times.last().is_none_or(|last| last.timestamp < largest.timestamp)
        {
            self.times.push(largest);
        }
    }
}

/// What batches change besides the indexes.
pub(super) struct Replay<'a> {
    pub producers: &'a mut ProducerStates,
    pub epochs: &'a mut LeaderEpochCache,
}

impl Replay<'_> {
    /// Takes a batch over; `body` gives its bytes, which only control batches need.
    pub fn add(
        &mut self,
        batch: &BatchAt,
        body: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Vec<AbortedTransaction>> {
        let mut aborted = Vec::new();
        if let Some(header) = &batch.header {
            let epoch = LeaderEpoch(header.partition_leader_epoch());
            if epoch.0 >= 0 && self.epochs.latest().is_none_or(|latest| epoch > latest) {
                self.epochs.assign(epoch, batch.base_offset);
            }
            if header.has_producer_id() {
                let marker = if header.is_control() { read_marker(&body()?).unwrap_or(None) } else { None };
                let mut update = ProducerUpdate::default();
                // Nothing is refused of what is in the file already.
                if self.producers.check(&mut update, header, marker, AppendOrigin::Replication).is_ok() {
                    aborted = self.producers.apply(update);
                }
            }
        }
        self.producers.set_end_offset(batch.last_offset + 1);
        Ok(aborted)
    }
}

/// Where a segment stopped being sound.
#[derive(Debug)]
pub(super) struct Damage {
    pub position: u64,
    pub bytes_lost: u64,
    pub reason: &'static str,
}

/// Offsets that no batch has. A compacted log is full of them; elsewhere something is lost, or one batch has moved.
#[derive(Debug)]
pub(super) struct Gap {
    pub position: u64,
    pub from: i64,
    pub to: i64,
}

/// How a segment came out of recovery.
#[derive(Debug)]
pub(super) struct Recovered {
    pub next_offset: i64,
    pub damage: Option<Damage>,
    /// The first one.
    pub gap: Option<Gap>,
}

/// Checks every batch, rebuilds the indexes, and cuts the file where the first unsound batch begins. `next_base` is that of
/// the segment that follows. An error if the segment has to be split first.
pub(super) fn recover_segment(
    segment: &Segment,
    next_base: Option<i64>,
    replay: &mut Replay<'_>,
    index_interval_bytes: i32,
    progress: &Progress,
) -> Result<Recovered, LogError> {
    let path = segment.path();
    let file = segment.scan_file().at(path)?;
    let size = segment.size();
    segment.transaction_index.reset().at(segment.transaction_index.path())?;
    let mut builder = IndexBuilder::new(index_interval_bytes);
    let mut scanner = Scanner::new(&file, 0, size);
    let mut next_offset = segment.base_offset();
    let (mut damage, mut gap) = (None, None);
    loop {
        let (position, reason) = match scanner.next_checked().at(path)? {
            Step::End => break,
            Step::Bad { position, reason } => (position, reason),
            Step::Batch(batch) if batch.base_offset < next_offset => {
                (batch.position, "has an offset that was there before")
            }
            Step::Batch(batch) if next_base.is_some_and(|next| batch.last_offset >= next) => {
                (batch.position, "has an offset of the next segment")
            }
            Step::Batch(batch) if batch.last_offset - segment.base_offset() > split::REACH => {
                let after = match scanner.next_checked().at(path)? {
                    Step::Batch(after) => Some(after.base_offset),
                    _ => None,
                };
                if split::is_written_there(next_offset, &batch, after) {
                    return Err(LogError::OffsetOverflow {
                        log: path.parent().unwrap_or(path).to_owned(),
                        base_offset: segment.base_offset(),
                    });
                }
                (batch.position, "has an offset out of the segment's reach")
            }
            Step::Batch(batch) => {
                // Of older formats a wrapper tells only its last offset.
                if gap.is_none() && batch.header.is_some() && batch.position > 0 && batch.base_offset > next_offset {
                    gap = Some(Gap { position: batch.position, from: next_offset, to: batch.base_offset });
                }
                builder.add(&batch);
                for aborted in replay.add(&batch, || Ok(scanner.body(&batch).to_vec())).at(path)? {
                    segment.transaction_index.push(&aborted).at(path)?;
                }
                next_offset = batch.last_offset + 1;
                progress.read(path, batch.size)?;
                continue;
            }
        };
        damage = Some(Damage { position, bytes_lost: size - position, reason });
        segment.truncate_to(position, next_offset).at(path)?;
        break;
    }
    builder.finish();
    segment.replace_indexes(&builder.offsets, &builder.times).at(path)?;
    if next_base.is_some() {
        segment.flush_indexes().at(path)?;
    }
    progress.segment_done();
    if let Some(next) = next_base.filter(|next| next_offset < *next && gap.is_none() && damage.is_none()) {
        gap = Some(Gap { position: size, from: next_offset, to: next });
    }
    Ok(Recovered { next_offset, damage, gap })
}

/// Whether every batch of a segment follows the one before it.
fn walk(segment: &Segment) -> io::Result<()> {
    let file = segment.scan_file()?;
    let mut scanner = Scanner::new(&file, 0, segment.size());
    loop {
        match scanner.next_header()? {
            Step::Batch(_) => {}
            Step::End => return Ok(()),
            Step::Bad { position, reason } => {
                let text = format!("{}: batch at {position} {reason}", segment.path().display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
}

/// Whether a batch begins where an entry of the offset index says, as the batches before it tell.
pub(super) fn is_batch(segment: &Segment, file: &File, entry: Option<OffsetEntry>) -> io::Result<bool> {
    let Some(entry) = entry else { return Ok(true) };
    let (before, position) = (segment.offset_index.floor(entry.offset - 1)?, u64::from(entry.position));
    let mut scanner = Scanner::new(file, before.map_or(0, |before| u64::from(before.position)), segment.size());
    while let Step::Batch(batch) = scanner.next_header()? {
        if batch.end() >= position {
            return Ok(batch.end() == position);
        }
    }
    Ok(false)
}

/// Rebuilds the indexes of a segment from the headers of its batches.
pub(super) fn rebuild_indexes(segment: &Segment, index_interval_bytes: i32) -> io::Result<()> {
    let file = segment.scan_file()?;
    let mut builder = IndexBuilder::new(index_interval_bytes);
    let mut scanner = Scanner::new(&file, 0, segment.size());
    while let Step::Batch(batch) = scanner.next_header()? {
        builder.add(&batch);
    }
    builder.finish();
    segment.replace_indexes(&builder.offsets, &builder.times)?;
    segment.flush_indexes()
}

/// Replays the batches in `from..to` of sound segments into the producer state.
pub(super) fn replay_producers(
    segments: &[Arc<Segment>],
    producers: &mut ProducerStates,
    to: i64,
) -> Result<(), LogError> {
    let from = producers.end_offset();
    let first = segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
    let mut epochs = LeaderEpochCache::default();
    let mut replay = Replay { producers, epochs: &mut epochs };
    for segment in segments[first..].iter().take_while(|segment| segment.base_offset() < to) {
        let path = segment.path();
        let start = match segment.find(from).at(path)? {
            Ok(Some(batch)) => batch.position,
            Ok(None) => continue,
            Err(_) => 0,
        };
        let file = segment.scan_file().at(path)?;
        let mut scanner = Scanner::new(&file, start, segment.size());
        while let Step::Batch(batch) = scanner.next_header().at(path)? {
            if batch.base_offset >= to {
                break;
            }
            if batch.last_offset < from {
                continue;
            }
            replay.add(&batch, || read_control_batch(&file, &batch)).at(path)?;
        }
    }
    producers.set_end_offset(to);
    Ok(())
}

fn read_control_batch(file: &File, batch: &BatchAt) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; batch.size.min(CONTROL_BATCH_BYTES_MAX) as usize];
    file.read_exact_at(&mut bytes, batch.position)?;
    Ok(bytes)
}

/// First of the segments that a broker which was killed has to check: the one that holds the recovery point, and all after it.
pub(super) fn first_to_recover(bases: &[i64], recovery_point: i64) -> usize {
    bases.partition_point(|&base| base <= recovery_point).saturating_sub(1)
}

impl Log {
    /// An index that does not fit is made anew.
    ///
    /// If a batch is damaged, the indexes stay: those behind it are found by them alone.
    pub(super) fn repair_indexes(&self, segment: &Arc<Segment>) -> Result<(), LogError> {
        walk(segment).map_err(|error| self.read_failed(segment.path(), error))?;
        tracing::warn!(segment = %segment.path().display(), "index does not fit the log: rebuilding it");
        let _writer = self.writer.lock();
        let _no_reader = self.truncation.write();
        if !self.has(segment) {
            // Retention took it meanwhile, its index first.
            return Ok(());
        }
        let interval = self.config.load().index_interval_bytes;
        rebuild_indexes(segment, interval).map_err(|error| self.read_failed(segment.path(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_begins_with_the_segment_of_the_recovery_point() {
        let bases = [0, 100, 200];
        for (point, first) in [(0, 0), (99, 0), (100, 1), (150, 1), (200, 2), (999, 2)] {
            assert_eq!(first_to_recover(&bases, point), first, "recovery point {point}");
        }
        assert_eq!(first_to_recover(&[50, 60], 0), 0);
    }

    #[test]
    fn index_entries_come_after_the_interval_and_times_rise() {
        let mut builder = IndexBuilder::new(100);
        let batch = |n: i64, max_timestamp| BatchAt {
            position: n as u64 * 60,
            size: 60,
            magic: 2,
            base_offset: n * 10,
            last_offset: n * 10 + 9,
            max_timestamp,
            header: None,
        };
        for (n, timestamp) in [(0, 1000), (1, 900), (2, 2000), (3, 1500), (4, 1600), (5, 1)] {
            builder.add(&batch(n, timestamp));
        }
        builder.finish();
        let offsets: Vec<_> = builder.offsets.iter().map(|e| (e.offset, e.position)).collect();
        assert_eq!(offsets, [(29, 120), (49, 240)]);
        let times: Vec<_> = builder.times.iter().map(|e| (e.timestamp, e.offset)).collect();
        assert_eq!(times, [(2000, 29)]);
    }
}
