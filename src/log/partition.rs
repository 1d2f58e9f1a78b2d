//! The log of one partition: what it is made of, and the offsets that it has reached (class `UnifiedLog`).
//!
//! Invariant: log start <= high watermark <= log end, and recovery point <= log end. Changes to files happen under `writer`;
//! readers take the list of segments as it is and never wait for a write. Order of locks: `writer`, `truncation`, then the
//! small ones, which are never held while another is taken.

use super::background::Background;
use super::checkpoint::{Durability, write_epochs};
use super::cleaner::Cleaning;
use super::epoch_cache::{LeaderEpochCache, UNDEFINED};
use super::error::LogError;
use super::log_dir::LogDir;
use super::producer_state::{ProducerEntry, ProducerStates};
use super::segment::Segment;
use super::transaction_index::AbortedTransaction;
use super::verification::{VerificationGuard, Verifications};
use super::{names, partition_metadata};
use crate::base::{LeaderEpoch, Millis, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use crate::config::LogConfig;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

/// An offset and where its batch begins, or would begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPosition {
    pub offset: i64,
    pub segment_base: i64,
    pub position: u64,
}

/// What is changed by appends, truncation and retention only.
pub(super) struct Writer {
    pub producers: ProducerStates,
    /// Newest snapshot file.
    pub snapshot_offset: i64,
    pub verifications: Verifications,
}

#[derive(Clone, Copy)]
pub(super) struct StoredTopicId {
    pub id: Option<TopicId>,
    /// Survives a power cut.
    pub is_synced: bool,
}

#[derive(Clone, Copy)]
pub(super) struct HighWatermark {
    pub offset: i64,
    /// Looked up when first needed.
    pub position: Option<LogPosition>,
}

/// Where a log lies. A move between log directories changes it.
pub(super) struct Place {
    /// The partition's own directory.
    pub dir: PathBuf,
    pub log_dir: Arc<LogDir>,
}

pub struct Log {
    pub(super) this: Weak<Log>,
    pub(super) topic_partition: TopicPartition,
    pub(super) place: ArcSwap<Place>,
    pub(super) background: Arc<Background>,
    pub(super) config: ArcSwap<LogConfig>,
    pub(super) topic_id: Mutex<StoredTopicId>,
    pub(super) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(super) end: RwLock<LogPosition>,
    pub(super) high_watermark: RwLock<HighWatermark>,
    pub(super) log_start: AtomicI64,
    pub(super) recovery_point: AtomicI64,
    /// `i64::MAX`: everything below the high watermark is stable.
    pub(super) first_unstable: AtomicI64,
    pub(super) last_flush_ms: AtomicI64,
    pub(super) epochs: RwLock<LeaderEpochCache>,
    /// The file lacks what the cache has, since the disk was full.
    pub(super) are_epochs_unwritten: AtomicBool,
    pub(super) writer: Mutex<Writer>,
    /// Held while a flush runs; whoever waits for it may find its own work done.
    pub(super) flushing: Mutex<()>,
    /// Readers hold it shared, so that no file shrinks under a lookup.
    pub(super) truncation: RwLock<()>,
    pub(super) is_closed: AtomicBool,
    pub(super) cleaning: Cleaning,
    /// Where the log was cut last, or deepest, since a copy of it was told; `i64::MAX`: nowhere.
    pub(super) lowest_truncation: AtomicI64,
    /// The damage that was found last: every reader finds it again, and it is told once.
    pub(super) damage: Mutex<String>,
}

impl Log {
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The partition's own directory.
    pub fn dir(&self) -> PathBuf {
        self.place.load().dir.clone()
    }

