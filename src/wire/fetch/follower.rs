//! Fetch as a follower speaks it: a request that is written, a response that is read. The records stay where they came in.
//!
//! Invariant: what a leader sends is measured like what a client sends.

use super::request::FetchRequest;
use super::response::EpochEndOffset;
use super::{FIRST_FLEXIBLE, FIRST_TOPIC_ID};
use crate::base::{ErrorCode, LeaderEpoch, TopicId};
use crate::wire::codec::WireError;
use crate::wire::cursor::Cursor;
use crate::wire::put::Put;
use crate::wire::reply::Segment;
use bytes::{Bytes, BytesMut};
use std::ops::RangeInclusive;
use std::sync::Arc;
use uuid::Uuid;

/// What a follower sends at protocol versions 2.7 to 3.9.
const VERSIONS: RangeInclusive<i16> = FIRST_FLEXIBLE..=17;
/// From here on the replica is named in a tagged field.
const FIRST_REPLICA_STATE: i16 = 15;

impl FetchRequest {
    /// The body, at one of the versions that followers use.
    pub fn write(&self, version: i16) -> Vec<u8> {
        let mut put = Put::new(true, 128 + self.topics.len() * 64);
        if version < FIRST_REPLICA_STATE {
            put.i32(self.replica_id.0);
        }
        put.i32(self.max_wait_ms);
        put.i32(self.min_bytes);
        put.i32(self.max_bytes);
        put.bytes(&self.isolation_level.to_be_bytes());
        put.i32(self.session_id);
        put.i32(self.session_epoch);
        self.write_topics(&mut put, version);
        put.length(Some(self.forgotten.len()));
        for topic in &self.forgotten {
            write_topic(&mut put, version, &topic.name, topic.topic_id);
            put.length(Some(topic.partitions.len()));
            topic.partitions.iter().for_each(|partition| put.i32(*partition));
            put.unsigned_varint(0);
        }
        put.string(&self.rack_id);
        if version < FIRST_REPLICA_STATE {
            put.unsigned_varint(0);
        } else {
            put.unsigned_varint(1);
            put.tagged(1, |put| {
                put.i32(self.replica_id.0);
                put.i64(self.replica_epoch.0);
                put.unsigned_varint(0);
            });
        }
        let mut body = BytesMut::new();
        for segment in put.finish() {
            if let Segment::Bytes(bytes) = segment {
                body.extend_from_slice(&bytes);
            }
        }
        body.into()
    }

    fn write_topics(&self, put: &mut Put, version: i16) {
        put.length(Some(self.topics.len()));
        for topic in &self.topics {
            write_topic(put, version, &topic.name, topic.topic_id);
            put.length(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                put.i32(partition.partition);
                put.i32(partition.current_leader_epoch.0);
                put.i64(partition.fetch_offset);
                put.i32(partition.last_fetched_epoch.0);
                put.i64(partition.log_start_offset);
                put.i32(partition.max_bytes);
                put.unsigned_varint(0);
            }
            put.unsigned_varint(0);
        }
    }
}

fn write_topic(put: &mut Put, version: i16, name: &str, id: TopicId) {
    match version >= FIRST_TOPIC_ID {
        true => put.bytes(id.0.as_bytes()),
        false => put.string(name),
    }
}

/// What a follower needs of a response.
#[derive(Debug, Default)]
pub struct FetchedResponse {
    pub error: ErrorCode,
    pub session_id: i32,
    pub topics: Vec<FetchedTopic>,
}

#[derive(Debug)]
pub struct FetchedTopic {
    /// Empty from version 13.
    pub name: Arc<str>,
    pub topic_id: TopicId,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Debug)]
pub struct FetchedPartition {
    pub partition: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: Option<EpochEndOffset>,
    /// A slice of the frame.
    pub records: Bytes,
}

/// Reads the body of a response.
pub fn read_response(body: &Bytes, version: i16) -> Result<FetchedResponse, WireError> {
    if !VERSIONS.contains(&version) {
        return Err(WireError::Unsupported { api_key: 1, version });
    }
    let mut cursor = Cursor::new(body, "Fetch response").without_element_limit();
    cursor.i32()?;
    let error = ErrorCode::of(cursor.i16()?);
    let session_id = cursor.i32()?;
    let topics = cursor.array_of(true, 3, |cursor| {
        let (name, topic_id) = match version >= FIRST_TOPIC_ID {
            true => (Arc::default(), TopicId(Uuid::from_bytes(cursor.array()?))),
            false => (cursor.string(true)?.into(), TopicId::ZERO),
        };
        let partitions = cursor.array_of(true, 4, |cursor| partition(cursor, body))?;
        cursor.tags(|_, _| Ok(false))?;
        Ok(FetchedTopic { name, topic_id, partitions })
    })?;
    cursor.tags(|_, _| Ok(false))?;
    Ok(FetchedResponse { error, session_id, topics })
}

fn partition(cursor: &mut Cursor<'_>, body: &Bytes) -> Result<FetchedPartition, WireError> {
    let partition = cursor.i32()?;
    let error = ErrorCode::of(cursor.i16()?);
    let high_watermark = cursor.i64()?;
    cursor.i64()?;
    let log_start_offset = cursor.i64()?;
    // Aborted transactions: a follower finds the markers in the records.
    let aborted = cursor.count(true, 17)?;
    for _ in 0..aborted.unwrap_or(0) {
        cursor.take(16)?;
        cursor.tags(|_, _| Ok(false))?;
    }
    cursor.i32()?;
    let records = cursor.nullable_bytes(true)?.map_or_else(Bytes::new, |range| body.slice(range));
    let mut diverging_epoch = None;
    cursor.tags(|cursor, tag| {
        if tag != 0 {
            return Ok(false);
        }
        let diverging = EpochEndOffset { epoch: LeaderEpoch(cursor.i32()?), end_offset: cursor.i64()? };
        cursor.tags(|_, _| Ok(false))?;
        diverging_epoch = Some(diverging).filter(|diverging| diverging.epoch != LeaderEpoch::NONE);
        Ok(true)
    })?;
    Ok(FetchedPartition { partition, error, high_watermark, log_start_offset, diverging_epoch, records })
}
