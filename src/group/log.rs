//! What the coordinator needs of the log of `__consumer_offsets`, and how its records become batches and batches records.

use super::message::{Batch, Now};
use super::records::CoordinatorRecord;
use super::shard::GroupShard;
use crate::base::{ErrorCode, ProducerId};
use crate::record::{BatchBuilder, Compression, EndTxnMarker, RawBatch, RecordError, ValidatedBatch, batches};
use crate::wire::coordinator_record::RecordFormatError;
use bytes::Bytes;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

/// Resolves with the offset of the batch once all in-sync replicas have it.
pub type Append = Pin<Box<dyn Future<Output = Result<i64, ErrorCode>> + Send>>;

/// The partitions of `__consumer_offsets` on this broker.
pub trait OffsetsLog: Send + Sync + 'static {
    /// Appends as leader. The order of calls is the order in the log; the future only waits for the replicas.
    fn append(&self, partition: i32, batch: ValidatedBatch) -> Append;

    /// Log start offset and log end offset; `None` if the partition is not here.
    fn bounds(&self, partition: i32) -> Option<Range<i64>>;

    /// Whole batches from the one that holds `offset` on, about `max_bytes` of them and at least one. May block on the disk.
    fn read(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Bytes, ErrorCode>;
}

/// Why a partition cannot be loaded. It stays unavailable, since groups would lose offsets silently otherwise.
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

/// How much is read at a time (`offsets.load.buffer.size`).
const LOAD_BUFFER_BYTES: usize = 5 << 20;
/// More than any batch of this topic holds when decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Reads a partition into a shard, from the start of the log to its end, which markers may move meanwhile.
pub(super) fn load(log: &dyn OffsetsLog, partition: i32, shard: &mut GroupShard, now: Now) -> Result<(), LoadError> {
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
    Ok(())
}

/// Replays whole batches; returns the offset after the last.
fn replay_batches(bytes: &[u8], from_offset: i64, shard: &mut GroupShard, now: Now) -> Result<i64, LoadError> {
    let mut offset = from_offset;
    for batch in batches(bytes) {
        let at = offset;
        let batch = batch.map_err(|error| LoadError::Batch { offset: at, error })?;
        replay_batch(&batch, shard, now)?;
        offset = offset.max(batch.next_offset());
    }
    Ok(offset)
}

fn replay_batch(batch: &RawBatch<'_>, shard: &mut GroupShard, now: Now) -> Result<(), LoadError> {
    let wrong = |error| LoadError::Batch { offset: batch.base_offset(), error };
    let header = batch.header();
    let producer = header.filter(|header| header.is_transactional()).map(|header| ProducerId(header.producer_id()));
    let records = batch.records(DECOMPRESSED_BYTES_MAX).map_err(wrong)?;
    for record in records.iter() {
        let record = record.map_err(wrong)?;
        if batch.is_control() {
            if let (Some(marker), Some(producer)) = (EndTxnMarker::decode(&record).map_err(wrong)?, producer) {
                shard.replay_marker(producer, marker.commit);
            }
            continue;
        }
        let Some(key) = record.key else {
            tracing::warn!(offset = record.offset, "a record of __consumer_offsets without a key is skipped");
            continue;
        };
        match CoordinatorRecord::decode(key, record.value) {
            Ok(Some(decoded)) => shard.replay(now, decoded, record.offset, producer),
            Ok(None) => {}
            Err(error @ RecordFormatError::Version { .. }) => {
                return Err(LoadError::Version { offset: record.offset, error });
            }
            Err(error) => {
                tracing::warn!(offset = record.offset, %error, "a malformed record of __consumer_offsets is skipped");
            }
        }
    }
    Ok(())
}

/// A batch as the log stores it.
pub(super) fn to_log(batch: &Batch, codec: Compression, timestamp_ms: i64) -> Result<ValidatedBatch, RecordError> {
    let mut builder = BatchBuilder::new().compression(codec, None);
    if let Some((producer, epoch)) = batch.transaction {
        builder = builder.producer(producer.0, epoch.0, -1).transactional(true);
    }
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for record in &batch.records {
        key.clear();
        value.clear();
        record.encode_key(&mut key);
        let value = record.encode_value(&mut value).then_some(value.as_slice());
        builder.append(timestamp_ms, Some(&key), value, []);
    }
    builder.build()
}
