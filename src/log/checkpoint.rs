//! Checkpoint files: offsets by partition, one file a log directory; the same frame holds a log's leader epochs
//! (classes `CheckpointFile`, `OffsetCheckpointFile`, `LeaderEpochCheckpointFile`).
//!
//! ```text
//! 0                    version
//! 2                    number of lines that follow
//! topic 0 17           topic, partition, offset   |   in leader-epoch-checkpoint: epoch, start offset
//! topic 1 4
//! ```
//! An empty file means no entries. Invariant: the file is replaced by rename, so a reader sees the old or the new one whole.

use super::disk;
use super::error::{AtPath, LogError};
use crate::base::TopicPartition;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Whether a replaced file must survive a power cut at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Synced before and after the rename.
    Synced,
    /// Left to the operating system; survives the death of the process.
    Written,
}

/// Entries of a checkpoint; none if there is no such file.
fn read<T>(path: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, LogError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(LogError::corrupt(path, "checkpoint is not text"));
        }
        Err(error) => return Err(error).at(path),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        // Both brokers end every line: a number at the end may be half of one.
        return Err(LogError::corrupt(path, format!("checkpoint is cut off at byte {}", text.len())));
    }
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(Vec::new()) };
    if version != "0" {
        return Err(LogError::corrupt(path, format!("checkpoint has version `{version}`, not 0")));
    }
    let count = lines.next().and_then(|line| line.parse::<usize>().ok());
    let count = count.ok_or_else(|| LogError::corrupt(path, "checkpoint has no entry count"))?;
    let mut entries = Vec::new();
    for line in lines {
        entries
            .push(parse(line).ok_or_else(|| LogError::corrupt(path, format!("checkpoint has a bad line `{line}`")))?);
    }
    if entries.len() != count {
        return Err(LogError::corrupt(path, format!("checkpoint says {count} entries and has {}", entries.len())));
    }
    Ok(entries)
}

fn frame(lines: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Replaces `path` by way of `path.tmp`.
pub fn replace_file(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let mut file = disk::create(temporary)?;
    disk::may_write(path)?;
    file.write_all(content)?;
    if durability == Durability::Synced {
        disk::sync_all(&file, temporary)?;
    }
    drop(file);
    disk::rename(temporary, path)?;
    match path.parent() {
        Some(parent) if durability == Durability::Synced => disk::sync_directory(parent),
        _ => Ok(()),
    }
}

/// `topic partition offset` lines.
pub fn read_offsets(path: &Path) -> Result<Vec<(TopicPartition, i64)>, LogError> {
    read(path, |line| {
        let mut words = line.split_ascii_whitespace();
        let log = TopicPartition::new(words.next()?, words.next()?.parse().ok()?);
        let offset = words.next()?.parse().ok()?;
        words.next().is_none().then_some((log, offset))
    })
}

pub fn write_offsets(path: &Path, entries: &[(TopicPartition, i64)], durability: Durability) -> io::Result<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (log, offset) in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {offset}", log.topic, log.partition);
    }
    replace_file(path, text.as_bytes(), durability)
}

/// `epoch startOffset` lines. Damaged as well is a file whose epochs or offsets fall.
pub fn read_epochs(path: &Path) -> Result<Vec<(i32, i64)>, LogError> {
    let entries = read(path, |line| {
        let mut words = line.split_ascii_whitespace();
        let entry = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(entry)
    })?;
    let is_sound = entries.iter().all(|(epoch, start)| *epoch >= 0 && *start >= 0)
        && entries.is_sorted_by(|(epoch, start): &(i32, i64), (next, later)| epoch < next && start <= later);
    if is_sound { Ok(entries) } else { Err(LogError::corrupt(path, "checkpoint has epochs or offsets that fall")) }
}

pub fn write_epochs(path: &Path, entries: &[(i32, i64)], durability: Durability) -> io::Result<()> {
    let text = frame(entries.iter().map(|(epoch, start)| format!("{epoch} {start}")));
    replace_file(path, text.as_bytes(), durability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_come_back_and_look_as_kafka_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recovery-point-offset-checkpoint");
        assert_eq!(read_offsets(&path).unwrap(), vec![]);
        let entries = vec![(TopicPartition::new("a", 0), 17), (TopicPartition::new("b-c", 3), 0)];
        write_offsets(&path, &entries, Durability::Synced).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n2\na 0 17\nb-c 3 0\n");
        assert_eq!(read_offsets(&path).unwrap(), entries);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn epochs_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leader-epoch-checkpoint");
        write_epochs(&path, &[(0, 0), (4, 19)], Durability::Written).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n2\n0 0\n4 19\n");
        assert_eq!(read_epochs(&path).unwrap(), vec![(0, 0), (4, 19)]);
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let good = "0\n2\na 0 17\nb 3 0\n";
        for (content, ok) in [
            ("", true),
            ("0\n0\n", true),
            ("1\n0\n", false),
            ("0\n", false),
            ("0\nx\n", false),
            ("0\n2\na 0 17\n", false),
            ("0\n0\na 0 17\n", false),
            ("0\n1\na 0\n", false),
            ("0\n1\na 0 1 2\n", false),
            ("0\n1\na zero 1\n", false),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(read_offsets(&path).is_ok(), ok, "{content:?}");
        }
        fs::write(&path, b"0\n1\n\xff\xfe 0 1\n").unwrap();
        assert!(read_offsets(&path).unwrap_err().to_string().contains("checkpoint"));
        for cut in 1..good.len() {
            fs::write(&path, &good[..cut]).unwrap();
            assert!(read_offsets(&path).is_err(), "cut at {cut}");
        }
    }
}
