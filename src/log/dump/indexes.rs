//! `.index`, `.timeindex` and `.txnindex`: their entries, held against the log beside them.

use super::{Dump, Pair, absolute, sibling};
use crate::log::names::FileKind;
use crate::log::offset_index::{self, OffsetEntry, OffsetIndex};
use crate::log::scan::{BatchAt, Scanner, Step};
use crate::log::time_index::{self, TimeEntry, TimeIndex};
use crate::log::transaction_index::{self, AbortedTransaction};
use crate::record::RawBatch;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// Entries up to the zeros that a broker which was killed leaves, and whether there are such.
fn without_zeros<T>(entries: Vec<T>, is_zero: impl Fn(&T) -> bool) -> (Vec<T>, bool) {
    let end = entries.iter().enumerate().position(|(at, entry)| at > 0 && is_zero(entry)).unwrap_or(entries.len());
    let has_zeros = end < entries.len();
    (entries.into_iter().take(end).collect(), has_zeros)
}

fn offset_entries(base_offset: i64, bytes: &[u8]) -> Vec<OffsetEntry> {
    let (entries, _) = bytes.as_chunks::<{ offset_index::ENTRY_SIZE }>();
    entries.iter().map(|entry| OffsetIndex::parse(base_offset, entry)).collect()
}

fn time_entries(base_offset: i64, bytes: &[u8]) -> Vec<TimeEntry> {
    let (entries, _) = bytes.as_chunks::<{ time_index::ENTRY_SIZE }>();
    entries.iter().map(|entry| TimeIndex::parse(base_offset, entry)).collect()
}

fn corrupt(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn check_offsets(bytes: &[u8], entries: &[OffsetEntry], base_offset: i64) -> io::Result<()> {
    if let Some(last) = entries.last().filter(|last| last.offset < base_offset) {
        let last = last.offset;
        return Err(corrupt(format!("is corrupt: its last offset {last} is below its base offset {base_offset}")));
    }
    if !bytes.len().is_multiple_of(offset_index::ENTRY_SIZE) {
        let len = bytes.len();
        return Err(corrupt(format!("is corrupt, found {len} bytes which is neither positive nor a multiple of 8")));
    }
    Ok(())
}

fn check_times(bytes: &[u8], entries: &[TimeEntry], base_offset: i64) -> io::Result<()> {
    if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
        if last.timestamp < first.timestamp {
            let (first, last) = (first.timestamp, last.timestamp);
            return Err(corrupt(format!("is corrupt: its last timestamp {last} is below its first, {first}")));
        }
        if last.offset < base_offset {
            let last = last.offset;
            return Err(corrupt(format!("is corrupt: its last offset {last} is below its base offset {base_offset}")));
        }
    }
    if !bytes.len().is_multiple_of(time_index::ENTRY_SIZE) {
        let len = bytes.len();
        return Err(corrupt(format!("is corrupt, found {len} bytes which is neither positive nor a multiple of 12")));
    }
    Ok(())
}

