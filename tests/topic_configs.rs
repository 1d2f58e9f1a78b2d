//! Every topic config of the log takes effect on a running broker as soon as it is altered, and no restart is needed.

mod common;

use common::cluster::eventually;
use common::{Broker, Client, Cluster, ZooKeeper};
use ottla::record::{BatchBuilder, batches};
use ottla::wire::messages::create_topics_request::CreatableTopic;
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::produce_response::PartitionProduceResponse;
use ottla::wire::messages::{
    CreateTopicsRequest, FetchRequest, IncrementalAlterConfigsRequest, ProduceRequest, TopicName,
};
use ottla::wire::text;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// One broker whose background looks often, and a topic for each test.
struct Bench {
    broker: Broker,
    client: Client,
}

/// A topic of one partition.
struct Topic<'a> {
    name: &'static str,
    bench: &'a mut Bench,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

impl Bench {
    fn start() -> Bench {
        let broker = Broker::start(&[
            ("log.retention.check.interval.ms", "50"),
            ("log.cleaner.backoff.ms", "50"),
            ("log.flush.offset.checkpoint.interval.ms", "50"),
            ("log.flush.scheduler.interval.ms", "50"),
        ]);
        let client = broker.client();
        Bench { broker, client }
    }

    fn topic(&mut self, name: &'static str) -> Topic<'_> {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let response = self.client.call(&request, 7).expect("CreateTopics");
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        Topic { name, bench: self }
    }
}

impl Topic<'_> {
    fn alter(&mut self, configs: &[(&str, &str)]) {
        let change = |(name, value): &(&str, &str)| {
            AlterableConfig::default().with_name(text(name)).with_config_operation(0).with_value(Some(text(value)))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(self.name))
            .with_configs(configs.iter().map(change).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = self.bench.client.call(&request, 1).expect("IncrementalAlterConfigs");
        assert_eq!(response.responses[0].error_code, 0, "{response:?}");
        // Applied when the broker has said so.
        let before = format!("topic=\"{}\"", self.name);
        let wanted = configs.first().map(|(name, value)| format!("\"{name}\": \"{value}\"")).unwrap_or_default();
        let broker = &self.bench.broker;
        wait_until(broker, &wanted, || {
            broker
                .log()
                .lines()
                .any(|line| line.contains(&before) && line.contains("have changed") && line.contains(&wanted))
        });
    }

    fn try_produce(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> PartitionProduceResponse {
        let mut batch = BatchBuilder::new();
        batch.append(timestamp, key, value, []);
        let records = batch.build().expect("batch").to_bytes();
        let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(TopicName(text(self.name))).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
        let mut response = self.bench.client.call(&request, 9).expect("Produce");
        response.responses.remove(0).partition_responses.remove(0)
    }

    fn produce(&mut self, value: &[u8], timestamp: i64) -> i64 {
        let answer = self.try_produce(Some(b"key"), Some(value), timestamp);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        answer.base_offset
    }

    fn fetch(&mut self, version: i16, offset: i64) -> (i16, bytes::Bytes) {
        let part =
            FetchPartition::default().with_partition(0).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(text(self.name))).with_partitions(vec![part]);
        let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]).with_session_epoch(-1);
        let response = self.bench.client.call(&request, version).expect("Fetch");
        let answer = &response.responses[0].partitions[0];
        (answer.error_code, answer.records.clone().unwrap_or_default())
    }

    fn dir(&self) -> PathBuf {
        self.bench.broker.log_dir().join(format!("{}-0", self.name))
    }

    /// Names of the files with an ending, in order.
    fn files(&self, ending: &str) -> Vec<String> {
        let names = fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
        names.sort();
        names
    }

    fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < deadline,
                "{}: {what}: {:?}\n{}",
                self.name,
                self.files(""),
                self.bench.broker.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn recovery_point(&self) -> i64 {
        let text = fs::read_to_string(self.bench.broker.log_dir().join("recovery-point-offset-checkpoint"));
        let text = text.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{} 0 ", self.name)));
        line.map_or(0, |offset| offset.parse().unwrap())
    }
}

