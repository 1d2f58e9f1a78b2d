//! All logs of a broker, over all its log directories (class `LogManager`).
//!
//! Invariant: a directory is worked in only while its `.lock` is held; the clean-shutdown marker is there only between a stop
//! that left everything closed and the next start.

use super::background::Background;
use super::checkpoint::{Durability, replace_file};
use super::cleaner::Cleaner;
use super::close::close_in_parallel;
use super::error::{AtPath, LogError};
use super::load::LoadOptions;
use super::log_dir::LogDir;
use super::moves::Moves;
use super::names;
use super::open::{AT_ONCE_BYTES_MAX, FoundLog, LoadedLogs, load_in_parallel, split};
use super::opened_dir::{OpenedDir, open_dir, remove_marker};
use super::partition::Log;
use super::progress::Pace;
use super::recoveries::Recoveries;
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{TopicId, TopicPartition, topic_name};
use crate::config::{BrokerConfig, LogConfig};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::thread::JoinHandle;

/// Above this number of changed logs, one call that syncs the file system is quicker than one for each file.
const SYNC_EACH_MAX: usize = 16;
/// What ZooKeeper-mode brokers of 3.9 write; only that the file exists counts.
const CLEAN_SHUTDOWN_CONTENT: &[u8] = br#"{"version":0,"brokerEpoch":-1}"#;

pub struct LogManager {
    pub(super) dirs: Vec<Arc<LogDir>>,
    pub(super) logs: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    pub(super) background: Arc<Background>,
    pub(super) config: BrokerConfig,
    /// One log is made, or taken away, at a time.
    pub(super) changing: Mutex<()>,
    pub(super) moves: Arc<Moves>,
    pub(super) recoveries: Arc<Recoveries>,
    housekeepers: Mutex<Vec<JoinHandle<()>>>,
    /// Silent producers are forgotten after this time.
    pub(super) producer_expiration_ms: AtomicI64,
    pub(super) cleaner: Cleaner,
}

/// One directory, as DescribeLogDirs shows it.
#[derive(Clone)]
pub struct LogDirDescription {
    pub path: PathBuf,
    pub is_offline: bool,
    /// Of the file system; -1 if it does not say.
    pub total_bytes: i64,
    pub usable_bytes: i64,
    pub logs: Vec<Arc<Log>>,
    /// Copies of replicas that are being moved here.
    pub futures: Vec<Arc<Log>>,
    pub unready: Vec<UnreadyLog>,
}

/// A log that is not loaded yet, or cannot be.
#[derive(Clone)]
pub struct UnreadyLog {
    pub partition: TopicPartition,
    pub is_future: bool,
    pub size_bytes: u64,
}

impl LogManager {
    /// Locks the directories of `log.dirs`, and loads every log in them, recovering those that need it.
    pub fn open(
        config: &BrokerConfig,
        topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    ) -> Result<Arc<LogManager>, LogError> {
        let manager = LogManager::open_early(config, topic_config)?;
        manager.recover_all();
        Ok(manager)
    }

    /// As [`LogManager::open`], but the logs that take long to recover are left to [`LogManager::start_background`]; until then
    /// they are unready.
    pub fn open_early(
        config: &BrokerConfig,
        topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    ) -> Result<Arc<LogManager>, LogError> {
        LogManager::open_up_to(AT_ONCE_BYTES_MAX, config, topic_config)
    }

