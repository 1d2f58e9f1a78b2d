//! The coordinator over a log in memory: loading, order of appends, timers, leadership.

use bytes::Bytes;
use ottla::base::{ErrorCode, LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};
use ottla::config::BrokerConfig;
use ottla::coordinator::{Append, Committed, CoordinatorLog};
use ottla::group::message::{
    CommitRequest, CommitTopic, FetchTopics, HeartbeatRequest, JoinRequest, Protocol, SyncRequest,
};
use ottla::group::records::{CoordinatorRecord, OffsetValue};
use ottla::group::{Answer, GroupCoordinator, partition_of};
use ottla::record::{BatchBuilder, BatchHeader, EndTxnMarker, ValidatedBatch};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

#[derive(Default)]
struct Disk {
    /// Batches by partition, each with its base offset, and the next offset.
    partitions: HashMap<i32, (Vec<(i64, Bytes)>, i64)>,
    /// Partitions whose reads wait for this.
    slow: HashMap<i32, std::sync::mpsc::Receiver<()>>,
    /// If set, appends wait to be released.
    held: Option<Vec<oneshot::Sender<()>>>,
}

#[derive(Default)]
struct MemoryLog(Mutex<Disk>);

impl MemoryLog {
    fn put(&self, partition: i32, batch: ValidatedBatch) -> i64 {
        let mut disk = self.0.lock().expect("disk");
        let (batches, next) = disk.partitions.entry(partition).or_default();
        let base = *next;
        let mut batch = batch;
        batch.header.set_base_offset(base);
        *next = batch.header.next_offset();
        batches.push((base, batch.to_bytes()));
        base
    }
}

impl CoordinatorLog for MemoryLog {
    fn append(&self, partition: i32, _: Option<LeaderEpoch>, batch: ValidatedBatch, _: Duration) -> Append {
        let base = self.put(partition, batch);
        let held = self.0.lock().expect("disk").held.as_mut().map(|held| {
            let (sender, receiver) = oneshot::channel();
            held.push(sender);
            receiver
        });
        Box::pin(async move {
            if let Some(held) = held {
                let _ = held.await;
            }
            Ok(base)
        })
    }

    fn committed(&self, _: i32, _: i64) -> Committed {
        Box::pin(std::future::ready(Ok(())))
    }

    fn bounds(&self, partition: i32) -> Option<Range<i64>> {
        let disk = self.0.lock().expect("disk");
        Some(0..disk.partitions.get(&partition).map_or(0, |(_, next)| *next))
    }

    fn read(&self, partition: i32, offset: i64, _: usize) -> Result<Bytes, ErrorCode> {
        let slow = self.0.lock().expect("disk").slow.remove(&partition);
        if let Some(slow) = slow {
            let _ = slow.recv();
        }
        let disk = self.0.lock().expect("disk");
        let batches = disk.partitions.get(&partition).map_or(&[][..], |(batches, _)| batches);
        // One batch at a time, so that loading takes several rounds.
        let found = batches.iter().rev().find(|(base, _)| *base <= offset);
        found.map(|(_, bytes)| bytes.clone()).ok_or(ErrorCode::OffsetOutOfRange)
    }
}

fn coordinator(log: &Arc<MemoryLog>, delay_ms: i32) -> Arc<GroupCoordinator> {
    let config = BrokerConfig { group_initial_rebalance_delay_ms: delay_ms, ..BrokerConfig::default() };
    let coordinator = GroupCoordinator::new(&config, log.clone(), Handle::current());
    (0..50).for_each(|partition| coordinator.on_elected(partition, LeaderEpoch(0)));
    coordinator
}

fn offset(offset: i64) -> OffsetValue {
    OffsetValue { offset, leader_epoch: 3, metadata: "note".into(), commit_timestamp: 1, expire_timestamp: None }
}

fn commit(group: &str, value: i64) -> CommitRequest {
    CommitRequest {
        group: group.into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        topics: vec![CommitTopic { topic: "t".into(), partitions: vec![(0, offset(value))] }],
        transaction: None,
    }
}

fn join(group: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member_id: "".into(),
        instance_id: None,
        new_member_id: "".into(),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        require_known_member_id: false,
        supports_skip_assignment: false,
    }
}