    pub fn log_dir(&self) -> Arc<LogDir> {
        Arc::clone(&self.place.load().log_dir)
    }

    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    pub fn set_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
    }

    pub fn topic_id(&self) -> Option<TopicId> {
        self.topic_id.lock().id
    }

    /// Gives the log its topic id, or checks it against the one that it has.
    pub fn set_topic_id(&self, given: TopicId) -> Result<(), LogError> {
        let mut stored = self.topic_id.lock();
        match stored.id {
            Some(id) if id == given => Ok(()),
            Some(id) => Err(LogError::InconsistentTopicId { log: self.topic_partition.clone(), stored: id, given }),
            None => {
                partition_metadata::write(&self.dir(), given, Durability::Written)?;
                *stored = StoredTopicId { id: Some(given), is_synced: false };
                Ok(())
            }
        }
    }

    pub fn log_start_offset(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    pub fn log_end_offset(&self) -> i64 {
        self.end.read().offset
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.read().offset
    }

    /// Everything below was flushed.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point.load(Ordering::Acquire)
    }

    /// What a reader of committed data may see: below every open transaction, and below the high watermark.
    pub fn last_stable_offset(&self) -> i64 {
        self.high_watermark().min(self.first_unstable.load(Ordering::Acquire))
    }

    /// Sets the high watermark, within log start and log end, and gives what it became.
    pub fn update_high_watermark(&self, offset: i64) -> i64 {
        self.set_high_watermark(offset, |_, _| true)
    }

    /// Moves the high watermark up to `offset`, as far as the log goes, and says whether it moved. It never goes back by this.
    pub fn raise_high_watermark(&self, offset: i64) -> bool {
        let mut raised = false;
        self.set_high_watermark(offset, |from, to| {
            raised = to > from;
            raised
        });
        raised
    }

    /// Goes from one offset to another if `wanted` says so.
    fn set_high_watermark(&self, offset: i64, wanted: impl FnOnce(i64, i64) -> bool) -> i64 {
        let no_truncation = self.truncation.read();
        let end = *self.end.read();
        let offset = offset.clamp(self.log_start_offset().min(end.offset), end.offset);
        let position = (offset == end.offset).then_some(end);
        let mut current = self.high_watermark.write();
        if !wanted(current.offset, offset) {
            return current.offset;
        }
        if current.offset != offset || position.is_some() {
            *current = HighWatermark { offset, position };
        }
        drop(current);
        drop(no_truncation);
        if self.first_unstable.load(Ordering::Acquire) != i64::MAX {
            let mut writer = self.writer.lock();
            writer.producers.on_high_watermark(offset);
            self.publish_first_unstable(&writer);
        }
        offset
    }

    pub(super) fn publish_first_unstable(&self, writer: &Writer) {
        let first = writer.producers.first_unstable_offset();
        let first = first.map_or(i64::MAX, |offset| offset.max(self.log_start_offset()));
        self.first_unstable.store(first, Ordering::Release);
    }

    pub fn size_bytes(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.size()).sum()
    }

    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    pub fn active_producers(&self) -> Vec<ProducerEntry> {
        self.writer.lock().producers.entries().copied().collect()
    }

    pub fn expire_producers(&self, now_ms: Millis, expiration_ms: Millis) {
        let mut writer = self.writer.lock();
        if !writer.producers.is_empty() {
            writer.producers.expire(now_ms, expiration_ms);
        }
        writer.verifications.expire(now_ms, expiration_ms);
    }

    /// Before a producer's transactional batch: the question to its coordinator whether the transaction includes this partition. `None`
    /// if it need not be asked, since the transaction has begun here. Batches of the group coordinator have no `sequence`.
    pub fn begin_verification(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: Option<i32>,
        now_ms: Millis,
    ) -> Option<VerificationGuard> {
        let mut writer = self.writer.lock();
        match writer.producers.has_open_transaction(producer) {
            true => None,
            false => writer.verifications.begin(producer, epoch, sequence, now_ms),
        }
    }

    /// The coordinator said yes.
    pub fn confirm_verification(&self, producer: ProducerId, guard: VerificationGuard) {
        self.writer.lock().verifications.confirm(producer, guard);
    }

    /// Aborted transactions that a reader of the offsets in `from..to` must know.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Result<Vec<AbortedTransaction>, LogError> {
        // The list and the files have to belong together.
        let _no_replacement = self.truncation.read();
        let segments = self.segments.load_full();
        let first = segments.partition_point(|segment| segment.base_offset() <= from).saturating_sub(1);
        let mut found = Vec::new();
        for segment in &segments[first..] {
            let aborted = segment.transaction_index.read();
            let aborted = aborted.map_err(|error| self.read_failed(segment.transaction_index.path(), error))?;
            for transaction in aborted {
                if transaction.last_offset >= from && transaction.first_offset < to {
                    found.push(transaction);
                }
                if transaction.last_stable_offset >= to {
                    return self.if_not_removed(from, found);
                }
            }
        }
        self.if_not_removed(from, found)
    }

    /// Retention may have taken the segments, and with them what they told of aborted transactions.
    fn if_not_removed<T>(&self, from: i64, found: T) -> Result<T, LogError> {
        if from < self.log_start_offset() { Err(self.out_of_range(from)) } else { Ok(found) }
    }

    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().latest()
    }

    pub fn epoch_at(&self, offset: i64) -> Option<LeaderEpoch> {
        self.epochs.read().epoch_at(offset)
    }

    /// First offset of an epoch, if the log has it.
    pub fn epoch_start_offset(&self, epoch: LeaderEpoch) -> Option<i64> {
        self.epochs.read().start_of(epoch)
    }

    /// Notes that a leader epoch begins at the log's end. A leader calls this before its first append.
    pub fn assign_epoch_start_offset(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        let _writer = self.writer.lock();
        self.check_usable()?;
        let start = self.log_end_offset();
        let changed = self.epochs.write().assign(epoch, start);
        if changed { self.write_epochs(Durability::Written) } else { Ok(()) }
    }

    /// Largest epoch not above `epoch`, and where it ends; (-1, -1) if unknown.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, i64) {
        let end = self.log_end_offset();
        let epochs = self.epochs.read();
        if epochs.is_empty() { UNDEFINED } else { epochs.end_offset_for(epoch, end) }
    }

    pub(super) fn write_epochs(&self, durability: Durability) -> Result<(), LogError> {
        let entries = self.epochs.read().entries().to_vec();
        let path = self.dir().join(names::LEADER_EPOCHS);
        let written = write_epochs(&path, &entries, durability);
        self.are_epochs_unwritten.store(written.is_err(), Ordering::Release);
        written.map_err(|error| self.log_dir().failed(&path, error))
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// No more appends or flushes: the directory is about to go, or the broker stops.
    pub(super) fn set_closed(&self) {
        let _writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn check_usable(&self) -> Result<(), LogError> {
        if self.is_closed() {
            return Err(LogError::Closed(self.topic_partition.clone()));
        }
        self.log_dir().check_online()
    }

    pub(super) fn out_of_range(&self, offset: i64) -> LogError {
        LogError::OffsetOutOfRange {
            log: self.topic_partition.clone(),
            offset,
            start: self.log_start_offset(),
            end: self.log_end_offset(),
        }
    }

    /// Data that contradicts itself is corruption; anything else is the disk, unless the directory was just taken away.
    pub(super) fn read_failed(&self, path: &Path, error: io::Error) -> LogError {
        match error.kind() {
            _ if self.is_closed() => LogError::Closed(self.topic_partition.clone()),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                let reason = error.to_string();
                let mut told = self.damage.lock();
                if *told != reason {
                    tracing::error!(log = %self.topic_partition, reason, "the log is damaged: nobody can read on from there");
                    told.clone_from(&reason);
                }
                LogError::corrupt(path, reason)
            }
            _ => self.log_dir().failed(path, error),
        }
    }

    pub(super) fn active(&self) -> Arc<Segment> {
        let segments = self.segments.load();
        Arc::clone(segments.last().expect("a log always has an active segment"))
    }
}
