//! A running broker whose ZooKeeper goes away, comes back, or has given its session up.

mod common;

use common::Broker;
use ottla::zookeeper::embedded::{EmbeddedConfig, Server};
use ottla::zookeeper::{Zk, ZkConfig};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

async fn zookeeper(dir: &std::path::Path, port: u16) -> Server {
    let config = EmbeddedConfig { address: "127.0.0.1".into(), port, tick_time_ms: 200, ..EmbeddedConfig::new(dir) };
    Server::start(config).await.expect("a ZooKeeper server")
}

async fn client(port: u16) -> Zk {
    let config = ZkConfig {
        connect: format!("127.0.0.1:{port}"),
        session_timeout: Duration::from_secs(4),
        connection_timeout: Duration::from_secs(20),
        ..ZkConfig::default()
    };
    Zk::connect(config).await.expect("connected")
}

/// Waits for a condition that is asked for again and again.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, broker: &Broker, ask: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}\n{}", broker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn epoch(zk: &Zk) -> Option<i64> {
    zk.get("/brokers/ids/0").await.expect("an answer").map(|(_, stat)| stat.czxid)
}

fn start(port: u16, chroot: &str) -> Broker {
    let connect = format!("127.0.0.1:{port}{chroot}");
    Broker::start(&[("zookeeper.connect", &connect), ("zookeeper.session.timeout.ms", "2000")])
}

/// Creates a topic and waits for its leader: the whole way through the controller, which may be about to be elected.
fn create(broker: &Broker, topic: &str) {
    let deadline = Instant::now() + PATIENCE;
    while broker.client().leaders(topic).expect("metadata") != [0] {
        let _ = broker.client().create_topic(topic, 1, &[]);
        assert!(Instant::now() < deadline, "no leader of {topic}\n{}", broker.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_registers_again_with_a_new_epoch() {
    let dir = tempfile::tempdir().expect("temp folder");
    let port = common::free_port();
    let _server = zookeeper(dir.path(), port).await;
    let broker = start(port, "");
    create(&broker, "before");
    let zk = client(port).await;
    let first = epoch(&zk).await.expect("registered");
    let pid = Pid::from_raw(broker.pid() as i32).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stopped");
    until("the session expires", &broker, || async { epoch(&zk).await.is_none().then_some(()) }).await;
    assert_eq!(zk.get("/controller").await, Ok(None));
    kill_process(pid, Signal::CONT).expect("goes on");
    let second = until("a new registration", &broker, || epoch(&zk)).await;
    assert!(second > first);
    until("a new election", &broker, || async { zk.get("/controller").await.expect("an answer") }).await;
    assert_eq!(zk.get("/controller_epoch").await.expect("an answer").expect("a znode").0, b"2");
    create(&broker, "after");
    assert_eq!(broker.client().leaders("before").expect("metadata"), [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zookeeper_that_was_away_longer_than_the_session_costs_nothing() {
    let dir = tempfile::tempdir().expect("temp folder");
    let port = common::free_port();
    let server = zookeeper(dir.path(), port).await;
    let broker = start(port, "/a/chroot");
    create(&broker, "before");
    let epoch_before = {
        let zk = client(port).await;
        let (_, stat) = zk.get("/a/chroot/brokers/ids/0").await.expect("an answer").expect("registered");
        zk.close().await;
        stat.czxid
    };
    server.shutdown().await;
    // Longer than the session's time-out, and than the client's own patience.
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(4) {
        assert_eq!(broker.client().leaders("before").expect("metadata without ZooKeeper"), [0]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _server = zookeeper(dir.path(), port).await;
    create(&broker, "after");
    let zk = client(port).await;
    let (_, stat) = zk.get("/a/chroot/brokers/ids/0").await.expect("an answer").expect("registered");
    assert_eq!(stat.czxid, epoch_before, "the session was resumed\n{}", broker.log());
    assert_eq!(zk.get("/a/chroot/controller_epoch").await.expect("an answer").expect("a znode").0, b"1");
}