fn fetch(coordinator: &GroupCoordinator, group: &str) -> Result<i64, ErrorCode> {
    let fetched = coordinator.fetch_offsets(group, &FetchTopics::Named(vec![("t".into(), vec![0])]), true);
    if fetched.error.is_error() {
        return Err(fetched.error);
    }
    let offset = &fetched.topics[0].1[0];
    if offset.error.is_error() { Err(offset.error) } else { Ok(offset.offset) }
}

/// Waits until the partition of `group` is loaded.
async fn loaded(coordinator: &GroupCoordinator, group: &str) {
    while fetch(coordinator, group) == Err(ErrorCode::CoordinatorLoadInProgress) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_next_coordinator_finds_groups_and_offsets() {
    let log = Arc::new(MemoryLog::default());
    let first = coordinator(&log, 0);
    for value in 1..=20 {
        assert_eq!(first.commit(commit("simple", value)).get().await.errors, [ErrorCode::None]);
    }
    let joined = first.join(join("dynamic")).get().await;
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    assert!(joined.member_id.starts_with("c-"));
    let sync = SyncRequest {
        group: "dynamic".into(),
        generation: 1,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"mine"))],
    };
    assert_eq!(first.sync(sync).get().await.assignment, "mine");
    let described = first.describe("dynamic");
    assert_eq!((described.state, described.members.len()), ("Stable", 1));
    first.shutdown();
    assert_eq!(fetch(&first, "simple"), Err(ErrorCode::NotCoordinator));

    let second = coordinator(&log, 0);
    loaded(&second, "simple").await;
    loaded(&second, "dynamic").await;
    assert_eq!(fetch(&second, "simple"), Ok(20));
    assert_eq!(second.describe("dynamic"), described);
    let mut groups: Vec<_> = second.list().1.into_iter().map(|group| group.group.to_string()).collect();
    groups.sort();
    assert_eq!(groups, ["dynamic", "simple"]);
    assert_eq!(second.delete_group("simple".into()).get().await, ErrorCode::None);
    second.on_partitions_deleted(&[TopicPartition::new("t", 0)]);
    assert_eq!(second.describe("simple").state, "Dead");
}

#[tokio::test]
async fn a_slow_partition_makes_nobody_else_wait() {
    let log = Arc::new(MemoryLog::default());
    let first = coordinator(&log, 0);
    let (slow, quick) = ("slow", "quick");
    assert_ne!(partition_of(slow, 50), partition_of(quick, 50));
    for group in [slow, quick] {
        assert_eq!(first.commit(commit(group, 7)).get().await.errors, [ErrorCode::None]);
    }
    let (release, gate) = std::sync::mpsc::channel();
    log.0.lock().expect("disk").slow.insert(partition_of(slow, 50), gate);
    let second = coordinator(&log, 0);
    loaded(&second, quick).await;
    assert_eq!(fetch(&second, quick), Ok(7));
    assert_eq!(fetch(&second, slow), Err(ErrorCode::CoordinatorLoadInProgress));
    assert_eq!(second.describe(slow).error, ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(second.join(join(slow)).get().await.error, ErrorCode::CoordinatorLoadInProgress);
    let (error, groups) = second.list();
    assert_eq!((error, groups.len()), (ErrorCode::CoordinatorLoadInProgress, 1));
    let beat = HeartbeatRequest { group: slow.into(), generation: 1, member_id: "m".into(), instance_id: None };
    assert_eq!(second.heartbeat(beat).get().await, ErrorCode::None);
    let sync = SyncRequest {
        group: slow.into(),
        generation: 1,
        member_id: "m".into(),
        instance_id: None,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    };
    assert_eq!(second.sync(sync).get().await.error, ErrorCode::RebalanceInProgress);
    release.send(()).expect("the load waits");
    loaded(&second, slow).await;
    assert_eq!(fetch(&second, slow), Ok(7));
}

#[tokio::test]
async fn a_partition_lost_while_loading_stays_lost() {
    let log = Arc::new(MemoryLog::default());
    coordinator(&log, 0).commit(commit("g", 7)).get().await;
    let partition = partition_of("g", 50);
    let (release, gate) = std::sync::mpsc::channel();
    log.0.lock().expect("disk").slow.insert(partition, gate);
    let second = coordinator(&log, 0);
    second.on_resigned(partition);
    release.send(()).expect("the load waits");
    assert_eq!(fetch(&second, "g"), Err(ErrorCode::NotCoordinator));
    second.on_elected(partition, LeaderEpoch(2));
    loaded(&second, "g").await;
    assert_eq!(fetch(&second, "g"), Ok(7));
}

#[tokio::test]
async fn values_of_a_newer_broker_keep_the_partition_unavailable() {
    let log = Arc::new(MemoryLog::default());
    let record = CoordinatorRecord::Offset { group: "g".into(), topic: "t".into(), partition: 0, value: None };
    let mut key = Vec::new();
    record.encode_key(&mut key);
    let mut builder = BatchBuilder::new();
    builder.append(1, Some(&key), Some(&[0, 9, 1, 2, 3]), []);
    log.put(partition_of("g", 50), builder.build().expect("batch"));
    let coordinator = coordinator(&log, 0);
    loaded(&coordinator, "g").await;
    assert_eq!(fetch(&coordinator, "g"), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(coordinator.commit(commit("g", 1)).get().await.errors, [ErrorCode::CoordinatorNotAvailable]);
}

#[tokio::test]
async fn commits_are_answered_in_the_order_of_the_log() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log, 0);
    log.0.lock().expect("disk").held = Some(Vec::new());
    let answers: Vec<_> = (1..=3).map(|value| coordinator.commit(commit("g", value))).collect();
    assert_eq!(fetch(&coordinator, "g"), Err(ErrorCode::UnstableOffsetCommit), "it may change at any moment");
    let named = FetchTopics::Named(vec![("t".into(), vec![0])]);
    assert_eq!(coordinator.fetch_offsets("g", &named, false).topics[0].1[0].offset, -1);
    let mut held = log.0.lock().expect("disk").held.take().expect("held");
    assert_eq!(held.len(), 3, "an append does not wait for the one before");
    // The replicas tell of the last one first.
    while let Some(release) = held.pop() {
        release.send(()).expect("somebody waits");
    }
    for answer in answers {
        assert_eq!(answer.get().await.errors, [ErrorCode::None]);
    }
    assert_eq!(fetch(&coordinator, "g"), Ok(3));
}

