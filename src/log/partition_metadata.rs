//! `partition.metadata`: the topic id of a log (class `PartitionMetadataFile`).
//!
//! ```text
//! version: 0
//! topic_id: <22 characters>        no final line break
//! ```
//! Invariant: on disk before the first record is.

use super::checkpoint::{Durability, replace_file};
use super::disk;
use super::error::{AtPath, LogError};
use super::names;
use crate::base::TopicId;
use std::fs;
use std::io;
use std::path::Path;

/// `None` if there is no such file: a log from before topic ids.
pub fn read(dir: &Path) -> Result<Option<TopicId>, LogError> {
    let path = dir.join(names::PARTITION_METADATA);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(&path),
    };
    let id = std::str::from_utf8(&bytes).ok().and_then(parse);
    id.map(Some).ok_or_else(|| LogError::corrupt(&path, "is not `version: 0` and a topic id"))
}

fn parse(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    if lines.next()?.strip_prefix("version:")?.trim() != "0" {
        return None;
    }
    let id = TopicId::parse(lines.next()?.strip_prefix("topic_id:")?.trim())?;
    (!id.is_zero()).then_some(id)
}

pub fn write(dir: &Path, id: TopicId, durability: Durability) -> Result<(), LogError> {
    let path = dir.join(names::PARTITION_METADATA);
    replace_file(&path, format!("version: 0\ntopic_id: {id}").as_bytes(), durability).at(&path)
}

pub fn remove(dir: &Path) -> Result<(), LogError> {
    let path = dir.join(names::PARTITION_METADATA);
    disk::remove_file(&path).at(&path)
}

/// Has what [`write`] wrote survive a power cut.
pub fn sync(dir: &Path, id: TopicId) -> Result<(), LogError> {
    let path = dir.join(names::PARTITION_METADATA);
    match fs::File::open(&path).and_then(|file| disk::sync_all(&file, &path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(dir, id, Durability::Synced),
        outcome => outcome.at(&path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let id = TopicId::random();
        write(dir.path(), id, Durability::Synced).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(id));
        let path = dir.path().join(names::PARTITION_METADATA);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("version: 0\ntopic_id: {id}"));
        for bad in ["", "version: 1\ntopic_id: x", "version: 0\n", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA"] {
            fs::write(&path, bad).unwrap();
            assert!(read(dir.path()).is_err(), "{bad:?}");
        }
    }
}
