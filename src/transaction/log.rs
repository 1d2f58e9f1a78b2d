//! What the coordinator needs of the log of `__transaction_state`, and how its records become batches and batches records.

use super::message::{Batch, Now};
use super::records::TransactionRecord;
use super::shard::TransactionShard;
use crate::base::{ErrorCode, LeaderEpoch, Millis};
use crate::record::{BatchBuilder, RawBatch, RecordError, ValidatedBatch, batches};
use crate::wire::coordinator_record::RecordFormatError;
use bytes::Bytes;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

/// Resolves once all in-sync replicas have what was appended, or not in time.
pub type Committed = Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send>>;

/// The partitions of `__transaction_state` on this broker.
pub trait TransactionsLog: Send + Sync + 'static {
    /// Appends as leader of this epoch. The order of calls is the order in the log; the future only waits for the replicas.
    fn append(&self, partition: i32, epoch: LeaderEpoch, batch: ValidatedBatch, timeout: Duration) -> Committed;

    /// Resolves once all in-sync replicas have what is below `offset`, however long that takes; with an error when another broker
    /// leads.
    fn committed(&self, partition: i32, offset: i64) -> Committed;

    /// Log start offset and log end offset; `None` if the partition is not here.
    fn bounds(&self, partition: i32) -> Option<Range<i64>>;

    /// Whole batches from the one that holds `offset` on, about `max_bytes` of them and at least one. May block on the disk.
    fn read(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Bytes, ErrorCode>;
}

/// Why a partition cannot be loaded. It stays unavailable, since transactions would be torn otherwise.
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

/// How much is read at a time (`transaction.state.log.load.buffer.size`).
const LOAD_BUFFER_BYTES: usize = 5 << 20;
/// More than any batch of this topic holds when decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Reads a partition into a shard, from the start of the log to its end. Returns the end.
pub(super) fn load(
    log: &dyn TransactionsLog,
    partition: i32,
    shard: &mut TransactionShard,
    now: Now,
) -> Result<i64, LoadError> {
    let Range { start, end } = log.bounds(partition).ok_or(LoadError::NotHere)?;
    let mut offset = start;
    while offset < end {
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
fn replay_batches(bytes: &[u8], from: i64, shard: &mut TransactionShard, now: Now) -> Result<i64, LoadError> {
    let mut offset = from;
    for batch in batches(bytes) {
        let at = offset;
        let batch = batch.map_err(|error| LoadError::Batch { offset: at, error })?;
        if !batch.is_control() {
            replay_batch(&batch, shard, now)?;
        }
        offset = offset.max(batch.next_offset());
    }
    Ok(offset)
}

fn replay_batch(batch: &RawBatch<'_>, shard: &mut TransactionShard, now: Now) -> Result<(), LoadError> {
    let wrong = |error| LoadError::Batch { offset: batch.base_offset(), error };
    let records = batch.records(DECOMPRESSED_BYTES_MAX).map_err(wrong)?;
    for record in records.iter() {
        let record = record.map_err(wrong)?;
        let offset = record.offset;
        let Some(key) = record.key else {
            tracing::warn!(offset, "a record of __transaction_state without a key is skipped");
            continue;
        };
        match TransactionRecord::decode(key, record.value) {
            Ok(Some(decoded)) => shard.replay(now, decoded),
            Ok(None) => {}
            Err(error @ RecordFormatError::Version { .. }) => return Err(LoadError::Version { offset, error }),
            Err(error) => {
                tracing::warn!(offset, %error, "a malformed record of __transaction_state is skipped");
            }
        }
    }
    Ok(())
}

/// A batch as the log stores it.
pub(super) fn to_log(batch: &Batch, timestamp_ms: Millis) -> Result<ValidatedBatch, RecordError> {
    let mut builder = BatchBuilder::new();
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
