//! Single records out of a batch of any format (classes `DefaultRecord`, `LegacyRecord`, `AbstractLegacyRecordBatch`).
//!
//! ```text
//! format 2:  varint length | i8 attributes | varlong timestamp delta | varint offset delta
//!            varint key length (-1 null) key | varint value length (-1 null) value
//!            varint header count, each: varint key length, key, varint value length (-1 null), value
//! ```
//! Invariant: a record that is handed out has been checked to lie inside its batch, its headers included.

use std::borrow::Cow;

use super::compression::{Compression, decompress};
use super::error::RecordError;
use super::legacy;
use super::raw::{RawBatch, batches};
use super::varint::{read_varint, read_varlong};

/// One record. Offsets and timestamps are absolute; timestamp -1 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record, in order, duplicates kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let bytes = self.bytes;
        let mut at = 0;
        (0..self.count).map_while(move |_| {
            let key = read_bytes(bytes, &mut at)??;
            Some((key, read_bytes(bytes, &mut at)?))
        })
    }

    /// The headers as they lie in the record, count first.
    fn parse(bytes: &'a [u8]) -> Option<Headers<'a>> {
        let mut at = 0;
        let count = u32::try_from(read_varint(bytes, &mut at)?).ok()?;
        let bytes = bytes.get(at..)?;
        let mut at = 0;
        for _ in 0..count {
            read_bytes(bytes, &mut at)??;
            read_bytes(bytes, &mut at)?;
        }
        if at == bytes.len() { Some(Headers { count, bytes }) } else { None }
    }
}

/// Reads a length and as many bytes. Outer `None`: they are not there; inner `None`: null, which any negative length is to
/// Kafka's readers (writers use -1).
fn read_bytes<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = read_varint(bytes, at)?;
    let Ok(length) = usize::try_from(length) else { return Some(None) };
    let value = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(Some(value))
}

/// The records of one batch, decompressed if need be.
#[derive(Debug)]
pub struct BatchRecords<'a> {
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    V2 { base: Base, count: i32, body: Cow<'a, [u8]> },
    Legacy(legacy::Messages<'a>),
}

/// What the records of a batch of format 2 are relative to.
#[derive(Clone, Copy, Debug)]
struct Base {
    offset: i64,
    timestamp: i64,
    log_append_time: Option<i64>,
}

impl<'a> RawBatch<'a> {
    /// The records. At most `limit_bytes` are decompressed; uncompressed batches need no memory.
    pub fn records(&self, limit_bytes: usize) -> Result<BatchRecords<'a>, RecordError> {
        let Some(header) = self.header() else {
            return Ok(BatchRecords { kind: Kind::Legacy(legacy::Messages::open(self, limit_bytes)?) });
        };
        let payload = self.bytes().get(super::batch::HEADER_SIZE..).unwrap_or_default();
        let body = match self.compression()? {
            Compression::None => Cow::Borrowed(payload),
            codec => Cow::Owned(decompress(codec, payload, limit_bytes)?),
        };
        if header.record_count() < 0 {
            return Err(RecordError::invalid(format!("a batch cannot have {} records", header.record_count())));
        }
        let base = Base {
            offset: header.base_offset(),
            timestamp: header.base_timestamp(),
            log_append_time: header.is_log_append_time().then(|| header.max_timestamp()),
        };
        Ok(BatchRecords { kind: Kind::V2 { base, count: header.record_count(), body } })
    }
}

impl BatchRecords<'_> {
    /// The checksums that single messages of the formats 0 and 1 carry, in order; none in format 2.
    pub fn stored_checksums(&self) -> impl Iterator<Item = u32> {
        let messages: &[u8] = match &self.kind {
            Kind::V2 { .. } => &[],
            Kind::Legacy(messages) => messages.bytes(),
        };
        batches(messages).map_while(Result::ok).map(|message| message.stored_crc())
    }

    /// The records in order; the iterator ends after the first error.
    pub fn iter(&self) -> RecordIter<'_> {
        match &self.kind {
            Kind::V2 { base, count, body } => RecordIter(Iter::V2 { base: *base, left: *count, rest: body }),
            Kind::Legacy(messages) => RecordIter(Iter::Legacy(messages.iter())),
        }
    }
}

/// Iterator over the records of a batch.
#[derive(Debug)]
pub struct RecordIter<'a>(Iter<'a>);

#[derive(Debug)]
enum Iter<'a> {
    V2 { base: Base, left: i32, rest: &'a [u8] },
    Legacy(legacy::MessageIter<'a>),
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Iter::Legacy(iter) => iter.next(),
            Iter::V2 { left: 0, rest: [], .. } => None,
            Iter::V2 { base, left, rest } => {
                let record = match (*left, split_record(rest)) {
                    (0, _) => Err(RecordError::invalid("bytes are left behind the last record of the batch")),
                    (_, None) => Err(RecordError::invalid("a record does not fit into its batch")),
                    (_, Some((body, after))) => {
                        *rest = after;
                        *left -= 1;
                        parse_record(body, base)
                            .ok_or_else(|| RecordError::invalid("a record's fields do not fit its length"))
                    }
                };
                if record.is_err() {
                    (*left, *rest) = (0, &[]);
                }
                Some(record)
            }
        }
    }
}

/// The body of the first record, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    let length = usize::try_from(read_varint(bytes, &mut at)?).ok()?;
    bytes.get(at..)?.split_at_checked(length)
}

fn parse_record<'a>(body: &'a [u8], base: &Base) -> Option<Record<'a>> {
    let mut at = 1;
    let timestamp_delta = read_varlong(body, &mut at)?;
    let offset_delta = read_varint(body, &mut at)?;
    let key = read_bytes(body, &mut at)?;
    let value = read_bytes(body, &mut at)?;
    let headers = Headers::parse(body.get(at..)?)?;
    Some(Record {
        offset: base.offset.wrapping_add(i64::from(offset_delta)),
        timestamp: base.log_append_time.unwrap_or_else(|| base.timestamp.wrapping_add(timestamp_delta)),
        key,
        value,
        headers,
    })
}

impl<'a> Record<'a> {
    pub(super) fn without_headers(
        offset: i64,
        timestamp: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> Record<'a> {
        Record { offset, timestamp, key, value, headers: Headers::default() }
    }
}
