//! Replication between processes: records survive their leader, replicas are copies byte for byte, the ISR follows who keeps up.

mod common;

use bytes::Bytes;
use common::cluster::eventually;
use common::{Client, Cluster, ZooKeeper};
use ottla::base::ErrorCode;
use ottla::record::{BatchBuilder, batches};
use ottla::wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::{DeleteRecordsRequest, FetchRequest, ProduceRequest, TopicName};
use ottla::wire::text;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

fn batch(value: &str) -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(1, None, Some(value.as_bytes()), []);
    batch.build().expect("a batch").to_bytes()
}

/// Topic `t` with one partition on all brokers.
fn create(cluster: &Cluster, configs: &[(&str, &str)]) {
    let replicas = *cluster.ids().end() as i16;
    eventually("the topic is created", || {
        let controller = cluster.zookeeper.controller()?;
        cluster.client(controller).create_replicated("t", 1, replicas, configs).ok()
    });
    wait_for_isr(cluster, replicas as usize);
}

fn state(cluster: &Cluster) -> Option<(i32, Vec<i32>)> {
    let state = cluster.zookeeper.json("/brokers/topics/t/partitions/0/state")?;
    let isr = state["isr"].as_array()?.iter().filter_map(|id| Some(id.as_i64()? as i32)).collect();
    Some((state["leader"].as_i64()? as i32, isr))
}

fn leader(cluster: &Cluster) -> i32 {
    eventually("a leader", || state(cluster).map(|(leader, _)| leader).filter(|leader| *leader > 0))
}

fn wait_for_isr(cluster: &Cluster, size: usize) {
    eventually("the ISR has its size", || state(cluster).filter(|(_, isr)| isr.len() == size));
}

/// Log segments of a replica of `t-0`, by name.
fn segments(folder: PathBuf) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder.join("t-0")).expect("the partition's folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|end| end == "log") {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            found.insert(name, fs::read(path).expect("readable"));
        }
    }
    found
}

fn wait_for_equal_copies(cluster: &mut Cluster) {
    let folders: Vec<PathBuf> = cluster.ids().map(|id| cluster.broker(id).log_dir()).collect();
    eventually("all replicas are the same bytes", || {
        let copies: Vec<_> = folders.iter().map(|folder| segments(folder.clone())).collect();
        copies.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    });
}

/// Writes value after value with acks=all, to whoever leads, and remembers what was acknowledged, and where.
struct Producer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(i64, String)>>,
}

impl Producer {
    fn start(ports: Vec<u16>) -> Producer {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut acked, mut number, mut at) = (Vec::new(), 0, 0);
            let mut client: Option<Client> = None;
            while !ended.load(Ordering::Relaxed) {
                let value = format!("value {number}");
                let sent = client.as_mut().and_then(|client| client.produce("t", 0, batch(&value)).ok());
                number += 1;
                match sent {
                    Some(answer) if answer.error_code == 0 => acked.push((answer.base_offset, value)),
                    _ => {
                        // Somebody else may lead.
                        at = (at + 1) % ports.len();
                        client = Client::connect(ports[at]).ok();
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                }
            }
            acked
        });
        Producer { stop, thread }
    }

    fn stop(self) -> Vec<(i64, String)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer ends")
    }
}

/// Every value of the partition by its offset, from the leader.
fn read_all(cluster: &Cluster) -> BTreeMap<i64, String> {
    let mut client = cluster.client(leader(cluster));
    let mut found = BTreeMap::new();
    loop {
        let next = found.keys().next_back().map_or(0, |last| last + 1);
        let answer = client.fetch("t", 0, next).expect("an answer");
        assert_eq!(answer.error_code, 0);
        let records = answer.records.unwrap_or_default();
        for batch in batches(&records) {
            let inside = batch.expect("a batch").records(1 << 20).expect("records");
            for record in inside.iter() {
                let record = record.expect("a record");
                found.insert(record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
            }
        }
        if next >= answer.high_watermark {
            return found;
        }
    }
}

fn assert_all_there(cluster: &Cluster, acked: &[(i64, String)]) {
    let found = read_all(cluster);
    for (offset, value) in acked {
        assert_eq!(found.get(offset), Some(value), "acknowledged at {offset}\n{}", cluster.logs());
    }
}

/// KIP-101 and KIP-279: leaders change faster than high watermarks travel.
#[test]
fn nothing_acknowledged_is_lost_when_leaders_are_killed_and_come_back() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "2000")]);
    create(&cluster, &[("min.insync.replicas", "2")]);
    let ports = cluster.ids().map(|id| cluster.broker(id).port).collect();
    let producer = Producer::start(ports);
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let killed = leader(&cluster);
        cluster.kill(killed);
        eventually("another broker leads", || state(&cluster).filter(|(leader, _)| *leader > 0 && *leader != killed));
        cluster.restart(killed);
        wait_for_isr(&cluster, 3);
    }
    let acked = producer.stop();
    assert!(acked.len() > 50, "only {} acknowledged", acked.len());
    assert_all_there(&cluster, &acked);
    wait_for_equal_copies(&mut cluster);
}

