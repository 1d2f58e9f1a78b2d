//! The hand-written codecs for Produce and Fetch give what the generated ones give, for random messages at every version.

use bytes::Bytes;
use ottla::base::{BrokerId, ErrorCode, LeaderEpoch, ProducerId, TopicId};
use ottla::wire::fetch::{
    AbortedTransaction, CurrentLeader, EpochEndOffset, FetchRequest, FetchResponse, NodeEndpoint, PartitionData,
    SnapshotId, TopicData,
};
use ottla::wire::messages::{self, TopicName, fetch_request, fetch_response, produce_request};
use ottla::wire::produce::ProduceRequest;
use ottla::wire::{Reply, RequestHeader, Segment, encode, text};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use uuid::Uuid;

const ROUNDS: u64 = 60;

struct Random(StdRng);

impl Random {
    fn many<T>(&mut self, most: usize, mut one: impl FnMut(&mut Random) -> T) -> Vec<T> {
        let count = self.0.random_range(0..=most);
        (0..count).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, one: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.coin().then(|| one(self))
    }

    fn coin(&mut self) -> bool {
        self.0.random_bool(0.5)
    }

    fn i16(&mut self) -> i16 {
        self.0.random()
    }

    fn i32(&mut self) -> i32 {
        self.0.random()
    }

    fn i64(&mut self) -> i64 {
        self.0.random()
    }

    fn name(&mut self) -> String {
        let length = if self.0.random_bool(0.1) { 200 } else { self.0.random_range(0..12) };
        (0..length).map(|_| char::from(self.0.random_range(b'a'..=b'z'))).collect()
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.0.random())
    }

    fn bytes(&mut self, most: usize) -> Bytes {
        let length = self.0.random_range(0..=most);
        Bytes::from((0..length).map(|_| self.0.random()).collect::<Vec<u8>>())
    }

    /// Tagged fields from the future, which must be skipped.
    fn tags(&mut self, flexible: bool) -> BTreeMap<i32, Bytes> {
        if !flexible {
            return BTreeMap::new();
        }
        self.many(2, |random| (random.0.random_range(100..100_000), random.bytes(200))).into_iter().collect()
    }
}

fn each_version(last: i16, mut check: impl FnMut(&mut Random, i16)) {
    for version in 0..=last {
        for round in 0..ROUNDS {
            let mut random = Random(StdRng::seed_from_u64(round * 100 + version as u64));
            check(&mut random, version);
        }
    }
}

