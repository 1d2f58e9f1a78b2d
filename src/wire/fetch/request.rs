//! The Fetch request (class `FetchRequest`).

use super::{FIRST_FLEXIBLE, FIRST_TOPIC_ID};
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, TopicId};
use crate::wire::codec::WireError;
use crate::wire::cursor::Cursor;
use crate::wire::frame::Request;
use std::sync::Arc;
use uuid::Uuid;

const VERSIONS: std::ops::RangeInclusive<i16> = 0..=17;

#[derive(Clone, PartialEq, Debug)]
pub struct FetchRequest {
    /// -1 for a consumer.
    pub replica_id: BrokerId,
    /// From version 15, else -1.
    pub replica_epoch: BrokerEpoch,
    pub cluster_id: Option<Arc<str>>,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    /// No limit below version 3.
    pub max_bytes: i32,
    /// 0 read_uncommitted, 1 read_committed.
    pub isolation_level: i8,
    pub session_id: i32,
    /// -1: no session.
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    pub forgotten: Vec<ForgottenTopic>,
    pub rack_id: Arc<str>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FetchTopic {
    /// Empty from version 13.
    pub name: Arc<str>,
    /// Zero below version 13.
    pub topic_id: TopicId,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FetchPartition {
    pub partition: i32,
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: i64,
    pub last_fetched_epoch: LeaderEpoch,
    /// Of the follower; -1 for a consumer.
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ForgottenTopic {
    pub name: Arc<str>,
    pub topic_id: TopicId,
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    pub fn decode(request: &Request) -> Result<FetchRequest, WireError> {
        FetchRequest::read(&request.body, request.header.version)
    }

    /// Reads a body. It needs no guard: every count and length is checked here.
    pub fn read(body: &[u8], version: i16) -> Result<FetchRequest, WireError> {
        if !VERSIONS.contains(&version) {
            return Err(WireError::Unsupported { api_key: 1, version });
        }
        let cursor = Cursor::new(body, "Fetch request");
        let mut reader = Reader { cursor, version, compact: version >= FIRST_FLEXIBLE };
        reader.request()
    }
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    version: i16,
    compact: bool,
}

impl<'a> Reader<'a> {
    /// An `i32` that exists from `first` on.
    fn i32_from(&mut self, first: i16, otherwise: i32) -> Result<i32, WireError> {
        if self.version >= first { self.cursor.i32() } else { Ok(otherwise) }
    }

    fn request(&mut self) -> Result<FetchRequest, WireError> {
        let replica_id = if self.version < 15 { self.cursor.i32()? } else { -1 };
        let mut request = FetchRequest {
            replica_id: BrokerId(replica_id),
            replica_epoch: BrokerEpoch::UNKNOWN,
            cluster_id: None,
            max_wait_ms: self.cursor.i32()?,
            min_bytes: self.cursor.i32()?,
            max_bytes: self.i32_from(3, i32::MAX)?,
            isolation_level: if self.version >= 4 { self.cursor.i8()? } else { 0 },
            session_id: self.i32_from(7, 0)?,
            session_epoch: self.i32_from(7, -1)?,
            topics: self.topics()?,
            forgotten: if self.version >= 7 { self.forgotten()? } else { Vec::new() },
            rack_id: if self.version >= 11 { self.cursor.string(self.compact)?.into() } else { Arc::default() },
        };
        self.request_tags(&mut request)?;
        Ok(request)
    }

    fn request_tags(&mut self, request: &mut FetchRequest) -> Result<(), WireError> {
        let version = self.version;
        if !self.compact {
            return Ok(());
        }
        self.cursor.tags(|cursor, tag| {
            match tag {
                0 => request.cluster_id = cursor.nullable_string(true)?.map(Arc::from),
                1 if version < 15 => return Err(cursor.malformed("a tag of later versions")),
                1 => {
                    request.replica_id = BrokerId(cursor.i32()?);
                    request.replica_epoch = BrokerEpoch(cursor.i64()?);
                    cursor.tags(|_, _| Ok(false))?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn topics(&mut self) -> Result<Vec<FetchTopic>, WireError> {
        self.array(|reader| {
            let (name, topic_id) = reader.topic()?;
            let partitions = reader.array(Reader::partition)?;
            reader.end_of_struct()?;
            Ok(FetchTopic { name, topic_id, partitions })
        })
    }

    fn topic(&mut self) -> Result<(Arc<str>, TopicId), WireError> {
        if self.version >= FIRST_TOPIC_ID {
            return Ok((Arc::default(), TopicId(Uuid::from_bytes(self.cursor.array()?))));
        }
        Ok((self.cursor.string(self.compact)?.into(), TopicId::ZERO))
    }

    fn partition(&mut self) -> Result<FetchPartition, WireError> {
        let partition = FetchPartition {
            partition: self.cursor.i32()?,
            current_leader_epoch: LeaderEpoch(self.i32_from(9, -1)?),
            fetch_offset: self.cursor.i64()?,
            last_fetched_epoch: LeaderEpoch(self.i32_from(12, -1)?),
            log_start_offset: if self.version >= 5 { self.cursor.i64()? } else { -1 },
            max_bytes: self.cursor.i32()?,
        };
        self.partition_tags()?;
        Ok(partition)
    }

    /// The one tag here is the directory id of a KRaft voter.
    fn partition_tags(&mut self) -> Result<(), WireError> {
        let has_directory = self.version >= 17;
        if !self.compact {
            return Ok(());
        }
        self.cursor.tags(|cursor, tag| match tag {
            0 if has_directory => cursor.array::<16>().map(|_| true),
            0 => Err(cursor.malformed("a tag of later versions")),
            _ => Ok(false),
        })
    }

    fn forgotten(&mut self) -> Result<Vec<ForgottenTopic>, WireError> {
        self.array(|reader| {
            let (name, topic_id) = reader.topic()?;
            let partitions = reader.array(|reader| reader.cursor.i32())?;
            reader.end_of_struct()?;
            Ok(ForgottenTopic { name, topic_id, partitions })
        })
    }

    /// An array whose elements take at least four bytes each, as all of this request do but topics with a short name.
    fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T, WireError>) -> Result<Vec<T>, WireError> {
        let count = self.cursor.elements(self.compact, 3)?;
        let count = count.ok_or_else(|| self.cursor.malformed("null is not allowed"))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    fn end_of_struct(&mut self) -> Result<(), WireError> {
        if self.compact { self.cursor.tags(|_, _| Ok(false)) } else { Ok(()) }
    }
}
