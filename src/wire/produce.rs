//! The Produce request, versions 0 to 11: records stay slices of the frame (class `ProduceRequest`).

use super::codec::WireError;
use super::cursor::Cursor;
use super::frame::Request;
use bytes::Bytes;
use std::sync::Arc;

const FIRST_FLEXIBLE: i16 = 9;
const VERSIONS: std::ops::RangeInclusive<i16> = 0..=11;

#[derive(Clone, PartialEq, Debug)]
pub struct ProduceRequest {
    /// From version 3.
    pub transactional_id: Option<Arc<str>>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<ProduceTopic>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ProduceTopic {
    pub name: Arc<str>,
    pub partitions: Vec<ProducePartition>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ProducePartition {
    pub index: i32,
    /// Of any message format, unchecked.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    pub fn decode(request: &Request) -> Result<ProduceRequest, WireError> {
        ProduceRequest::read(&request.body, request.header.version)
    }

    /// Reads a body. It needs no guard: every count and length is checked here.
    pub fn read(body: &Bytes, version: i16) -> Result<ProduceRequest, WireError> {
        if !VERSIONS.contains(&version) {
            return Err(WireError::Unsupported { api_key: 0, version });
        }
        let compact = version >= FIRST_FLEXIBLE;
        let mut cursor = Cursor::new(body, "Produce request");
        let transactional_id = if version >= 3 { cursor.nullable_string(compact)?.map(Arc::from) } else { None };
        let acks = cursor.i16()?;
        let timeout_ms = cursor.i32()?;
        // A name, a count, and in flexible versions a tag count.
        let least = if compact { 3 } else { 6 };
        let topics = cursor.array_of(compact, least, |cursor| topic(cursor, body, compact))?;
        end_of_struct(&mut cursor, compact)?;
        Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
    }
}

fn topic(cursor: &mut Cursor<'_>, body: &Bytes, compact: bool) -> Result<ProduceTopic, WireError> {
    let name = cursor.string(compact)?.into();
    // An index, a length, and in flexible versions a tag count.
    let least = if compact { 6 } else { 8 };
    let partitions = cursor.array_of(compact, least, |cursor| partition(cursor, body, compact))?;
    end_of_struct(cursor, compact)?;
    Ok(ProduceTopic { name, partitions })
}

fn partition(cursor: &mut Cursor<'_>, body: &Bytes, compact: bool) -> Result<ProducePartition, WireError> {
    let index = cursor.i32()?;
    let records = cursor.nullable_bytes(compact)?.map(|range| body.slice(range));
    end_of_struct(cursor, compact)?;
    Ok(ProducePartition { index, records })
}

fn end_of_struct(cursor: &mut Cursor<'_>, compact: bool) -> Result<(), WireError> {
    if compact { cursor.tags(|_, _| Ok(false)) } else { Ok(()) }
}
