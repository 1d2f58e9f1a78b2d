//! What a coordinator needs of the log of its topic, and how the log is read into a shard.
//!
//! Invariant: a record that a newer broker may have written keeps the partition unavailable, since its state would be wrong
//! without it; a damaged one is passed over, as in Kafka.

use super::shard::{Now, Shard, StoredRecord};
use crate::base::{ErrorCode, LeaderEpoch, Millis, ProducerId};
use crate::record::{BatchBuilder, EndTxnMarker, RawBatch, RecordError, ValidatedBatch, batches};
use crate::wire::coordinator_record::RecordFormatError;
use bytes::Bytes;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

/// Resolves with the offset of the batch once all in-sync replicas have it, or not in time.
pub type Append = Pin<Box<dyn Future<Output = Result<i64, ErrorCode>> + Send>>;

/// Resolves once all in-sync replicas have something.
pub type Committed = Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send>>;

/// The partitions of a coordinator's topic on this broker.
pub trait CoordinatorLog: Send + Sync + 'static {
    /// Appends as leader, of this epoch if it matters. The order of calls is the order in the log; the future only waits for the
    /// replicas.
    fn append(&self, partition: i32, epoch: Option<LeaderEpoch>, batch: ValidatedBatch, timeout: Duration) -> Append;

    /// Resolves once all in-sync replicas have what is below `offset`, however long that takes; with an error when another broker
    /// leads.
    fn committed(&self, partition: i32, offset: i64) -> Committed;

    /// Log start offset and log end offset; `None` if the partition is not here.
    fn bounds(&self, partition: i32) -> Option<Range<i64>>;

    /// Whole batches from the one that holds `offset` on, about `max_bytes` of them and at least one. May block on the disk.
    fn read(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Bytes, ErrorCode>;
}

/// Why a partition cannot be loaded. It stays unavailable: offsets would be lost silently, or transactions torn.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the partition is not on this broker")]
    NotHere,
    #[error("cannot read at offset {offset}: {error:?}")]
    Read { offset: i64, error: ErrorCode },
    #[error("at offset {offset}: {error}")]
    Batch { offset: i64, error: RecordError },
    #[error("at offset {offset}: {error}; a newer broker wrote it")]
    Version { offset: i64, error: RecordFormatError },
    #[error("no progress at offset {offset}")]
    Stuck { offset: i64 },
}

/// How much is read at a time (`offsets.load.buffer.size`, `transaction.state.log.load.buffer.size`).
const LOAD_BUFFER_BYTES: usize = 5 << 20;
/// More than any batch of these topics holds when decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Reads a partition into a shard, from the start of the log to its end, which markers may move meanwhile. Returns the end.
pub(super) fn load<S: Shard>(
    log: &dyn CoordinatorLog,
    partition: i32,
    shard: &mut S,
    now: Now,
) -> Result<i64, LoadError> {
    let mut offset = log.bounds(partition).ok_or(LoadError::NotHere)?.start;
    while offset < log.bounds(partition).ok_or(LoadError::NotHere)?.end {
        let bytes =
            log.read(partition, offset, LOAD_BUFFER_BYTES).map_err(|error| LoadError::Read { offset, error })?;
        let next = replay_batches(&bytes, offset, shard, now)?;
        if next <= offset {
            return Err(LoadError::Stuck { offset });
        }
        offset = next;
    }
    Ok(offset)
}

/// Replays whole batches; returns the offset after the last.
fn replay_batches<S: Shard>(bytes: &[u8], from_offset: i64, shard: &mut S, now: Now) -> Result<i64, LoadError> {
    let mut offset = from_offset;
    for batch in batches(bytes) {
        let at = offset;
        let batch = batch.map_err(|error| LoadError::Batch { offset: at, error })?;
        replay_batch(&batch, shard, now)?;
        offset = offset.max(batch.next_offset());
    }
    Ok(offset)
}

fn replay_batch<S: Shard>(batch: &RawBatch<'_>, shard: &mut S, now: Now) -> Result<(), LoadError> {
    let wrong = |error| LoadError::Batch { offset: batch.base_offset(), error };
    let header = batch.header();
    let producer = header.filter(|header| header.is_transactional()).map(|header| ProducerId(header.producer_id()));
    let records = batch.records(DECOMPRESSED_BYTES_MAX).map_err(wrong)?;
    for record in records.iter() {
        let record = record.map_err(wrong)?;
        if batch.is_control() {
            if let (Some(marker), Some(producer)) = (EndTxnMarker::decode(&record).map_err(wrong)?, producer) {
                shard.read_marker(producer, marker.commit);
            }
            continue;
        }
        let (offset, topic) = (record.offset, S::TOPIC);
        let Some(key) = record.key else {
            tracing::warn!(topic, offset, "a record of a coordinator without a key is skipped");
            continue;
        };
        match shard.read(now, &StoredRecord { offset, key, value: record.value, producer }) {
            Ok(()) => {}
            Err(error @ RecordFormatError::Version { .. }) => return Err(LoadError::Version { offset, error }),
            Err(error) => tracing::warn!(topic, offset, %error, "a malformed record of a coordinator is skipped"),
        }
    }
    Ok(())
}

/// A batch of records as the log stores it. `encode` writes a record's key and its value, and says whether it has a value.
pub fn build<R>(
    mut builder: BatchBuilder,
    records: &[R],
    timestamp_ms: Millis,
    encode: impl Fn(&R, &mut Vec<u8>, &mut Vec<u8>) -> bool,
) -> Result<ValidatedBatch, RecordError> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for record in records {
        key.clear();
        value.clear();
        let value = encode(record, &mut key, &mut value).then_some(value.as_slice());
        builder.append(timestamp_ms, Some(&key), value, []);
    }
    builder.build()
}
