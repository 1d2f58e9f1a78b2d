//! Partitions that need no recovery serve first: a broker that was killed answers for them while the others are still being read.
//!
//! `log.recovery.io.max.bytes.per.second=1` holds the recovery of everything above a megabyte, until a dynamic config lets it go on.

mod common;

use bytes::Bytes;
use common::cluster::eventually;
use common::{Broker, Client, Cluster, ZooKeeper, free_port};
use ottla::record::{BatchBuilder, batches};
use ottla::wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use ottla::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla::wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla::wire::messages::{
    AlterReplicaLogDirsRequest, BrokerId, DeleteRecordsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, TopicName, delete_records_request,
};
use ottla::wire::text;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

const NOT_LEADER: i16 = 6;
const LIMIT: &str = "log.recovery.io.max.bytes.per.second";
const CHECKPOINT: &str = "replica.high.watermark.checkpoint.interval.ms";
/// Of `large`: more than what is checked before a broker answers.
const LARGE_BATCHES: i64 = 40;

fn batch(value: &[u8]) -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(1_700_000_000_000, Some(b"key"), Some(value), []);
    batch.build().expect("a batch").to_bytes()
}

fn large(n: i64) -> Vec<u8> {
    format!("{n:08}").repeat(8 << 10).into_bytes()
}

/// Error code and base offset.
fn produce(client: &mut Client, topic: &str, value: &[u8]) -> (i16, i64) {
    let answer = client.produce(topic, 0, batch(value)).expect("Produce");
    (answer.error_code, answer.base_offset)
}

fn fill_large(client: &mut Client) {
    for n in 0..LARGE_BATCHES {
        assert_eq!(produce(client, "large", &large(n)), (0, n));
    }
}

/// Error code and values from an offset on.
fn fetch(client: &mut Client, topic: &str, offset: i64) -> (i16, Vec<Vec<u8>>) {
    let answer = client.fetch(topic, 0, offset).expect("Fetch");
    let mut values = Vec::new();
    for batch in batches(&answer.records.unwrap_or_default()) {
        let Ok(batch) = batch else { break };
        batch.verify().expect("checksum");
        let records = batch.records(1 << 20).expect("records");
        values.extend(records.iter().map(|record| record.expect("a record").value.expect("a value").to_vec()));
    }
    (answer.error_code, values)
}

#[track_caller]
fn assert_large_is_whole(client: &mut Client) {
    for n in 0..LARGE_BATCHES {
        let (code, values) = fetch(client, "large", n);
        assert_eq!(code, 0);
        assert!(values.first() == Some(&large(n)), "the record at {n}");
    }
}

/// Error code and offset.
fn end_offset(client: &mut Client, topic: &str) -> (i16, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let response = client.call(&request, 7).expect("ListOffsets");
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.offset)
}

fn delete_records(client: &mut Client, topic: &str, offset: i64) -> i16 {
    let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
    let topic = delete_records_request::DeleteRecordsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    client.call(&request, 2).expect("DeleteRecords").topics[0].partitions[0].error_code
}

/// Lets recovery go on at full speed.
fn let_go(client: &mut Client, broker: i32) {
    let config = AlterableConfig::default().with_name(text(LIMIT)).with_value(Some(text("1e300")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text(&broker.to_string()))
        .with_configs(vec![config]);
    let response = client
        .call(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource]), 1)
        .expect("IncrementalAlterConfigs");
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

/// Status line and body.
fn http(port: u16, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

fn metric(port: u16, name: &str) -> f64 {
    let (status, body) = http(port, "/metrics").expect("metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let line = body.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{body}"));
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

/// A line of a checkpoint file.
fn checkpointed(dir: &Path, file: &str, partition: &str) -> Option<i64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(&format!("{partition} ")))?.parse().ok()
}

const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const MARKER: &str = ".kafka_cleanshutdown";

