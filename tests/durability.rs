//! What was acknowledged is there after any end of the process, and starting where it cannot be safe says why in one line.

mod common;

use bytes::Bytes;
use common::{Broker, Client};
use ottla::record::{BatchBuilder, batches};
use ottla::wire::messages::create_topics_request::CreatableTopic;
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla::wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::{
    self, CreateTopicsRequest, FetchRequest, GroupId, ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest,
    ProduceRequest, TopicName,
};
use ottla::wire::text;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TOPIC: &str = "kept";

fn topic_name() -> TopicName {
    TopicName(text(TOPIC))
}

fn create_topic(client: &mut Client) {
    let topic = CreatableTopic::default().with_name(topic_name()).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = client.call(&request, 7).expect("CreateTopics");
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
}

/// Produces one record a value with acks=all; the base offset, or `None` if the broker went away.
fn produce(client: &mut Client, values: &[String]) -> Option<i64> {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.append(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), []);
    }
    let records = batch.build().expect("batch").to_bytes();
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let response = client.call(&request, 9).ok()?;
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{partition:?}");
    Some(partition.base_offset)
}

fn end_offset(client: &mut Client) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(messages::BrokerId(-1)).with_topics(vec![topic]);
    let response = client.call(&request, 7).expect("ListOffsets");
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.offset
}

/// All values from offset 0 on.
fn consume(client: &mut Client) -> Vec<String> {
    let end = end_offset(client);
    let mut values = Vec::new();
    let mut offset = 0;
    while offset < end {
        let partition =
            FetchPartition::default().with_partition(0).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic_name()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(10 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = client.call(&request, 12).expect("Fetch");
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let records: Bytes = partition.records.clone().expect("records");
        assert!(!records.is_empty(), "nothing at {offset} of {end}");
        for batch in batches(&records) {
            let Ok(batch) = batch else { break };
            batch.verify().expect("checksum");
            let decoded = batch.records(1 << 20).expect("records");
            for record in decoded.iter() {
                let record = record.expect("record");
                assert_eq!(record.offset, values.len() as i64, "offsets have no gap");
                values.push(String::from_utf8(record.value.expect("value").to_vec()).expect("UTF-8"));
            }
            offset = batch.next_offset();
        }
    }
    values
}

fn commit(client: &mut Client, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("readers")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    retry("OffsetCommit", || {
        let response = client.call(&request, 8).expect("OffsetCommit");
        response.topics[0].partitions[0].error_code
    });
}

fn committed(client: &mut Client) -> i64 {
    let topic = OffsetFetchRequestTopics::default().with_name(topic_name()).with_partition_indexes(vec![0]);
    let group =
        OffsetFetchRequestGroup::default().with_group_id(GroupId(text("readers"))).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let mut offset = -1;
    retry("OffsetFetch", || {
        let response = client.call(&request, 8).expect("OffsetFetch");
        if let Some(topic) = response.groups[0].topics.first() {
            offset = topic.partitions[0].committed_offset;
        }
        response.groups[0].error_code
    });
    offset
}

/// Coordinators are found and loaded in the background.
fn retry(what: &str, mut attempt: impl FnMut() -> i16) {
    for _ in 0..600 {
        match attempt() {
            0 => return,
            14..=16 => std::thread::sleep(Duration::from_millis(50)),
            code => panic!("{what}: error {code}"),
        }
    }
    panic!("{what}: no coordinator");
}

fn find_coordinator(client: &mut Client) {
    let request = messages::FindCoordinatorRequest::default().with_key(text("readers"));
    retry("FindCoordinator", || client.call(&request, 3).expect("FindCoordinator").error_code);
}

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("value {number}")).collect()
}

#[test]
fn a_clean_stop_and_a_start_keep_records_and_committed_offsets() {
    let mut broker = Broker::start(&[("offsets.topic.replication.factor", "1")]);
    let mut client = broker.client();
    create_topic(&mut client);
    for round in 0..3 {
        assert_eq!(produce(&mut client, &values(round * 10, 10)), Some(round as i64 * 10));
        find_coordinator(&mut client);
        commit(&mut client, round as i64 + 5);
        assert!(broker.stop().success(), "{}", broker.log());
        assert!(broker.log_dir().join(".kafka_cleanshutdown").exists());
        broker.restart();
        client = broker.client();
        assert_eq!(consume(&mut client), values(0, (round + 1) * 10));
        assert_eq!(committed(&mut client), round as i64 + 5);
    }
}