impl Dump<'_> {
    pub(super) fn offset_index(&mut self, path: &Path, base_offset: i64) -> io::Result<()> {
        let bytes = fs::read(path)?;
        let all = offset_entries(base_offset, &bytes);
        if all.is_empty() && bytes.is_empty() {
            return writeln!(self.out, "{} is empty.", path.display());
        }
        let (entries, has_zeros) = without_zeros(all, |entry| entry.offset == base_offset);
        if self.options.index_sanity_check {
            check_offsets(&bytes, &entries, base_offset)?;
            return writeln!(self.out, "{} passed sanity check.", path.display());
        }
        let log = Segment::open(&sibling(path, base_offset, FileKind::Log))?;
        if has_zeros && log.size == 0 {
            return writeln!(self.out, "{} is empty ({} bytes are preallocated).", path.display(), bytes.len());
        }
        let mut mismatches: Vec<Pair> = Vec::new();
        for entry in &entries {
            let found = log.batch_at(u64::from(entry.position))?.map_or(-1, |batch| batch.last_offset);
            if found != entry.offset {
                mismatches.push((entry.offset, found));
            }
            if !self.options.verify_index_only {
                writeln!(self.out, "offset: {} position: {}", entry.offset, entry.position)?;
            }
        }
        if !mismatches.is_empty() {
            mismatches.reverse();
            self.findings.index_mismatches.push((absolute(path), mismatches));
        }
        Ok(())
    }

    pub(super) fn time_index(&mut self, path: &Path, base_offset: i64) -> io::Result<()> {
        let bytes = fs::read(path)?;
        let (entries, _) = without_zeros(time_entries(base_offset, &bytes), |entry| entry.offset == base_offset);
        if self.options.index_sanity_check {
            check_times(&bytes, &entries, base_offset)?;
            return writeln!(self.out, "{} passed sanity check.", path.display());
        }
        if entries.is_empty() {
            return Ok(());
        }
        let log = Segment::open(&sibling(path, base_offset, FileKind::Log))?;
        if log.size == 0 {
            return writeln!(self.out, "{} is empty ({} bytes are preallocated).", path.display(), bytes.len());
        }
        let offsets = fs::read(sibling(path, base_offset, FileKind::OffsetIndex)).unwrap_or_default();
        let (offsets, _) = without_zeros(offset_entries(base_offset, &offsets), |entry| entry.offset == base_offset);
        let (mut mismatches, mut unordered, mut not_found) = (Vec::new(), Vec::new(), Vec::new());
        let mut previous = -1;
        for entry in &entries {
            let below = offsets.partition_point(|other| other.offset <= entry.offset);
            let from = below.checked_sub(1).and_then(|at| offsets.get(at)).map_or(0, |entry| u64::from(entry.position));
            match log.first_reaching(from, entry.offset)? {
                Some(batch) if batch.last_offset == entry.offset => {
                    let largest = log.largest_timestamp(&batch)?;
                    if largest != entry.timestamp {
                        mismatches.push((entry.timestamp, largest));
                    }
                    if previous >= entry.timestamp {
                        unordered.push((entry.timestamp, previous));
                    }
                }
                found => {
                    let found = found.map_or(-1, |batch| batch.last_offset);
                    not_found.push((entry.offset, found));
                }
            }
            if !self.options.verify_index_only {
                writeln!(self.out, "timestamp: {} offset: {}", entry.timestamp, entry.offset)?;
            }
            previous = entry.timestamp;
        }
        if !mismatches.is_empty() {
            self.findings.time_mismatches.push((absolute(path), mismatches));
        }
        if !not_found.is_empty() {
            self.findings.offsets_not_found.push(not_found);
        }
        if !unordered.is_empty() {
            self.findings.times_out_of_order.push((absolute(path), unordered));
        }
        Ok(())
    }

    pub(super) fn transaction_index(&mut self, path: &Path) -> io::Result<()> {
        let bytes = fs::read(path)?;
        let (entries, rest) = bytes.as_chunks::<{ transaction_index::ENTRY_SIZE }>();
        for entry in entries {
            let aborted = AbortedTransaction::decode(entry).ok_or_else(|| corrupt("has an unknown version".into()))?;
            writeln!(
                self.out,
                "version: 0 producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}",
                aborted.producer_id, aborted.first_offset, aborted.last_offset, aborted.last_stable_offset
            )?;
        }
        match rest.len() {
            0 => Ok(()),
            left => Err(corrupt(format!("is cut off: {left} bytes are left behind the last entry"))),
        }
    }
}

/// The log that an index speaks of.
struct Segment {
    file: File,
    size: u64,
}

impl Segment {
    fn open(path: &Path) -> io::Result<Segment> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("its log {}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let size = file.metadata().map_err(named)?.len();
        Ok(Segment { file, size })
    }

    fn batch_at(&self, position: u64) -> io::Result<Option<BatchAt>> {
        match Scanner::new(&self.file, position, self.size).next_header()? {
            Step::Batch(batch) => Ok(Some(batch)),
            _ => Ok(None),
        }
    }

    /// The first batch from a position on that ends at or beyond an offset.
    fn first_reaching(&self, position: u64, offset: i64) -> io::Result<Option<BatchAt>> {
        let mut scanner = Scanner::new(&self.file, position, self.size);
        while let Step::Batch(batch) = scanner.next_header()? {
            if batch.last_offset >= offset {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn largest_timestamp(&self, at: &BatchAt) -> io::Result<i64> {
        let mut bytes = vec![0; at.size as usize];
        self.file.read_exact_at(&mut bytes, at.position)?;
        let unreadable = || corrupt(format!("its log has an unreadable batch at position {}", at.position));
        let batch = RawBatch::read(&bytes).ok().flatten().ok_or_else(unreadable)?;
        let records = batch.records(UNPACKED_BYTES_MAX).map_err(|_| unreadable())?;
        Ok(records.iter().flatten().map(|record| record.timestamp).max().unwrap_or(-1))
    }
}
