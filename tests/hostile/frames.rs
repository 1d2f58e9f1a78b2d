//! Whole frames that no honest client sends, by kind.

use crate::vectors::{self, Vector};
use bytes::{BufMut, Bytes, BytesMut};
use ottla::wire::messages::create_partitions_request::CreatePartitionsTopic;
use ottla::wire::messages::create_topics_request::CreatableTopic;
use ottla::wire::messages::metadata_request::MetadataRequestTopic;
use ottla::wire::messages::{ApiKey, CreatePartitionsRequest, CreateTopicsRequest, MetadataRequest, TopicName};
use ottla::wire::schema::{Direction, Message};
use ottla::wire::{RequestMessage, text};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

pub struct Hostile {
    pub name: String,
    pub bytes: Vec<u8>,
}

fn hostile(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Hostile {
    Hostile { name: name.into(), bytes: bytes.into() }
}

/// A frame with a header that is right for the key and version, as far as there is one.
fn framed(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header_version = match ApiKey::try_from(api_key) {
        Ok(key) if key.valid_versions().min <= version && version <= key.valid_versions().max => {
            key.request_header_version(version)
        }
        _ => 1,
    };
    let mut frame = BytesMut::new();
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(1);
    if header_version >= 1 {
        frame.put_slice(b"\0\x07hostile");
    }
    if header_version >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let mut whole = (frame.len() as i32).to_be_bytes().to_vec();
    whole.extend_from_slice(&frame);
    whole
}

pub fn impossible_lengths() -> Vec<Hostile> {
    let lengths = [0, -1, -2, i32::MIN, i32::MAX, 0x7fff_0000, (100 << 20) + 1, 1, 2, 7];
    lengths
        .into_iter()
        .map(|length: i32| {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend([0; 7]);
            hostile(format!("length {length}"), bytes)
        })
        .collect()
}

pub fn unknown_keys_and_versions() -> Vec<Hostile> {
    let mut all = Vec::new();
    for key in [-1, i16::MIN, 52, 53, 59, 62, 63, 64, 70, 71, 75, 80, 87, 88, 99, 1000, i16::MAX] {
        for version in [-1, 0, 1, 99] {
            all.push(hostile(format!("key {key} version {version}"), framed(key, version, &[0; 20])));
        }
    }
    for key in Message::api_keys() {
        for version in [-1, i16::MIN, 30, i16::MAX] {
            all.push(hostile(format!("key {key} version {version}"), framed(key, version, &[0; 20])));
        }
    }
    all
}

/// Other protocols that end up at the port.
pub fn strangers() -> Vec<Hostile> {
    let mut random = StdRng::seed_from_u64(1);
    let mut all = vec![
        hostile("http", *b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        hostile("tls", *b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello hello hello hello hello"),
        hostile("ssh", *b"SSH-2.0-OpenSSH_9.2\r\n"),
        hostile("zookeeper", *b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x75\x30\0\0\0\0\0\0\0\0\0\0\0\x10"),
        hostile("ruok", *b"ruok"),
    ];
    for at in 0..20 {
        let bytes: Vec<u8> = (0..300).map(|_| random.random()).collect();
        all.push(hostile(format!("noise {at}"), bytes));
    }
    all
}

/// For every key and version: random bytes, a cut body, and counts blown up.
pub fn broken_bodies() -> Vec<Hostile> {
    let mut random = StdRng::seed_from_u64(2);
    let mut richest: BTreeMap<(i16, i16), Vector> = BTreeMap::new();
    for vector in vectors::all().into_iter().filter(|vector| vector.direction == Direction::Request) {
        richest.insert((vector.api_key, vector.version), vector);
    }
    let mut all = Vec::new();
    for ((key, version), vector) in richest {
        let noise: Vec<u8> = (0..random.random_range(1..200)).map(|_| random.random()).collect();
        all.push(hostile(format!("noise for key {key} version {version}"), framed(key, version, &noise)));
        let cut = vector.body.len() * 2 / 3;
        all.push(hostile(format!("half of key {key} version {version}"), framed(key, version, &vector.body[..cut])));
        for count in vector.counts.iter().take(3) {
            let bloated: &[u8] = match (vector.flexible, count.width) {
                (true, _) => &[0xff, 0xff, 0xff, 0xff, 0x07],
                (false, 2) => &[0x7f, 0xff],
                (false, _) => &[0x7f, 0xff, 0xff, 0xff],
            };
            let mut body = vector.body[..count.offset].to_vec();
            body.extend_from_slice(bloated);
            let name = format!("count at {} of key {key} version {version}", count.offset);
            all.push(hostile(name, framed(key, version, &body)));
        }
        if vector.flexible {
            let name = format!("overlong varint in key {key} version {version}");
            all.push(hostile(name, framed(key, version, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])));
        }
    }
    all
}

/// Honest structure around names and numbers that must not be believed.
pub fn absurd_requests() -> Vec<Hostile> {
    let mut all = Vec::new();
    for name in bad_topic_names() {
        let shown: String = name.chars().take(20).collect();
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(&name))));
        let metadata = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
        all.push(hostile(format!("auto-create {shown:?}"), request(&metadata, 9)));
        for (kind, validate_only) in [("create", false), ("validate", true)] {
            let topic = CreatableTopic::default()
                .with_name(TopicName(text(&name)))
                .with_num_partitions(1)
                .with_replication_factor(1);
            all.push(hostile(format!("{kind} {shown:?}"), request(&create(topic, validate_only), 5)));
        }
    }
    for partitions in [i32::MAX, i32::MAX - 1, 1 << 30, 100_000_000, 0, -2, i32::MIN] {
        for validate_only in [false, true] {
            let topic = CreatableTopic::default()
                .with_name(TopicName(text("absurd")))
                .with_num_partitions(partitions)
                .with_replication_factor(1);
            all.push(hostile(format!("{partitions} partitions"), request(&create(topic, validate_only), 5)));
            let topic = CreatePartitionsTopic::default().with_name(TopicName(text("steady"))).with_count(partitions);
            let more = CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .with_timeout_ms(1000)
                .with_validate_only(validate_only);
            all.push(hostile(format!("up to {partitions} partitions"), request(&more, 1)));
        }
    }
    for replicas in [i16::MAX, 100, 0, -2] {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text("absurd")))
            .with_num_partitions(1)
            .with_replication_factor(replicas);
        all.push(hostile(format!("{replicas} replicas"), request(&create(topic, false), 5)));
    }
    all
}

pub fn bad_topic_names() -> Vec<String> {
    let mut names: Vec<String> =
        ["", ".", "..", "../../etc", "/etc/ottla", "a/b", "a\0b", "über", "a b", "a:b", "a\nb", "-\u{202e}x"]
            .map(str::to_owned)
            .to_vec();
    names.extend(["a".repeat(250), "../".repeat(80), "x".repeat(30_000)]);
    names
}

fn create(topic: CreatableTopic, validate_only: bool) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000).with_validate_only(validate_only)
}

fn request<R: RequestMessage>(request: &R, version: i16) -> Bytes {
    crate::common::frame(request, version, 1).expect("a frame").freeze()
}
