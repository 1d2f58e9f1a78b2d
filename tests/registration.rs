//! Registration, configurations and the session against a ZooKeeper server.

use ottla::base::{BrokerId, time::wall_ms};
use ottla::config::{BrokerConfig, Endpoint};
use ottla::controller::channel::Sent;
use ottla::controller::{Channels, ControlChannel, ControlRequest, ControllerHandle, Settings};
use ottla::zookeeper::embedded::{self, EmbeddedConfig};
use ottla::zookeeper::paths::{self, BrokerInfo, ConfigEntity, EntityConfig};
use ottla::zookeeper::registration::{self, Leftover, Registrar, RegistrationError};
use ottla::zookeeper::{CreateMode, SessionEvent, Write, Zk, ZkConfig, ZkError, configs};
use std::sync::Arc;
use std::time::Duration;

/// A ZooKeeper server for one test; it ends with the test.
struct Server {
    address: String,
    _server: embedded::Server,
    _dir: tempfile::TempDir,
}

async fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config =
        EmbeddedConfig { address: "127.0.0.1".into(), port: 0, tick_time_ms: 300, ..EmbeddedConfig::new(dir.path()) };
    let server = embedded::Server::start(config).await.expect("a ZooKeeper server");
    Server { address: server.local_addr().to_string(), _server: server, _dir: dir }
}

async fn connect_with(server: &Server, chroot: &str, session_ms: u64) -> Zk {
    let config = ZkConfig {
        connect: format!("{}{chroot}", server.address),
        session_timeout: Duration::from_millis(session_ms),
        connection_timeout: Duration::from_secs(10),
        ..ZkConfig::default()
    };
    Zk::connect(config).await.expect("connected")
}

async fn connect(server: &Server, chroot: &str) -> Zk {
    connect_with(server, chroot, 10_000).await
}

/// Ends the session as its expiry would.
async fn end_session(server: &Server, zk: &Zk) {
    let config = ZkConfig { connect: server.address.clone(), ..ZkConfig::default() };
    let ended = ottla::zookeeper::end_session(config, zk.session_key().await.unwrap()).await.unwrap();
    assert_eq!(ended, ottla::zookeeper::Ended::Now);
}

fn info(port: u16) -> BrokerInfo {
    let listener = Endpoint {
        listener: "PLAINTEXT".into(),
        host: "localhost".into(),
        port,
        security_protocol: "PLAINTEXT".into(),
    };
    let config = BrokerConfig { advertised_listeners: vec![listener], ..BrokerConfig::default() };
    registration::broker_info(&config, wall_ms())
}

