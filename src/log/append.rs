//! Appending (class `UnifiedLog.append`).
//!
//! Invariant: checks, then one write, then the changes in memory, then the new end is published; a refused or failed append
//! leaves no trace.

use super::checkpoint::Durability;
use super::error::LogError;
use super::marker::read_marker;
use super::partition::{Log, LogPosition, StoredTopicId, Writer};
use super::partition_metadata;
use super::producer_snapshot;
use super::producer_state::{AppendOrigin, BatchMetadata, ProducerError, ProducerUpdate};
use super::roll::{RollInput, segment_jitter_ms, should_roll};
use super::segment::{AppendedBatch, Segment};
use super::transaction_index::AbortedTransaction;
use crate::base::time::wall_ms;
use crate::base::{LeaderEpoch, Millis, ProducerEpoch, ProducerId};
use crate::config::LogConfig;
use crate::record::{BatchHeader, EndTxnMarker, ValidatedBatch, ValidatedRecords};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogAppendInfo {
    pub first_offset: i64,
    pub last_offset: i64,
    /// -1 unless the topic has LogAppendTime.
    pub log_append_time: i64,
    pub log_start_offset: i64,
    /// The producer sent this before; the offsets are those of the first time.
    pub is_duplicate: bool,
}

/// What is about to be written in one go.
pub(super) struct Incoming {
    pub size: u64,
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
}

impl Log {
    /// Gives the batches the next offsets and the leader's epoch, and writes them.
    pub fn append_as_leader(
        &self,
        records: ValidatedRecords,
        epoch: LeaderEpoch,
        origin: AppendOrigin,
    ) -> Result<LogAppendInfo, LogError> {
        let mut batches = records.batches;
        let mut writer = self.writer.lock();
        let mut next = self.log_end_offset();
        for batch in &mut batches {
            batch.header.set_base_offset(next);
            batch.header.set_partition_leader_epoch(epoch.0);
            next = batch.header.next_offset();
        }
        let info = self.append(&mut writer, &batches, origin)?;
        drop(writer);
        self.flush_if_due()?;
        Ok(info)
    }

    /// Writes what the leader has, offsets and epochs included.
    pub fn append_as_follower(&self, batches: &[ValidatedBatch]) -> Result<LogAppendInfo, LogError> {
        let mut writer = self.writer.lock();
        let mut expected = self.log_end_offset();
        for batch in batches {
            let offset = batch.header.base_offset();
            if offset < expected {
                return Err(LogError::UnexpectedOffset { log: self.topic_partition.clone(), offset, expected });
            }
            expected = batch.header.next_offset();
        }
        let info = self.append(&mut writer, batches, AppendOrigin::Replication)?;
        drop(writer);
        self.flush_if_due()?;
        Ok(info)
    }

