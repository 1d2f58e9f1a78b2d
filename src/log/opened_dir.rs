//! A log directory at start: locked, its checkpoints read, and its partitions found (class `LogManager.loadLogs`).
//!
//! Invariant: nothing is loaded or removed before every directory has been looked at; what is refused for its looks is left as it is.

use super::background::{Background, Removal};
use super::checkpoint::read_offsets;
use super::dir_lock::DirLock;
use super::disk;
use super::error::{AtPath, LogError};
use super::load::LoadOptions;
use super::log_dir::LogDir;
use super::names::{self, DirectoryKind, parse_directory_name};
use super::open::{FoundLog, LogKey};
use super::progress::{Pace, Progress};
use crate::base::TopicPartition;
use crate::base::time::{monotonic_ms, wall_ms};
use crate::config::{BrokerConfig, LogConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a directory's checkpoint files say; one that is damaged counts as empty, and is named.
#[derive(Default)]
pub(super) struct Checkpoints {
    pub recovery_points: BTreeMap<TopicPartition, i64>,
    pub log_starts: BTreeMap<TopicPartition, i64>,
    pub high_watermarks: BTreeMap<TopicPartition, i64>,
    pub cleaned_offsets: BTreeMap<TopicPartition, i64>,
}

impl Checkpoints {
    fn read(dir: &Path) -> Result<Checkpoints, LogError> {
        let read = |name: &str| match read_offsets(&dir.join(name)) {
            Ok(entries) => Ok(entries.into_iter().collect()),
            Err(error @ LogError::Corrupt { .. }) => {
                tracing::warn!(%error, "checkpoint is not used");
                Ok(BTreeMap::new())
            }
            Err(error) => Err(error),
        };
        Ok(Checkpoints {
            recovery_points: read(names::RECOVERY_POINTS)?,
            log_starts: read(names::LOG_START_OFFSETS)?,
            high_watermarks: read(names::HIGH_WATERMARKS)?,
            cleaned_offsets: read(names::CLEANER_OFFSETS)?,
        })
    }
}

impl Checkpoints {
    fn files(&self) -> [(&'static str, &BTreeMap<TopicPartition, i64>); 4] {
        [
            (names::RECOVERY_POINTS, &self.recovery_points),
            (names::LOG_START_OFFSETS, &self.log_starts),
            (names::HIGH_WATERMARKS, &self.high_watermarks),
            (names::CLEANER_OFFSETS, &self.cleaned_offsets),
        ]
    }

    fn names_others_than(&self, partitions: &BTreeSet<&TopicPartition>) -> bool {
        self.files().iter().flat_map(|(_, entries)| entries.keys()).any(|partition| !partitions.contains(partition))
    }
}

/// A directory that is ready to have its logs loaded.
pub(super) struct OpenedDir {
    pub dir: Arc<LogDir>,
    pub found: Vec<FoundLog>,
}

pub(super) fn open_dir(
    path: &Path,
    config: &BrokerConfig,
    topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    background: &Background,
    pace: &Arc<Pace>,
) -> Result<OpenedDir, LogError> {
    fs::create_dir_all(path).at(path)?;
    let lock = DirLock::acquire(path)?;
    let marker = path.join(names::CLEAN_SHUTDOWN);
    let partitions = list_partitions(path, background, config)?;
    let checkpoints = Checkpoints::read(path)?;
    let dir = Arc::new(LogDir::new(path.to_path_buf(), Some(lock)));
    for (name, entries) in checkpoints.files() {
        dir.loaded_checkpoint(name, entries);
    }
    if checkpoints.names_others_than(&partitions.iter().map(|(partition, ..)| partition).collect()) {
        dir.set_stale_checkpoints();
    }
    let is_clean = marker.exists();
    let now_ms = wall_ms();
    let offset = |map: &BTreeMap<TopicPartition, i64>, log: &TopicPartition| map.get(log).copied().unwrap_or(0).max(0);
    let found = partitions.into_iter().map(|(partition, path, is_future)| FoundLog {
        dir: Arc::clone(&dir),
        path,
        options: LoadOptions {
            config: topic_config(&partition.topic),
            is_clean,
            recovery_point: offset(&checkpoints.recovery_points, &partition),
            log_start: offset(&checkpoints.log_starts, &partition),
            high_watermark: offset(&checkpoints.high_watermarks, &partition),
            cleaned_offset: offset(&checkpoints.cleaned_offsets, &partition),
            producer_expiration_ms: config.producer_id_expiration_ms,
            now_ms,
            progress: Arc::new(Progress::new(Arc::clone(pace))),
        },
        key: LogKey { partition, is_future },
    });
    Ok(OpenedDir { found: found.collect(), dir: Arc::clone(&dir) })
}

/// Partition directories, and whether they are those of future logs; those that wait for removal are handed to the background.
fn list_partitions(
    path: &Path,
    background: &Background,
    config: &BrokerConfig,
) -> Result<Vec<(TopicPartition, PathBuf, bool)>, LogError> {
    let mut partitions = Vec::new();
    for entry in fs::read_dir(path).at(path)? {
        let entry = entry.at(path)?;
        let entry_path = entry.path();
        if !entry.file_type().at(&entry_path)?.is_dir() {
            continue;
        }
        match entry.file_name().to_str().and_then(parse_directory_name) {
            Some(DirectoryKind::Partition(partition)) => partitions.push((partition, entry_path, false)),
            Some(DirectoryKind::Delete) => {
                let due_ms = monotonic_ms().saturating_add(config.log.file_delete_delay_ms);
                background.remove_later(Removal { due_ms, paths: vec![entry_path] });
            }
            Some(DirectoryKind::Future(partition)) => partitions.push((partition, entry_path, true)),
            Some(DirectoryKind::Stray) => {
                tracing::warn!(dir = %entry_path.display(), "directory is left as it is");
            }
            Some(DirectoryKind::Known) => {}
            None => return Err(LogError::ForeignDirectory { path: entry_path }),
        }
    }
    Ok(partitions)
}

pub(super) fn remove_marker(dir: &Arc<LogDir>) -> Result<(), LogError> {
    let marker = dir.path().join(names::CLEAN_SHUTDOWN);
    match disk::remove_file(&marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && !dir.is_offline() => Err(error).at(&marker),
        _ => Ok(()),
    }
}
