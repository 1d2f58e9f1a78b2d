//! Building batches of format 2 (class `MemoryRecordsBuilder`).

use bytes::Bytes;

use super::batch::{BatchHeader, HEADER_SIZE, LOG_OVERHEAD};
use super::compression::{Compression, compress};
use super::crc;
use super::error::RecordError;
use super::varint::{varlong_size, write_varint, write_varlong};

/// A batch of format 2 that may be appended: its header, to be patched with offset and epoch, and what follows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidatedBatch {
    pub header: BatchHeader,
    /// From byte 61 on.
    pub payload: Bytes,
}

impl ValidatedBatch {
    /// Bytes of header and payload.
    pub fn size_bytes(&self) -> usize {
        HEADER_SIZE + self.payload.len()
    }

    /// Header and payload in one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.size_bytes());
        out.extend_from_slice(self.header.as_bytes());
        out.extend_from_slice(&self.payload);
        out.into()
    }

    /// What compaction leaves of a batch without records: producer, sequences and offsets, for the producer's next batch.
    pub fn emptied(mut header: BatchHeader) -> ValidatedBatch {
        header.set_codec_id(Compression::None.id());
        header.set_delete_horizon(false);
        header.set_base_timestamp(-1);
        header.set_record_count(0);
        ValidatedBatch::seal(header, Bytes::new())
    }

    /// Puts size and checksum of `payload` into the header.
    pub(super) fn seal(mut header: BatchHeader, payload: Bytes) -> ValidatedBatch {
        header.set_length((HEADER_SIZE - LOG_OVERHEAD + payload.len()) as i32);
        header.set_crc(checksum(&header, &payload));
        ValidatedBatch { header, payload }
    }
}

/// What the checksum field has to be. It covers all behind itself.
pub(super) fn checksum(header: &BatchHeader, payload: &[u8]) -> u32 {
    crc::crc32c_of_parts(&header.as_bytes()[21..], payload)
}

/// Collects records and gives a batch of format 2. Offsets run 0, 1, 2, ... from the base offset unless given.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Compression,
    level: Option<i32>,
    body: Vec<u8>,
    next_delta: i32,
    count: i32,
    max_timestamp: i64,
    base_timestamp: Option<i64>,
    log_append_time: Option<i64>,
    last_offset_delta: Option<i32>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// No codec, no producer, base offset 0, leader epoch -1.
    pub fn new() -> BatchBuilder {
        let mut header = BatchHeader::new();
        header.set_partition_leader_epoch(-1);
        header.set_producer_id(-1);
        header.set_producer_epoch(-1);
        header.set_base_sequence(-1);
        BatchBuilder {
            header,
            codec: Compression::None,
            level: None,
            body: Vec::new(),
            next_delta: 0,
            count: 0,
            max_timestamp: -1,
            base_timestamp: None,
            log_append_time: None,
            last_offset_delta: None,
        }
    }

    /// For some of the records of a batch that exists: offsets, sequences, producer, epoch and kinds stay as they are there.
    pub fn retaining(original: &BatchHeader) -> BatchBuilder {
        let mut builder = BatchBuilder::new()
            .base_offset(original.base_offset())
            .partition_leader_epoch(original.partition_leader_epoch())
            .producer(original.producer_id(), original.producer_epoch(), original.base_sequence())
            .transactional(original.is_transactional())
            .control(original.is_control());
        builder.codec = Compression::from_id(original.codec_id()).unwrap_or_default();
        builder.last_offset_delta = Some(original.last_offset_delta());
        builder.log_append_time = original.is_log_append_time().then(|| original.max_timestamp());
        if original.has_delete_horizon() { builder.delete_horizon(original.base_timestamp()) } else { builder }
    }

    /// From when on compaction may remove the tombstones of the batch. Comes before the first record.
    pub fn delete_horizon(mut self, time: i64) -> BatchBuilder {
        self.header.set_delete_horizon(true);
        self.base_timestamp = Some(time);
        self
    }

    pub fn compression(mut self, codec: Compression, level: Option<i32>) -> BatchBuilder {
        (self.codec, self.level) = (codec, level);
        self
    }

    pub fn base_offset(mut self, offset: i64) -> BatchBuilder {
        self.header.set_base_offset(offset);
        self
    }

    pub fn partition_leader_epoch(mut self, epoch: i32) -> BatchBuilder {
        self.header.set_partition_leader_epoch(epoch);
        self
    }

    /// Producer id and epoch, and the sequence of the first record (-1 for coordinators and markers).
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.header.set_producer_id(id);
        self.header.set_producer_epoch(epoch);
        self.header.set_base_sequence(base_sequence);
        self
    }

    pub fn transactional(mut self, transactional: bool) -> BatchBuilder {
        self.header.set_transactional(transactional);
        self
    }

    pub fn control(mut self, control: bool) -> BatchBuilder {
        self.header.set_control(control);
        self
    }

    /// Timestamp type LogAppendTime with this time.
    pub fn log_append_time(mut self, time: i64) -> BatchBuilder {
        self.log_append_time = Some(time);
        self
    }

    /// Adds a record behind the last one.
    pub fn append<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        self.append_at(self.next_delta, timestamp, key, value, headers);
    }

    /// Adds a record with an offset delta of the caller's choice (compaction leaves gaps). Deltas must rise.
    pub fn append_at<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut record = Vec::with_capacity(24 + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        record.push(0);
        write_varlong(&mut record, timestamp.wrapping_sub(base_timestamp));
        write_varint(&mut record, offset_delta);
        write_bytes(&mut record, key);
        write_bytes(&mut record, value);
        let mut count = 0;
        let mut list = Vec::new();
        for (name, value) in headers {
            count += 1;
            write_bytes(&mut list, Some(name));
            write_bytes(&mut list, value);
        }
        write_varint(&mut record, count);
        record.extend_from_slice(&list);
        self.body.reserve(varlong_size(record.len() as i64) + record.len());
        write_varint(&mut self.body, record.len() as i32);
        self.body.extend_from_slice(&record);
        self.next_delta = offset_delta.wrapping_add(1);
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch before compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_SIZE + self.body.len()
    }

    /// The batch. Without records it is a bare header with last offset delta -1.
    pub fn build(mut self) -> Result<ValidatedBatch, RecordError> {
        let payload = match self.codec {
            Compression::None => self.body,
            codec => compress(codec, self.level, &self.body)?,
        };
        self.header.set_codec_id(self.codec.id());
        self.header.set_log_append_time(self.log_append_time.is_some());
        self.header.set_last_offset_delta(self.last_offset_delta.unwrap_or(self.next_delta.wrapping_sub(1)));
        self.header.set_base_timestamp(self.base_timestamp.unwrap_or(-1));
        self.header.set_max_timestamp(self.log_append_time.unwrap_or(self.max_timestamp));
        self.header.set_record_count(self.count);
        Ok(ValidatedBatch::seal(self.header, payload.into()))
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_varint(out, -1),
        Some(bytes) => {
            write_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}
