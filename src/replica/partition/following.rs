//! What a follower does with its log: it takes over what the leader has, byte for byte, and cuts off what the leader lacks.
//!
//! Invariant: nothing is appended or cut for another leader epoch than the partition's: an answer that comes after the next
//! LeaderAndIsr finds a closed door.

use super::Partition;
use crate::base::LeaderEpoch;
use crate::log::Log;
use crate::record::{HEADER_SIZE, LegacyBatch, RawBatch, RecordError, ValidatedBatch, batches};
use crate::replica::error::ReplicaError;
use bytes::Bytes;

/// What became of a leader's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Followed {
    /// Where to go on.
    pub next_offset: i64,
    /// Epoch of the last batch taken; `None` if there was none.
    pub last_epoch: Option<LeaderEpoch>,
    pub size_bytes: usize,
}

/// A batch in the format in which the leader has it: old segments may hold the formats before 2.
#[derive(Clone, Debug)]
pub enum LeaderBatch {
    Current(ValidatedBatch),
    Legacy(LegacyBatch),
}

impl LeaderBatch {
    fn of(batch: &RawBatch<'_>, records: &Bytes, position: usize) -> LeaderBatch {
        match batch.header() {
            Some(header) => {
                let payload = records.slice(position + HEADER_SIZE..position + batch.size_bytes());
                LeaderBatch::Current(ValidatedBatch { header, payload })
            }
            None => LeaderBatch::Legacy(LegacyBatch::of(batch, records)),
        }
    }

    /// [`LeaderEpoch::NONE`] before format 2.
    fn leader_epoch(&self) -> LeaderEpoch {
        match self {
            LeaderBatch::Current(batch) => LeaderEpoch(batch.header.partition_leader_epoch()),
            LeaderBatch::Legacy(_) => LeaderEpoch::NONE,
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            LeaderBatch::Current(batch) => batch.size_bytes(),
            LeaderBatch::Legacy(batch) => batch.size_bytes(),
        }
    }
}

