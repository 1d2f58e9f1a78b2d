//! Brokers on a stock ZooKeeper: two chroots are two clusters, and neither a restart of the broker nor of ZooKeeper loses anything.

use crate::common::Broker;
use crate::jvm::Stock;
use ottla::record::BatchBuilder;
use std::time::{Duration, Instant};

fn records(value: &str) -> bytes::Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(1, None, Some(value.as_bytes()), []);
    batch.build().expect("batch").to_bytes()
}

fn cluster_id(broker: &Broker) -> String {
    let text = std::fs::read_to_string(broker.log_dir().join("meta.properties")).expect("meta.properties");
    let line = text.lines().find_map(|line| line.strip_prefix("cluster.id="));
    line.expect("a cluster id").to_owned()
}

fn produce(broker: &Broker, value: &str) -> i64 {
    let response = broker.client().produce("kept", 0, records(value)).expect("Produce");
    assert_eq!(response.error_code, 0, "{response:?}");
    response.base_offset
}

#[test]
fn two_chroots_of_one_stock_zookeeper_are_two_clusters() {
    let folder = tempfile::tempdir().expect("a folder");
    let stock = Stock::start(folder.path());
    let connect = |chroot: &str| format!("{}/{chroot}", stock.address);
    let start = |chroot: &str| {
        Broker::start(&[("zookeeper.connect", &connect(chroot)), ("zookeeper.session.timeout.ms", "6000")])
    };
    let (mut one, other) = (start("clusters/one"), start("clusters/other"));
    assert_ne!(cluster_id(&one), cluster_id(&other));
    one.client().create_topic("kept", 1, &[]).expect("CreateTopics");
    assert_eq!(one.client().leaders("kept").expect("Metadata"), [0], "both brokers are number 0 of their cluster");
    assert!(
        other.client().leaders("kept").map_or(true, |leaders| leaders.is_empty()),
        "the topic is not in the other cluster"
    );
    assert_eq!(produce(&one, "before"), 0);

    assert!(one.stop().success(), "{}", one.log());
    one.restart();
    assert_eq!(produce(&one, "after a restart of the broker"), 1);

    // kill -9 leaves the registration behind until its session ends; the broker waits for that and says so.
    one.kill();
    one.restart();
    assert_eq!(produce(&one, "after kill -9"), 2);

    stock.stop();
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(3) {
        produce(&one, "without ZooKeeper");
    }
    assert!(one.is_running() && one.client().fetch("kept", 0, 0).is_ok_and(|data| data.error_code == 0));
}
