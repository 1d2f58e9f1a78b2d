//! Records of `__consumer_offsets` and `__transaction_state` in words (the decoders of `DumpLogSegments`).
//!
//! What the new group coordinator writes (key versions from 3 on) never lies in a cluster in ZooKeeper mode, and is skipped.

use super::json::{Object, array, quoted};
use crate::record::Record;
use crate::wire::coordinator_record::{FieldReader, RecordFormatError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const NEWEST_VALUE_VERSION: i16 = 4;
const NEWEST_SUBSCRIPTION_VERSION: i16 = 3;
const DELETED: &str = "<DELETE>";

/// Key and value in words; an error for a record that cannot be one of its topic.
pub fn offsets(record: &Record<'_>) -> Result<(String, Option<String>), String> {
    let key = record.key.ok_or_else(|| missing_key(record, "offset"))?;
    match offsets_key(key) {
        Ok(Err(version)) => Ok((format!("Unknown record type {version} at offset {}, skipping.", record.offset), None)),
        Err(error) => Ok((skipped(record, &error), None)),
        Ok(Ok((kind, shown))) => match record.value {
            None => Ok((shown, Some(DELETED.to_owned()))),
            Some(value) => match offsets_value(kind, value) {
                Ok(value) => Ok((shown, Some(value))),
                Err(error) => Ok((skipped(record, &error), None)),
            },
        },
    }
}

fn skipped(record: &Record<'_>, error: &RecordFormatError) -> String {
    format!("Error at offset {}, skipping. {error}", record.offset)
}

fn missing_key(record: &Record<'_>, topic: &str) -> String {
    format!(
        "Failed to decode message at offset {} using {topic} topic decoder (message had a missing key)",
        record.offset
    )
}

/// Whether the value is a group's, and the key as JSON; the version if it is not known.
fn offsets_key(key: &[u8]) -> Result<Result<(bool, String), i16>, RecordFormatError> {
    let mut reader = FieldReader::new(key);
    let version = reader.i16("key version")?;
    let data = match version {
        0 | 1 => Object::new()
            .text("group", Some(reader.string("group")?))
            .text("topic", Some(reader.string("topic")?))
            .number("partition", reader.i32("partition")?),
        2 => Object::new().text("group", Some(reader.string("group")?)),
        other => return Ok(Err(other)),
    };
    Ok(Ok((version == 2, Object::new().text("type", Some(&version.to_string())).raw("data", &data.end()).end())))
}

fn offsets_value(is_group: bool, value: &[u8]) -> Result<String, RecordFormatError> {
    let mut reader = FieldReader::new(value);
    let version = reader.i16("value version")?;
    if !(0..=NEWEST_VALUE_VERSION).contains(&version) {
        return Err(RecordFormatError::Version { what: "the value", version });
    }
    reader.set_flexible(version >= 4);
    let data = if is_group { group(&mut reader, version)? } else { offset(&mut reader, version)? };
    Ok(Object::new().text("version", Some(&version.to_string())).raw("data", &data).end())
}

fn offset(reader: &mut FieldReader<'_>, version: i16) -> Result<String, RecordFormatError> {
    let mut object = Object::new().number("offset", reader.i64("offset")?);
    if version >= 3 {
        object = object.number("leaderEpoch", reader.i32("leader epoch")?);
    }
    object = object.text("metadata", Some(reader.string("metadata")?));
    object = object.number("commitTimestamp", reader.i64("commit timestamp")?);
    if version == 1 {
        object = object.number("expireTimestamp", reader.i64("expire timestamp")?);
    }
    Ok(object.end())
}

fn group(reader: &mut FieldReader<'_>, version: i16) -> Result<String, RecordFormatError> {
    let protocol_type = reader.string("protocol type")?;
    let mut object = Object::new()
        .text("protocolType", Some(protocol_type))
        .number("generation", reader.i32("generation")?)
        .text("protocol", reader.nullable_string("protocol")?)
        .text("leader", reader.nullable_string("leader")?);
    if version >= 2 {
        object = object.number("currentStateTimestamp", reader.i64("state timestamp")?);
    }
    let mut members = Vec::new();
    for _ in 0..reader.count("members", 8)? {
        members.push(member(reader, version, protocol_type == "consumer")?);
    }
    Ok(object.raw("members", &array(members.into_iter())).end())
}

fn member(reader: &mut FieldReader<'_>, version: i16, is_consumer: bool) -> Result<String, RecordFormatError> {
    let mut object = Object::new().text("memberId", Some(reader.string("member id")?));
    if version >= 3 {
        object = object.text("groupInstanceId", reader.nullable_string("group instance id")?);
    }
    object = object.text("clientId", Some(reader.string("client id")?));
    object = object.text("clientHost", Some(reader.string("client host")?));
    if version >= 1 {
        object = object.number("rebalanceTimeout", reader.i32("rebalance timeout")?);
    }
    object = object.number("sessionTimeout", reader.i32("session timeout")?);
    let (subscribed, assigned) = (reader.bytes("subscription")?, reader.bytes("assignment")?);
    reader.end_of_struct()?;
    let shown = |bytes: &[u8], parse: fn(&[u8]) -> Result<String, RecordFormatError>| match parse(bytes) {
        Ok(json) if is_consumer => json,
        _ => encoded(Some(bytes)),
    };
    Ok(object
        .raw("subscription", &shown(subscribed, subscription))
        .raw("assignment", &shown(assigned, assignment))
        .end())
}

/// What a consumer subscribes to, in the words of the consumer protocol.
fn subscription(bytes: &[u8]) -> Result<String, RecordFormatError> {
    let mut reader = FieldReader::new(bytes);
    let version = protocol_version(&mut reader)?;
    let mut topics = Vec::new();
    for _ in 0..reader.count("topics", 2)? {
        topics.push(quoted(Some(reader.string("topic")?)));
    }
    let mut object = Object::new().raw("topics", &array(topics.into_iter()));
    object = object.raw("userData", &encoded(nullable_bytes(&mut reader)?));
    if version >= 1 {
        object = object.raw("ownedPartitions", &partitions(&mut reader)?);
    }
    if version >= 2 {
        object = object.number("generationId", reader.i32("generation")?);
    }
    if version >= 3 {
        object = object.text("rackId", reader.nullable_string("rack")?);
    }
    Ok(object.end())
}

fn assignment(bytes: &[u8]) -> Result<String, RecordFormatError> {
    let mut reader = FieldReader::new(bytes);
    protocol_version(&mut reader)?;
    let object = Object::new().raw("assignedPartitions", &partitions(&mut reader)?);
    Ok(object.raw("userData", &encoded(nullable_bytes(&mut reader)?)).end())
}

/// Newer versions only add fields at the end.
fn protocol_version(reader: &mut FieldReader<'_>) -> Result<i16, RecordFormatError> {
    let version = reader.i16("version")?;
    if version < 0 {
        return Err(RecordFormatError::Version { what: "the consumer protocol", version });
    }
    Ok(version.min(NEWEST_SUBSCRIPTION_VERSION))
}

fn partitions(reader: &mut FieldReader<'_>) -> Result<String, RecordFormatError> {
    let mut topics = Vec::new();
    for _ in 0..reader.count("partitions", 6)? {
        let topic = reader.string("topic")?;
        let mut numbers = Vec::new();
        for _ in 0..reader.count("partition numbers", 4)? {
            numbers.push(reader.i32("partition")?.to_string());
        }
        topics.push(Object::new().text("topic", Some(topic)).raw("partitions", &array(numbers.into_iter())).end());
    }
    Ok(array(topics.into_iter()))
}

fn nullable_bytes<'a>(reader: &mut FieldReader<'a>) -> Result<Option<&'a [u8]>, RecordFormatError> {
    let Some(len) = reader.nullable_count("user data", 1)? else { return Ok(None) };
    reader.raw(len, "user data").map(Some)
}

