//! Records of `__consumer_offsets` against what Apache Kafka's classes write (tests/reference/GroupRecords.java), and against
//! bytes that nobody should have written.

use bytes::Bytes;
use ottla::group::records::{CoordinatorRecord, GroupValue, MemberValue, OffsetValue};
use ottla::wire::coordinator_record::RecordFormatError;
use std::sync::Arc;

const GOLDEN: &str = include_str!("../fixtures/group-records-3.9.2.txt");

fn golden() -> impl Iterator<Item = (&'static str, i16, Vec<u8>)> {
    GOLDEN.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let hex = words[2];
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"));
        (words[0], words[1].parse().expect("version"), bytes.collect())
    })
}

fn find(name: &str, version: i16) -> Vec<u8> {
    golden().find(|(n, v, _)| *n == name && *v == version).expect("a golden record").2
}

fn offset(version: i16) -> OffsetValue {
    OffsetValue {
        offset: 1_234_567_890_123,
        leader_epoch: if version >= 3 { 5 } else { -1 },
        metadata: "note".into(),
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp: (version == 1).then_some(1_700_000_600_000),
    }
}

fn member(version: i16, id: &str, instance_id: Option<&str>) -> MemberValue {
    MemberValue {
        member_id: id.into(),
        instance_id: instance_id.filter(|_| version >= 3).map(Arc::from),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: if version >= 1 { 300_000 } else { 45_000 },
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[0, 3, 0, 0, 0, 1]),
        assignment: Bytes::from_static(&[9, 8, 7]),
    }
}

fn stable(version: i16) -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 42,
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        state_timestamp: if version >= 2 { 1_700_000_000_000 } else { -1 },
        members: vec![member(version, "m-1", Some("instance")), member(version, "m-2", None)],
    }
}

fn empty(version: i16) -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 43,
        protocol: Some("".into()),
        leader: Some("".into()),
        state_timestamp: if version >= 2 { 1_700_000_000_001 } else { -1 },
        members: Vec::new(),
    }
}

fn offset_record(value: Option<OffsetValue>) -> CoordinatorRecord {
    CoordinatorRecord::Offset { group: "größe".into(), topic: "orders".into(), partition: 7, value }
}

fn group_record(value: Option<GroupValue>) -> CoordinatorRecord {
    CoordinatorRecord::Group { group: "größe".into(), value }
}

/// Key, value and what they mean.
fn expected(name: &str, version: i16) -> (Vec<u8>, CoordinatorRecord) {
    match name {
        "offset-value" => (find("offset-key", 1), offset_record(Some(offset(version)))),
        "stable-value" => (find("group-key", 2), group_record(Some(stable(version)))),
        "empty-value" => (find("group-key", 2), group_record(Some(empty(version)))),
        other => panic!("{other}"),
    }
}

#[test]
fn all_versions_are_read() {
    let mut seen = 0;
    for (name, version, value) in golden().filter(|(name, ..)| name.ends_with("value")) {
        let (key, record) = expected(name, version);
        assert_eq!(CoordinatorRecord::decode(&key, Some(&value)), Ok(Some(record)), "{name} {version}");
        seen += 1;
    }
    assert_eq!(seen, 15);
    for version in 0..=1 {
        let key = find("offset-key", version);
        assert_eq!(CoordinatorRecord::decode(&key, None), Ok(Some(offset_record(None))));
    }
    assert_eq!(CoordinatorRecord::decode(&find("group-key", 2), None), Ok(Some(group_record(None))));
}

#[test]
fn what_is_written_is_what_kafka_writes() {
    for (name, version) in [("offset-value", 1), ("offset-value", 3), ("stable-value", 3), ("empty-value", 3)] {
        let (key, record) = expected(name, version);
        let (mut own_key, mut own_value) = (Vec::new(), Vec::new());
        record.encode_key(&mut own_key);
        assert!(record.encode_value(&mut own_value));
        assert_eq!((own_key, own_value), (key, find(name, version)), "{name} {version}");
    }
    let mut value = Vec::new();
    assert!(!offset_record(None).encode_value(&mut value) && value.is_empty());
}

#[test]
fn other_kinds_of_keys_are_skipped_and_newer_values_are_not() {
    for version in [3i16, 8, 11, 100, -1] {
        assert_eq!(CoordinatorRecord::decode(&[&version.to_be_bytes()[..], b"whatever"].concat(), None), Ok(None));
    }
    for (key, what) in [("offset-key", "offset value"), ("group-key", "group value")] {
        let key = find(key, if key == "offset-key" { 1 } else { 2 });
        for version in [5i16, -1, i16::MAX] {
            let read = CoordinatorRecord::decode(&key, Some(&version.to_be_bytes()));
            assert_eq!(read, Err(RecordFormatError::Version { what, version }));
        }
    }
}

#[test]
fn broken_records_are_errors_and_nothing_worse() {
    for (name, version, value) in golden().filter(|(name, ..)| name.ends_with("value")) {
        let (key, _) = expected(name, version);
        for cut in 0..value.len() {
            assert!(CoordinatorRecord::decode(&key, Some(&value[..cut])).is_err(), "{name} {version} cut at {cut}");
        }
        for cut in 0..key.len() {
            assert!(CoordinatorRecord::decode(&key[..cut], Some(&value)).is_err());
        }
        for at in 0..value.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut broken = value.clone();
                broken[at] = byte;
                // Any answer will do, as long as there is one.
                let _ = CoordinatorRecord::decode(&key, Some(&broken));
            }
        }
    }
}