    /// As [`LogManager::open_early`]: a log takes long if there is more to be checked than so many bytes.
    pub fn open_up_to(
        at_once_bytes_max: u64,
        config: &BrokerConfig,
        topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    ) -> Result<Arc<LogManager>, LogError> {
        let (background, pace) = (Arc::new(Background::default()), Arc::new(Pace::default()));
        let mut opened = Vec::new();
        for path in &config.log_dirs {
            match open_dir(path, config, topic_config, &background, &pace) {
                Ok(dir) => opened.push(dir),
                // A disk that does not work stands alone, as long as another one does.
                Err(error @ LogError::Storage { .. }) if config.log_dirs.len() > 1 => {
                    let dir = LogDir::new(path.clone(), None);
                    dir.set_offline(&error.to_string());
                    opened.push(OpenedDir { dir: Arc::new(dir), found: Vec::new() });
                }
                Err(error) => return Err(error),
            }
        }
        if opened.iter().all(|opened| opened.dir.is_offline()) {
            return Err(LogError::NoLiveDirectory);
        }
        let dirs: Vec<_> = opened.iter().map(|opened| Arc::clone(&opened.dir)).collect();
        let found: Vec<FoundLog> = opened.into_iter().flat_map(|opened| opened.found).collect();
        // Nothing is refused for its looks from here on, so the marker has served.
        dirs.iter().try_for_each(remove_marker)?;
        let (at_once, later) = split(found, at_once_bytes_max);
        let LoadedLogs { logs, futures, superseded, refused } = load_in_parallel(at_once, &background, config)?;
        pace.limit(config.log_recovery_io_max_bytes_per_second);
        let threads = config.num_recovery_threads_per_data_dir;
        let copied: Vec<TopicPartition> = futures.keys().cloned().collect();
        let recoveries = Recoveries::new(later, refused, futures, pace, Arc::clone(&background), threads);
        let manager = Arc::new(LogManager {
            dirs,
            logs: RwLock::new(logs),
            moves: Arc::default(),
            recoveries: Arc::new(recoveries),
            background,
            config: config.clone(),
            changing: Mutex::new(()),
            housekeepers: Mutex::default(),
            producer_expiration_ms: AtomicI64::new(config.producer_id_expiration_ms),
            cleaner: Cleaner::default(),
        });
        for dir in manager.dirs.iter().filter(|dir| dir.has_stale_checkpoints() && !dir.is_offline()) {
            manager.write_checkpoints(dir)?;
        }
        for log in superseded {
            tracing::warn!(dir = %log.dir().display(), "a move ended here, and this is what it left behind: it goes");
            log.set_closed();
            manager.remove_directory(&log.dir(), &log.log_dir(), log.topic_partition(), &log.config())?;
        }
        for partition in copied {
            manager.match_future(&partition);
            if manager.log(&partition).is_none() && manager.unready(&partition).is_none() {
                tracing::warn!(%partition, "copy of a replica that is not here: it is left as it is");
            }
        }
        Ok(manager)
    }