#[test]
fn what_is_clean_serves_while_the_rest_is_recovered() {
    let console = free_port();
    let console_port = console.to_string();
    let properties = [
        (CHECKPOINT, "50"),
        ("log.flush.start.offset.checkpoint.interval.ms", "50"),
        ("console.port", console_port.as_str()),
    ];
    let mut held = properties.to_vec();
    held.push((LIMIT, "1"));
    let mut broker = Broker::start(&properties);
    let dir = broker.log_dir();
    let mut client = broker.client();
    client.create_topic("large", 1, &[]).unwrap();
    client.create_topic("clean", 1, &[]).unwrap();
    fill_large(&mut client);
    assert_eq!(produce(&mut client, "clean", b"first"), (0, 0));
    assert_eq!(delete_records(&mut client, "large", 3), 0);
    eventually("the offsets are on file", || {
        let known = (checkpointed(&dir, HIGH_WATERMARKS, "large 0"), checkpointed(&dir, LOG_STARTS, "large 0"));
        (known == (Some(LARGE_BATCHES), Some(3))).then_some(())
    });
    broker.kill();
    // Killed while it recovers, it begins again.
    for round in 1..=2 {
        broker.restart_with(&held);
        let mut client = broker.client();
        assert_eq!(produce(&mut client, "clean", b"meanwhile"), (0, round));
        assert_eq!(fetch(&mut client, "clean", 0).1.len() as i64, round + 1);
        // The controller has made this broker the leader; it does not act as one before it knows its log.
        assert_eq!(client.leaders("large").unwrap(), [0]);
        assert_eq!(produce(&mut client, "large", b"too early").0, NOT_LEADER);
        assert_eq!(fetch(&mut client, "large", 3).0, NOT_LEADER);
        assert_eq!(end_offset(&mut client, "large").0, NOT_LEADER);
        assert_eq!(delete_records(&mut client, "large", 5), NOT_LEADER);
        assert_eq!(http(console, "/healthz").expect("an answer").0, "HTTP/1.1 200 OK");
        assert_eq!(metric(console, "kafka_log_logmanager_remaininglogstorecover"), 1.0);
        assert_eq!(metric(console, "kafka_log_logmanager_remainingsegmentstorecover"), 1.0);
        assert!(metric(console, "ottla_log_remaining_bytes_to_recover") > 0.0);
        assert_eq!(metric(console, "ottla_replica_awaited_partitions"), 1.0);
        let dirs = client.call(&DescribeLogDirsRequest::default().with_topics(None), 4).expect("DescribeLogDirs");
        let topic = dirs.results[0].topics.iter().find(|topic| &*topic.name.0 == "large").expect("large");
        assert!(topic.partitions[0].partition_size > 1 << 20 && topic.partitions[0].offset_lag == -1, "{topic:?}");
        eventually("the checkpoints are written again", || {
            (checkpointed(&dir, HIGH_WATERMARKS, "clean 0") == Some(round + 1)).then_some(())
        });
        assert_eq!(checkpointed(&dir, HIGH_WATERMARKS, "large 0"), Some(LARGE_BATCHES));
        assert_eq!(checkpointed(&dir, LOG_STARTS, "large 0"), Some(3));
        if round == 1 {
            broker.kill();
        }
    }
    // SIGTERM calls the recovery off, and the next start knows that it is not done.
    assert!(broker.stop().success(), "{}", broker.log());
    assert!(!dir.join(MARKER).exists());
    assert_eq!(checkpointed(&dir, LOG_STARTS, "large 0"), Some(3));
    broker.restart_with(&held);
    let mut client = broker.client();
    assert_eq!(produce(&mut client, "large", b"too early").0, NOT_LEADER);
    let_go(&mut client, 0);
    eventually("the large one serves", || (end_offset(&mut client, "large") == (0, LARGE_BATCHES)).then_some(()));
    assert_eq!(fetch(&mut client, "large", 2).0, 1, "what was deleted stays deleted");
    for n in 3..LARGE_BATCHES {
        assert!(fetch(&mut client, "large", n).1.first() == Some(&large(n)), "the record at {n}");
    }
    assert_eq!(produce(&mut client, "large", b"after"), (0, LARGE_BATCHES));
    assert_eq!(metric(console, "kafka_log_logmanager_remaininglogstorecover"), 0.0);
    assert_eq!(metric(console, "kafka_server_replicamanager_leadercount"), 2.0);
    assert_eq!(metric(console, "kafka_server_replicamanager_underreplicatedpartitions"), 0.0);
    assert!(broker.stop().success());
    assert!(dir.join(MARKER).exists());
    assert!(http(console, "/healthz").is_none());
}

