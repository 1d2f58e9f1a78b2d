//! One controller and several brokers, as processes.

mod common;

use common::cluster::eventually;
use common::{Cluster, ZooKeeper};

/// Creates a topic through the controller, whoever that is by then.
fn create(cluster: &Cluster, topic: &str, partitions: i32) {
    eventually("the topic is created", || {
        let controller = cluster.zookeeper.controller()?;
        cluster.client(controller).create_topic(topic, partitions, &[]).ok()
    });
}

fn leaders(cluster: &Cluster, broker: i32, topic: &str) -> Vec<i32> {
    cluster.client(broker).leaders(topic).unwrap_or_default()
}

#[test]
fn every_broker_leads_and_knows_who_leads() {
    let cluster = Cluster::start(3, ZooKeeper::inside(), &[]);
    create(&cluster, "t", 6);
    let all = eventually("all partitions have leaders", || {
        let leaders = leaders(&cluster, 1, "t");
        (leaders.len() == 6 && leaders.iter().all(|leader| *leader > 0)).then_some(leaders)
    });
    for id in cluster.ids() {
        assert_eq!(all.iter().filter(|leader| **leader == id).count(), 2, "{all:?}");
        eventually("another broker knows the leaders", || (leaders(&cluster, id, "t") == all).then_some(()));
    }
}