    pub fn log(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().get(partition).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Log>> {
        self.logs.read().values().cloned().collect()
    }

    /// The log of a partition, made if there is none, in the live directory with the fewest logs.
    pub fn create(
        &self,
        partition: &TopicPartition,
        topic_id: Option<TopicId>,
        config: LogConfig,
    ) -> Result<Arc<Log>, LogError> {
        let _changing = self.changing.lock();
        self.recoveries.check_ready(partition)?;
        let log = match self.log(partition) {
            Some(log) => log,
            None => self.make(partition, config)?,
        };
        if let Some(id) = topic_id {
            log.set_topic_id(id)?;
        }
        Ok(log)
    }

    fn make(&self, partition: &TopicPartition, config: LogConfig) -> Result<Arc<Log>, LogError> {
        if topic_name::check(&partition.topic).is_err() || partition.partition < 0 {
            return Err(LogError::InvalidTopicName(partition.to_string()));
        }
        let preferred = self.moves.preferred.lock().remove(partition);
        let dir = match preferred.and_then(|path| self.online_dir(&path).ok()) {
            Some(dir) => dir,
            None => self.emptiest_dir()?,
        };
        if dir.remembers(partition) {
            // Of a deleted partition of that name: a log start beyond the new log's end would have the next start drop it.
            self.write_checkpoints(&dir)?;
        }
        let path = dir.path().join(partition.to_string());
        fs::create_dir_all(&path).map_err(|error| dir.failed(&path, error))?;
        let options = LoadOptions::new_log(config, self.producer_expiration_ms(), wall_ms());
        let log = Log::load(partition.clone(), path, dir, Arc::clone(&self.background), options)?;
        self.logs.write().insert(partition.clone(), Arc::clone(&log));
        Ok(log)
    }

    fn emptiest_dir(&self) -> Result<Arc<LogDir>, LogError> {
        let count = |dir: &Arc<LogDir>| {
            let unready = self.recoveries.in_dir(dir, |_| Some(())).len();
            unready + self.logs.read().values().filter(|log| Arc::ptr_eq(&log.log_dir(), dir)).count()
        };
        match self.dirs.as_slice() {
            [only] => only.check_online().map(|()| Arc::clone(only)),
            dirs => {
                let live = dirs.iter().filter(|dir| !dir.is_offline());
                live.min_by_key(|dir| count(dir)).cloned().ok_or(LogError::NoLiveDirectory)
            }
        }
    }

    /// Takes the log away; its files go after `file.delete.delay.ms`.
    pub fn delete(&self, partition: &TopicPartition) -> Result<(), LogError> {
        let _changing = self.changing.lock();
        let unready = self.recoveries.take_out(partition);
        self.drop_future(partition);
        for found in unready {
            self.remove_directory(&found.path, &found.dir, partition, &found.options.config)?;
        }
        let Some(log) = self.logs.write().remove(partition) else { return Ok(()) };
        log.set_closed();
        self.remove_directory(&log.dir(), &log.log_dir(), partition, &log.config())
    }

    /// Cuts logs back, and has the recovery points on file not reach beyond the cut: what is appended next is new.
    pub fn truncate_to(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let mut cut = Vec::new();
        for (partition, offset) in offsets {
            if let Some(log) = self.log(partition) {
                let (start, end) = (log.log_start_offset(), log.log_end_offset());
                log.truncate_to(*offset)?;
                if log.log_start_offset() < start {
                    self.write_log_starts(&log.log_dir())?;
                }
                // A new follower finds nothing to cut, and there may be thousands of them.
                if log.log_end_offset() != end {
                    cut.push(log);
                }
            }
        }
        let is_touched = |dir: &&Arc<LogDir>| cut.iter().any(|log| Arc::ptr_eq(&log.log_dir(), dir));
        self.dirs.iter().filter(is_touched).try_for_each(|dir| {
            self.write_recovery_points(dir)?;
            self.write_cleaner_offsets(dir)
        })
    }

    /// Drops all that a log has; it goes on at `offset`.
    pub fn truncate_fully_and_start_at(&self, partition: &TopicPartition, offset: i64) -> Result<(), LogError> {
        let Some(log) = self.log(partition) else { return Ok(()) };
        log.truncate_fully_and_start_at(offset)?;
        // A start beyond the end would have the next start of the broker drop what is appended now.
        self.write_log_starts(&log.log_dir())?;
        self.write_recovery_points(&log.log_dir())?;
        self.write_cleaner_offsets(&log.log_dir())
    }

    pub fn dirs(&self) -> Vec<LogDirDescription> {
        // Those first: what is ready meanwhile is among the others.
        let unready: Vec<Vec<UnreadyLog>> = self.dirs.iter().map(|dir| self.unready_in(dir)).collect();
        let logs = self.logs.read();
        let futures = self.moves.futures();
        self.dirs
            .iter()
            .zip(unready)
            .map(|(dir, unready)| {
                let space = rustix::fs::statvfs(dir.path()).ok();
                let bytes = |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
                LogDirDescription {
                    path: dir.path().to_path_buf(),
                    is_offline: dir.is_offline(),
                    total_bytes: space.as_ref().map_or(-1, |space| bytes(space.f_blocks, space.f_frsize)),
                    usable_bytes: space.as_ref().map_or(-1, |space| bytes(space.f_bavail, space.f_frsize)),
                    logs: logs.values().filter(|log| Arc::ptr_eq(&log.log_dir(), dir)).cloned().collect(),
                    futures: futures.iter().filter(|log| Arc::ptr_eq(&log.log_dir(), dir)).cloned().collect(),
                    unready,
                }
            })
            .collect()
    }

    fn unready_in(&self, dir: &Arc<LogDir>) -> Vec<UnreadyLog> {
        let found = self.recoveries.in_dir(dir, |found| Some(found.size_bytes())).into_iter();
        found
            .map(|(key, size_bytes)| UnreadyLog { partition: key.partition, is_future: key.is_future, size_bytes })
            .collect()
    }

    /// Tells `on_failure` whenever a directory goes offline.
    pub fn on_dir_failure(&self, on_failure: impl Fn() + Send + Sync + 'static) {
        let on_failure: Arc<dyn Fn() + Send + Sync> = Arc::new(on_failure);
        self.dirs.iter().for_each(|dir| dir.on_failure(on_failure.clone()));
    }

    /// No directory works: there is nothing that this broker can do.
    pub fn are_all_dirs_offline(&self) -> bool {
        self.dirs.iter().all(|dir| dir.is_offline())
    }

    /// Of a broker that has no directory left: what became of each.
    pub fn all_failed(&self) -> Option<LogError> {
        let is_left = self.dirs.iter().any(|dir| !dir.is_offline());
        let reasons: Vec<&str> = self.dirs.iter().filter_map(|dir| dir.failure()).collect();
        (!is_left).then(|| LogError::AllDirectoriesFailed { reasons: reasons.join("; ") })
    }

    pub fn failed_dirs(&self) -> Vec<PathBuf> {
        self.dirs.iter().filter(|dir| dir.is_offline()).map(|dir| dir.path().to_owned()).collect()
    }

    pub fn has_offline_dirs(&self) -> bool {
        self.dirs.iter().any(|dir| dir.is_offline())
    }

    /// Starts the threads that do what is not part of any request: recovery, housekeeping, moves, and compaction.
    pub fn start_background(self: &Arc<LogManager>) -> io::Result<()> {
        self.start_recovery()?;
        self.housekeepers.lock().extend(super::housekeeping::start(self)?);
        self.moves.start(self)?;
        self.cleaner.start(self)
    }

    /// Closes every log, writes the checkpoints, and marks each directory that was left in order.
    pub fn shutdown(&self) {
        self.recoveries.stop();
        self.moves.stop();
        self.cleaner.stop();
        self.background.stop();
        for housekeeper in self.housekeepers.lock().drain(..) {
            // It cannot fail but by a panic, which is reported already.
            let _ = housekeeper.join();
        }
        let _changing = self.changing.lock();
        std::thread::scope(|scope| {
            for dir in &self.dirs {
                scope.spawn(|| self.shut(dir));
            }
        });
    }

    fn shut(&self, dir: &Arc<LogDir>) {
        if !dir.is_offline()
            && let Err(error) = self.close_dir(dir)
        {
            tracing::error!(dir = %dir.path().display(), %error, "directory is left to be recovered at the next start");
        }
        dir.release();
    }

    fn close_dir(&self, dir: &Arc<LogDir>) -> Result<(), LogError> {
        let started_ms = monotonic_ms();
        let logs: Vec<Arc<Log>> = self.logs_in(dir);
        let dirty = logs.iter().filter(|log| log.log_end_offset() > log.recovery_point()).count();
        let (closed, early) = std::thread::scope(|scope| {
            // What is there already goes to the disk while the small files are written. An error now is one for ever.
            let early = (dirty > SYNC_EACH_MAX).then(|| scope.spawn(|| dir.sync_all()));
            let closed = close_in_parallel(&logs);
            (closed, early.map_or(Ok(Ok(())), |early| early.join()))
        });
        early.unwrap_or_else(|_| Err(LogError::DirOffline { path: dir.path().to_path_buf() }))?;
        let changed = closed?;
        let closed_ms = monotonic_ms();
        if changed.len() > SYNC_EACH_MAX {
            dir.sync_all()?;
        } else {
            changed.iter().try_for_each(|log| log.sync_closed())?;
        }
        logs.iter().for_each(|log| log.mark_flushed());
        self.write_checkpoints(dir)?;
        if dir.is_incomplete() {
            return Ok(());
        }
        let marker = dir.path().join(names::CLEAN_SHUTDOWN);
        replace_file(&marker, CLEAN_SHUTDOWN_CONTENT, Durability::Synced).at(&marker)?;
        let (close_ms, sync_ms) = (closed_ms - started_ms, monotonic_ms() - closed_ms);
        tracing::info!(dir = %dir.path().display(), logs = logs.len(), changed = changed.len(), close_ms, sync_ms, "logs are closed");
        Ok(())
    }

    pub(super) fn write_checkpoints(&self, dir: &Arc<LogDir>) -> Result<(), LogError> {
        self.write_high_watermarks(dir)?;
        self.write_recovery_points(dir)?;
        self.write_cleaner_offsets(dir)?;
        self.write_log_starts(dir)
    }

    pub(super) fn write_high_watermarks(&self, dir: &Arc<LogDir>) -> Result<(), LogError> {
        let offsets = self.offsets(dir, |log| Some(log.high_watermark()), |unready| Some(unready.high_watermark));
        dir.checkpoint(names::HIGH_WATERMARKS, offsets)
    }

    pub(super) fn write_recovery_points(&self, dir: &Arc<LogDir>) -> Result<(), LogError> {
        let offsets = self.offsets(dir, |log| Some(log.recovery_point()), |unready| Some(unready.recovery_point));
        dir.checkpoint(names::RECOVERY_POINTS, offsets)
    }

    /// Only of logs that were cleaned; the file is made with the first of them.
    pub(super) fn write_cleaner_offsets(&self, dir: &Arc<LogDir>) -> Result<(), LogError> {
        let known = |offset: i64| Some(offset).filter(|offset| *offset > 0);
        let offsets = self.offsets(dir, |log| known(log.cleaning.offset()), |unready| known(unready.cleaned_offset));
        if offsets.is_empty() && !dir.path().join(names::CLEANER_OFFSETS).exists() {
            return Ok(());
        }
        dir.checkpoint(names::CLEANER_OFFSETS, offsets)
    }

    /// Only where the log begins inside its first segment.
    pub(super) fn write_log_starts(&self, dir: &Arc<LogDir>) -> Result<(), LogError> {
        let inside = |log: &Log| {
            let start = log.log_start_offset();
            (start > log.first_segment_base()).then_some(start)
        };
        let before = |unready: &LoadOptions| Some(unready.log_start).filter(|offset| *offset > 0);
        dir.checkpoint(names::LOG_START_OFFSETS, self.offsets(dir, inside, before))
    }

    fn offsets(
        &self,
        dir: &Arc<LogDir>,
        of: impl Fn(&Log) -> Option<i64>,
        of_unready: impl Fn(&LoadOptions) -> Option<i64>,
    ) -> Vec<(TopicPartition, i64)> {
        // What becomes ready meanwhile is in both, and is what it is now.
        let mut offsets: HashMap<_, _> = self.recoveries.checkpointed(dir, of_unready).into_iter().collect();
        for log in self.logs_in(dir) {
            match of(&log) {
                Some(offset) => offsets.insert(log.topic_partition().clone(), offset),
                None => offsets.remove(log.topic_partition()),
            };
        }
        offsets.into_iter().collect()
    }
}
