//! Records of `__consumer_offsets`: what a key and a value look like, byte by byte (class `GroupMetadataManager`, messages
//! `OffsetCommitKey/Value` and `GroupMetadataKey/Value`).
//!
//! ```text
//! key    i16 version  0,1: string group, string topic, i32 partition      2: string group      others: skipped
//! offset i16 version  0,1,2: i64 offset, string metadata, i64 commit timestamp, [1: i64 expire timestamp]
//!                     3: i64 offset, i32 leader epoch, string metadata, i64 commit timestamp      4: the same, flexible
//! group  i16 version  string protocol type, i32 generation, string? protocol, string? leader, [2+: i64 state timestamp],
//!                     members { string id, [3+: string? instance], string client, string host, [1+: i32 rebalance timeout],
//!                               i32 session timeout, bytes subscription, bytes assignment }      4: the same, flexible
//! ```
//! Keys are written as versions 1 and 2, values as version 3, offsets with an expiry of their own as version 1: what a
//! 3.9 broker writes. A null value is a tombstone.

use crate::base::Millis;
use crate::wire::coordinator_record::{FieldReader, RecordFormatError, put_bytes, put_nullable_string, put_string};
use bytes::{BufMut, Bytes};
use std::sync::Arc;

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
const NEWEST_VALUE_VERSION: i16 = 4;

/// What a record is about.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum RecordKey {
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32 },
    Group { group: Arc<str> },
}

/// A committed offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1: unknown.
    pub leader_epoch: i32,
    pub metadata: Box<str>,
    pub commit_timestamp: Millis,
    /// Commits of versions 2 to 4 may ask for a retention of their own.
    pub expire_timestamp: Option<Millis>,
}

/// A member as the group's record keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberValue {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A group after a completed rebalance, or one that became empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupValue {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// When the group entered its state; -1 before version 2.
    pub state_timestamp: Millis,
    pub members: Vec<MemberValue>,
}

/// One record with its key; `None` as value is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoordinatorRecord {
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<OffsetValue> },
    Group { group: Arc<str>, value: Option<GroupValue> },
}

impl CoordinatorRecord {
    /// Reads a record of the log. `None`: of a kind that this coordinator skips. An unknown version of a value is an error,
    /// since the state without it would be wrong.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<CoordinatorRecord>, RecordFormatError> {
        Ok(match decode_key(key)? {
            Some(RecordKey::Offset { group, topic, partition }) => {
                let value = value.map(decode_offset).transpose()?;
                Some(CoordinatorRecord::Offset { group, topic, partition, value })
            }
            Some(RecordKey::Group { group }) => {
                Some(CoordinatorRecord::Group { group, value: value.map(decode_group).transpose()? })
            }
            None => None,
        })
    }

    pub fn encode_key(&self, out: &mut Vec<u8>) {
        match self {
            CoordinatorRecord::Offset { group, topic, partition, .. } => {
                out.put_i16(OFFSET_KEY_VERSION);
                put_string(out, group);
                put_string(out, topic);
                out.put_i32(*partition);
            }
            CoordinatorRecord::Group { group, .. } => {
                out.put_i16(GROUP_KEY_VERSION);
                put_string(out, group);
            }
        }
    }

    /// Writes the value; `false` (and nothing written) for a tombstone.
    pub fn encode_value(&self, out: &mut Vec<u8>) -> bool {
        match self {
            CoordinatorRecord::Offset { value: Some(value), .. } => encode_offset(value, out),
            CoordinatorRecord::Group { value: Some(value), .. } => encode_group(value, out),
            _ => return false,
        }
        true
    }

    pub fn group(&self) -> &Arc<str> {
        match self {
            CoordinatorRecord::Offset { group, .. } | CoordinatorRecord::Group { group, .. } => group,
        }
    }

    /// About how many bytes the record takes, to keep batches below the topic's limit.
    pub fn size_estimate(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            CoordinatorRecord::Offset { group, topic, value, .. } => {
                FIXED + group.len() + topic.len() + value.as_ref().map_or(0, |value| value.metadata.len())
            }
            CoordinatorRecord::Group { group, value } => {
                let members = value.iter().flat_map(|value| &value.members);
                FIXED
                    + group.len()
                    + members
                        .map(|m| FIXED + m.member_id.len() + m.subscription.len() + m.assignment.len())
                        .sum::<usize>()
            }
        }
    }
}

