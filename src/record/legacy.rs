//! Message formats 0 and 1: single messages, and wrappers whose value is a compressed set of messages (classes `LegacyRecord`,
//! `AbstractLegacyRecordBatch`, `ByteBufferLegacyRecordBatch`).
//!
//! Inner messages of a wrapper of format 0 carry absolute offsets; of format 1 offsets relative to the first, and the wrapper
//! carries the absolute offset of the last. One level of wrapping only. What comes before format 2 has no headers.

use bytes::Bytes;
use std::borrow::Cow;

use super::compression::{Compression, Decompressor};
use super::error::RecordError;
use super::raw::{RawBatch, batches};
use super::records::Record;

/// A message or wrapper that a follower takes from its leader as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LegacyBatch {
    bytes: Bytes,
    first_offset: Option<i64>,
    last_offset: i64,
    max_timestamp: i64,
}

impl LegacyBatch {
    /// `records` are the bytes that `batch` was read from.
    pub fn of(batch: &RawBatch<'_>, records: &Bytes) -> LegacyBatch {
        let is_single = batch.compression().is_ok_and(|codec| codec == Compression::None);
        LegacyBatch {
            bytes: records.slice_ref(batch.bytes()),
            first_offset: is_single.then(|| batch.base_offset()),
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
        }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What a wrapper begins with is known only when it is unpacked.
    pub fn first_offset(&self) -> Option<i64> {
        self.first_offset
    }

    pub fn last_offset(&self) -> i64 {
        self.last_offset
    }

    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }
}

/// A message with its fields found.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    offset: i64,
    timestamp: i64,
    log_append_time: bool,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    fn parse(batch: &RawBatch<'a>) -> Result<Message<'a>, RecordError> {
        let fields = batch.bytes().get(if batch.magic() == 0 { 18 } else { 26 }..).unwrap_or_default();
        let found = take_bytes(fields).and_then(|(key, rest)| Some((key, take_bytes(rest)?)));
        let Some((key, (value, _))) = found else {
            return Err(RecordError::invalid("the key and value of a message do not fit its size"));
        };
        Ok(Message {
            offset: batch.base_offset(),
            timestamp: batch.max_timestamp(),
            log_append_time: batch.is_log_append_time(),
            key,
            value,
        })
    }
}

/// An `i32` length and as many bytes; a negative length is null.
fn take_bytes(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else { return Some((None, rest)) };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Some(value), rest))
}

/// The messages of one "batch" of format 0 or 1.
#[derive(Debug)]
pub struct Messages<'a> {
    /// Whole messages one after another; for a wrapper what was inside.
    bytes: Cow<'a, [u8]>,
    wrapper: Option<Wrapper>,
}

/// What a wrapper says about the messages inside.
#[derive(Clone, Copy, Debug)]
struct Wrapper {
    magic: i8,
    /// Added to inner offsets.
    base_offset: i64,
    log_append_time: Option<i64>,
}

impl<'a> Messages<'a> {
    pub fn open(batch: &RawBatch<'a>, limit_bytes: usize) -> Result<Messages<'a>, RecordError> {
        let codec = batch.compression()?;
        if codec == Compression::None {
            return Ok(Messages { bytes: Cow::Borrowed(batch.bytes()), wrapper: None });
        }
        if codec == Compression::Zstd {
            return Err(RecordError::invalid("message formats 0 and 1 cannot be compressed with zstd"));
        }
        let outer = Message::parse(batch)?;
        let Some(value) = outer.value else {
            return Err(RecordError::invalid("a compressed message without a value"));
        };
        let bytes = unpack(batch.magic(), codec, value, limit_bytes)?;
        let last = last_offset(&bytes)?;
        let base_offset = if batch.magic() == 0 { 0 } else { outer.offset.wrapping_sub(last) };
        let log_append_time = outer.log_append_time.then_some(outer.timestamp);
        let wrapper = Some(Wrapper { magic: batch.magic(), base_offset, log_append_time });
        Ok(Messages { bytes: Cow::Owned(bytes), wrapper })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn iter(&self) -> MessageIter<'_> {
        MessageIter { rest: &self.bytes, wrapper: self.wrapper }
    }
}

fn unpack(magic: i8, codec: Compression, value: &[u8], limit_bytes: usize) -> Result<Vec<u8>, RecordError> {
    let mut reader = if magic == 0 {
        Decompressor::for_format_0(codec, value, limit_bytes)?
    } else {
        Decompressor::new(codec, value, limit_bytes)?
    };
    reader.read_to_end()
}

fn last_offset(bytes: &[u8]) -> Result<i64, RecordError> {
    let mut inner = batches(bytes);
    let mut last = None;
    for message in &mut inner {
        last = Some(message?.base_offset());
    }
    match last {
        Some(last) if inner.position() == bytes.len() => Ok(last),
        Some(_) => Err(RecordError::invalid("a compressed message ends inside one of the messages in it")),
        None => Err(RecordError::invalid("a compressed message with no message inside")),
    }
}

/// Iterator over messages; ends after the first error.
#[derive(Debug)]
pub struct MessageIter<'a> {
    rest: &'a [u8],
    wrapper: Option<Wrapper>,
}

impl<'a> Iterator for MessageIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

impl<'a> MessageIter<'a> {
    fn take(&mut self) -> Result<Record<'a>, RecordError> {
        let batch = RawBatch::read(self.rest)?.ok_or_else(|| RecordError::invalid("a message is cut off"))?;
        self.rest = self.rest.get(batch.size_bytes()..).unwrap_or_default();
        let Some(wrapper) = self.wrapper else {
            let message = Message::parse(&batch)?;
            return Ok(Record::without_headers(message.offset, message.timestamp, message.key, message.value));
        };
        if batch.magic() != wrapper.magic {
            return Err(RecordError::invalid("a message inside a compressed one has another format than its wrapper"));
        }
        if batch.compression()? != Compression::None {
            return Err(RecordError::invalid("a compressed message inside a compressed message"));
        }
        batch.verify()?;
        let message = Message::parse(&batch)?;
        let offset = wrapper.base_offset.wrapping_add(message.offset);
        let timestamp = wrapper.log_append_time.unwrap_or(message.timestamp);
        Ok(Record::without_headers(offset, timestamp, message.key, message.value))
    }
}
