//! `.index`: from offsets to positions in the `.log` file, one entry every `index.interval.bytes` (class `OffsetIndex`).
//!
//! ```text
//! 0 i32 offset - base offset of the segment     4 i32 position of the batch whose LAST offset this is
//! ```

use super::index_file::IndexFile;
use std::io;
use std::path::PathBuf;

pub const ENTRY_SIZE: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetEntry {
    pub offset: i64,
    pub position: u32,
}

pub struct OffsetIndex {
    base_offset: i64,
    file: IndexFile<ENTRY_SIZE>,
}

impl OffsetIndex {
    pub fn new(base_offset: i64, file: IndexFile<ENTRY_SIZE>) -> OffsetIndex {
        OffsetIndex { base_offset, file }
    }

    pub fn open(base_offset: i64, path: PathBuf) -> OffsetIndex {
        OffsetIndex::new(base_offset, IndexFile::open(path))
    }

    pub fn encode(base_offset: i64, entry: OffsetEntry) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[..4].copy_from_slice(&((entry.offset - base_offset) as i32).to_be_bytes());
        bytes[4..].copy_from_slice(&entry.position.to_be_bytes());
        bytes
    }

    /// An entry of the index of the segment that begins at `base_offset`.
    pub fn parse(base_offset: i64, bytes: &[u8; ENTRY_SIZE]) -> OffsetEntry {
        let [a, b, c, d, e, f, g, h] = *bytes;
        let relative = i32::from_be_bytes([a, b, c, d]);
        OffsetEntry { offset: base_offset + i64::from(relative), position: u32::from_be_bytes([e, f, g, h]) }
    }

    fn decode(&self, bytes: &[u8; ENTRY_SIZE]) -> OffsetEntry {
        Self::parse(self.base_offset, bytes)
    }

    pub fn push(&self, entry: OffsetEntry) -> io::Result<()> {
        self.file.push(Self::encode(self.base_offset, entry))
    }

    /// The last entry at or below `offset`.
    pub fn floor(&self, offset: i64) -> io::Result<Option<OffsetEntry>> {
        Ok(self.file.floor(|e| self.decode(e).offset <= offset)?.map(|e| self.decode(&e)))
    }

    /// The first entry at or beyond `position`.
    pub fn at_or_after_position(&self, position: u64) -> io::Result<Option<OffsetEntry>> {
        Ok(self.file.first_after(|e| u64::from(self.decode(e).position) < position)?.map(|e| self.decode(&e)))
    }

    pub fn last(&self) -> io::Result<Option<OffsetEntry>> {
        Ok(self.file.last()?.map(|e| self.decode(&e)))
    }

    /// Drops entries of batches that end at or beyond `offset`.
    pub fn truncate_to(&self, offset: i64) -> io::Result<()> {
        self.file.truncate_while(|e| self.decode(e).offset < offset)
    }

    pub fn replace(&self, entries: &[OffsetEntry]) -> io::Result<()> {
        let entries: Vec<_> = entries.iter().map(|&entry| Self::encode(self.base_offset, entry)).collect();
        self.file.replace(&entries)
    }

    pub fn is_full(&self, size_bytes_max: i32) -> io::Result<bool> {
        Ok(self.file.count()? >= (size_bytes_max.max(0) as usize / ENTRY_SIZE))
    }

    pub fn file(&self) -> &IndexFile<ENTRY_SIZE> {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i");
        let index = OffsetIndex::new(100, IndexFile::create(path.clone()).unwrap());
        let entries =
            [(109, 4200), (119, 8400), (140, 13_000)].map(|(offset, position)| OffsetEntry { offset, position });
        for entry in entries {
            index.push(entry).unwrap();
        }
        for (asked, found) in [(100, None), (108, None), (109, Some(0)), (118, Some(0)), (130, Some(1)), (999, Some(2))]
        {
            assert_eq!(index.floor(asked).unwrap(), found.map(|i: usize| entries[i]), "{asked}");
        }
        for (asked, found) in [(0, Some(0)), (4200, Some(0)), (4201, Some(1)), (13_001, None)] {
            assert_eq!(index.at_or_after_position(asked).unwrap(), found.map(|i: usize| entries[i]), "{asked}");
        }
        index.truncate_to(119).unwrap();
        assert_eq!(index.last().unwrap(), Some(entries[0]));
        index.file().flush(false).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), [0, 0, 0, 9, 0, 0, 0x10, 0x68]);
        assert!(index.is_full(8).unwrap() && !index.is_full(16).unwrap());
    }
}