fn decode_key(bytes: &[u8]) -> Result<Option<RecordKey>, RecordFormatError> {
    let mut reader = FieldReader::new(bytes);
    Ok(match reader.i16("key version")? {
        0 | 1 => Some(RecordKey::Offset {
            group: reader.string("group")?.into(),
            topic: reader.string("topic")?.into(),
            partition: reader.i32("partition")?,
        }),
        2 => Some(RecordKey::Group { group: reader.string("group")?.into() }),
        _ => None,
    })
}

fn value_version(reader: &mut FieldReader<'_>, what: &'static str) -> Result<i16, RecordFormatError> {
    let version = reader.i16("value version")?;
    if !(0..=NEWEST_VALUE_VERSION).contains(&version) {
        return Err(RecordFormatError::Version { what, version });
    }
    reader.set_flexible(version >= 4);
    Ok(version)
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, RecordFormatError> {
    let mut reader = FieldReader::new(bytes);
    let version = value_version(&mut reader, "offset value")?;
    let offset = reader.i64("offset")?;
    let leader_epoch = if version >= 3 { reader.i32("leader epoch")? } else { -1 };
    let metadata = reader.string("metadata")?.into();
    let commit_timestamp = reader.i64("commit timestamp")?;
    let expire_timestamp =
        if version == 1 { Some(reader.i64("expire timestamp")?).filter(|at| *at != -1) } else { None };
    reader.end_of_struct()?;
    Ok(OffsetValue { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp })
}

fn encode_offset(value: &OffsetValue, out: &mut Vec<u8>) {
    match value.expire_timestamp {
        None => {
            out.put_i16(OFFSET_VALUE_VERSION);
            out.put_i64(value.offset);
            out.put_i32(value.leader_epoch);
            put_string(out, &value.metadata);
            out.put_i64(value.commit_timestamp);
        }
        Some(expire_timestamp) => {
            out.put_i16(OFFSET_VALUE_VERSION_WITH_EXPIRY);
            out.put_i64(value.offset);
            put_string(out, &value.metadata);
            out.put_i64(value.commit_timestamp);
            out.put_i64(expire_timestamp);
        }
    }
}

fn decode_group(bytes: &[u8]) -> Result<GroupValue, RecordFormatError> {
    /// A member of version 0: three empty strings, a time-out and two empty byte arrays.
    const MEMBER_BYTES_MIN: usize = 9;
    let mut reader = FieldReader::new(bytes);
    let version = value_version(&mut reader, "group value")?;
    let protocol_type = reader.string("protocol type")?.into();
    let generation = reader.i32("generation")?;
    let protocol = reader.nullable_string("protocol")?.map(Arc::from);
    let leader = reader.nullable_string("leader")?.map(Arc::from);
    let state_timestamp = if version >= 2 { reader.i64("state timestamp")? } else { -1 };
    let count = reader.count("members", MEMBER_BYTES_MIN)?;
    let members = (0..count).map(|_| decode_member(&mut reader, version)).collect::<Result<_, _>>()?;
    reader.end_of_struct()?;
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_timestamp, members })
}

fn decode_member(reader: &mut FieldReader<'_>, version: i16) -> Result<MemberValue, RecordFormatError> {
    let member_id = reader.string("member id")?.into();
    let instance_id = if version >= 3 { reader.nullable_string("instance id")?.map(Arc::from) } else { None };
    let client_id = reader.string("client id")?.into();
    let client_host = reader.string("client host")?.into();
    let rebalance_timeout_ms = if version >= 1 { Some(reader.i32("rebalance timeout")?) } else { None };
    let session_timeout_ms = reader.i32("session timeout")?;
    let subscription = Bytes::copy_from_slice(reader.bytes("subscription")?);
    let assignment = Bytes::copy_from_slice(reader.bytes("assignment")?);
    reader.end_of_struct()?;
    Ok(MemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription,
        assignment,
    })
}

fn encode_group(value: &GroupValue, out: &mut Vec<u8>) {
    out.put_i16(GROUP_VALUE_VERSION);
    put_string(out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable_string(out, value.protocol.as_deref());
    put_nullable_string(out, value.leader.as_deref());
    out.put_i64(value.state_timestamp);
    out.put_i32(value.members.len() as i32);
    for member in &value.members {
        put_string(out, &member.member_id);
        put_nullable_string(out, member.instance_id.as_deref());
        put_string(out, &member.client_id);
        put_string(out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(out, &member.subscription);
        put_bytes(out, &member.assignment);
    }
}