fn wait_until(broker: &Broker, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}\n{}", broker.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn rolling() {
    let mut bench = Bench::start();
    let now = now_ms();

    let mut topic = bench.topic("by-size");
    topic.produce(&[0; 600], now);
    topic.produce(&[0; 600], now);
    assert_eq!(topic.files(".log").len(), 1);
    topic.alter(&[("segment.bytes", "1000")]);
    topic.produce(&[0; 600], now);
    assert_eq!(topic.files(".log").len(), 2, "segment.bytes");

    let mut topic = bench.topic("by-time");
    topic.produce(b"a", now - 5000);
    topic.produce(b"b", now - 3000);
    assert_eq!(topic.files(".log").len(), 1);
    topic.alter(&[("segment.ms", "1000")]);
    topic.produce(b"c", now);
    assert_eq!(topic.files(".log").len(), 2, "segment.ms");

    // The jitter of a segment is drawn when it begins, from all there is: but for one time in a milliard it is not zero.
    let mut topic = bench.topic("by-jitter");
    topic.alter(&[("segment.jitter.ms", "1000000000"), ("segment.ms", "1000000000")]);
    topic.produce(b"a", now - 3_000_000_000);
    topic.produce(b"b", now - 1_000_000_000);
    assert_eq!(topic.files(".log").len(), 2);
    topic.produce(b"c", now - 1);
    assert_eq!(topic.files(".log").len(), 3, "segment.jitter.ms");

    let mut topic = bench.topic("by-index");
    topic.alter(&[("segment.index.bytes", "48"), ("index.interval.bytes", "0")]);
    for n in 0..20 {
        topic.produce(&[0; 10], now + n);
    }
    assert!(topic.files(".log").len() > 2, "segment.index.bytes");
    let first = topic.dir().join("00000000000000000000.index");
    assert!(fs::metadata(first).unwrap().len() >= 8, "index.interval.bytes");

    let mut topic = bench.topic("preallocated");
    topic.alter(&[("preallocate", "true"), ("segment.bytes", "1048576")]);
    topic.produce(&[0; 700_000], now);
    topic.produce(&[0; 700_000], now);
    let [first, second] = topic.files(".log").try_into().expect("two segments");
    let blocks = |name: &str| fs::metadata(topic.dir().join(name)).unwrap().blocks() * 512;
    assert!(blocks(&second) >= 1 << 20 || !supports_preallocation(&topic), "preallocate");
    assert!(blocks(&first) < 1 << 20, "what is not needed is given back");
    assert!(fs::metadata(topic.dir().join(&second)).unwrap().len() < 800_000, "and no reader sees it");
}

/// Not every file system can.
fn supports_preallocation(topic: &Topic<'_>) -> bool {
    let path = topic.bench.broker.dir.join("probe");
    let file = fs::File::create(&path).unwrap();
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, flags, 0, 1 << 20).is_ok() && fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20
}

#[test]
fn flushing() {
    let mut bench = Bench::start();
    for (name, config) in [("by-count", "flush.messages"), ("by-age", "flush.ms")] {
        let mut topic = bench.topic(name);
        topic.produce(b"a", now_ms());
        topic.alter(&[(config, "1")]);
        topic.produce(b"b", now_ms());
        topic.wait(config, |topic| topic.recovery_point() == 2);
    }
}

#[test]
fn letting_go() {
    let mut bench = Bench::start();
    for (name, config, value) in [("old", "retention.ms", "1000"), ("large", "retention.bytes", "100")] {
        let mut topic = bench.topic(name);
        // Nobody removes what the next test looks for.
        topic.alter(&[("file.delete.delay.ms", &(24 * HOUR_MS).to_string())]);
        topic.alter(&[("segment.bytes", "1000")]);
        for _ in 0..3 {
            topic.produce(&[0; 600], now_ms() - HOUR_MS);
        }
        assert_eq!(topic.files(".log").len(), 3);
        topic.alter(&[(config, value)]);
        topic.wait(config, |topic| topic.files(".log.deleted").len() >= 2);
        topic.produce(&[0; 600], now_ms());
        assert!(!topic.files(".deleted").is_empty(), "file.delete.delay.ms");
    }
    let mut topic = bench.topic("quick");
    topic.alter(&[("file.delete.delay.ms", "0"), ("segment.bytes", "1000"), ("retention.bytes", "100")]);
    for _ in 0..3 {
        topic.produce(&[0; 600], now_ms());
    }
    topic.wait("file.delete.delay.ms", |topic| topic.files(".log").len() <= 2 && topic.files(".deleted").is_empty());
}

