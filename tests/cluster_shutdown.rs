//! Brokers that stop by SIGTERM hand their leaderships on first.

mod common;

use common::cluster::eventually;
use common::{Cluster, ZooKeeper};

use bytes::Bytes;
use ottla::record::BatchBuilder;

fn batch(value: &str) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(1, None, Some(value.as_bytes()), []);
    builder.build().expect("a batch").to_bytes()
}

const LONG_SESSION: (&str, &str) = ("zookeeper.session.timeout.ms", "60000");

#[test]
fn a_stopping_broker_hands_its_leaderships_on() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[LONG_SESSION]);
    let replicas: &[&[i32]] = &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];
    cluster.controller_client().create_assigned("t", replicas, &[]).expect("created");
    eventually("all in sync", || (0..3).all(|at| cluster.partition_state("t", at).2.len() == 3).then_some(()));
    let controller = cluster.zookeeper.controller().expect("a controller");
    // One that is not the controller, then the controller itself.
    for id in [controller % 3 + 1, controller] {
        let led: Vec<i32> = (0..3).filter(|at| cluster.partition_state("t", *at).0 == id).collect();
        assert!(!led.is_empty());
        assert!(cluster.stop(id).success());
        let log = cluster.broker(id).log();
        assert!(log.contains("controlled shutdown: no partition is led here any more"), "{log}");
        for at in 0..3 {
            let (leader, _, isr) = cluster.partition_state("t", at);
            assert!(leader > 0 && leader != id && !isr.contains(&id), "partition {at}: {leader} of {isr:?}");
        }
        // Nobody asks for it back while it stops.
        for other in (1..=3).filter(|other| *other != id) {
            let log = cluster.broker(other).log();
            assert!(!log.contains("refused a change of the ISR"), "broker {other}: {log}");
        }
        cluster.restart(id);
        let back = |at: i32| cluster.partition_state("t", at).2.contains(&id);
        eventually("in sync again", || (0..3).all(back).then_some(()));
    }
}

/// With nobody to hand over to the broker says so, tries as often as it is told, and stops.
#[test]
fn a_broker_without_heirs_stops_all_the_same() {
    let retries = [("controlled.shutdown.max.retries", "2"), ("controlled.shutdown.retry.backoff.ms", "100")];
    let mut cluster = Cluster::start(2, ZooKeeper::inside(), &[LONG_SESSION, retries[0], retries[1]]);
    cluster.controller_client().create_assigned("t", &[&[1, 2]], &[]).expect("created");
    eventually("all in sync", || (cluster.partition_state("t", 0).2.len() == 2).then_some(()));
    cluster.kill(2);
    eventually("out of sync", || (cluster.partition_state("t", 0).2 == [1]).then_some(()));
    assert!(cluster.stop(1).success());
    let log = cluster.broker(1).log();
    assert_eq!(log.matches("controlled shutdown: still led here").count(), 2, "{log}");
    assert_eq!(cluster.partition_state("t", 0).2, [1], "it may come back cleanly");
}

/// Without it, a stop is what it is for a broker that has died.
#[test]
fn controlled_shutdown_can_be_off() {
    let mut cluster = Cluster::start(2, ZooKeeper::inside(), &[LONG_SESSION, ("controlled.shutdown.enable", "false")]);
    cluster.controller_client().create_assigned("t", &[&[1, 2]], &[]).expect("created");
    eventually("all in sync", || (cluster.partition_state("t", 0).2.len() == 2).then_some(()));
    let produced = cluster.client(1).produce("t", 0, batch("a")).expect("an answer");
    assert_eq!(produced.error_code, 0);
    assert!(cluster.stop(1).success());
    assert!(!cluster.broker(1).log().contains("controlled shutdown"));
    eventually("another leader", || (cluster.partition_state("t", 0).0 == 2).then_some(()));
    let fetched = cluster.client(2).fetch("t", 0, 0).expect("an answer");
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 1));
}