fn produce(value: &str, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch(value)));
    let topic = TopicProduceData::default().with_name(TopicName(text("t"))).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(60_000).with_topic_data(vec![topic])
}

fn holds(folder: &std::path::Path, value: &[u8]) -> Option<()> {
    let is_in = |bytes: &Vec<u8>| bytes.windows(value.len()).any(|at| at == value);
    segments(folder.to_path_buf()).values().any(is_in).then_some(())
}

/// KAFKA-2729 and KIP-320: the old leader comes back after the controller has moved leader and ISR. It acknowledges nothing more, and is in
/// sync again without a restart.
#[test]
fn a_leader_that_slept_through_its_replacement_gives_up_what_it_alone_has() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "2000")]);
    create(&cluster, &[("min.insync.replicas", "2")]);
    let old = leader(&cluster);
    let folder = cluster.broker(old).log_dir();
    let mut client = cluster.client(old);
    assert_eq!(client.produce("t", 0, batch("before")).expect("an answer").error_code, 0);
    // The others stand still, so that the leader gets a record that is on no other broker; then it stands still, and they go on.
    let others: Vec<i32> = cluster.ids().filter(|id| *id != old).collect();
    others.iter().for_each(|id| cluster.freeze(*id));
    // The fetches that waited at the leader when their senders froze are answered with this one.
    let mut other = cluster.client(old);
    other.send(&produce("on its way", 1), 9).expect("sent");
    eventually("the record is in the old leader's log", || holds(&folder, b"on its way"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let sent = client.send(&produce("alone", -1), 9).expect("sent");
    eventually("the record is in the old leader's log", || holds(&folder, b"alone"));
    cluster.freeze(old);
    others.iter().for_each(|id| cluster.thaw(*id));
    let new = eventually("another broker leads", || {
        state(&cluster).map(|(leader, _)| leader).filter(|leader| *leader > 0 && *leader != old)
    });
    eventually("the new leader takes records", || {
        let answer = cluster.client(new).produce("t", 0, batch("after")).ok()?;
        (answer.error_code == 0).then_some(())
    });
    let new_folder = cluster.broker(new).log_dir();
    let is_alone = holds(&new_folder, b"alone").is_none();
    cluster.thaw(old);
    let answer = client.receive::<ProduceRequest>(sent, 9);
    let acknowledged = answer.is_ok_and(|answer| answer.responses[0].partition_responses[0].error_code == 0);
    assert!(!(is_alone && acknowledged), "what is only here was not committed\n{}", cluster.logs());
    wait_for_isr(&cluster, 3);
    wait_for_equal_copies(&mut cluster);
    let values: Vec<String> = read_all(&cluster).into_values().collect();
    assert_eq!(values.contains(&"alone".to_owned()), !is_alone, "{values:?}");
    assert!(values.contains(&"before".to_owned()) && values.contains(&"after".to_owned()), "{values:?}");
}

#[test]
fn a_follower_that_stands_still_leaves_the_isr_and_comes_back() {
    let overrides = [("replica.lag.time.max.ms", "1500"), ("zookeeper.session.timeout.ms", "60000")];
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &overrides);
    create(&cluster, &[("min.insync.replicas", "3")]);
    let leader = leader(&cluster);
    // The controller has to agree to every change.
    let controller = cluster.zookeeper.controller();
    let frozen = cluster.ids().find(|id| *id != leader && Some(*id) != controller).expect("a follower");
    assert_eq!(cluster.client(leader).produce("t", 0, batch("a")).expect("an answer").error_code, 0);
    cluster.freeze(frozen);
    // A follower that has everything is in sync, however long it says nothing.
    assert!(cluster.client(leader).call(&produce("b", 1), 9).is_ok());
    wait_for_isr(&cluster, 2);
    assert_eq!(state(&cluster).map(|(_, isr)| isr.contains(&frozen)), Some(false));
    let too_few = ErrorCode::NotEnoughReplicas.code();
    assert_eq!(cluster.client(leader).produce("t", 0, batch("c")).expect("an answer").error_code, too_few);
    cluster.thaw(frozen);
    wait_for_isr(&cluster, 3);
    assert_eq!(cluster.client(leader).produce("t", 0, batch("d")).expect("an answer").error_code, 0);
    wait_for_equal_copies(&mut cluster);
}

/// A fetch of a consumer in `rack`: error, preferred read replica, bytes of records.
fn fetch_in_rack(cluster: &Cluster, id: i32, rack: &str) -> (i16, i32, usize) {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TopicName(text("t"))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_rack_id(text(rack))
        .with_topics(vec![topic]);
    let answer = cluster.client(id).call(&request, 11).expect("an answer");
    let answer = &answer.responses[0].partitions[0];
    (answer.error_code, answer.preferred_read_replica.0, answer.records.as_ref().map_or(0, Bytes::len))
}