const WAIT: Leftover = Leftover::Wait(Duration::from_secs(20));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_registers_as_kafka_does() {
    let server = server().await;
    let zk = connect(&server, "").await;
    registration::create_persistent_paths(&zk).await.unwrap();
    registration::create_persistent_paths(&zk).await.unwrap();
    for path in paths::PERSISTENT {
        assert!(zk.exists(path).await.unwrap().is_some(), "{path}");
    }
    let cluster = registration::cluster_id(&zk).await.unwrap();
    assert_eq!(cluster.len(), 22);
    assert_eq!(registration::cluster_id(&zk).await.unwrap(), cluster);
    assert_eq!(registration::generate_broker_id(&zk, 1000).await.unwrap(), BrokerId(1001));
    assert_eq!(registration::generate_broker_id(&zk, 1000).await.unwrap(), BrokerId(1002));
    registration::check_features(&zk).await.unwrap();

    let epoch = registration::register(&zk, BrokerId(1), &info(9092), None, WAIT).await.unwrap();
    let (data, stat) = zk.get("/brokers/ids/1").await.unwrap().unwrap();
    assert_eq!((stat.czxid, stat.version), (epoch.0, 1));
    assert_eq!(stat.owner, zk.session_id().await.unwrap());
    assert_eq!(BrokerInfo::parse(&data).unwrap().endpoints, info(9092).endpoints);
    // Registering again in the same session finds the own znode.
    assert_eq!(registration::register(&zk, BrokerId(1), &info(9092), None, WAIT).await.unwrap(), epoch);

    let block = registration::allocate_producer_id_block(&zk, BrokerId(1)).await.unwrap();
    assert_eq!((block.first, block.last), (0, 999));
    let block = registration::allocate_producer_id_block(&zk, BrokerId(1)).await.unwrap();
    assert_eq!((block.first, block.last), (1000, 1999));
    zk.close().await;
    assert_eq!(zk.get("/controller").await, Err(ZkError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_and_endpoints_of_others_are_refused() {
    let server = server().await;
    let (one, two) = (connect(&server, "").await, connect(&server, "").await);
    registration::create_persistent_paths(&one).await.unwrap();
    registration::register(&one, BrokerId(1), &info(9092), None, WAIT).await.unwrap();
    let taken = registration::register(&two, BrokerId(1), &info(9093), None, WAIT).await.unwrap_err();
    assert!(matches!(&taken, RegistrationError::BrokerIdTaken { .. }), "{taken}");
    assert!(taken.to_string().contains("localhost:9092"), "{taken}");
    let taken = registration::register(&two, BrokerId(2), &info(9092), None, WAIT).await.unwrap_err();
    assert!(taken.to_string().contains("advertised by broker 1"), "{taken}");
    registration::register(&two, BrokerId(2), &info(9093), None, WAIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_run_left_is_waited_for_or_removed() {
    let server = server().await;
    let (old, new) = (connect(&server, "").await, connect(&server, "").await);
    registration::create_persistent_paths(&old).await.unwrap();
    let first = registration::register(&old, BrokerId(1), &info(9092), None, WAIT).await.unwrap();
    old.create("/controller", b"{}", CreateMode::Ephemeral).await.unwrap();
    let waiting = tokio::spawn({
        let new = new.clone();
        async move { registration::register(&new, BrokerId(1), &info(9092), None, WAIT).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    old.close().await;
    let second = waiting.await.unwrap().unwrap();
    assert!(second > first);

    let third = connect(&server, "").await;
    new.create("/controller", b"{}", CreateMode::Ephemeral).await.unwrap();
    let epoch = registration::register(&third, BrokerId(1), &info(9092), None, Leftover::Remove).await.unwrap();
    assert!(epoch > second);
    assert_eq!(third.exists("/controller").await.unwrap(), None);
}

/// KAFKA-5473, KAFKA-7165: the new session is there before ZooKeeper has ended the old one of this process. Its registration, and the
/// office that went with it, are taken down at once; nobody waits, and nobody gives up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_7165_what_the_previous_session_of_this_process_left_is_replaced() {
    let server = server().await;
    let (old, new) = (connect(&server, "").await, connect(&server, "").await);
    registration::create_persistent_paths(&old).await.unwrap();
    let first = registration::register(&old, BrokerId(1), &info(9092), None, WAIT).await.unwrap();
    old.create("/controller", b"{}", CreateMode::Ephemeral).await.unwrap();
    let previous = old.session_id().await.unwrap();
    let at_once = Leftover::Wait(Duration::ZERO);
    let second = registration::register(&new, BrokerId(1), &info(9092), Some(previous), at_once).await.unwrap();
    assert!(second > first);
    let (_, stat) = new.get("/brokers/ids/1").await.unwrap().unwrap();
    assert_eq!((stat.owner, stat.czxid), (new.session_id().await.unwrap(), second.0));
    assert_eq!(new.exists("/controller").await.unwrap(), None);
    // The end of the old session takes nothing away.
    old.close().await;
    assert_eq!(new.get("/brokers/ids/1").await.unwrap().unwrap().1.czxid, second.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_chroots_are_two_clusters() {
    let server = server().await;
    let (a, b) = (connect(&server, "/deep/a").await, connect(&server, "/deep/b/").await);
    for zk in [&a, &b] {
        registration::create_persistent_paths(zk).await.unwrap();
        registration::register(zk, BrokerId(1), &info(9092), None, WAIT).await.unwrap();
    }
    let ids = (registration::cluster_id(&a).await.unwrap(), registration::cluster_id(&b).await.unwrap());
    assert_ne!(ids.0, ids.1);
    let mut root = connect(&server, "").await.children("/deep").await.unwrap();
    root.sort();
    assert_eq!(root, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_followed_by_a_registration_with_a_new_epoch() {
    let server = server().await;
    let zk = connect(&server, "").await;
    registration::create_persistent_paths(&zk).await.unwrap();
    let mut events = zk.events();
    let registrar = Registrar::start(&zk, BrokerId(1), info(9092), WAIT).await.unwrap();
    let (first, session) = (registrar.epoch(), zk.session_id().await.unwrap());
    let mut epochs = registrar.subscribe();
    end_session(&server, &zk).await;
    tokio::time::timeout(Duration::from_secs(30), epochs.changed()).await.expect("registered again").unwrap();
    assert!(registrar.epoch() > first);
    assert_ne!(zk.session_id().await.unwrap(), session);
    assert_eq!(events.recv().await.unwrap(), SessionEvent::Expired);
    assert_eq!(events.recv().await.unwrap(), SessionEvent::Established { generation: 2 });
    let (_, stat) = zk.get("/brokers/ids/1").await.unwrap().unwrap();
    assert_eq!(stat.czxid, registrar.epoch().0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_are_written_fenced_and_heard_of() {
    let server = server().await;
    let zk = connect(&server, "").await;
    registration::create_persistent_paths(&zk).await.unwrap();
    let topic = ConfigEntity::Topic("t".into());
    let config = |value: &str| EntityConfig([("retention.ms".to_owned(), value.to_owned())].into());
    assert!(configs::write(&zk, &topic, &config("1")).await.is_err(), "there is no controller yet");
    let controller = br#"{"version":2,"brokerid":1,"timestamp":"1","kraftControllerEpoch":-1}"#;
    zk.create(paths::CONTROLLER, controller, CreateMode::Ephemeral).await.unwrap();
    configs::write(&zk, &topic, &config("1")).await.unwrap();

    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let task = configs::listen(zk.clone(), move |entity, config| {
        let _ = sender.send((entity, config));
    });
    assert_eq!(heard.recv().await, Some((topic.clone(), config("1"))));
    let user = ConfigEntity::User(Some("al ice*".into()));
    configs::write(&zk, &user, &config("2")).await.unwrap();
    assert_eq!(heard.recv().await, Some((user, config("2"))));
    configs::write(&zk, &topic, &config("3")).await.unwrap();
    assert_eq!(heard.recv().await, Some((topic.clone(), config("3"))));
    assert_eq!(configs::read_all_topics(&zk).await.unwrap()["t"], config("3"));
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_refuses_and_watches_fire() {
    let server = server().await;
    let zk = connect(&server, "").await;
    zk.create("/epoch", b"0", CreateMode::Persistent).await.unwrap();
    zk.set("/epoch", b"1", None).await.unwrap();
    let fenced = zk.multi(vec![Write::check("/epoch", 0), Write::create("/x", "")]).await.unwrap_err();
    assert!(fenced.is_fenced(), "{fenced}");
    zk.multi(vec![Write::check("/epoch", 1), Write::create("/x", "")]).await.unwrap();
    let again = zk.multi(vec![Write::check("/epoch", 1), Write::create("/x", "")]).await.unwrap_err();
    assert_eq!(again, ZkError::Multi { index: 1, error: Box::new(ZkError::NodeExists) });

    let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let watches = Arc::new(ottla::zookeeper::Watches::new(sender));
    let reads = [ottla::zookeeper::Operation::get_and_watch("/x")];
    for _ in 0..2 {
        assert!(zk.run(&reads, Some(&watches)).await.iter().all(Result::is_ok));
    }
    zk.set("/x", b"new", None).await.unwrap();
    assert_eq!(changes.recv().await.map(|changed| changed.path), Some("/x".to_owned()));
    zk.set("/x", b"newer", None).await.unwrap();
    zk.exists("/x").await.unwrap();
    assert!(changes.try_recv().is_err(), "a watch fires once");
}

/// Brokers that answer nothing: only the election matters here.
struct Deaf;

impl Channels for Deaf {
    fn open(&self, _broker: BrokerId, _info: &BrokerInfo) -> Arc<dyn ControlChannel> {
        Arc::new(Deaf)
    }
}

impl ControlChannel for Deaf {
    fn send(&self, _request: ControlRequest) -> Sent {
        Box::pin(std::future::pending())
    }
}

async fn candidate(zk: &Zk, id: i32) -> (Registrar, ControllerHandle) {
    let registrar = Registrar::start(zk, BrokerId(id), info(9090 + id as u16), WAIT).await.unwrap();
    let settings = Settings {
        broker: BrokerId(id),
        inter_broker_listener: "PLAINTEXT".into(),
        delete_topic_enable: true,
        unclean_leader_election: false,
        leader_recovery: true,
        auto_rebalance: None,
    };
    let handle = ControllerHandle::start(zk, &registrar, settings, Arc::new(Deaf));
    (registrar, handle)
}

/// Waits until the broker is the controller of this epoch.
async fn elected(handle: &ControllerHandle, epoch: i32) {
    let mut state = handle.subscribe();
    let waiting = state.wait_for(|state| state.active.is_some_and(|active| active.0 == epoch));
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await.map(drop);
    assert!(waited.is_ok(), "not the controller of epoch {epoch} in time: {:?}", handle.state());
}

/// Waits until the broker knows that another one is the controller.
async fn follows(handle: &ControllerHandle, controller: i32) {
    let mut state = handle.subscribe();
    let waiting = state.wait_for(|state| state.active.is_none() && state.broker == Some(BrokerId(controller)));
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await.map(drop);
    assert!(waited.is_ok(), "broker {controller} is not its controller in time: {:?}", handle.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_brokers_one_is_the_controller_and_the_other_its_heir() {
    let server = server().await;
    let (zk1, zk2) = (connect(&server, "").await, connect(&server, "").await);
    registration::create_persistent_paths(&zk1).await.unwrap();
    let (_registrar1, first) = candidate(&zk1, 1).await;
    elected(&first, 1).await;
    let (_registrar2, second) = candidate(&zk2, 2).await;
    follows(&second, 1).await;
    // The first loses its session, and with it the office. Both run for it then, the first as soon as it is registered anew.
    end_session(&server, &zk1).await;
    let first_again = tokio::select! {
        () = elected(&first, 2) => true,
        () = elected(&second, 2) => false,
    };
    let (winner, winner_zk, heir) = if first_again { (&first, &zk1, &second) } else { (&second, &zk2, &first) };
    follows(heir, if first_again { 1 } else { 2 }).await;
    assert_eq!(winner_zk.get("/controller_epoch").await.unwrap().unwrap().0, b"2");
    // The winner stops.
    winner.stop().await;
    winner_zk.close().await;
    elected(heir, 3).await;
}
