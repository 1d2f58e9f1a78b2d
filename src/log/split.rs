//! Splitting segments whose offsets reach further than an index can say (class `LogSegmentOffsetOverflowException`). Compaction of
//! early Kafka versions made such.
//!
//! Invariant: the pieces are whole and on the disk under `.cleaned` names before the first is renamed to `.swap`, the last piece
//! first; so what a crash leaves is either finished or thrown away by the next start, and the original stays until then.

use super::disk::{self, sync_all, sync_directory};
use super::error::{AtPath, LogError};
use super::names::{FileKind, Transit};
use super::scan::{BatchAt, Scanner, Step};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How far offsets may lie above the base offset of their segment.
pub(super) const REACH: i64 = i32::MAX as i64;

/// A part of a segment that becomes one of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    base_offset: i64,
    start: u64,
    end: u64,
}

/// Whether the `.log` file at `path` has offsets out of its reach.
pub(super) fn overflows(path: &Path, base_offset: i64) -> Result<bool, LogError> {
    let file = File::open(path).at(path)?;
    Ok(pieces(&file, base_offset).at(path)?.len() > 1)
}

/// Whether a sound batch that lies out of reach was written where it says: its base offset is not under its checksum. Damage moves
/// one batch, so that the one `after` it lies below; and without one after it, it is damage if a single byte is all that sets the
/// offset apart from the `expected` one.
pub(super) fn is_written_there(expected: i64, batch: &BatchAt, after: Option<i64>) -> bool {
    match after {
        Some(after) => after > batch.last_offset,
        None => {
            let differs = |(a, b): &(u8, u8)| a != b;
            expected.to_be_bytes().into_iter().zip(batch.base_offset.to_be_bytes()).filter(differs).count() > 1
        }
    }
}

fn pieces(file: &File, base_offset: i64) -> io::Result<Vec<Piece>> {
    let size = file.metadata()?.len();
    let mut scanner = Scanner::new(file, 0, size);
    let (mut done, mut last) = (Vec::new(), Piece { base_offset, start: 0, end: 0 });
    while let Step::Batch(batch) = scanner.next_header()? {
        if batch.last_offset - last.base_offset > REACH {
            done.push(last);
            last = Piece { base_offset: batch.base_offset, start: batch.position, end: batch.position };
        }
        last.end = batch.end();
    }
    // What is no batch is for recovery to judge.
    last.end = size;
    done.push(last);
    Ok(done)
}

/// Writes the pieces of a segment and leaves them as complete `.swap` files, which take its place when the directory is tidied.
pub(super) fn split(dir: &Path, base_offset: i64) -> Result<(), LogError> {
    let path = dir.join(FileKind::Log.file_name(base_offset));
    let mut file = File::open(&path).at(&path)?;
    let pieces = pieces(&file, base_offset).at(&path)?;
    if pieces.len() < 2 {
        return Err(LogError::corrupt(&path, "has offsets out of reach, and cannot be split"));
    }
    tracing::warn!(segment = %path.display(), into = pieces.len(), "offsets reach too far for an index: the segment is split");
    for piece in &pieces {
        let target = in_transit(dir, piece, Transit::Cleaned);
        copy(&mut file, piece, &target).at(&target)?;
    }
    sync_directory(dir).at(dir)?;
    for piece in pieces.iter().rev() {
        let from = in_transit(dir, piece, Transit::Cleaned);
        disk::rename(&from, &in_transit(dir, piece, Transit::Swap)).at(&from)?;
    }
    sync_directory(dir).at(dir)
}

fn in_transit(dir: &Path, piece: &Piece, transit: Transit) -> PathBuf {
    dir.join(format!("{}{}", FileKind::Log.file_name(piece.base_offset), transit.suffix()))
}

fn copy(file: &mut File, piece: &Piece, target: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(piece.start))?;
    let mut out = disk::create(target)?;
    disk::may_write(target)?;
    io::copy(&mut file.take(piece.end - piece.start), &mut out)?;
    sync_all(&out, target)
}

