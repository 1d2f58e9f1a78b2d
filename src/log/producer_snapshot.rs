//! `.snapshot`: the producer state at an offset, which names the file (class `ProducerStateManager`).
//!
//! ```text
//!  0 i16 version = 1     2 u32 CRC-32C of all that follows     6 i32 count     10 entries of 46 bytes:
//!    0 i64 producer id           8 i16 epoch                  10 i32 last sequence        14 i64 last offset (-1: no batch)
//!   22 i32 offset delta         26 i64 timestamp              34 i32 coordinator epoch    38 i64 transaction's first offset or -1
//! ```
//! Only the last batch of a producer is in it.

use super::checkpoint::{Durability, replace_file};
use super::disk;
use super::error::{AtPath, LogError};
use super::names::{FileKind, Transit, parse_file_name};
use super::producer_state::{BatchMetadata, ProducerEntry, ProducerStates};
use crate::base::{ProducerEpoch, ProducerId};
use crate::record::crc::crc32c;
use std::fs;
use std::path::Path;

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const COUNT_AT: usize = 6;
const ENTRIES_AT: usize = 10;
const ENTRY_SIZE: usize = 46;

pub fn encode<'a>(entries: impl Iterator<Item = &'a ProducerEntry>) -> Vec<u8> {
    let mut bytes = vec![0; ENTRIES_AT];
    let mut count = 0i32;
    for entry in entries {
        encode_entry(entry, &mut bytes);
        count += 1;
    }
    bytes[..CRC_AT].copy_from_slice(&VERSION.to_be_bytes());
    bytes[COUNT_AT..ENTRIES_AT].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c(&bytes[COUNT_AT..]);
    bytes[CRC_AT..COUNT_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn encode_entry(entry: &ProducerEntry, bytes: &mut Vec<u8>) {
    let last = entry.last_batch();
    bytes.extend(entry.id.0.to_be_bytes());
    bytes.extend(entry.epoch.0.to_be_bytes());
    bytes.extend(last.map_or(-1, |batch| batch.last_sequence).to_be_bytes());
    bytes.extend(last.map_or(-1, |batch| batch.last_offset).to_be_bytes());
    bytes.extend(last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
    bytes.extend(entry.last_timestamp.to_be_bytes());
    bytes.extend(entry.coordinator_epoch.to_be_bytes());
    bytes.extend(entry.transaction_first_offset.unwrap_or(-1).to_be_bytes());
}

/// The reason, if this is no sound snapshot.
pub fn decode(bytes: &[u8]) -> Result<Vec<ProducerEntry>, &'static str> {
    let version = bytes.first_chunk().copied().map(i16::from_be_bytes).ok_or("snapshot is cut off")?;
    if version != VERSION {
        return Err("snapshot has an unknown version");
    }
    let (Some(crc), Some(count), Some(entries)) =
        (chunk_at::<4>(bytes, CRC_AT), chunk_at::<4>(bytes, COUNT_AT), bytes.get(ENTRIES_AT..))
    else {
        return Err("snapshot is cut off");
    };
    if crc32c(&bytes[COUNT_AT..]) != u32::from_be_bytes(crc) {
        return Err("snapshot has a wrong checksum");
    }
    if i64::from(i32::from_be_bytes(count)) * ENTRY_SIZE as i64 != entries.len() as i64 {
        return Err("snapshot has a wrong count");
    }
    entries.chunks_exact(ENTRY_SIZE).map(|entry| decode_entry(entry).ok_or("snapshot is cut off")).collect()
}

/// The checksum that a snapshot carries, and that of what it holds; `None` if it is too short to have one.
pub fn checksums(bytes: &[u8]) -> Option<(u32, u32)> {
    Some((u32::from_be_bytes(chunk_at(bytes, CRC_AT)?), crc32c(bytes.get(COUNT_AT..)?)))
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn decode_entry(bytes: &[u8]) -> Option<ProducerEntry> {
    let long = |at| chunk_at(bytes, at).map(i64::from_be_bytes);
    let int = |at| chunk_at(bytes, at).map(i32::from_be_bytes);
    let mut entry = ProducerEntry::new(ProducerId(long(0)?));
    entry.epoch = ProducerEpoch(chunk_at(bytes, 8).map(i16::from_be_bytes)?);
    let (last_offset, timestamp, first) = (long(14)?, long(26)?, long(38)?);
    if last_offset >= 0 {
        let (last_sequence, offset_delta) = (int(10)?, int(22)?);
        entry.add_batch(BatchMetadata { last_sequence, last_offset, offset_delta, timestamp });
    }
    entry.last_timestamp = timestamp;
    entry.coordinator_epoch = int(34)?;
    entry.transaction_first_offset = (first >= 0).then_some(first);
    Some(entry)
}

/// Writes the state under its end offset, unless the file says that already.
pub fn write_if_changed(dir: &Path, states: &ProducerStates) -> Result<(), LogError> {
    let sorted = |mut entries: Vec<ProducerEntry>| {
        entries.sort_unstable_by_key(|entry| entry.id);
        encode(entries.iter())
    };
    let wanted = sorted(states.entries().copied().collect());
    match read(dir, states.end_offset()).map(sorted) {
        Ok(found) if found == wanted => Ok(()),
        _ => write(dir, states, Durability::Written),
    }
}

/// Writes the state under its end offset.
pub fn write(dir: &Path, states: &ProducerStates, durability: Durability) -> Result<(), LogError> {
    let path = dir.join(FileKind::ProducerSnapshot.file_name(states.end_offset()));
    replace_file(&path, &encode(states.entries()), durability).at(&path)
}

pub fn read(dir: &Path, offset: i64) -> Result<Vec<ProducerEntry>, LogError> {
    let path = dir.join(FileKind::ProducerSnapshot.file_name(offset));
    let bytes = fs::read(&path).at(&path)?;
    decode(&bytes).map_err(|reason| LogError::corrupt(&path, reason))
}

/// Offsets of the snapshots in a partition directory, rising.
pub fn list(dir: &Path) -> Result<Vec<i64>, LogError> {
    let mut offsets = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let name = entry.at(dir)?.file_name();
        if let Some((offset, FileKind::ProducerSnapshot, Transit::None)) = name.to_str().and_then(parse_file_name) {
            offsets.push(offset);
        }
    }
    offsets.sort_unstable();
    Ok(offsets)
}

/// Removes the snapshots for which `stale` holds.
pub fn remove(dir: &Path, stale: impl Fn(i64) -> bool) -> Result<(), LogError> {
    list(dir)?.into_iter().filter(|&offset| stale(offset)).try_for_each(|offset| remove_one(dir, offset))
}

pub fn remove_one(dir: &Path, offset: i64) -> Result<(), LogError> {
    let path = dir.join(FileKind::ProducerSnapshot.file_name(offset));
    disk::remove_file(&path).at(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<ProducerEntry> {
        let mut first = ProducerEntry::new(ProducerId(4000));
        first.epoch = ProducerEpoch(2);
        first.last_timestamp = 1_700_000_000_000;
        first.add_batch(BatchMetadata {
            last_sequence: 9,
            last_offset: 109,
            offset_delta: 9,
            timestamp: 1_700_000_000_000,
        });
        let mut second = ProducerEntry::new(ProducerId(4001));
        second.epoch = ProducerEpoch(0);
        second.coordinator_epoch = 5;
        second.transaction_first_offset = Some(77);
        vec![first, second]
    }

    #[test]
    fn comes_back() {
        let bytes = encode(entries().iter());
        assert_eq!(bytes.len(), ENTRIES_AT + 2 * ENTRY_SIZE);
        assert_eq!(decode(&bytes).unwrap(), entries());
        assert_eq!(decode(&encode([].iter())).unwrap(), vec![]);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_seen() {
        let bytes = encode(entries().iter());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            assert!(decode(&bad).is_err(), "flip at {at}");
        }
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        for offset in [5, 10, 20] {
            write(dir.path(), &ProducerStates::from_entries(entries(), offset), Durability::Written).unwrap();
        }
        assert_eq!(list(dir.path()).unwrap(), vec![5, 10, 20]);
        assert_eq!(read(dir.path(), 10).unwrap().len(), 2);
        remove(dir.path(), |offset| offset < 20).unwrap();
        assert_eq!(list(dir.path()).unwrap(), vec![20]);
    }
}