/// Records in the log, with null for a tombstone.
fn kept(topic: &mut Topic<'_>) -> Vec<Option<Vec<u8>>> {
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let bytes = topic.fetch(11, offset).1;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            offset = batch.next_offset();
            let records = batch.records(1 << 20).unwrap();
            found.extend(records.iter().map(|record| record.unwrap().value.map(<[u8]>::to_vec)));
        }
        if bytes.is_empty() {
            return found;
        }
    }
}

#[test]
fn compacting() {
    let mut bench = Bench::start();
    let fill = |topic: &mut Topic<'_>| {
        topic.alter(&[("segment.bytes", "1000")]);
        for n in 0..5 {
            topic.produce(&[n; 600], now_ms());
        }
    };
    let is_compacted = |topic: &mut Topic<'_>| kept(topic).len() <= 2;

    let mut topic = bench.topic("policy");
    fill(&mut topic);
    assert_eq!(kept(&mut topic).len(), 5);
    topic.alter(&[("cleanup.policy", "compact")]);
    topic.wait("cleanup.policy", is_compacted);

    let mut topic = bench.topic("ratio");
    topic.alter(&[("min.cleanable.dirty.ratio", "1.0"), ("cleanup.policy", "compact")]);
    fill(&mut topic);
    // A clean part, so that the rest is never all there is.
    topic.alter(&[("min.cleanable.dirty.ratio", "0.01")]);
    topic.wait("min.cleanable.dirty.ratio", is_compacted);

    let mut topic = bench.topic("lag");
    topic.alter(&[("min.compaction.lag.ms", &HOUR_MS.to_string()), ("cleanup.policy", "compact")]);
    fill(&mut topic);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(kept(&mut topic).len(), 5, "min.compaction.lag.ms");
    topic.alter(&[("min.compaction.lag.ms", "0")]);
    topic.wait("min.compaction.lag.ms", is_compacted);

    let mut topic = bench.topic("overdue");
    topic.alter(&[("min.cleanable.dirty.ratio", "1.0"), ("cleanup.policy", "compact")]);
    fill(&mut topic);
    topic.alter(&[("max.compaction.lag.ms", "1")]);
    topic.wait("max.compaction.lag.ms", is_compacted);

    let mut topic = bench.topic("tombstones");
    topic.alter(&[("cleanup.policy", "compact"), ("segment.bytes", "1000")]);
    topic.alter(&[("delete.retention.ms", "0")]);
    let tombstone = topic.try_produce(Some(b"gone"), None, now_ms());
    assert_eq!(tombstone.error_code, 0);
    // Each round there is something new to clean.
    topic.wait("delete.retention.ms", |topic| {
        topic.produce(&[1; 600], now_ms());
        topic.produce(&[2; 600], now_ms());
        !kept(topic).contains(&None)
    });
}

