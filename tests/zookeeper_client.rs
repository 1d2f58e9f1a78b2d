//! The client of ZooKeeper through lost connections and servers that come back.

mod common;

use common::free_port;
use ottla::zookeeper::embedded::{EmbeddedConfig, Server};
use ottla::zookeeper::{Answer, Changed, Operation, Watches, Zk, ZkConfig, ZkError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

async fn server(dir: &Path, port: u16) -> Server {
    let config = EmbeddedConfig { address: "127.0.0.1".into(), port, ..EmbeddedConfig::new(dir) };
    Server::start(config).await.expect("a ZooKeeper server")
}

/// One of the servers does not exist; the ensemble is used all the same.
async fn client(port: u16, chroot: &str) -> Zk {
    let connect = format!("127.0.0.1:{},127.0.0.1:{port}{chroot}", free_port());
    Zk::connect(ZkConfig { connect, ..ZkConfig::default() }).await.expect("connected")
}

async fn next(changes: &mut mpsc::UnboundedReceiver<Changed>) -> Changed {
    tokio::time::timeout(Duration::from_secs(30), changes.recv()).await.expect("a change in time").expect("a change")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_live_through_a_lost_connection_and_fire_for_what_was_missed() {
    let (dir, port) = (tempfile::tempdir().expect("temp folder"), free_port());
    let first = server(dir.path(), port).await;
    let zk = client(port, "/chroot").await;
    for path in ["/data", "/gone", "/children", "/still"] {
        zk.create_with_parents(path, b"1").await.expect("created");
    }
    let (sender, mut changes) = mpsc::unbounded_channel();
    let watches = Arc::new(Watches::new(sender));
    let reads = [
        Operation::get_and_watch("/data"),
        Operation::exists_and_watch("/gone"),
        Operation::exists_and_watch("/absent"),
        Operation::children_and_watch("/children"),
        Operation::get_and_watch("/still"),
    ];
    assert!(zk.run(&reads, Some(&watches)).await.iter().all(Result::is_ok));
    first.shutdown().await;
    let second = server(dir.path(), port).await;
    // Another client changes things, perhaps before the first one is back, perhaps after.
    let other = client(port, "/chroot").await;
    other.set("/data", b"2", None).await.expect("set");
    other.delete("/gone", None).await.expect("deleted");
    other.create_with_parents("/absent", b"").await.expect("created");
    other.create_with_parents("/children/c", b"").await.expect("created");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let Changed { path, children } = next(&mut changes).await;
        seen.push((path, children));
    }
    seen.sort();
    let wanted = [("/absent", false), ("/children", true), ("/data", false), ("/gone", false)];
    assert_eq!(seen, wanted.map(|(path, children)| (path.to_owned(), children)));
    assert!(changes.try_recv().is_err(), "each fires once, and what did not change does not");
    other.set("/still", b"2", None).await.expect("set");
    assert_eq!(next(&mut changes).await.path, "/still");
    assert!(zk.close().await && other.close().await);
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_while_the_server_is_away_is_answered_when_it_is_back() {
    let (dir, port) = (tempfile::tempdir().expect("temp folder"), free_port());
    let first = server(dir.path(), port).await;
    let zk = client(port, "").await;
    let session = zk.session_id().await.expect("a session");
    first.shutdown().await;
    let asking = {
        let zk = zk.clone();
        tokio::spawn(async move { zk.create_with_parents("/a/b", b"x").await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asking.is_finished());
    let second = server(dir.path(), port).await;
    assert_eq!(asking.await.expect("a task"), Ok(()));
    assert_eq!(zk.session_id().await, Ok(session), "the session was resumed");
    // More than one message holds, all on the way at once.
    let many: Vec<Operation> = (0..3000).map(|_| Operation::get("/a/b")).collect();
    assert!(zk.run(&many, None).await.iter().all(|answer| matches!(answer, Ok(Answer::Data(data, _)) if data == b"x")));
    assert!(zk.close().await);
    assert_eq!(zk.get("/a/b").await, Err(ZkError::Closed));
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_cannot_be_is_one_line_that_says_so() {
    let nobody = ZkConfig {
        connect: format!("127.0.0.1:{}", free_port()),
        connection_timeout: Duration::from_millis(300),
        ..ZkConfig::default()
    };
    assert!(matches!(Zk::connect(nobody).await.map(drop), Err(ZkError::ConnectTimeout { .. })));
    let odd = ZkConfig { connect: "/only/a/chroot".into(), ..ZkConfig::default() };
    assert!(matches!(Zk::connect(odd).await.map(drop), Err(ZkError::ConnectString { .. })));
}