#[test]
fn whatever_was_acknowledged_survives_kill_9() {
    let mut broker = Broker::start(&[]);
    create_topic(&mut broker.client());
    let mut acknowledged = 0;
    for round in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let producer = {
            let (mut client, stop) = (broker.client(), stop.clone());
            std::thread::spawn(move || {
                let mut next = acknowledged;
                while !stop.load(Ordering::SeqCst) {
                    match produce(&mut client, &values(next, 7)) {
                        Some(_) => next += 7,
                        None => break,
                    }
                }
                next
            })
        };
        std::thread::sleep(Duration::from_millis(100 + 37 * round));
        broker.kill();
        stop.store(true, Ordering::SeqCst);
        let certain = producer.join().expect("producer");
        assert!(certain > acknowledged, "nothing was produced in round {round}");
        broker.restart();
        let read = consume(&mut broker.client());
        assert!(read.len() >= certain, "{} of {certain} acknowledged records are there", read.len());
        assert_eq!(read, values(0, read.len()));
        acknowledged = read.len();
    }
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let mut broker = Broker::start(&[]);
    create_topic(&mut broker.client());
    assert_eq!(produce(&mut broker.client(), &values(0, 10)), Some(0));
    broker.kill();
    let log = broker.log_dir().join(format!("{TOPIC}-0/00000000000000000000.log"));
    let whole = std::fs::read(&log).expect("log");
    let mut file = OpenOptions::new().append(true).open(&log).expect("log");
    // The first half of a batch that would have been next.
    let mut torn = whole[..whole.len() / 2].to_vec();
    torn[..8].copy_from_slice(&10i64.to_be_bytes());
    file.write_all(&torn).expect("torn tail");
    drop(file);
    broker.restart();
    assert_eq!(consume(&mut broker.client()), values(0, 10));
    assert_eq!(produce(&mut broker.client(), &values(10, 5)), Some(10));
    assert_eq!(consume(&mut broker.client()), values(0, 15));
}

/// A fetch that waits keeps the first signal's clean stop waiting for a moment, in which the second one comes.
#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut broker = Broker::start(&[]);
    let mut client = broker.client();
    create_topic(&mut client);
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name()).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(60_000)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    client.send(&request, 12).expect("Fetch");
    std::thread::sleep(Duration::from_millis(300));
    let pid = rustix::process::Pid::from_raw(broker.pid() as i32).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the first signal");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(broker.stop().code(), Some(130), "{}", broker.log());
    broker.restart();
    assert_eq!(end_offset(&mut broker.client()), 0);
}

/// Starts a second broker with the given arguments, which must end by itself with one line; that line.
fn refused(broker: &Broker, overrides: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.arg(broker.dir.join("server.properties")).env("RUST_LOG", "off");
    for one in overrides {
        command.arg("--override").arg(one);
    }
    let output = command.stdout(Stdio::null()).output().expect("ottla");
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_start_that_cannot_be_safe_says_why_in_one_line() {
    let broker = Broker::start(&[]);
    let elsewhere = tempfile::tempdir().expect("temp folder");
    let other = |name: &str| elsewhere.path().join(name).display().to_string();
    let free = common::free_port;

    let said = refused(&broker, &[]);
    assert!(said.contains(&broker.port.to_string()) && said.contains("in use"), "{said}");

    let same_port_new_listener = format!("listeners=PLAINTEXT://localhost:{}", free());
    let said = refused(&broker, std::slice::from_ref(&same_port_new_listener));
    assert!(said.contains("zookeeper") && said.contains("in use"), "{said}");

    let same_zookeeper_port =
        [same_port_new_listener.clone(), format!("zookeeper.embedded.data.dir={}", other("zookeeper"))];
    let said = refused(&broker, &same_zookeeper_port);
    assert!(said.contains(&broker.zk_port.to_string()) && said.contains("in use"), "{said}");

    let same_directory = [same_port_new_listener.clone(), format!("zookeeper.connect=localhost:{}", broker.zk_port)];
    let said = refused(&broker, &same_directory);
    assert!(said.contains("kafka-logs") && said.contains("in use"), "{said}");

    let same_id = [
        format!("listeners=PLAINTEXT://localhost:{}", free()),
        format!("zookeeper.connect=localhost:{}", broker.zk_port),
        format!("log.dirs={}", other("logs")),
        "zookeeper.session.timeout.ms=4000".into(),
    ];
    let said = refused(&broker, &same_id);
    assert!(said.contains("broker id 0 is taken"), "{said}");

    let said = refused(&broker, &["num.partitions=many".into()]);
    assert!(said.contains("num.partitions") && said.contains("many"), "{said}");
}

#[test]
fn directories_of_another_cluster_are_refused() {
    let mut broker = Broker::start(&[]);
    assert!(broker.stop().success());
    let elsewhere = tempfile::tempdir().expect("temp folder");
    let said = refused(
        &broker,
        &[
            format!("zookeeper.embedded.data.dir={}", elsewhere.path().display()),
            format!("zookeeper.embedded.port={}", common::free_port()),
        ],
    );
    assert!(said.contains("cluster"), "{said}");
}