#[tokio::test]
async fn timers_run() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log, 20);
    let (one, two) = (coordinator.join(join("g")), coordinator.join(join("g")));
    let (one, two) = (one.get().await, two.get().await);
    assert_eq!((one.error, one.generation, two.generation), (ErrorCode::None, 1, 1));
    assert_eq!(one.members.len() + two.members.len(), 2);
}

#[tokio::test]
async fn offsets_of_transactions_count_when_their_marker_says_so() {
    let log = Arc::new(MemoryLog::default());
    let partition = partition_of("g", 50);
    let put = |producer: i64, value: i64| {
        let value = Some(offset(value));
        let record = CoordinatorRecord::Offset { group: "g".into(), topic: "t".into(), partition: 0, value };
        let (mut key, mut bytes) = (Vec::new(), Vec::new());
        record.encode_key(&mut key);
        record.encode_value(&mut bytes);
        let mut builder = BatchBuilder::new().producer(producer, 0, -1).transactional(true);
        builder.append(1, Some(&key), Some(&bytes), []);
        log.put(partition, builder.build().expect("batch"));
    };
    let end = |producer: i64, commit: bool| {
        let marker = EndTxnMarker { commit, coordinator_epoch: 0 };
        log.put(partition, marker.batch(producer, 0, 1).expect("marker"));
    };
    let read = async || {
        let coordinator = coordinator(&log, 0);
        loaded(&coordinator, "g").await;
        fetch(&coordinator, "g")
    };
    put(7, 10);
    assert_eq!(read().await, Err(ErrorCode::UnstableOffsetCommit));
    end(7, false);
    assert_eq!(read().await, Ok(-1));
    put(7, 20);
    put(8, 30);
    end(8, true);
    assert_eq!(read().await, Err(ErrorCode::UnstableOffsetCommit));
    // What stands later in the log wins, though its transaction ended first.
    end(7, true);
    assert_eq!(read().await, Ok(30));
}

fn transactional(group: &str, producer: i64, value: i64) -> CommitRequest {
    CommitRequest { transaction: Some((ProducerId(producer), ProducerEpoch(0))), ..commit(group, value) }
}

