//! `.timeindex`: from timestamps to offsets (class `TimeIndex`).
//!
//! ```text
//! 0 i64 largest timestamp so far     8 i32 offset - base offset of the segment: last offset of the batch that has it
//! ```
//! Files of older brokers name the record's own offset; a lookup scans on from there either way.
//! Invariant: timestamps strictly rise, offsets never fall.

use super::index_file::IndexFile;
use std::io;
use std::path::PathBuf;

pub const ENTRY_SIZE: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeEntry {
    pub timestamp: i64,
    pub offset: i64,
}

pub struct TimeIndex {
    base_offset: i64,
    file: IndexFile<ENTRY_SIZE>,
}

impl TimeIndex {
    pub fn new(base_offset: i64, file: IndexFile<ENTRY_SIZE>) -> TimeIndex {
        TimeIndex { base_offset, file }
    }

    pub fn open(base_offset: i64, path: PathBuf) -> TimeIndex {
        TimeIndex::new(base_offset, IndexFile::open(path))
    }

    fn encode(&self, entry: TimeEntry) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&((entry.offset - self.base_offset) as i32).to_be_bytes());
        bytes
    }

    /// An entry of the index of the segment that begins at `base_offset`.
    pub fn parse(base_offset: i64, bytes: &[u8; ENTRY_SIZE]) -> TimeEntry {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        TimeEntry {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            offset: base_offset + i64::from(i32::from_be_bytes([i, j, k, l])),
        }
    }

    fn decode(&self, bytes: &[u8; ENTRY_SIZE]) -> TimeEntry {
        Self::parse(self.base_offset, bytes)
    }

    /// Adds an entry unless its timestamp or offset does not rise above the last one.
    pub fn maybe_push(&self, entry: TimeEntry) -> io::Result<()> {
        match self.last()? {
            Some(last) if entry.timestamp <= last.timestamp || entry.offset < last.offset => Ok(()),
            _ if entry.timestamp < 0 => Ok(()),
            _ => self.file.push(self.encode(entry)),
        }
    }

    /// The last entry at or below `timestamp`.
    pub fn floor(&self, timestamp: i64) -> io::Result<Option<TimeEntry>> {
        Ok(self.file.floor(|e| self.decode(e).timestamp <= timestamp)?.map(|e| self.decode(&e)))
    }

    pub fn last(&self) -> io::Result<Option<TimeEntry>> {
        Ok(self.file.last()?.map(|e| self.decode(&e)))
    }

    pub fn first(&self) -> io::Result<Option<TimeEntry>> {
        Ok(self.file.first_after(|_| false)?.map(|e| self.decode(&e)))
    }

    /// Drops entries at or beyond `offset`.
    pub fn truncate_to(&self, offset: i64) -> io::Result<()> {
        self.file.truncate_while(|e| self.decode(e).offset < offset)
    }

    pub fn replace(&self, entries: &[TimeEntry]) -> io::Result<()> {
        let entries: Vec<_> = entries.iter().map(|&entry| self.encode(entry)).collect();
        self.file.replace(&entries)
    }

    /// One slot is kept for the final entry that roll and close add.
    pub fn is_full(&self, size_bytes_max: i32) -> io::Result<bool> {
        Ok(self.file.count()? + 1 >= (size_bytes_max.max(0) as usize / ENTRY_SIZE))
    }

    pub fn file(&self) -> &IndexFile<ENTRY_SIZE> {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_timestamps_rising() {
        let dir = tempfile::tempdir().unwrap();
        let index = TimeIndex::new(100, IndexFile::create(dir.path().join("t")).unwrap());
        for (timestamp, offset) in [(-1, 100), (1000, 105), (1000, 109), (900, 120), (2000, 130), (3000, 120)] {
            index.maybe_push(TimeEntry { timestamp, offset }).unwrap();
        }
        assert_eq!(index.file().count().unwrap(), 2);
        for (asked, found) in [(999, None), (1000, Some(105)), (1999, Some(105)), (5000, Some(130))] {
            assert_eq!(index.floor(asked).unwrap().map(|e| e.offset), found, "{asked}");
        }
        assert_eq!(index.first().unwrap(), Some(TimeEntry { timestamp: 1000, offset: 105 }));
        assert!(index.is_full(36).unwrap() && !index.is_full(48).unwrap());
        index.truncate_to(130).unwrap();
        assert_eq!(index.last().unwrap(), Some(TimeEntry { timestamp: 1000, offset: 105 }));
    }
}