fn encoded(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("\"{}\"", STANDARD.encode(bytes)))
}

/// Key and value of a record of `__transaction_state`.
pub fn transactions(record: &Record<'_>) -> Result<(String, Option<String>), String> {
    let key = record.key.ok_or_else(|| missing_key(record, "transaction"))?;
    let failed = |error: RecordFormatError| format!("Failed to decode message at offset {}: {error}", record.offset);
    let mut reader = FieldReader::new(key);
    let version = reader.i16("key version").map_err(failed)?;
    if version != 0 {
        return Ok((format!("unknown::version={version}"), None));
    }
    let id = reader.string("transactional id").map_err(failed)?;
    let value = match record.value {
        None => DELETED.to_owned(),
        Some(value) => transaction(value).map_err(failed)?,
    };
    Ok((format!("transaction_metadata::transactionalId={id}"), Some(value)))
}

fn transaction(value: &[u8]) -> Result<String, RecordFormatError> {
    let mut reader = FieldReader::new(value);
    let version = reader.i16("value version")?;
    if !(0..=1).contains(&version) {
        return Err(RecordFormatError::Version { what: "the value", version });
    }
    reader.set_flexible(version >= 1);
    let (id, epoch) = (reader.i64("producer id")?, reader.i16("producer epoch")?);
    let (timeout_ms, status) = (reader.i32("timeout")?, reader.i8("status")?);
    let mut partitions = Vec::new();
    for _ in 0..reader.nullable_count("partitions", 6)?.unwrap_or(0) {
        let topic = reader.string("topic")?;
        for _ in 0..reader.count("partition numbers", 4)? {
            partitions.push(format!("{topic}-{}", reader.i32("partition")?));
        }
        reader.end_of_struct()?;
    }
    let updated_ms = reader.i64("last update")?;
    Ok(format!(
        "producerId:{id},producerEpoch:{epoch},state={},partitions=[{}],txnLastUpdateTimestamp={updated_ms},txnTimeoutMs={timeout_ms}",
        state_name(status),
        partitions.join(",")
    ))
}

fn state_name(status: i8) -> &'static str {
    const NAMES: [&str; 8] = [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ];
    usize::try_from(status).ok().and_then(|at| NAMES.get(at)).copied().unwrap_or("Unknown")
}