    fn append(
        &self,
        writer: &mut Writer,
        batches: &[ValidatedBatch],
        origin: AppendOrigin,
    ) -> Result<LogAppendInfo, LogError> {
        self.check_usable()?;
        let config = self.config.load();
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Err(self.invalid("an append needs at least one batch"));
        };
        let size = self.check_batches(batches, &config)?;
        if let Some(earlier) = find_duplicate(writer, batches, origin) {
            return Ok(self.duplicate_info(&earlier, &first.header));
        }
        let update = self.check_producers(writer, batches, origin)?;
        self.sync_topic_id()?;
        let incoming = Incoming {
            size,
            first_offset: first.header.base_offset(),
            last_offset: last.header.last_offset(),
            max_timestamp: batches.iter().map(|batch| batch.header.max_timestamp()).max().unwrap_or(-1),
        };
        let segment = self.segment_for(writer, &incoming, &config)?;
        self.note_epochs(batches)?;
        self.write(&segment, batches, &config)?;
        let aborted = writer.producers.apply(update);
        self.note_aborted(&segment, &aborted);
        for batch in batches.iter().filter(|batch| batch.header.is_transactional()) {
            writer.verifications.clear(ProducerId(batch.header.producer_id()));
        }
        let next_offset = last.header.next_offset();
        writer.producers.set_end_offset(next_offset);
        self.publish_first_unstable(writer);
        *self.end.write() =
            LogPosition { offset: next_offset, segment_base: segment.base_offset(), position: segment.size() };
        Ok(LogAppendInfo {
            first_offset: first.header.base_offset(),
            last_offset: last.header.last_offset(),
            log_append_time: append_time(&last.header),
            log_start_offset: self.log_start_offset(),
            is_duplicate: false,
        })
    }

    /// The batches are written: going on without these entries would show aborted records to readers.
    pub(super) fn note_aborted(&self, segment: &Segment, aborted: &[AbortedTransaction]) {
        for aborted in aborted {
            if let Err(error) = segment.transaction_index.push(aborted) {
                self.log_dir().set_offline(&format!("{}: {error}", segment.transaction_index.path().display()));
            }
        }
    }

    /// Sizes and counts that would make a file unreadable are refused here, whoever built the batch.
    fn check_batches(&self, batches: &[ValidatedBatch], config: &LogConfig) -> Result<u64, LogError> {
        let mut size = 0u64;
        for batch in batches {
            let header = &batch.header;
            let is_sound = header.magic() == 2
                && header.base_offset() >= 0
                && header.last_offset_delta() >= 0
                && header.base_offset().checked_add(i64::from(i32::MAX)).is_some()
                && header.size_bytes() == batch.size_bytes() as i64;
            if !is_sound {
                return Err(self.invalid("a batch whose header contradicts its bytes"));
            }
            size += batch.size_bytes() as u64;
        }
        let limit = config.segment_bytes.max(0) as u64;
        if size > limit {
            return Err(LogError::RecordListTooLarge { log: self.topic_partition.clone(), size, limit });
        }
        Ok(size)
    }

    fn check_producers(
        &self,
        writer: &Writer,
        batches: &[ValidatedBatch],
        origin: AppendOrigin,
    ) -> Result<ProducerUpdate, LogError> {
        let mut update = ProducerUpdate::default();
        for batch in batches.iter().filter(|batch| batch.header.has_producer_id()) {
            let marker = if batch.header.is_control() { self.marker_of(batch)? } else { None };
            if is_first_of_transaction(writer, &batch.header) && origin != AppendOrigin::Replication {
                let verified = writer.verifications.check(&batch.header);
                verified.map_err(|error| self.producer_error(&batch.header, error))?;
            }
            let checked = writer.producers.check(&mut update, &batch.header, marker, origin);
            checked.map_err(|error| self.producer_error(&batch.header, error))?;
        }
        Ok(update)
    }

    fn marker_of(&self, batch: &ValidatedBatch) -> Result<Option<EndTxnMarker>, LogError> {
        read_marker(&batch.to_bytes()).map_err(|_| self.invalid("a control batch without a control record"))
    }

    fn producer_error(&self, header: &BatchHeader, error: ProducerError) -> LogError {
        let log = self.topic_partition.clone();
        let producer = ProducerId(header.producer_id());
        match error {
            ProducerError::OutOfOrderSequence { expected } => {
                LogError::OutOfOrderSequence { log, producer, sequence: header.base_sequence(), expected }
            }
            ProducerError::InvalidEpoch { current } => {
                LogError::InvalidProducerEpoch { log, producer, epoch: ProducerEpoch(header.producer_epoch()), current }
            }
            ProducerError::InvalidTransactionState => LogError::InvalidTransactionState { log, producer },
            ProducerError::CoordinatorFenced { epoch, current } => {
                LogError::TransactionCoordinatorFenced { log, epoch, current }
            }
        }
    }

    fn duplicate_info(&self, earlier: &BatchMetadata, header: &BatchHeader) -> LogAppendInfo {
        LogAppendInfo {
            first_offset: earlier.first_offset(),
            last_offset: earlier.last_offset,
            log_append_time: if header.is_log_append_time() { earlier.timestamp } else { -1 },
            log_start_offset: self.log_start_offset(),
            is_duplicate: true,
        }
    }

    /// The topic id is on the disk before the first record is.
    pub(super) fn sync_topic_id(&self) -> Result<(), LogError> {
        let mut stored = self.topic_id.lock();
        if let StoredTopicId { id: Some(id), is_synced: false } = *stored {
            partition_metadata::sync(&self.dir(), id).map_err(|error| self.log_dir().reported(error))?;
            stored.is_synced = true;
        }
        Ok(())
    }

    /// The active segment, or a new one if it is full.
    pub(super) fn segment_for(
        &self,
        writer: &mut Writer,
        incoming: &Incoming,
        config: &LogConfig,
    ) -> Result<Arc<Segment>, LogError> {
        let active = self.active();
        let failed = |error| self.log_dir().failed(active.path(), error);
        let is_index_full = active.offset_index.is_full(config.segment_index_bytes).map_err(failed)?
            || active.time_index.is_full(config.segment_index_bytes).map_err(failed)?;
        let input = RollInput {
            now_ms: wall_ms(),
            segment_size: active.size(),
            segment_base: active.base_offset(),
            segment_first_timestamp: active.first_timestamp().map_err(failed)?,
            segment_created_ms: active.created_ms(),
            segment_jitter_ms: active.jitter_ms(),
            is_index_full,
            append_size: incoming.size,
            append_last_offset: incoming.last_offset,
            append_max_timestamp: incoming.max_timestamp,
            segment_bytes: config.segment_bytes,
            segment_ms: segment_ms(config),
        };
        if should_roll(&input) { self.roll(writer, incoming.first_offset, config) } else { Ok(active) }
    }

    /// Closes the active segment and begins one at `base_offset` or the log's end, whichever is later.
    pub(super) fn roll(
        &self,
        writer: &mut Writer,
        base_offset: i64,
        config: &LogConfig,
    ) -> Result<Arc<Segment>, LogError> {
        let active = self.active();
        let base_offset = base_offset.max(self.log_end_offset());
        if active.size() == 0 && active.base_offset() == base_offset {
            return Ok(active);
        }
        active.close_indexes().map_err(|error| self.log_dir().failed(active.path(), error))?;
        writer.producers.set_end_offset(base_offset);
        self.take_snapshot(writer)?;
        let segment = Segment::create(&self.dir(), base_offset, wall_ms(), segment_jitter_ms(config));
        let segment = Arc::new(segment.map_err(|error| self.log_dir().failed(&self.dir(), error))?);
        segment.preallocate(config);
        let mut segments = self.segments.load().to_vec();
        if active.size() == 0 && segments.len() > 1 {
            // Nothing was ever in it, as after a gap that a follower skips. The first one stays, since it says where the log starts.
            segments.pop();
            self.remove_now(&active)?;
        }
        segments.push(Arc::clone(&segment));
        self.segments.store(Arc::new(segments));
        *self.end.write() = LogPosition { offset: base_offset, segment_base: base_offset, position: 0 };
        self.background.flush_later(self.this.clone(), base_offset);
        Ok(segment)
    }

    pub(super) fn take_snapshot(&self, writer: &mut Writer) -> Result<(), LogError> {
        if writer.producers.end_offset() > writer.snapshot_offset {
            let written = producer_snapshot::write(&self.dir(), &writer.producers, Durability::Written);
            written.map_err(|error| self.log_dir().reported(error))?;
            writer.snapshot_offset = writer.producers.end_offset();
        }
        Ok(())
    }

    fn write(&self, segment: &Segment, batches: &[ValidatedBatch], config: &LogConfig) -> Result<(), LogError> {
        let mut slices = Vec::with_capacity(batches.len() * 2);
        let mut appended = Vec::with_capacity(batches.len());
        for batch in batches {
            slices.push(IoSlice::new(batch.header.as_bytes()));
            slices.push(IoSlice::new(&batch.payload));
            appended.push(AppendedBatch {
                size: batch.size_bytes() as u64,
                last_offset: batch.header.last_offset(),
                max_timestamp: batch.header.max_timestamp(),
            });
        }
        self.write_slices(segment, &mut slices, &appended, config)
    }

    pub(super) fn write_slices(
        &self,
        segment: &Segment,
        slices: &mut [IoSlice<'_>],
        appended: &[AppendedBatch],
        config: &LogConfig,
    ) -> Result<(), LogError> {
        let interval = config.index_interval_bytes.max(0) as u64;
        segment.append(slices, appended, interval).map_err(|(error, uncut)| {
            if let Some(uncut) = uncut {
                self.log_dir()
                    .set_offline(&format!("{}: cannot cut off a failed write: {uncut}", segment.path().display()));
            }
            self.log_dir().failed(segment.path(), error)
        })
    }

    fn note_epochs(&self, batches: &[ValidatedBatch]) -> Result<(), LogError> {
        let mut changed = self.are_epochs_unwritten.load(Ordering::Acquire);
        for batch in batches {
            let epoch = LeaderEpoch(batch.header.partition_leader_epoch());
            if epoch.0 >= 0 && self.latest_epoch() != Some(epoch) {
                changed |= self.epochs.write().assign(epoch, batch.header.base_offset());
            }
        }
        if changed { self.write_epochs(Durability::Written) } else { Ok(()) }
    }

    pub(super) fn flush_if_due(&self) -> Result<(), LogError> {
        let config = self.config.load();
        if config.flush_messages == i64::MAX {
            return Ok(());
        }
        let end = self.log_end_offset();
        if end - self.recovery_point.load(Ordering::Acquire) >= config.flush_messages {
            return waiting(|| self.flush_to(end));
        }
        Ok(())
    }

    pub(super) fn invalid(&self, reason: &'static str) -> LogError {
        LogError::InvalidBatch { log: self.topic_partition.clone(), reason }
    }
}

/// Data of a transaction that has not begun in this partition.
fn is_first_of_transaction(writer: &Writer, header: &BatchHeader) -> bool {
    let is_data = header.is_transactional() && !header.is_control();
    is_data && !writer.producers.has_open_transaction(ProducerId(header.producer_id()))
}

/// Has other producers of the same thread go on while this one waits for the disk, so that they share the next flush.
fn waiting<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn find_duplicate(writer: &Writer, batches: &[ValidatedBatch], origin: AppendOrigin) -> Option<BatchMetadata> {
    if origin != AppendOrigin::Client {
        return None;
    }
    let with_producer = batches.iter().filter(|batch| batch.header.has_producer_id());
    with_producer.filter_map(|batch| writer.producers.duplicate_of(&batch.header)).next()
}

/// A record of a compacted topic can be compacted only when its segment is closed.
fn segment_ms(config: &LogConfig) -> Millis {
    if config.cleanup_policy.compact { config.segment_ms.min(config.max_compaction_lag_ms) } else { config.segment_ms }
}

fn append_time(header: &BatchHeader) -> i64 {
    if header.is_log_append_time() { header.max_timestamp() } else { -1 }
}
