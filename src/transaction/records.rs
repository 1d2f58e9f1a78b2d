//! Records of `__transaction_state`, byte by byte (class `TransactionLog`, messages `TransactionLogKey` and
//! `TransactionLogValue`).
//!
//! ```text
//! key    i16 version 0: string transactional id                                             others: skipped
//! value  i16 version 0: i64 producer id, i16 producer epoch, i32 time-out, i8 status,
//!                       partitions? { string topic, array i32 partition }, i64 last update, i64 start
//!                    1: the same, flexible, with tagged fields behind
//! ```
//! Version 0 is written, with null partitions in the state Empty: what a 3.9 broker writes in ZooKeeper mode. A null value is
//! a tombstone: the id has expired.

use super::state::Status;
use crate::base::{Millis, ProducerEpoch, ProducerId, TopicPartition};
use crate::wire::coordinator_record::{FieldReader, RecordFormatError, put_string};
use bytes::BufMut;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const NEWEST_VALUE_VERSION: i16 = 1;

/// What is stored of a transactional id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TransactionValue {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub timeout_ms: i32,
    pub status: Status,
    /// Partitions of the transaction that is under way; `__consumer_offsets` among them if offsets are committed in it.
    pub partitions: BTreeSet<TopicPartition>,
    pub last_update_ms: Millis,
    /// -1 before the first transaction.
    pub start_ms: Millis,
}

/// A value with its key; `None` is a tombstone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TransactionRecord {
    pub id: Arc<str>,
    pub value: Option<TransactionValue>,
}

impl TransactionRecord {
    /// Reads a record of the log. `None`: of a kind that this coordinator skips. An unknown version of a value is an error, since
    /// the state without it would be wrong.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<TransactionRecord>, RecordFormatError> {
        let mut reader = FieldReader::new(key);
        if reader.i16("key version")? != KEY_VERSION {
            return Ok(None);
        }
        let id = reader.string("transactional id")?.into();
        Ok(Some(TransactionRecord { id, value: value.map(decode_value).transpose()? }))
    }

    pub fn encode_key(&self, out: &mut Vec<u8>) {
        out.put_i16(KEY_VERSION);
        put_string(out, &self.id);
    }

    /// Writes the value; `false` (and nothing written) for a tombstone.
    pub fn encode_value(&self, out: &mut Vec<u8>) -> bool {
        let Some(value) = &self.value else { return false };
        out.put_i16(VALUE_VERSION);
        out.put_i64(value.producer_id.0);
        out.put_i16(value.producer_epoch.0);
        out.put_i32(value.timeout_ms);
        out.put_i8(value.status.code());
        match value.status {
            Status::Empty => out.put_i32(-1),
            _ => encode_partitions(&value.partitions, out),
        }
        out.put_i64(value.last_update_ms);
        out.put_i64(value.start_ms);
        true
    }
}

fn encode_partitions(partitions: &BTreeSet<TopicPartition>, out: &mut Vec<u8>) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    out.put_i32(topics.len() as i32);
    for (topic, indexes) in topics {
        put_string(out, topic);
        out.put_i32(indexes.len() as i32);
        indexes.into_iter().for_each(|index| out.put_i32(index));
    }
}

fn decode_value(bytes: &[u8]) -> Result<TransactionValue, RecordFormatError> {
    const WHAT: &str = "transaction value";
    let mut reader = FieldReader::new(bytes);
    let version = reader.i16("value version")?;
    if !(0..=NEWEST_VALUE_VERSION).contains(&version) {
        return Err(RecordFormatError::Version { what: WHAT, version });
    }
    reader.set_flexible(version >= 1);
    let producer_id = ProducerId(reader.i64("producer id")?);
    let producer_epoch = ProducerEpoch(reader.i16("producer epoch")?);
    let timeout_ms = reader.i32("time-out")?;
    let code = reader.i8("status")?;
    // A status that nobody knows is like a version that nobody knows.
    let status = Status::of_code(code).ok_or(RecordFormatError::Version { what: "status", version: code.into() })?;
    let partitions = decode_partitions(&mut reader)?;
    let last_update_ms = reader.i64("last update")?;
    let start_ms = reader.i64("start")?;
    reader.end_of_struct()?;
    Ok(TransactionValue { producer_id, producer_epoch, timeout_ms, status, partitions, last_update_ms, start_ms })
}

