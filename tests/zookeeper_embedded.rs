//! The embedded ZooKeeper server under a real client, and under what no real client sends.

#[path = "common/zookeeper_hostile.rs"]
mod hostile;
#[path = "common/zookeeper_raw.rs"]
mod raw;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_letter_words_are_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let client = connect(&server).await;
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    client.create("/e", b"", &ephemeral).await.expect("create");
    let (_, _, _watch) = client.get_and_watch_data("/e").await.expect("get");
    let session = format!("0x{:x}", client.session_id().0);
    let address = server.local_addr();
    let ask = async |word: &'static str| {
        let answer = tokio::task::spawn_blocking(move || raw::four_letters(address, word)).await;
        answer.expect("the word is sent").expect("an answer")
    };
    assert_eq!(ask("ruok").await, "imok");
    assert_eq!(ask("ruok\n").await, "imok");
    assert_eq!(ask("isro").await, "rw");
    let port = format!("clientPort={}\n", address.port());
    let cases: [(&str, &[&str]); 12] = [
        ("srvr", &["Zookeeper version: 3.8.4", "\nMode: standalone\n", "\nNode count: 6\n", "\nZxid: 0x2\n"]),
        ("stat", &["\nClients:\n /127.0.0.1:", "](queued=0,recved=", "\nConnections: 2\n"]),
        (
            "mntr",
            &["zk_version\t3.8.4", "zk_server_state\tstandalone\n", "zk_ephemerals_count\t1\n", "zk_watch_count\t1\n"],
        ),
        ("conf", &[&port, "tickTime=2000\n", "minSessionTimeout=4000\n", "maxSessionTimeout=40000\n"]),
        ("cons", &[&format!(",sid={session},lop=GETD,"), ",to=6000,"]),
        (
            "dump",
            &["Session Sets (1)/(1):\n1 expire at ", &format!("\n{session}:\n\t/e\n"), "Connections Sets (1)/(1)"],
        ),
        ("wchs", &["1 connections watching 1 paths\nTotal watches:1\n"]),
        ("wchc", &[&format!("{session}\n\t/e\n")]),
        ("wchp", &[&format!("/e\n\t{session}\n")]),
        ("envi", &["Environment:\nzookeeper.version=3.8.4"]),
        ("dirs", &["datadir_size: ", "logdir_size: "]),
        ("srst", &["Server stats reset.\n"]),
    ];
    for (word, parts) in cases {
        let answer = ask(word).await;
        for part in parts {
            assert!(answer.contains(part), "{word}: no {part:?} in {answer}");
        }
    }
    server.shutdown().await;
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bytes_harm_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let client = connect(&server).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/good", b"", &open).await.expect("create");
    let before = resident();
    let address = server.local_addr();
    let attack = tokio::task::spawn_blocking(move || hostile::attack(address));
    let mut version = 0;
    while !attack.is_finished() {
        version = client.set_data("/good", b"still here", Some(version)).await.expect("set").version;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let held = attack.await.expect("the attack ends");
    assert!(held.frames >= 500, "only {} frames", held.frames);
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    let (children, _) = client.get_children("/").await.expect("children");
    assert_eq!(children, ["good", "zookeeper"]);
    drop(held);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_are_limited() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig {
        port: 0,
        address: "127.0.0.1".to_owned(),
        max_client_cnxns: 2,
        ..EmbeddedConfig::new(dir.path())
    };
    let server = Server::start(config).await.expect("the server starts");
    let address = server.local_addr();
    let connect = move || {
        let first = raw::Raw::connect(address, 6000);
        let second = raw::Raw::connect(address, 6000);
        assert!(raw::Raw::resume(address, 6000, 0, &[], 0).is_none(), "a third connection");
        drop((first, second));
    };
    tokio::task::spawn_blocking(connect).await.expect("two connections");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_its_client_is_silent() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig {
        port: 0,
        address: "127.0.0.1".to_owned(),
        tick_time_ms: 50,
        max_session_timeout_ms: Some(60_000),
        ..EmbeddedConfig::new(dir.path())
    };
    let server = Server::start(config).await.expect("the server starts");
    let watcher = connect(&server).await;
    let address = server.local_addr();
    let silent = tokio::task::spawn_blocking(move || {
        let mut silent = raw::Raw::connect(address, 2000);
        let create =
            raw::body(|to| to.string("/e").buffer(None).i32(1).i32(31).string("world").string("anyone").i32(1));
        silent.ask(1, &create).expect("create");
        silent
    });
    let mut silent = silent.await.expect("a client");
    let (_, gone) = watcher.check_and_watch_stat("/e").await.expect("exists");
    assert_eq!(gone.changed().await.event_type, EventType::NodeDeleted);
    let end = tokio::task::spawn_blocking(move || {
        let resumed = raw::Raw::resume(address, 2000, silent.session, &silent.password, 0);
        (silent.receive(), resumed.is_none())
    });
    assert_eq!(end.await.expect("an end"), (None, true));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_does_not_cut_a_live_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path()).await;
    let address = server.local_addr();
    let steal = move || {
        let mut owner = raw::Raw::connect(address, 6000);
        assert!(raw::Raw::resume(address, 6000, owner.session, &[7; 16], 0).is_none());
        assert!(owner.ask(11, &[]).is_ok(), "the owner goes on");
        let mut mover = raw::Raw::resume(address, 6000, owner.session, &owner.password, 0).expect("it moves");
        assert!(owner.receive().is_none(), "the old connection ends");
        assert!(mover.ask(11, &[]).is_ok());
        assert!(raw::Raw::resume(address, 6000, 0, &[], 1 << 40).is_none(), "a client from the future");
    };
    tokio::task::spawn_blocking(steal).await.expect("no theft");
    server.shutdown().await;
}
