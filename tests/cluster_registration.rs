//! Brokers that end without a word, and what ZooKeeper shows of them.

mod common;

use common::cluster::eventually;
use common::{Cluster, ZooKeeper};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Nobody waits for a session of this length.
const LONG_SESSION: [(&str, &str); 1] = [("zookeeper.session.timeout.ms", "60000")];

/// Well under [`LONG_SESSION`].
const SOON: Duration = Duration::from_secs(20);

fn registered(cluster: &Cluster) -> Vec<String> {
    let mut ids = cluster.zookeeper.children("/brokers/ids");
    ids.sort();
    ids
}

/// A lost machine: nobody ends the session, so the next start waits for its time-out, says so, and registers.
#[test]
fn a_broker_whose_old_session_lives_waits_for_its_end() {
    let mut cluster = Cluster::start(1, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "3000")]);
    let first = cluster.zookeeper.broker_epoch(1).expect("registered");
    cluster.broker(1).lose();
    cluster.restart(1);
    let second = eventually("a new registration", || cluster.zookeeper.broker_epoch(1));
    assert!(second > first);
    assert!(cluster.broker(1).log().contains("still registered: waiting"), "{}", cluster.logs());
}

/// The session would live for a minute, but the guardian ends it, and with it the office of the controller.
#[test]
fn the_guardian_ends_the_session_of_a_killed_broker() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &LONG_SESSION);
    let epochs = [1, 2, 3].map(|id| cluster.zookeeper.broker_epoch(id));
    let controller = eventually("a controller", || cluster.zookeeper.controller());
    let killed = Instant::now();
    cluster.kill(controller);
    eventually("the registration is gone", || cluster.zookeeper.broker_epoch(controller).is_none().then_some(()));
    let heir = eventually("another controller", || cluster.zookeeper.controller().filter(|id| *id != controller));
    assert!(killed.elapsed() < SOON, "{:?}\n{}", killed.elapsed(), cluster.logs());
    for id in cluster.ids().filter(|id| *id != controller) {
        assert_eq!(cluster.zookeeper.broker_epoch(id), epochs[id as usize - 1], "broker {id} lives on");
    }
    // What is killed without being the controller is noticed as well, and comes back as somebody new.
    let other = cluster.ids().find(|id| ![controller, heir].contains(id)).expect("a third broker");
    cluster.kill(other);
    cluster.restart(other);
    assert!(cluster.zookeeper.broker_epoch(other) > epochs[other as usize - 1]);
    assert!(!cluster.broker(other).log().contains("still registered: waiting") || killed.elapsed() < 2 * SOON);
}

/// A pause is no death: the session is ZooKeeper's to judge, and it lives for a minute.
#[test]
fn the_guardian_leaves_a_frozen_broker_alone() {
    let mut cluster = Cluster::start(1, ZooKeeper::inside(), &LONG_SESSION);
    let epoch = cluster.zookeeper.broker_epoch(1).expect("registered");
    cluster.freeze(1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(cluster.zookeeper.broker_epoch(1), Some(epoch));
    cluster.thaw(1);
    cluster.wait_for_members();
    assert_eq!(cluster.zookeeper.broker_epoch(1), Some(epoch));
}

/// Signals that end a broker, however they are sent, leave no registration and no guardian behind.
#[test]
fn a_stopped_broker_is_gone_at_once() {
    let mut cluster = Cluster::start(1, ZooKeeper::inside(), &LONG_SESSION);
    for signal in [Signal::TERM, Signal::INT, Signal::ABORT, Signal::HUP] {
        let guardians = cluster.broker(1).children();
        assert_eq!(guardians.len(), 1, "{signal:?}");
        let sent = Instant::now();
        cluster.broker(1).signal(signal);
        cluster.broker(1).ended();
        eventually("no registration", || registered(&cluster).is_empty().then_some(()));
        assert!(sent.elapsed() < SOON, "{signal:?}: {:?}", sent.elapsed());
        let gone = |pid: &u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
        eventually("no guardian", || guardians.iter().all(gone).then_some(()));
        cluster.restart(1);
    }
}

#[test]
fn three_brokers_share_the_zookeeper_inside_the_first() {
    let mut cluster = Cluster::start_on_embedded(3, &LONG_SESSION);
    cluster.controller_client().create_assigned("t", &[&[1, 2], &[2, 3], &[3, 1]], &[]).expect("created");
    let in_sync = |cluster: &Cluster| (0..3).all(|at| cluster.partition_state("t", at).2.len() == 2);
    eventually("all in sync", || in_sync(&cluster).then_some(()));
    // The others live on while the first one, and ZooKeeper with it, is away.
    let epochs = [2, 3].map(|id| cluster.zookeeper.broker_epoch(id));
    assert!(cluster.stop(1).success());
    assert_eq!(cluster.client(2).leaders("t").expect("metadata").len(), 3);
    cluster.restart(1);
    eventually("all in sync again", || in_sync(&cluster).then_some(()));
    assert_eq!([2, 3].map(|id| cluster.zookeeper.broker_epoch(id)), epochs);
}
