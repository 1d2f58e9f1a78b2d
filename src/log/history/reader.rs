//! The log, read as clients read it: in fetches of little, with what a reader of committed records is told.

use super::model::{Batch, Record};
use crate::log::Log;
use crate::record::{EndTxnMarker, RawBatch, batches};

/// A batch of the log, and whether a reader of committed records passes it over.
pub struct Found {
    pub batch: Batch,
    pub is_passed_over: bool,
}

const FETCH_BYTES: usize = 500;

/// All batches from the log start on.
pub fn read(log: &Log) -> Result<Vec<Found>, String> {
    let mut found: Vec<Found> = Vec::new();
    let (mut offset, end) = (log.log_start_offset(), log.log_end_offset());
    while offset < end {
        let bytes = log.read_bytes(offset, FETCH_BYTES, i64::MAX, true).map_err(|error| error.to_string())?;
        let read: Vec<RawBatch<'_>> = batches(&bytes).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let Some(next) = read.last().map(|batch| batch.next_offset()) else { break };
        let aborted = log.aborted_transactions(offset, next).map_err(|error| error.to_string())?;
        for raw in read {
            raw.verify().map_err(|error| format!("batch at {}: {error}", raw.base_offset()))?;
            let batch = batch_of(&raw)?;
            if let Some(last) = found.last().filter(|last| last.batch.last >= batch.base) {
                return Err(format!("batch {} follows {}", batch.base, last.batch.last));
            }
            let is_of = |transaction: &&crate::log::AbortedTransaction| {
                transaction.producer_id.0 == batch.producer
                    && (transaction.first_offset..=transaction.last_offset).contains(&batch.base)
            };
            let is_passed_over = batch.is_transactional && aborted.iter().any(|transaction| is_of(&transaction));
            found.push(Found { batch, is_passed_over });
        }
        if next <= offset {
            return Err(format!("a fetch from {offset} ends at {next}"));
        }
        offset = next;
    }
    Ok(found)
}

fn batch_of(raw: &RawBatch<'_>) -> Result<Batch, String> {
    let header = raw.header().ok_or("a batch of an old format")?;
    let (mut records, mut marker) = (Vec::new(), None);
    for record in raw.records(1 << 20).map_err(|error| error.to_string())?.iter() {
        let record = record.map_err(|error| error.to_string())?;
        if header.is_control() {
            let read = EndTxnMarker::decode(&record).map_err(|error| error.to_string())?.ok_or("no marker")?;
            marker = Some((read.commit, read.coordinator_epoch));
        }
        records.push(Record {
            offset: record.offset,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp: record.timestamp,
            headers: record.headers.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        });
    }
    Ok(Batch {
        base: header.base_offset(),
        last: header.last_offset(),
        leader_epoch: header.partition_leader_epoch(),
        producer: header.producer_id(),
        producer_epoch: header.producer_epoch(),
        sequence: header.base_sequence(),
        is_transactional: header.is_transactional(),
        marker,
        horizon: header.has_delete_horizon().then(|| header.base_timestamp()),
        records,
        timestamp: header.max_timestamp(),
    })
}
