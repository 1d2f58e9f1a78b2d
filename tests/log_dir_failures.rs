//! Log directories that fail, and disks that are full, under a running broker. Root is not needed: a directory fails by having a
//! file in its place, as in Apache Kafka's own tests, and a disk is full by a limit on the size of files.

mod common;

use common::{Broker, Client};
use ottla::record::BatchBuilder;
use ottla::wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use ottla::wire::messages::create_topics_request::CreatableTopic;
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::{
    AlterReplicaLogDirsRequest, CreateTopicsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse, FetchRequest,
    MetadataRequest, ProduceRequest, TopicName,
};
use ottla::wire::text;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TOPIC: &str = "kept";
const STORAGE_ERROR: i16 = 56;
const PATIENCE: Duration = Duration::from_secs(60);

fn name() -> TopicName {
    TopicName(text(TOPIC))
}

fn create(client: &mut Client, partitions: i32) {
    let topic = CreatableTopic::default().with_name(name()).with_num_partitions(partitions).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = client.call(&request, 7).expect("CreateTopics");
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
}

/// Error code and base offset.
fn produce(client: &mut Client, partition: i32, value: &[u8]) -> (i16, i64) {
    let mut batch = BatchBuilder::new();
    batch.append(1_700_000_000_000, None, Some(value), []);
    let records = batch.build().expect("batch").to_bytes();
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name()).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let response = client.call(&request, 9).expect("Produce");
    let answer = &response.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset)
}

/// Error code, high watermark, and bytes of records.
fn fetch(client: &mut Client, partition: i32, offset: i64) -> (i16, i64, usize) {
    let part =
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name()).with_partitions(vec![part]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]).with_session_epoch(-1);
    let response = client.call(&request, 11).expect("Fetch");
    let answer = &response.responses[0].partitions[0];
    (answer.error_code, answer.high_watermark, answer.records.as_ref().map_or(0, |records| records.len()))
}

fn log_dirs(client: &mut Client) -> DescribeLogDirsResponse {
    client.call(&DescribeLogDirsRequest::default().with_topics(None), 4).expect("DescribeLogDirs")
}

/// Directories of the partitions, and whether each is on its way there.
fn places(client: &mut Client) -> BTreeMap<(i32, bool), PathBuf> {
    let mut found = BTreeMap::new();
    for dir in log_dirs(client).results {
        for topic in dir.topics.iter().filter(|topic| topic.name == name()) {
            for part in &topic.partitions {
                found.insert((part.partition_index, part.is_future_key), PathBuf::from(&*dir.log_dir));
            }
        }
    }
    found
}

fn alter(client: &mut Client, partition: i32, dir: &Path) -> i16 {
    let topic = AlterReplicaLogDirTopic::default().with_name(name()).with_partitions(vec![partition]);
    let dir = AlterReplicaLogDir::default().with_path(text(dir.to_str().unwrap())).with_topics(vec![topic]);
    let response =
        client.call(&AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]), 2).expect("AlterReplicaLogDirs");
    response.results[0].partitions[0].error_code
}

#[track_caller]
fn wait_until(broker: &Broker, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}\n{}", broker.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct TwoDirs {
    broker: Broker,
    _folder: tempfile::TempDir,
    dirs: [PathBuf; 2],
}

fn two_dirs() -> TwoDirs {
    let folder = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| folder.path().join(name));
    let all = format!("{},{}", dirs[0].display(), dirs[1].display());
    let broker = Broker::start(&[("log.dirs", &all), ("replica.high.watermark.checkpoint.interval.ms", "100")]);
    TwoDirs { broker, _folder: folder, dirs }
}

/// Puts a file in the place of a directory.
fn take_away(dir: &Path) {
    fs::rename(dir, dir.with_extension("gone")).unwrap();
    fs::write(dir, "").unwrap();
}