#[test]
fn consumers_are_sent_to_a_replica_in_their_rack_and_records_are_deleted_everywhere() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let mut cluster = Cluster::prepare(2, ZooKeeper::inside(), &[("replica.selector.class", selector)]);
    for id in cluster.ids() {
        let rack = format!("rack-{id}");
        let port = cluster.zookeeper.address();
        let id_text = id.to_string();
        let all = [
            ("broker.id", id_text.as_str()),
            ("zookeeper.connect", port.as_str()),
            ("replica.selector.class", selector),
            ("broker.rack", rack.as_str()),
        ];
        cluster.broker(id).restart_with(&all);
    }
    cluster.wait_for_members();
    create(&cluster, &[]);
    let leader = leader(&cluster);
    let follower = 3 - leader;
    assert_eq!(cluster.client(leader).produce("t", 0, batch("a")).expect("an answer").error_code, 0);
    let (own, other) = (format!("rack-{leader}"), format!("rack-{follower}"));
    let from_leader = fetch_in_rack(&cluster, leader, &own);
    assert!(from_leader.1 == -1 && from_leader.2 > 0, "{from_leader:?}");
    assert_eq!(fetch_in_rack(&cluster, leader, &other), (0, follower, 0));
    eventually("the follower serves the record", || {
        let answer = fetch_in_rack(&cluster, follower, &other);
        (answer == (0, -1, from_leader.2)).then_some(())
    });
    // DeleteRecords answers when the follower has moved its log start too.
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let topic = DeleteRecordsTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let answer = cluster.client(leader).call(&request, 2).expect("an answer");
    let answer = &answer.topics[0].partitions[0];
    assert_eq!((answer.error_code, answer.low_watermark), (0, 1));
    assert_eq!(fetch_in_rack(&cluster, follower, &other).0, 1, "the offset is out of range there as well");
}

/// Messages of formats 0 and 1 as Apache Kafka wrote them, at rising offsets; the offset after them, and how many they are.
fn old_messages() -> (Vec<u8>, i64, usize) {
    let (mut all, mut next, mut count) = (Vec::new(), 0, 0);
    for name in ["v0-gzip", "v1-none", "v1-lz4", "v0-none", "v1-snappy"] {
        let path = format!("{}/tests/fixtures/records/{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let bytes = fs::read(path).expect("a fixture");
        let (mut position, start) = (all.len(), next);
        all.extend_from_slice(&bytes);
        for batch in batches(&bytes) {
            let batch = batch.expect("a whole batch");
            let offset = start + batch.base_offset();
            all[position..position + 8].copy_from_slice(&offset.to_be_bytes());
            (position, next) = (position + batch.size_bytes(), offset + 1);
            count += batch.records(1 << 20).expect("records").iter().count();
        }
    }
    (all, next, count)
}

/// Old segments of a leader may hold messages of the formats before 2: a replica has the same bytes, and can lead with them.
#[test]
fn messages_of_old_formats_are_replicated_as_they_are() {
    let mut cluster = Cluster::start(2, ZooKeeper::inside(), &[]);
    eventually("the topic is created", || cluster.controller_client().create_assigned("t", &[&[1, 2]], &[]).ok());
    wait_for_isr(&cluster, 2);
    cluster.stop(2);
    wait_for_isr(&cluster, 1);
    cluster.stop(1);
    let (old, end, count) = old_messages();
    let folder = cluster.broker(1).log_dir();
    fs::write(folder.join("t-0/00000000000000000000.log"), &old).expect("written");
    fs::remove_file(folder.join(".kafka_cleanshutdown")).expect("it was stopped cleanly");
    cluster.restart(1);
    let answer = eventually("the record is taken", || {
        cluster.client(1).produce("t", 0, batch("new")).ok().filter(|answer| answer.error_code == 0)
    });
    assert_eq!(answer.base_offset, end);
    cluster.restart(2);
    wait_for_isr(&cluster, 2);
    wait_for_equal_copies(&mut cluster);
    let copy = segments(cluster.broker(2).log_dir()).remove("00000000000000000000.log").expect("a segment");
    assert!(copy.starts_with(&old) && copy.len() > old.len());
    cluster.kill(1);
    eventually("2 leads", || (leader(&cluster) == 2).then_some(()));
    let (mut offset, mut values) = (0, 0);
    while offset <= end {
        let data = cluster.client(2).fetch("t", 0, offset).expect("an answer");
        assert_eq!(data.error_code, 0);
        let records = data.records.expect("records");
        for one in batches(&records) {
            let one = one.expect("a whole batch");
            let records = one.records(1 << 20).expect("records");
            values +=
                records.iter().filter(|record| record.as_ref().is_ok_and(|record| record.offset >= offset)).count();
            offset = one.next_offset();
        }
    }
    assert_eq!((offset, values), (end + 1, count + 1), "all of them, and the new one");
}