#[test]
fn judging_what_is_produced_and_fetched() {
    let mut bench = Bench::start();
    let now = now_ms();
    let mut topic = bench.topic("judged");
    let code =
        |topic: &mut Topic<'_>, value: &[u8], timestamp| topic.try_produce(None, Some(value), timestamp).error_code;

    assert_eq!(code(&mut topic, &[0; 5000], now), 0);
    topic.alter(&[("max.message.bytes", "1000")]);
    assert_eq!(code(&mut topic, &[0; 5000], now), 10, "max.message.bytes");

    assert_eq!(code(&mut topic, b"a", now - 2 * HOUR_MS), 0);
    topic.alter(&[("message.timestamp.before.max.ms", &HOUR_MS.to_string())]);
    assert_eq!(code(&mut topic, b"a", now - 2 * HOUR_MS), 32, "message.timestamp.before.max.ms");
    assert_eq!(code(&mut topic, b"a", now + HOUR_MS / 2), 0);
    topic.alter(&[("message.timestamp.after.max.ms", "1000")]);
    assert_eq!(code(&mut topic, b"a", now + HOUR_MS / 2), 32, "message.timestamp.after.max.ms");

    assert_eq!(topic.fetch(1, 0).0, 0);
    topic.alter(&[("message.downconversion.enable", "false")]);
    assert_eq!(topic.fetch(1, 0).0, 35, "message.downconversion.enable");

    let mut topic = bench.topic("stamped");
    assert_eq!(topic.try_produce(None, Some(b"a"), now).log_append_time_ms, -1);
    topic.alter(&[("message.timestamp.type", "LogAppendTime")]);
    assert!(topic.try_produce(None, Some(b"a"), now).log_append_time_ms >= now, "message.timestamp.type");

    let mut topic = bench.topic("compressed");
    let value: Vec<u8> = (0..20_000u32).flat_map(|n| (n / 7 * 13).to_be_bytes()).collect();
    let mut sizes = Vec::new();
    topic.produce(&value, now);
    for (codec, level, value_of_level) in [
        ("gzip", "compression.gzip.level", "1"),
        ("gzip", "compression.gzip.level", "9"),
        ("zstd", "compression.zstd.level", "1"),
        ("zstd", "compression.zstd.level", "19"),
        ("lz4", "compression.lz4.level", "9"),
        ("lz4", "compression.lz4.level", "12"),
        ("snappy", "compression.lz4.level", "1"),
    ] {
        topic.alter(&[(level, value_of_level), ("compression.type", codec)]);
        let offset = topic.produce(&value, now);
        let bytes = topic.fetch(11, offset).1;
        let last = batches(&bytes).next().unwrap().unwrap();
        assert_eq!(last.compression().unwrap().name(), codec, "compression.type");
        sizes.push(last.size_bytes());
    }
    assert!(sizes[1] < sizes[0], "compression.gzip.level: {sizes:?}");
    assert_ne!(sizes[3], sizes[2], "compression.zstd.level");
    assert!(sizes[5] < sizes[4], "compression.lz4.level: {sizes:?}");

    let mut topic = bench.topic("alone");
    assert_eq!(code(&mut topic, b"a", now), 0);
    // More than there are replicas is as many as there are.
    topic.alter(&[("min.insync.replicas", "2")]);
    assert_eq!(code(&mut topic, b"a", now), 0, "min.insync.replicas");
}

/// As soon as the broker knows the topic: one that has just started hears of it from the controller.
fn alter_topic(client: &mut Client, topic: &str, name: &str, value: &str) {
    const UNKNOWN_TOPIC: i16 = 3;
    let change =
        AlterableConfig::default().with_name(text(name)).with_config_operation(0).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = eventually("the broker knows the topic", || {
        let response = client.call(&request, 1).expect("IncrementalAlterConfigs");
        (response.responses[0].error_code != UNKNOWN_TOPIC).then_some(response)
    });
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

/// Without it a partition waits for the last broker that had all of it; once it is set, whoever is there leads.
#[test]
fn electing_uncleanly() {
    let mut cluster = Cluster::start(2, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "3000")]);
    let controller = eventually("a controller", || cluster.zookeeper.controller());
    for topic in ["waits", "goes-on"] {
        // The first replica leads, and is the one that will be missing.
        cluster.client(controller).create_assigned(topic, &[&[2, 1]], &[]).expect("a topic");
    }
    let state = |cluster: &Cluster, topic: &str| {
        let (leader, _, isr) = cluster.partition_state(topic, 0);
        (leader, isr)
    };
    let produce = |cluster: &Cluster, topic: &str| {
        let mut batch = BatchBuilder::new();
        batch.append(1, None, Some(b"value"), []);
        let answer = cluster.client(2).produce(topic, 0, batch.build().unwrap().to_bytes()).expect("an answer");
        assert_eq!(answer.error_code, 0);
    };
    cluster.broker(1).lose();
    for topic in ["waits", "goes-on"] {
        eventually("broker 1 is out of the ISR", || (state(&cluster, topic) == (2, vec![2])).then_some(()));
        produce(&cluster, topic);
    }
    cluster.broker(2).lose();
    cluster.broker(1).spawn();
    eventually("broker 1 is the controller", || cluster.zookeeper.controller().filter(|id| *id == 1));
    for topic in ["waits", "goes-on"] {
        eventually("nobody leads", || (state(&cluster, topic) == (-1, vec![2])).then_some(()));
    }
    alter_topic(&mut cluster.client(1), "goes-on", "unclean.leader.election.enable", "true");
    eventually("whoever is there leads", || (state(&cluster, "goes-on") == (1, vec![1])).then_some(()));
    assert_eq!(state(&cluster, "waits"), (-1, vec![2]), "unclean.leader.election.enable");
}