#[test]
fn a_directory_fails_alone_and_the_last_one_ends_the_broker() {
    let TwoDirs { mut broker, dirs, _folder } = two_dirs();
    let mut client = broker.client();
    create(&mut client, 4);
    (0..4).for_each(|partition| assert_eq!(produce(&mut client, partition, b"before"), (0, 0)));
    let places = places(&mut client);
    let lost: Vec<i32> = (0..4).filter(|n| places[&(*n, false)] == dirs[1]).collect();
    let left: Vec<i32> = (0..4).filter(|n| places[&(*n, false)] == dirs[0]).collect();
    assert_eq!((lost.len(), left.len()), (2, 2), "new partitions are spread");
    take_away(&dirs[1]);
    // Something changes, so that a checkpoint is due, and finds out.
    for &partition in &lost {
        produce(&mut client, partition, b"perhaps");
    }
    wait_until(&broker, "the directory is offline", || {
        log_dirs(&mut client)
            .results
            .iter()
            .any(|dir| dir.error_code == STORAGE_ERROR && Path::new(&*dir.log_dir) == dirs[1])
    });
    for &partition in &lost {
        let refused = produce(&mut client, partition, b"refused").0;
        assert!(refused == STORAGE_ERROR || refused == 6 || refused == 5, "{refused}");
        assert_ne!(fetch(&mut client, partition, 0).0, 0);
        assert_eq!(alter(&mut client, partition, &dirs[0]), STORAGE_ERROR);
    }
    for &partition in &left {
        assert_eq!(produce(&mut client, partition, b"after"), (0, 1));
        assert_eq!(fetch(&mut client, partition, 0).1, 2);
        assert_eq!(alter(&mut client, partition, &dirs[1]), STORAGE_ERROR, "nothing moves there");
    }
    wait_until(&broker, "the controller hears of it and takes the leadership away", || {
        let response = client.call(&MetadataRequest::default().with_topics(None), 12).expect("Metadata");
        let topic = response.topics.iter().find(|topic| topic.name == Some(name())).expect("the topic");
        let leaderless = |n: &i32| topic.partitions.iter().any(|p| p.partition_index == *n && p.leader_id.0 == -1);
        lost.iter().all(leaderless) && !left.iter().any(leaderless)
    });
    take_away(&dirs[0]);
    // The file is open still; the checkpoint that follows finds out.
    produce(&mut client, left[0], b"last");
    let deadline = Instant::now() + PATIENCE;
    while broker.is_running() {
        assert!(Instant::now() < deadline, "the broker goes on without a directory\n{}", broker.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let last = broker.log().lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("ottla: no log directory is left, so the broker stops"), "{}", broker.log());
    assert!(last.contains(dirs[0].to_str().unwrap()) && last.contains(dirs[1].to_str().unwrap()), "{last}");
}

/// A directory that does not work when the broker starts is offline from the start; when it works again, a restart finds all there.
#[test]
fn a_directory_that_is_away_at_start_comes_back() {
    let TwoDirs { mut broker, dirs, _folder } = two_dirs();
    let mut client = broker.client();
    create(&mut client, 4);
    (0..4).for_each(|partition| assert_eq!(produce(&mut client, partition, b"before"), (0, 0)));
    let before = places(&mut client);
    assert!(broker.stop().success());
    take_away(&dirs[1]);
    broker.restart();
    let mut client = broker.client();
    assert!(log_dirs(&mut client).results.iter().any(|dir| dir.error_code == STORAGE_ERROR));
    for partition in 0..4 {
        let is_there = before[&(partition, false)] == dirs[0];
        let deadline = Instant::now() + PATIENCE;
        // Who leads is known a moment after the start.
        while (fetch(&mut client, partition, 0).0 == 0) != is_there {
            assert!(Instant::now() < deadline, "partition {partition}\n{}", broker.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(places(&mut client).len(), 2, "no empty log takes the place of one that is away");
    assert!(broker.stop().success());
    fs::remove_file(&dirs[1]).unwrap();
    fs::rename(dirs[1].with_extension("gone"), &dirs[1]).unwrap();
    broker.restart();
    let mut client = broker.client();
    wait_until(&broker, "all is there again", || (0..4).all(|partition| fetch(&mut client, partition, 0).1 == 1));
    assert_eq!(places(&mut client), before);
}

/// Bytes that a file of the broker may have; files that are longer stay as they are.
fn limit_files(broker: &Broker, bytes: Option<u64>) {
    let pid = Pid::from_raw(broker.pid() as i32);
    let now = rustix::process::getrlimit(Resource::Fsize);
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: now.maximum })
        .expect("a limit of a process of ours");
}

/// KAFKA-10778: what is appended after a failed write.
#[test]
fn a_full_disk_refuses_writes_serves_reads_and_heals() {
    let mut broker = Broker::start(&[("log.segment.bytes", "40000")]);
    let mut client = broker.client();
    create(&mut client, 1);
    let value = [b'x'; 1000];
    let mut acknowledged = 0;
    for round in 0..3 {
        limit_files(&broker, Some(8000 + 10_500 * round));
        loop {
            let (code, offset) = produce(&mut client, 0, &value);
            if code != 0 {
                assert_eq!(code, STORAGE_ERROR);
                break;
            }
            assert_eq!(offset, acknowledged, "no hole, and nothing twice");
            acknowledged += 1;
        }
        let (code, high_watermark, bytes) = fetch(&mut client, 0, 0);
        assert!(
            code == 0 && high_watermark == acknowledged && bytes > 0,
            "reads go on: {code} {high_watermark} {bytes}"
        );
        assert!(log_dirs(&mut client).results.iter().all(|dir| dir.error_code == 0), "a full disk is not a broken one");
        limit_files(&broker, None);
        assert_eq!(produce(&mut client, 0, &value), (0, acknowledged), "there is room again");
        acknowledged += 1;
    }
    assert!(acknowledged > 20, "{acknowledged}");
    // As after a crash: what was written in part is not there.
    limit_files(&broker, Some(1000));
    assert_eq!(produce(&mut client, 0, &value).0, STORAGE_ERROR);
    broker.kill();
    broker.restart();
    let mut client = broker.client();
    wait_until(&broker, "what was acknowledged is there", || fetch(&mut client, 0, acknowledged).1 == acknowledged);
    assert_eq!(produce(&mut client, 0, &value), (0, acknowledged));
}

#[test]
fn a_replica_moves_under_its_producers_and_across_restarts() {
    let TwoDirs { mut broker, dirs, _folder } = two_dirs();
    let mut client = broker.client();
    create(&mut client, 1);
    let value = [b'x'; 10_000];
    let mut count = 0;
    while count < 300 {
        assert_eq!(produce(&mut client, 0, &value), (0, count));
        count += 1;
    }
    let from = places(&mut client)[&(0, false)].clone();
    let to = dirs.iter().find(|dir| **dir != from).unwrap().clone();
    assert_eq!(alter(&mut client, 7, &to), 3, "UNKNOWN_TOPIC_OR_PARTITION\n{}", broker.log());
    assert_eq!(alter(&mut client, 0, Path::new("/nowhere")), 57, "LOG_DIR_NOT_FOUND");
    assert_eq!(alter(&mut client, 0, Path::new("relative")), 57);
    assert_eq!(alter(&mut client, 0, &from), 0, "it is there already");
    assert_eq!(alter(&mut client, 0, &to), 0);
    while count < 400 {
        assert_eq!(produce(&mut client, 0, &value), (0, count));
        count += 1;
    }
    wait_until(&broker, "the move ends", || places(&mut client) == BTreeMap::from([((0, false), to.clone())]));
    assert_eq!(alter(&mut client, 0, &from), 0);
    broker.kill();
    broker.restart();
    let mut client = broker.client();
    wait_until(&broker, "the move goes on", || places(&mut client) == BTreeMap::from([((0, false), from.clone())]));
    wait_until(&broker, "it has a leader", || fetch(&mut client, 0, 0).0 == 0);
    assert_eq!(produce(&mut client, 0, &value), (0, count));
    assert_eq!(fetch(&mut client, 0, 0).1, count + 1);
}