#[test]
fn produce_requests_are_read_alike() {
    each_version(11, |random, version| {
        let flexible = version >= 9;
        let partition = |random: &mut Random| {
            produce_request::PartitionProduceData::default()
                .with_index(random.i32())
                .with_records(random.maybe(|random| random.bytes(300)))
                .with_unknown_tagged_fields(random.tags(flexible))
        };
        let topic = |random: &mut Random| {
            produce_request::TopicProduceData::default()
                .with_name(TopicName(text(&random.name())))
                .with_partition_data(random.many(4, partition))
                .with_unknown_tagged_fields(random.tags(flexible))
        };
        let meant = messages::ProduceRequest::default()
            .with_transactional_id(random.maybe(|random| text(&random.name()).into()).filter(|_| version >= 3))
            .with_acks(random.i16())
            .with_timeout_ms(random.i32())
            .with_topic_data(random.many(4, topic))
            .with_unknown_tagged_fields(random.tags(flexible));
        let read = ProduceRequest::read(&encode(&meant, version).unwrap(), version).unwrap();
        assert_eq!(read.transactional_id.as_deref(), meant.transactional_id.as_ref().map(|id| id.0.as_str()));
        assert_eq!((read.acks, read.timeout_ms), (meant.acks, meant.timeout_ms));
        let read: Vec<_> = read
            .topics
            .iter()
            .map(|topic| {
                let partitions = topic.partitions.iter().map(|one| (one.index, one.records.clone()));
                (topic.name.to_string(), partitions.collect::<Vec<_>>())
            })
            .collect();
        let meant: Vec<_> = meant
            .topic_data
            .iter()
            .map(|topic| {
                let partitions = topic.partition_data.iter().map(|one| (one.index, one.records.clone()));
                (topic.name.to_string(), partitions.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(read, meant, "version {version}");
    });
}

fn random_fetch(random: &mut Random, version: i16) -> messages::FetchRequest {
    let flexible = version >= 12;
    let from = |first: i16, value: i32, otherwise: i32| if version >= first { value } else { otherwise };
    let partition = |random: &mut Random| {
        let mut partition = fetch_request::FetchPartition::default()
            .with_partition(random.i32())
            .with_current_leader_epoch(from(9, random.i32(), -1))
            .with_fetch_offset(random.i64())
            .with_last_fetched_epoch(from(12, random.i32(), -1))
            .with_log_start_offset(if version >= 5 { random.i64() } else { -1 })
            .with_partition_max_bytes(random.i32())
            .with_unknown_tagged_fields(random.tags(flexible));
        if version >= 17 && random.coin() {
            partition.replica_directory_id = random.uuid();
        }
        partition
    };
    let by_id = version >= 13;
    let name = |random: &mut Random| TopicName(text(&if by_id { String::new() } else { random.name() }));
    let id = |random: &mut Random| if by_id { random.uuid() } else { Uuid::nil() };
    let topic = |random: &mut Random| {
        fetch_request::FetchTopic::default()
            .with_topic(name(random))
            .with_topic_id(id(random))
            .with_partitions(random.many(4, partition))
            .with_unknown_tagged_fields(random.tags(flexible))
    };
    let forgotten = |random: &mut Random| {
        fetch_request::ForgottenTopic::default()
            .with_topic(name(random))
            .with_topic_id(id(random))
            .with_partitions(random.many(4, Random::i32))
            .with_unknown_tagged_fields(random.tags(flexible))
    };
    let mut request = messages::FetchRequest::default()
        .with_max_wait_ms(random.i32())
        .with_min_bytes(random.i32())
        .with_max_bytes(from(3, random.i32(), i32::MAX))
        .with_isolation_level(if version >= 4 { random.i16() as i8 } else { 0 })
        .with_session_id(from(7, random.i32(), 0))
        .with_session_epoch(from(7, random.i32(), -1))
        .with_topics(random.many(4, topic))
        .with_forgotten_topics_data(if version >= 7 { random.many(3, forgotten) } else { Vec::new() })
        .with_rack_id(text(&if version >= 11 { random.name() } else { String::new() }))
        .with_unknown_tagged_fields(random.tags(flexible));
    match version {
        15.. => {
            request.replica_state.replica_id = random.i32().into();
            request.replica_state.replica_epoch = random.i64();
        }
        _ => request.replica_id = random.i32().into(),
    }
    if flexible {
        request.cluster_id = random.maybe(|random| text(&random.name()));
    }
    request
}

#[test]
fn fetch_requests_are_read_alike() {
    each_version(17, |random, version| {
        let meant = random_fetch(random, version);
        let read = FetchRequest::read(&encode(&meant, version).unwrap(), version).unwrap();
        let (replica, epoch) = match version {
            15.. => (meant.replica_state.replica_id, meant.replica_state.replica_epoch),
            _ => (meant.replica_id, -1),
        };
        assert_eq!((read.replica_id.0, read.replica_epoch.0), (replica.0, epoch));
        assert_eq!(read.cluster_id.as_deref(), meant.cluster_id.as_deref());
        assert_eq!(
            (read.max_wait_ms, read.min_bytes, read.max_bytes, read.isolation_level),
            (meant.max_wait_ms, meant.min_bytes, meant.max_bytes, meant.isolation_level)
        );
        assert_eq!((read.session_id, read.session_epoch), (meant.session_id, meant.session_epoch));
        assert_eq!(*read.rack_id, *meant.rack_id);
        assert_eq!((read.topics.len(), read.forgotten.len()), (meant.topics.len(), meant.forgotten_topics_data.len()));
        for (read, meant) in read.topics.iter().zip(&meant.topics) {
            assert_eq!((&*read.name, read.topic_id.0), (&**meant.topic, meant.topic_id));
            let read: Vec<_> = read.partitions.iter().map(|one| fetch_partition(one.partition, *one)).collect();
            let meant: Vec<_> = meant.partitions.iter().map(|one| (one.partition, crate_partition(one))).collect();
            assert_eq!(read, meant, "version {version}");
        }
        for (read, meant) in read.forgotten.iter().zip(&meant.forgotten_topics_data) {
            assert_eq!((&*read.name, read.topic_id.0), (&**meant.topic, meant.topic_id));
            assert_eq!(read.partitions, meant.partitions);
        }
    });
}

type FetchFields = (i32, i64, i32, i64, i32);

fn fetch_partition(partition: i32, one: ottla::wire::fetch::FetchPartition) -> (i32, FetchFields) {
    let epochs = (one.current_leader_epoch.0, one.last_fetched_epoch.0);
    (partition, (epochs.0, one.fetch_offset, epochs.1, one.log_start_offset, one.max_bytes))
}

fn crate_partition(one: &fetch_request::FetchPartition) -> FetchFields {
    let epochs = (one.current_leader_epoch, one.last_fetched_epoch);
    (epochs.0, one.fetch_offset, epochs.1, one.log_start_offset, one.partition_max_bytes)
}

/// Records as pieces of a file and of memory, and the same in one piece.
fn random_records(random: &mut Random, file: &Arc<File>, content: &[u8]) -> (Vec<Segment>, Bytes) {
    let mut whole = Vec::new();
    let segments = random.many(3, |random| {
        let len = random.0.random_range(0..=2000);
        let position = random.0.random_range(0..=content.len() - len);
        let bytes = &content[position..position + len];
        whole.extend_from_slice(bytes);
        match random.coin() {
            true => Segment::Bytes(Bytes::copy_from_slice(bytes)),
            false => Segment::File { file: file.clone(), position: position as u64, len },
        }
    });
    (segments, Bytes::from(whole))
}

fn random_partition(
    random: &mut Random,
    version: i16,
    file: &Arc<File>,
    content: &[u8],
) -> (PartitionData, fetch_response::PartitionData) {
    let (records, whole) = random_records(random, file, content);
    let null = version < 4 && random.coin();
    let error =
        [ErrorCode::None, ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownServerError][random.0.random_range(0..3)];
    let ours = PartitionData {
        partition: random.i32(),
        error,
        high_watermark: random.i64(),
        last_stable_offset: random.i64(),
        log_start_offset: random.i64(),
        diverging_epoch: random
            .maybe(|random| EpochEndOffset { epoch: LeaderEpoch(random.i32()), end_offset: random.i64() }),
        current_leader: random
            .maybe(|random| CurrentLeader { leader: BrokerId(random.i32()), epoch: LeaderEpoch(random.i32()) }),
        snapshot_id: random.maybe(|random| SnapshotId { end_offset: random.i64(), epoch: LeaderEpoch(random.i32()) }),
        aborted_transactions: random.maybe(|random| {
            random.many(3, |random| AbortedTransaction {
                producer_id: ProducerId(random.i64()),
                first_offset: random.i64(),
            })
        }),
        preferred_read_replica: BrokerId(random.i32()),
        records: (!null).then_some(records),
    };
    let mut theirs = fetch_response::PartitionData::default()
        .with_partition_index(ours.partition)
        .with_error_code(ours.error.code())
        .with_high_watermark(ours.high_watermark)
        .with_last_stable_offset(ours.last_stable_offset)
        .with_log_start_offset(ours.log_start_offset)
        .with_records((!null).then_some(whole));
    theirs.aborted_transactions = ours.aborted_transactions.as_ref().map(|all| {
        let one = |one: &AbortedTransaction| {
            fetch_response::AbortedTransaction::default()
                .with_producer_id(one.producer_id.0.into())
                .with_first_offset(one.first_offset)
        };
        all.iter().map(one).collect()
    });
    if version >= 11 {
        theirs.preferred_read_replica = ours.preferred_read_replica.0.into();
    }
    if let Some(diverging) = ours.diverging_epoch {
        theirs.diverging_epoch.epoch = diverging.epoch.0;
        theirs.diverging_epoch.end_offset = diverging.end_offset;
    }
    if let Some(current) = ours.current_leader {
        theirs.current_leader.leader_id = current.leader.0.into();
        theirs.current_leader.leader_epoch = current.epoch.0;
    }
    if let Some(snapshot) = ours.snapshot_id {
        theirs.snapshot_id.end_offset = snapshot.end_offset;
        theirs.snapshot_id.epoch = snapshot.epoch.0;
    }
    (ours, theirs)
}

fn random_response(
    random: &mut Random,
    version: i16,
    file: &Arc<File>,
    content: &[u8],
) -> (FetchResponse, messages::FetchResponse) {
    let topics = random.many(4, |random| {
        let (name, id) = (random.name(), random.uuid());
        let (ours, theirs): (Vec<_>, Vec<_>) =
            random.many(4, |random| random_partition(random, version, file, content)).into_iter().unzip();
        let mut topic = fetch_response::FetchableTopicResponse::default().with_partitions(theirs);
        match version {
            13.. => topic.topic_id = id,
            _ => topic.topic = TopicName(text(&name)),
        }
        (TopicData { name: name.as_str().into(), topic_id: TopicId(id), partitions: ours }, topic)
    });
    let (ours, theirs): (Vec<_>, Vec<_>) = topics.into_iter().unzip();
    let endpoints = random.many(3, |random| NodeEndpoint {
        node: BrokerId(random.i32()),
        host: random.name(),
        port: random.i32(),
        rack: random.maybe(Random::name),
    });
    let ours = FetchResponse {
        throttle_time_ms: random.i32(),
        error: ErrorCode::None,
        session_id: random.i32(),
        topics: ours,
        node_endpoints: endpoints,
    };
    let mut response =
        messages::FetchResponse::default().with_throttle_time_ms(ours.throttle_time_ms).with_responses(theirs);
    if version >= 7 {
        response.session_id = ours.session_id;
    }
    if version >= 16 {
        let endpoint = |one: &NodeEndpoint| {
            fetch_response::NodeEndpoint::default()
                .with_node_id(one.node.0.into())
                .with_host(text(&one.host))
                .with_port(one.port)
                .with_rack(one.rack.as_deref().map(text))
        };
        response.node_endpoints = ours.node_endpoints.iter().map(endpoint).collect();
    }
    (ours, response)
}

fn bytes_of(reply: Reply) -> Vec<u8> {
    let Reply::Segments(segments) = reply else { panic!("{reply:?}") };
    let mut whole = Vec::new();
    for segment in segments {
        match segment {
            Segment::Bytes(bytes) => whole.extend_from_slice(&bytes),
            Segment::File { file, position, len } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, position).unwrap();
                whole.extend(bytes);
            }
        }
    }
    whole
}

#[test]
fn fetch_responses_are_written_alike() {
    let content: Vec<u8> = (0..10_000u32).map(|at| (at * 7 + at / 253) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let file = Arc::new(file);
    each_version(17, |random, version| {
        let (ours, theirs) = random_response(random, version, &file, &content);
        let header = RequestHeader { api_key: 1, version, correlation_id: random.i32(), client_id: None };
        let meant = Reply::message(&header, &theirs).unwrap();
        assert!(bytes_of(ours.into_reply(&header)) == bytes_of(meant), "version {version}");
    });
}