#[test]
fn a_topic_goes_while_it_is_recovered() {
    let mut broker = Broker::start(&[("log.segment.delete.delay.ms", "0")]);
    let mut client = broker.client();
    client.create_topic("large", 1, &[]).unwrap();
    fill_large(&mut client);
    broker.kill();
    broker.restart_with(&[(LIMIT, "1"), ("log.segment.delete.delay.ms", "0")]);
    let mut client = broker.client();
    assert_eq!(produce(&mut client, "large", b"too early").0, NOT_LEADER);
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("large"))]).with_timeout_ms(30_000);
    let response = client.call(&request, 4).expect("DeleteTopics");
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    eventually("its files go", || {
        let mut names = fs::read_dir(broker.log_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        (!names.any(|name| name.to_string_lossy().starts_with("large-"))).then_some(())
    });
    client.create_topic("large", 1, &[]).unwrap();
    assert_eq!(produce(&mut client, "large", b"another"), (0, 0));
    assert!(broker.stop().success());
    assert!(broker.log_dir().join(MARKER).exists(), "nothing is left to be recovered");
}

fn commit(client: &mut Client, partitions: i32, metadata: &str) -> i16 {
    let partition = |index: i32| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(7)
            .with_committed_metadata(Some(text(metadata)))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("clean")))
        .with_partitions((0..partitions).map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("readers")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    client.call(&request, 8).expect("OffsetCommit").topics[0].partitions[0].error_code
}

/// Error code and offset.
fn committed(client: &mut Client) -> (i16, i64) {
    let topic = OffsetFetchRequestTopics::default().with_name(TopicName(text("clean"))).with_partition_indexes(vec![0]);
    let group =
        OffsetFetchRequestGroup::default().with_group_id(GroupId(text("readers"))).with_topics(Some(vec![topic]));
    let response = client.call(&OffsetFetchRequest::default().with_groups(vec![group]), 8).expect("OffsetFetch");
    let group = &response.groups[0];
    (group.error_code, group.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset))
}

#[test]
fn a_coordinator_comes_with_its_log() {
    let properties = [("offsets.topic.num.partitions", "1")];
    let mut broker = Broker::start(&properties);
    let mut client = broker.client();
    client.create_topic("clean", 100, &[]).unwrap();
    let find = FindCoordinatorRequest::default().with_key(text("readers"));
    eventually("a coordinator", || (client.call(&find, 3).expect("FindCoordinator").error_code == 0).then_some(()));
    let metadata = "m".repeat(4000);
    eventually("a commit", || (commit(&mut client, 100, &metadata) == 0).then_some(()));
    for _ in 0..3 {
        assert_eq!(commit(&mut client, 100, &metadata), 0);
    }
    broker.kill();
    broker.restart_with(&[("offsets.topic.num.partitions", "1"), (LIMIT, "1")]);
    let mut client = broker.client();
    assert_eq!(produce(&mut client, "clean", b"served").0, 0);
    let (code, _) = committed(&mut client);
    assert!((14..=16).contains(&code), "no answer without the log: {code}");
    let code = commit(&mut client, 1, "");
    assert!((14..=16).contains(&code), "{code}");
    let_go(&mut client, 0);
    eventually("the offset is known again", || (committed(&mut client) == (0, 7)).then_some(()));
}

/// Puts a file in the place of a directory.
fn take_away(dir: &Path) {
    fs::rename(dir, dir.with_extension("gone")).unwrap();
    fs::write(dir, "").unwrap();
}

#[test]
fn a_directory_fails_while_a_log_in_it_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let dirs: [PathBuf; 2] = ["one", "two"].map(|name| folder.path().join(name));
    let all = format!("{},{}", dirs[0].display(), dirs[1].display());
    let mut broker = Broker::start(&[("log.dirs", &all), (CHECKPOINT, "50")]);
    let mut client = broker.client();
    // Where they are to lie is known before they are made.
    for (topic, dir) in [("large", &dirs[1]), ("beside", &dirs[1]), ("clean", &dirs[0])] {
        let topics = AlterReplicaLogDirTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![0]);
        let to = AlterReplicaLogDir::default().with_path(text(dir.to_str().unwrap())).with_topics(vec![topics]);
        client.call(&AlterReplicaLogDirsRequest::default().with_dirs(vec![to]), 2).expect("AlterReplicaLogDirs");
        client.create_topic(topic, 1, &[]).unwrap();
    }
    assert!(dirs[1].join("large-0").exists() && dirs[1].join("beside-0").exists() && dirs[0].join("clean-0").exists());
    fill_large(&mut client);
    broker.kill();
    broker.restart_with(&[("log.dirs", &all), (CHECKPOINT, "50"), (LIMIT, "1")]);
    let mut client = broker.client();
    assert_eq!(produce(&mut client, "large", b"too early").0, NOT_LEADER);
    take_away(&dirs[1]);
    // Something changes, so that a checkpoint is due, and finds out.
    produce(&mut client, "beside", b"perhaps");
    eventually("the controller takes both for gone", || {
        let mut leader = |topic| client.leaders(topic).unwrap();
        (leader("large") == [-1] && leader("beside") == [-1]).then_some(())
    });
    assert_ne!(produce(&mut client, "large", b"refused").0, 0);
    assert_eq!(produce(&mut client, "clean", b"goes on"), (0, 0));
    assert!(!dirs[0].join("large-0").exists(), "no empty log takes its place");
    // The disk comes back, and nothing is missing.
    broker.kill();
    fs::remove_file(&dirs[1]).unwrap();
    fs::rename(dirs[1].with_extension("gone"), &dirs[1]).unwrap();
    broker.restart_with(&[("log.dirs", &all)]);
    let mut client = broker.client();
    eventually("the large one serves", || (end_offset(&mut client, "large") == (0, LARGE_BATCHES)).then_some(()));
    assert_large_is_whole(&mut client);
}

