//! The embedded ZooKeeper server under a real client.

use std::time::Duration;

use ottla::zookeeper::embedded::{EmbeddedConfig, Server};
use zookeeper_client::{Acls, Client, CreateMode, Error, EventType};

async fn start(dir: &std::path::Path) -> Server {
    let config = EmbeddedConfig { port: 0, address: "127.0.0.1".to_owned(), ..EmbeddedConfig::new(dir) };
    Server::start(config).await.expect("the server starts")
}

async fn connect(server: &Server) -> Client {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(6));
    connector.connect(&server.local_addr().to_string()).await.expect("a client connects")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_creates_reads_changes_and_deletes() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let client = connect(&server).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let (created, _) = client.create("/a", b"one", &open).await.expect("create");
    assert_eq!(client.create("/a", b"", &open).await.err(), Some(Error::NodeExists));
    assert_eq!(client.create("/x/y", b"", &open).await.err(), Some(Error::NoNode));
    let (data, stat) = client.get_data("/a").await.expect("get");
    assert_eq!((data.as_slice(), stat), (&b"one"[..], created));
    let stat = client.set_data("/a", b"two", Some(0)).await.expect("set");
    assert_eq!(stat.version, 1);
    assert_eq!(client.set_data("/a", b"three", Some(0)).await.err(), Some(Error::BadVersion));
    client.create("/a/b", b"", &open).await.expect("create below");
    let (children, stat) = client.get_children("/a").await.expect("children");
    assert_eq!((children, stat.num_children, stat.cversion), (vec!["b".to_owned()], 1, 1));
    assert_eq!(client.delete("/a", None).await.err(), Some(Error::NotEmpty));
    client.delete("/a/b", None).await.expect("delete");
    client.delete("/a", Some(1)).await.expect("delete");
    assert_eq!(client.check_stat("/a").await.expect("exists"), None);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_fire_and_ephemerals_go_with_their_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let (owner, watcher) = (connect(&server).await, connect(&server).await);
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    owner.create("/e", b"", &ephemeral).await.expect("create");
    let (stat, deleted) = watcher.check_and_watch_stat("/e").await.expect("exists");
    assert_eq!(stat.expect("it is there").ephemeral_owner, owner.session_id().0);
    drop(owner);
    let event = deleted.changed().await;
    assert_eq!((event.event_type, event.path.as_str()), (EventType::NodeDeleted, "/e"));
    assert_eq!(watcher.check_stat("/e").await.expect("exists"), None);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multi_does_all_or_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let client = connect(&server).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let mut writer = client.new_multi_writer();
    writer.add_create("/m", b"x", &open).expect("add");
    writer.add_set_data("/m", b"y", Some(0)).expect("add");
    let results = writer.commit().await.expect("commit");
    assert_eq!(results.len(), 2);
    let mut writer = client.new_multi_writer();
    writer.add_create("/n", b"x", &open).expect("add");
    writer.add_check_version("/m", 7).expect("add");
    assert!(writer.commit().await.is_err());
    assert_eq!(client.check_stat("/n").await.expect("exists"), None);
    assert_eq!(client.get_data("/m").await.expect("get").0, b"y");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_znodes_and_sessions() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let detached = || Client::connector().with_session_timeout(Duration::from_secs(20)).with_detached();
    let client = detached().connect(&server.local_addr().to_string()).await.expect("a client connects");
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let sequential = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    client.create("/kept", b"data", &open).await.expect("create");
    client.create("/kept/e-", b"", &sequential).await.expect("create");
    let before = client.set_data("/kept", b"more", None).await.expect("set");
    let mut session = client.into_session();
    server.shutdown().await;
    for round in 0..3 {
        let server = start(dir.path()).await;
        let resumed = detached().with_session(session.clone());
        let client = resumed.connect(&server.local_addr().to_string()).await.expect("the session goes on");
        assert_eq!(client.session_id(), session.id());
        let (data, stat) = client.get_data("/kept").await.expect("get");
        assert_eq!((data.as_slice(), stat), (&b"more"[..], before), "round {round}");
        let (children, _) = client.get_children("/kept").await.expect("children");
        assert_eq!(children, ["e-0000000000"]);
        let (_, stat) = client.get_data("/kept/e-0000000000").await.expect("get");
        assert_eq!(stat.ephemeral_owner, session.id().0);
        session = client.into_session();
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_taken_and_old_files_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = |snap_count| EmbeddedConfig {
        port: 0,
        address: "127.0.0.1".to_owned(),
        snap_count,
        ..EmbeddedConfig::new(dir.path())
    };
    let server = Server::start(config(10)).await.expect("the server starts");
    let client = connect(&server).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    for n in 0..200 {
        client.create(&format!("/n{n}"), b"data", &open).await.expect("create");
    }
    drop(client);
    server.shutdown().await;
    let names = |kind: &str| {
        let files = std::fs::read_dir(dir.path().join("version-2")).expect("a directory");
        let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(kind)).count()
    };
    assert_eq!(names("snapshot."), 3);
    assert!((1..=30).contains(&names("log.")), "{} logs", names("log."));
    assert_eq!(names("ottla"), 0);
    let server = Server::start(config(10)).await.expect("the server starts again");
    let client = connect(&server).await;
    assert_eq!(client.count_descendants_number("/").await.expect("count"), 203);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_says_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let port = server.local_addr().port();
    let config = EmbeddedConfig { port: 0, address: "127.0.0.1".to_owned(), ..EmbeddedConfig::new(dir.path()) };
    let error = Server::start(config.clone()).await.err().expect("the directory is locked").to_string();
    assert!(error.contains("in use by another Ottla") && error.contains(&dir.path().display().to_string()), "{error}");
    let other = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig { port, data_dir: other.path().to_owned(), ..config };
    let error = Server::start(config).await.err().expect("the port is taken").to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("in use"), "{error}");
    assert!(!error.contains('\n'));
    server.shutdown().await;
}
