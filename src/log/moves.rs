//! Moving replicas between the directories of a broker (KIP-113; classes `ReplicaAlterLogDirsManager`,
//! `ReplicaAlterLogDirsThread`, `LogManager.replaceCurrentWithFutureLog`).
//!
//! The future log lies in `topic-N.<unique>-future` of its directory, gets the batches of the current log as they are, and takes
//! its place when nothing is missing. A start finds it again and goes on.
//!
//! Invariant: the future log is a prefix of the current one, but for what lies below its start; the current log alone counts until
//! the other is complete and on the disk. `num.replica.alter.log.dirs.threads` carry out the moves, a chunk of each in turn.

mod mover;
mod takeover;

pub(super) use mover::Moves;
pub(super) use takeover::{is_superseded_by, reconcile};

use super::background::Removal;
use super::disk;
use super::error::LogError;
use super::load::LoadOptions;
use super::log_dir::LogDir;
use super::manager::LogManager;
use super::names::{FILE_NAME_LENGTH_MAX, delete_directory_name, future_directory_name};
use super::partition::Log;
use crate::base::TopicPartition;
use crate::base::time::{monotonic_ms, wall_ms};
use crate::config::LogConfig;
use std::fs;
use std::path::Path;
use std::sync::Arc;

impl LogManager {
    /// The log that is to take the place of a partition's own.
    pub fn future(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.moves.futures.read().get(partition).cloned()
    }

    pub(super) fn online_dir(&self, path: &Path) -> Result<Arc<LogDir>, LogError> {
        let dir = self.dirs.iter().find(|dir| dir.path() == path);
        let dir = dir.ok_or_else(|| LogError::UnknownDirectory { path: path.to_owned() })?;
        dir.check_online().map(|()| Arc::clone(dir))
    }

    /// AlterReplicaLogDirs: the partition is to lie in the directory `path`. If it has no log yet, the log will be made there.
    pub fn move_to(&self, partition: &TopicPartition, path: &Path) -> Result<(), LogError> {
        let dir = self.online_dir(path)?;
        let _changing = self.changing.lock();
        self.recoveries.check_ready(partition)?;
        let Some(log) = self.log(partition) else {
            self.moves.preferred.lock().insert(partition.clone(), path.to_owned());
            return Err(LogError::NoReplica(partition.clone()));
        };
        log.log_dir().check_online()?;
        let future = self.future(partition);
        if future.as_ref().is_some_and(|future| Arc::ptr_eq(&future.log_dir(), &dir)) {
            return Ok(());
        }
        if future.is_some() {
            self.drop_future(partition);
        }
        if Arc::ptr_eq(&log.log_dir(), &dir) {
            return Ok(());
        }
        let future = self.make_future(&log, dir)?;
        tracing::info!(%partition, from = %log.log_dir().path().display(), to = %path.display(), "replica is being moved");
        self.moves.add(future);
        Ok(())
    }

    /// Moves copy no more than so many bytes in a second.
    pub fn limit_moves(&self, bytes_per_second: i64) {
        self.moves.limit(bytes_per_second);
    }

    fn make_future(&self, log: &Log, dir: Arc<LogDir>) -> Result<Arc<Log>, LogError> {
        let partition = log.topic_partition();
        let name = future_directory_name(partition, uuid::Uuid::new_v4());
        if name.len() > FILE_NAME_LENGTH_MAX {
            return Err(LogError::InvalidTopicName(partition.to_string()));
        }
        let path = dir.path().join(name);
        fs::create_dir(&path).map_err(|error| dir.failed(&path, error))?;
        let mut options = LoadOptions::new_log((*log.config()).clone(), self.producer_expiration_ms(), wall_ms());
        options.log_start = log.log_start_offset();
        let future = Log::load(partition.clone(), path, dir, Arc::clone(&self.background), options)?;
        if let Some(id) = log.topic_id() {
            future.set_topic_id(id)?;
        }
        Ok(future)
    }

    /// Ends a move, if there is one; what was copied is removed. With `changing` held.
    pub(super) fn drop_future(&self, partition: &TopicPartition) {
        let moved = self.moves.futures.write().remove(partition);
        let Some(future) = moved.or_else(|| self.recoveries.take_future(partition)) else { return };
        future.set_closed();
        if let Err(error) = self.remove_directory(&future.dir(), &future.log_dir(), partition, &future.config()) {
            tracing::warn!(%partition, %error, "what was copied of a replica cannot be removed");
        }
    }

    /// Gives a partition's directory its `-delete` name; it goes after `file.delete.delay.ms`.
    pub(super) fn remove_directory(
        &self,
        path: &Path,
        log_dir: &LogDir,
        partition: &TopicPartition,
        config: &LogConfig,
    ) -> Result<(), LogError> {
        let target = log_dir.path().join(delete_directory_name(partition, uuid::Uuid::new_v4()));
        disk::rename(path, &target).map_err(|error| log_dir.failed(path, error))?;
        let due_ms = monotonic_ms().saturating_add(config.file_delete_delay_ms);
        self.background.remove_later(Removal { due_ms, paths: vec![target] });
        Ok(())
    }

    /// Logs of a directory: those in use, and those on their way to it.
    pub(super) fn logs_in(&self, dir: &Arc<LogDir>) -> Vec<Arc<Log>> {
        let is_here = |log: &&Arc<Log>| Arc::ptr_eq(&log.log_dir(), dir);
        let mut here: Vec<Arc<Log>> = self.logs.read().values().filter(is_here).cloned().collect();
        here.extend(self.moves.futures.read().values().filter(is_here).cloned());
        here.extend(self.recoveries.waiting_futures().into_iter().filter(|log| is_here(&log)));
        here
    }
}