#[tokio::test]
async fn a_marker_acts_on_what_was_appended_before_it() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log, 0);
    let partition = partition_of("g", 50);
    assert_eq!(coordinator.commit(transactional("g", 7, 1)).get().await.errors, [ErrorCode::None]);
    assert_eq!(fetch(&coordinator, "g"), Err(ErrorCode::UnstableOffsetCommit));
    assert_eq!(coordinator.end_transaction(partition, ProducerId(7), true).get().await, ErrorCode::None);
    assert_eq!(fetch(&coordinator, "g"), Ok(1));

    log.0.lock().expect("disk").held = Some(Vec::new());
    let committed = coordinator.commit(transactional("g", 7, 2));
    let Answer::Later(ended) = coordinator.end_transaction(partition, ProducerId(7), true) else {
        panic!("the offset is not replicated yet")
    };
    let others = coordinator.end_transaction(partition, ProducerId(8), true);
    assert_eq!(others.get().await, ErrorCode::None, "another producer's marker waits for nobody");
    assert_eq!(fetch(&coordinator, "g"), Err(ErrorCode::UnstableOffsetCommit));
    for release in log.0.lock().expect("disk").held.take().expect("held") {
        release.send(()).expect("somebody waits");
    }
    assert_eq!(committed.get().await.errors, [ErrorCode::None]);
    assert_eq!(Answer::Later(ended).get().await, ErrorCode::None);
    assert_eq!(fetch(&coordinator, "g"), Ok(2));

    let waits = {
        log.0.lock().expect("disk").held = Some(Vec::new());
        (coordinator.commit(transactional("g", 7, 3)), coordinator.end_transaction(partition, ProducerId(7), true))
    };
    coordinator.on_resigned(partition);
    assert_eq!(waits.0.get().await.errors, [ErrorCode::NotCoordinator]);
    assert_eq!(waits.1.get().await, ErrorCode::NotCoordinator);
    let refused = coordinator.commit(transactional("", 7, 3)).get().await;
    assert_eq!(refused.errors, [ErrorCode::InvalidGroupId]);
}

#[tokio::test]
async fn a_marker_that_comes_while_the_log_is_read_is_not_missed() {
    let log = Arc::new(MemoryLog::default());
    let partition = partition_of("g", 50);
    let first = coordinator(&log, 0);
    assert_eq!(first.commit(transactional("g", 7, 1)).get().await.errors, [ErrorCode::None]);
    for in_the_log in [false, true] {
        let (release, gate) = std::sync::mpsc::channel();
        log.0.lock().expect("disk").slow.insert(partition, gate);
        let second = coordinator(&log, 0);
        if in_the_log {
            let marker = EndTxnMarker { commit: true, coordinator_epoch: 0 };
            log.put(partition, marker.batch(7, 0, 1).expect("marker"));
        } else {
            assert_eq!(second.end_transaction(partition, ProducerId(7), true).get().await, ErrorCode::None);
        }
        release.send(()).expect("the load waits");
        loaded(&second, "g").await;
        assert_eq!(fetch(&second, "g"), Ok(1), "{in_the_log}");
    }
}

#[tokio::test]
async fn what_the_coordinator_writes_is_compressed_as_configured() {
    for codec in 0..=4 {
        let log = Arc::new(MemoryLog::default());
        let config = BrokerConfig { offsets_topic_compression_codec: codec, ..BrokerConfig::default() };
        let first = GroupCoordinator::new(&config, log.clone(), Handle::current());
        let partition = partition_of("g", 50);
        first.on_elected(partition, LeaderEpoch(0));
        assert_eq!(first.commit(commit("g", 7)).get().await.errors, [ErrorCode::None]);
        assert_eq!(first.commit(transactional("g", 7, 8)).get().await.errors, [ErrorCode::None]);
        for (_, bytes) in &log.0.lock().expect("disk").partitions[&partition].0 {
            let header = BatchHeader::read(bytes).expect("a batch");
            assert_eq!(i32::from(header.codec_id()), codec);
        }
        let second = coordinator(&log, 0);
        loaded(&second, "g").await;
        assert_eq!(fetch(&second, "g"), Err(ErrorCode::UnstableOffsetCommit), "codec {codec}");
        assert_eq!(second.end_transaction(partition, ProducerId(7), true).get().await, ErrorCode::None);
        assert_eq!(fetch(&second, "g"), Ok(8), "codec {codec}");
    }
}
