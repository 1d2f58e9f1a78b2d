//! Brokers that end without a word, and what ZooKeeper shows of them.

mod common;

use common::cluster::eventually;
use common::{Cluster, ZooKeeper};

/// A lost machine: nobody ends the session, so the next start waits for its time-out, says so, and registers.
#[test]
fn a_broker_whose_old_session_lives_waits_for_its_end() {
    let mut cluster = Cluster::start(1, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "3000")]);
    let first = cluster.zookeeper.broker_epoch(1).expect("registered");
    cluster.kill(1);
    cluster.restart(1);
    let second = eventually("a new registration", || cluster.zookeeper.broker_epoch(1));
    assert!(second > first);
    assert!(cluster.broker(1).log().contains("still registered: waiting"), "{}", cluster.logs());
}