#[cfg(test)]
mod tests {
    use crate::base::{LeaderEpoch, TopicPartition};
    use crate::config::{BrokerConfig, LogConfig};
    use crate::log::LogManager;
    use crate::record::{BatchBuilder, batches};
    use std::fs;
    use std::path::Path;

    const FAR: i64 = 3_000_000_000;

    fn batch(offset: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.append(1000, None, Some(offset.to_string().as_bytes()), []);
        let mut batch = builder.build().unwrap();
        batch.header.set_base_offset(offset);
        batch.header.set_partition_leader_epoch(0);
        batch.to_bytes().to_vec()
    }

    fn offsets(manager: &LogManager) -> Vec<i64> {
        let log = manager.log(&TopicPartition::new("far", 0)).unwrap();
        let (mut offset, mut found) = (log.log_start_offset(), Vec::new());
        while offset < log.log_end_offset() {
            let bytes = log.read_bytes(offset, 1 << 20, log.log_end_offset(), true).unwrap();
            for batch in batches(&bytes) {
                found.push(batch.unwrap().base_offset());
            }
            offset = found.last().unwrap() + 1;
        }
        found
    }

    fn open(dir: &Path) -> std::sync::Arc<LogManager> {
        let broker = BrokerConfig { log_dirs: vec![dir.to_owned()], ..BrokerConfig::default() };
        LogManager::open(&broker, &|_| LogConfig::default()).unwrap()
    }

    /// After a clean stop and after another, in the last segment and in one before it.
    #[test]
    fn every_record_stays_and_every_segment_can_be_indexed() {
        let all = [0, 5, FAR, FAR + 7, 2 * FAR, 2 * FAR + 1];
        for (is_clean, is_last) in [(true, true), (true, false), (false, true), (false, false)] {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("far-0");
            fs::create_dir(&dir).unwrap();
            let first = if is_last { &all[..] } else { &all[..4] };
            let content: Vec<u8> = first.iter().flat_map(|&offset| batch(offset)).collect();
            fs::write(dir.join("00000000000000000000.log"), content).unwrap();
            fs::write(dir.join("leader-epoch-checkpoint"), "0\n1\n0 0\n").unwrap();
            if !is_last {
                let content: Vec<u8> = all[4..].iter().flat_map(|&offset| batch(offset)).collect();
                fs::write(dir.join(format!("{:020}.log", 2 * FAR)), content).unwrap();
            }
            if is_clean {
                fs::write(root.path().join(".kafka_cleanshutdown"), "").unwrap();
            }
            for round in 0..2 {
                let manager = open(root.path());
                assert_eq!(offsets(&manager), all, "clean {is_clean}, last {is_last}, round {round}");
                let log = manager.log(&TopicPartition::new("far", 0)).unwrap();
                assert_eq!((log.segment_count(), log.latest_epoch()), (3, Some(LeaderEpoch(0))));
                manager.shutdown();
            }
        }
    }

    /// Base offsets lie outside the checksum: one that a damaged byte threw far away is not a reason to split, and not the log's end.
    #[test]
    fn a_damaged_offset_is_no_reason_to_split() {
        let moved = 5 + (0x40i64 << 40);
        let cases = [
            (&[0, 5, FAR, FAR + 7][..], &[0, 5, FAR, FAR + 7][..]),
            (&[0, 5, FAR], &[0, 5, FAR]),
            (&[0, 1, 2, 3, 4, moved], &[0, 1, 2, 3, 4]),
            (&[0, 1, 2, 3, 4, moved, 6, 7], &[0, 1, 2, 3, 4]),
            (&[0, 1, FAR, 3], &[0, 1]),
        ];
        for (written, expected) in cases {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("far-0");
            fs::create_dir(&dir).unwrap();
            let content: Vec<u8> = written.iter().flat_map(|&offset| batch(offset)).collect();
            fs::write(dir.join("00000000000000000000.log"), content).unwrap();
            for round in 0..2 {
                let manager = open(root.path());
                assert_eq!(offsets(&manager), expected, "{written:?}, round {round}");
                manager.shutdown();
            }
        }
    }
}
