//! Brokers that log in to a stock ZooKeeper and guard their znodes.

mod common;

use common::Broker;
use common::cluster::eventually;
use common::free_port;
use ottla::config::jaas::Login;
use ottla::config::zookeeper::ZookeeperSecurity;
use ottla::zookeeper::{Zk, ZkConfig, ZkError, ZkSecurity};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A stock server with settings of its own.
struct Stock {
    port: u16,
    child: Child,
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stock {
    fn start(dir: &Path, port: u16, settings: &str, options: &[String]) -> Stock {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let default = || root.join("target/kafka-3.9.2/libs");
        let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or_else(default, PathBuf::from);
        assert!(libs.is_dir(), "{} is missing: run scripts/kafka libs once, or set OTTLA_KAFKA_LIBS", libs.display());
        let config = dir.join("zoo.cfg");
        let text = format!(
            "dataDir={}\ntickTime=500\nmaxSessionTimeout=120000\nadmin.enableServer=false\n{settings}",
            dir.join("data").display()
        );
        fs::write(&config, text).expect("zoo.cfg");
        let log = File::create(dir.join("zookeeper.log")).expect("zookeeper.log");
        let child = Command::new("java")
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .args(options)
            .arg("-cp")
            .arg(format!("{}/*", libs.display()))
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(config)
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("java runs");
        let stock = Stock { port, child };
        eventually("the stock ZooKeeper listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        stock
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn connect(connect: &str, security: &ZookeeperSecurity) -> Result<Zk, ZkError> {
    let security = ZkSecurity::open(security)?;
    let timeout = Duration::from_secs(10);
    let config = ZkConfig { connect: connect.into(), security, connection_timeout: timeout, session_timeout: timeout };
    Zk::connect(config).await
}

/// Longer than the test waits for the guardian to end the session.
const SESSION: (&str, &str) = ("zookeeper.session.timeout.ms", "60000");
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_broker_logs_in_and_its_znodes_are_its_own() {
    let dir = tempfile::tempdir().expect("temp folder");
    let (server, client, wrong) = (dir.path().join("server.conf"), dir.path().join("client"), dir.path().join("wrong"));
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    fs::write(&server, format!("Server {{ {module} user_broker=\"it's \\\"secret\\\"\"; }};")).expect("written");
    let login = |password: &str| format!("Client {{ {module} username=\"broker\" password=\"{password}\"; }};");
    fs::write(&client, login("it's \\\"secret\\\"")).expect("written");
    fs::write(&wrong, login("guessed")).expect("written");
    let port = free_port();
    let stock = Stock::start(
        dir.path(),
        port,
        &format!(
            "clientPort={port}\nclientPortAddress=127.0.0.1\n\
             authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n"
        ),
        &[format!("-Djava.security.auth.login.config={}", server.display())],
    );
    let address = format!("127.0.0.1:{}", stock.port);
    let options = |file: &Path| format!("-Djava.security.auth.login.config={}", file.display());
    let chroot = format!("{address}/guarded/cluster");
    let properties = [("zookeeper.connect", chroot.as_str()), ("zookeeper.set.acl", "true"), SESSION];

    let mut stranger = Broker::prepare(&properties);
    stranger.set_environment("KAFKA_OPTS", &options(&wrong));
    stranger.spawn();
    assert!(!stranger.ended().success());
    assert!(stranger.log().contains("refuses user broker"), "{}", stranger.log());

    let mut broker = Broker::prepare(&properties);
    broker.set_environment("KAFKA_OPTS", &options(&client));
    broker.restart();
    broker.client().create_topic("t", 1, &[]).expect("created");

    let runtime = runtime();
    let anybody = runtime.block_on(connect(&chroot, &ZookeeperSecurity::default())).expect("connected");
    let read = |path: &'static str| runtime.block_on(anybody.get(path));
    assert!(read("/brokers/topics/t").expect("all may read").is_some());
    assert_eq!(read("/config/users"), Err(ZkError::NoAuth), "secrets");
    assert_eq!(runtime.block_on(anybody.set("/brokers/topics/t", b"", None)), Err(ZkError::NoAuth));
    assert!(runtime.block_on(anybody.create_with_parents("/consumers/old", b"")).is_ok(), "open to all");
    let login = Some(Login { username: "broker".into(), password: "it's \"secret\"".into() });
    let security = ZookeeperSecurity { login, ..ZookeeperSecurity::default() };
    let owner = runtime.block_on(connect(&chroot, &security)).expect("logged in");
    assert!(runtime.block_on(owner.get("/config/users")).expect("the owner's").is_some());

    // The guardian logs in too.
    let killed = Instant::now();
    broker.kill();
    eventually("the registration is gone", || read("/brokers/ids/0").expect("an answer").is_none().then_some(()));
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
}
