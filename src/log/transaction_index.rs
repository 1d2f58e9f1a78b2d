//! `.txnindex`: the aborted transactions of a segment (class `TransactionIndex`, KIP-98). Made when the first one aborts.
//!
//! ```text
//!  0 i16 version = 0      2 i64 producer id      10 i64 first offset
//! 18 i64 last offset: the marker's              26 i64 last stable offset after the marker
//! ```

use super::disk;
use crate::base::ProducerId;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

pub const ENTRY_SIZE: usize = 34;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: i64,
    pub last_offset: i64,
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    fn encode(&self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        let fields = [self.producer_id.0, self.first_offset, self.last_offset, self.last_stable_offset];
        for (chunk, field) in bytes[2..].chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    /// `None`: of an unknown version, or too short.
    pub fn decode(bytes: &[u8]) -> Option<AbortedTransaction> {
        let i64_at = |at: usize| Some(i64::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        if bytes.get(..2)? != [0, 0] {
            return None;
        }
        Some(AbortedTransaction {
            producer_id: ProducerId(i64_at(2)?),
            first_offset: i64_at(10)?,
            last_offset: i64_at(18)?,
            last_stable_offset: i64_at(26)?,
        })
    }
}

pub struct TransactionIndex {
    base_offset: i64,
    path: PathBuf,
}

impl TransactionIndex {
    pub fn new(base_offset: i64, path: PathBuf) -> TransactionIndex {
        TransactionIndex { base_offset, path }
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    pub fn push(&self, transaction: &AbortedTransaction) -> io::Result<()> {
        disk::may_write(&self.path)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(&transaction.encode())
    }

    /// All entries. `InvalidData` if they cannot be what a broker wrote.
    pub fn read(&self) -> io::Result<Vec<AbortedTransaction>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let entries: Option<Vec<_>> = bytes.chunks(ENTRY_SIZE).map(AbortedTransaction::decode).collect();
        let sound = |e: &AbortedTransaction| e.first_offset <= e.last_offset && e.last_offset >= self.base_offset;
        entries
            .filter(|entries| entries.iter().all(sound) && entries.is_sorted_by_key(|entry| entry.last_offset))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "transaction index has bad entries"))
    }

    /// Drops transactions whose marker is at or beyond `offset`.
    pub fn truncate_to(&self, offset: i64) -> io::Result<()> {
        let entries = self.read()?;
        let keep = entries.partition_point(|entry| entry.last_offset < offset);
        if keep < entries.len() {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            disk::set_len(&file, &self.path, (keep * ENTRY_SIZE) as u64)?;
        }
        Ok(())
    }

    /// Forgets everything: recovery fills it again.
    pub fn reset(&self) -> io::Result<()> {
        match disk::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub fn sync(&self) -> io::Result<()> {
        match fs::File::open(&self.path) {
            Ok(file) => disk::sync_data(&file, &self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(id: i64, first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(id),
            first_offset: first,
            last_offset: last,
            last_stable_offset: last + 1,
        }
    }

    #[test]
    fn comes_back_and_truncates() {
        let dir = tempfile::tempdir().unwrap();
        let index = TransactionIndex::new(0, dir.path().join("0.txnindex"));
        assert_eq!(index.read().unwrap(), vec![]);
        let all = [aborted(1, 0, 10), aborted(2, 5, 20), aborted(1, 30, 40)];
        all.iter().for_each(|entry| index.push(entry).unwrap());
        assert_eq!(index.read().unwrap(), all);
        index.truncate_to(20).unwrap();
        assert_eq!(index.read().unwrap(), all[..1]);
        assert_eq!(fs::metadata(index.path()).unwrap().len(), 34);
        index.reset().unwrap();
        assert!(!index.path().exists());
    }

    #[test]
    fn damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let index = TransactionIndex::new(100, dir.path().join("100.txnindex"));
        index.push(&aborted(1, 90, 110)).unwrap();
        let good = fs::read(index.path()).unwrap();
        for bad in [&good[..33], &[good.as_slice(), &[0]].concat(), &[1; 34], &[0; 34]] {
            fs::write(index.path(), bad).unwrap();
            assert_eq!(index.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