/// The batches in what a leader sent, as they lie there, checksums verified. A batch of a later epoch than `epoch`, which was written
/// while the fetch was on its way, ends them, and so do a torn tail and a damaged batch: what is sound before it is taken over, and
/// the next fetch begins with it. An answer that begins with it is refused (Apache Kafka refuses the whole answer in both cases).
pub fn check_batches(records: &Bytes, epoch: LeaderEpoch) -> Result<Vec<LeaderBatch>, RecordError> {
    let mut found = Vec::new();
    let mut position = 0;
    for batch in batches(records) {
        match batch.and_then(|batch| check_batch(&batch, records, position, epoch)) {
            Ok(checked) => {
                position += checked.size_bytes();
                found.push(checked);
            }
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    // Whoever takes nothing of an answer must not ask for the same again at once.
    if found.is_empty() && !records.is_empty() {
        return Err(RecordError::corrupt(format!("no whole batch is in {} bytes", records.len())));
    }
    Ok(found)
}

fn check_batch(
    batch: &RawBatch<'_>,
    records: &Bytes,
    position: usize,
    epoch: LeaderEpoch,
) -> Result<LeaderBatch, RecordError> {
    batch.verify()?;
    let checked = LeaderBatch::of(batch, records, position);
    match checked.leader_epoch() {
        later if later > epoch => Err(RecordError::corrupt(format!("leader epoch {later} is later than {epoch}"))),
        _ => Ok(checked),
    }
}

impl Partition {
    /// Runs `work` while this broker follows the leader of `epoch`.
    fn following<T>(
        &self,
        epoch: LeaderEpoch,
        work: impl FnOnce(&Log) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        let state = self.state.read();
        let current = state.leadership().leader_epoch;
        if state.is_leader() || current != epoch {
            return Err(ReplicaError::NotFollowing { current });
        }
        work(&self.log)
    }

    /// Takes over what the leader of `epoch` has from the log's end on, and what it says of the high watermark and the log start.
    pub fn append_from_leader(
        &self,
        epoch: LeaderEpoch,
        records: &Bytes,
        high_watermark: i64,
        log_start_offset: i64,
    ) -> Result<Followed, ReplicaError> {
        let batches = check_batches(records, epoch)?;
        let (followed, moved) = self.following(epoch, |log| {
            let before = log.high_watermark();
            self.append_batches(log, &batches)?;
            let after = log.update_high_watermark(high_watermark);
            if log_start_offset > log.log_start_offset() {
                log.increment_log_start_offset(log_start_offset)?;
            }
            let followed = Followed {
                next_offset: log.log_end_offset(),
                last_epoch: batches.last().map(LeaderBatch::leader_epoch),
                size_bytes: batches.iter().map(LeaderBatch::size_bytes).sum(),
            };
            Ok((followed, after != before))
        })?;
        if moved {
            self.waiters.wake_all();
        }
        Ok(followed)
    }

    fn append_batches(&self, log: &Log, batches: &[LeaderBatch]) -> Result<(), ReplicaError> {
        let (mut current, mut legacy) = (Vec::new(), Vec::new());
        for batch in batches {
            match batch {
                LeaderBatch::Current(batch) => {
                    append_legacy(log, &std::mem::take(&mut legacy))?;
                    current.push(batch.clone());
                }
                LeaderBatch::Legacy(batch) => {
                    self.append_current(log, &std::mem::take(&mut current))?;
                    legacy.push(batch.clone());
                }
            }
        }
        append_legacy(log, &legacy)?;
        self.append_current(log, &current)
    }

    fn append_current(&self, log: &Log, batches: &[ValidatedBatch]) -> Result<(), ReplicaError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let first_offset = first.header.base_offset();
        if start == end && first_offset < end && last.header.last_offset() >= end {
            // The leader's log start lies inside its first batch: the batch comes whole.
            let (partition, logs) = (&self.topic_partition, &self.around.logs);
            tracing::info!(%partition, from = end, to = first_offset, "the leader's log begins inside a batch");
            logs.truncate_fully_and_start_at(partition, first_offset)?;
        }
        if fits_segment(log, batches.iter().map(ValidatedBatch::size_bytes)) {
            log.append_as_follower(batches)?;
            return Ok(());
        }
        // More than a segment holds, as where the leader's segments are larger.
        for batch in batches {
            log.append_as_follower(std::slice::from_ref(batch))?;
        }
        Ok(())
    }

    /// Cuts off everything from `offset` on, and says where the log ends now.
    pub fn truncate_from_leader(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError> {
        self.following(epoch, |log| {
            self.around.logs.truncate_to(&[(self.topic_partition.clone(), offset)])?;
            Ok(log.log_end_offset())
        })
    }

    /// Drops everything; the log goes on at `offset`, where the leader's begins.
    pub fn restart_from_leader(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError> {
        self.following(epoch, |log| {
            self.around.logs.truncate_fully_and_start_at(&self.topic_partition, offset)?;
            Ok(log.log_end_offset())
        })
    }
}

fn append_legacy(log: &Log, batches: &[LegacyBatch]) -> Result<(), ReplicaError> {
    if fits_segment(log, batches.iter().map(LegacyBatch::size_bytes)) {
        log.append_legacy_as_follower(batches)?;
        return Ok(());
    }
    for batch in batches {
        log.append_legacy_as_follower(std::slice::from_ref(batch))?;
    }
    Ok(())
}

fn fits_segment(log: &Log, sizes: impl Iterator<Item = usize>) -> bool {
    i64::try_from(sizes.sum::<usize>()).is_ok_and(|size| size <= i64::from(log.config().segment_bytes))
}

impl From<RecordError> for ReplicaError {
    fn from(error: RecordError) -> ReplicaError {
        ReplicaError::Corrupt(error.to_string())
    }
}