fn decode_partitions(reader: &mut FieldReader<'_>) -> Result<BTreeSet<TopicPartition>, RecordFormatError> {
    /// An empty name and an empty array, both compact.
    const TOPIC_BYTES_MIN: usize = 2;
    let mut partitions = BTreeSet::new();
    for _ in 0..reader.nullable_count("partitions", TOPIC_BYTES_MIN)?.unwrap_or(0) {
        let topic: Arc<str> = reader.string("topic")?.into();
        for _ in 0..reader.count("partition ids", 4)? {
            partitions.insert(TopicPartition::new(topic.clone(), reader.i32("partition")?));
        }
        reader.end_of_struct()?;
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(status: Status, partitions: &[(&str, i32)]) -> TransactionValue {
        TransactionValue {
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(3),
            timeout_ms: 60_000,
            status,
            partitions: partitions.iter().map(|(topic, index)| TopicPartition::new(*topic, *index)).collect(),
            last_update_ms: 11,
            start_ms: 10,
        }
    }

    fn round_trip(record: &TransactionRecord) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut key, mut bytes) = (Vec::new(), Vec::new());
        record.encode_key(&mut key);
        let stored = record.encode_value(&mut bytes).then_some(bytes);
        let again = TransactionRecord::decode(&key, stored.as_deref()).unwrap();
        assert_eq!(again.as_ref(), Some(record));
        (key, stored)
    }

    #[test]
    fn what_is_written_is_read() {
        let ongoing = value(Status::Ongoing, &[("b", 1), ("a", 0), ("b", 0)]);
        let (key, bytes) = round_trip(&TransactionRecord { id: "t".into(), value: Some(ongoing) });
        assert_eq!(key, [0, 0, 0, 1, b't']);
        assert_eq!(bytes.unwrap().len(), 2 + 8 + 2 + 4 + 1 + 4 + (3 + 4 + 4) + (3 + 4 + 8) + 16);
        let (_, bytes) = round_trip(&TransactionRecord { id: "t".into(), value: Some(value(Status::Empty, &[])) });
        assert_eq!(bytes.unwrap()[17..21], [0xff; 4], "null partitions");
        assert_eq!(round_trip(&TransactionRecord { id: "t".into(), value: None }).1, None);
    }

    #[test]
    fn the_flexible_version_is_read() {
        let mut bytes = vec![0, 1];
        bytes.put_i64(7);
        bytes.put_i16(3);
        bytes.put_i32(60_000);
        bytes.put_i8(1);
        bytes.put_slice(&[2, 2, b'a', 2, 0, 0, 0, 5, 0]);
        bytes.put_i64(11);
        bytes.put_i64(10);
        // Previous producer id, of transaction.version 2.
        bytes.put_slice(&[1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
        let record = TransactionRecord::decode(&[0, 0, 0, 1, b't'], Some(&bytes)).unwrap().unwrap();
        assert_eq!(record.value, Some(value(Status::Ongoing, &[("a", 5)])));
    }

    #[test]
    fn unknown_keys_are_skipped_and_unknown_values_are_errors() {
        assert_eq!(TransactionRecord::decode(&[0, 1, 0, 1, b't'], None), Ok(None));
        let key = [0, 0, 0, 1, b't'];
        assert!(matches!(TransactionRecord::decode(&key, Some(&[0, 2])), Err(RecordFormatError::Version { .. })));
        let mut bytes = Vec::new();
        TransactionRecord { id: "t".into(), value: Some(value(Status::Ongoing, &[("a", 0)])) }.encode_value(&mut bytes);
        bytes[16] = 9;
        assert!(matches!(TransactionRecord::decode(&key, Some(&bytes)), Err(RecordFormatError::Version { .. })));
        for size in 0..bytes.len() {
            assert!(TransactionRecord::decode(&key, Some(&bytes[..size])).is_err(), "{size} bytes");
        }
    }
}