/// A log that turns out to be beyond recovery: the controller hears of it, and the others do not.
#[test]
fn a_log_that_cannot_be_recovered_is_refused_alone() {
    let mut broker = Broker::start(&[]);
    let mut client = broker.client();
    client.create_topic("large", 1, &[]).unwrap();
    client.create_topic("clean", 1, &[]).unwrap();
    fill_large(&mut client);
    broker.kill();
    let metadata = broker.log_dir().join("large-0/partition.metadata");
    let right = fs::read(&metadata).unwrap();
    fs::write(&metadata, "version: 0\ntopic_id: ???").unwrap();
    broker.restart();
    let mut client = broker.client();
    eventually("the controller takes it for gone", || (client.leaders("large").unwrap() == [-1]).then_some(()));
    assert_ne!(produce(&mut client, "large", b"refused").0, 0);
    assert_eq!(produce(&mut client, "clean", b"served"), (0, 0));
    assert!(broker.stop().success());
    assert!(!broker.log_dir().join(MARKER).exists());
    fs::write(&metadata, right).unwrap();
    broker.restart();
    let mut client = broker.client();
    eventually("the large one serves", || (end_offset(&mut client, "large") == (0, LARGE_BATCHES)).then_some(()));
    assert_large_is_whole(&mut client);
}

#[test]
fn a_follower_joins_when_its_log_is_there_and_a_leader_leads_then() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[(LIMIT, "1")]);
    let mut client = cluster.controller_client();
    client.create_replicated("large", 1, 3, &[("min.insync.replicas", "2")]).unwrap();
    let (leader, _, _) = cluster.partition_state("large", 0);
    let mut client = cluster.client(leader);
    eventually("all are in sync", || (cluster.partition_state("large", 0).2.len() == 3).then_some(()));
    fill_large(&mut client);
    // A follower: it is not in sync while its log is read, and nothing waits for it.
    let follower = cluster.ids().find(|id| *id != leader).expect("another");
    cluster.kill(follower);
    eventually("it is out of the ISR", || (!cluster.partition_state("large", 0).2.contains(&follower)).then_some(()));
    cluster.restart(follower);
    eventually("it knows its part", || {
        cluster.broker(follower).log().contains("recovering these while the others serve").then_some(())
    });
    for n in 0..10 {
        assert_eq!(produce(&mut client, "large", b"without it"), (0, LARGE_BATCHES + n));
    }
    assert_eq!(fetch(&mut cluster.client(follower), "large", 0).0, NOT_LEADER);
    assert!(!cluster.partition_state("large", 0).2.contains(&follower));
    let_go(&mut cluster.client(follower), follower);
    eventually("it is in sync", || (cluster.partition_state("large", 0).2.len() == 3).then_some(()));
    // All at once: nobody leads before it knows what it has, and nothing is lost.
    for id in cluster.ids() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.broker(id).spawn();
    }
    cluster.wait_for_members();
    for id in cluster.ids() {
        let_go(&mut cluster.client(id), id);
    }
    eventually("a leader that serves", || {
        let (leader, _, _) = cluster.partition_state("large", 0);
        let mut client = (leader > 0).then(|| cluster.client(leader))?;
        (end_offset(&mut client, "large") == (0, LARGE_BATCHES + 10)).then_some(())
    });
    let (leader, _, _) = cluster.partition_state("large", 0);
    assert_large_is_whole(&mut cluster.client(leader));
    eventually("all are in sync", || (cluster.partition_state("large", 0).2.len() == 3).then_some(()));
    assert_eq!(produce(&mut cluster.client(leader), "large", b"goes on"), (0, LARGE_BATCHES + 10));
}
