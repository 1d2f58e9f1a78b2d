//! Several broker processes on one ZooKeeper: each can be stopped, killed, frozen and started again on its own folder.
//!
//! Brokers are numbered from 1. The ZooKeeper is Ottla's own inside the test process (quick to start, stop and expire), the one
//! inside broker 1, or a stock ZooKeeper 3.8 of the jars (`OTTLA_KAFKA_LIBS`), which can be frozen too.

use super::{Broker, Client, free_port};
use ottla::zookeeper::embedded::{EmbeddedConfig, Server};
use ottla::zookeeper::operation::Stat;
use ottla::zookeeper::{Zk, ZkConfig};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Long enough for a debug build on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for something that is asked for again and again; says what never came.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same for a condition.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// A ZooKeeper server for a test, and a client of it.
pub struct ZooKeeper {
    port: u16,
    runtime: Runtime,
    kind: Kind,
    folder: tempfile::TempDir,
}

enum Kind {
    Inside(Option<Server>),
    Stock(Option<Child>),
    /// In a broker's process; nothing of it is ours.
    OfBroker,
}

impl ZooKeeper {
    /// The embedded server, in the process of the test. Sessions end quickly: a tick has 100 ms.
    pub fn inside() -> ZooKeeper {
        ZooKeeper::new(Kind::Inside(None), free_port())
    }

    /// ZooKeeper 3.8 from the jars of Apache Kafka, in a JVM.
    pub fn stock() -> ZooKeeper {
        ZooKeeper::new(Kind::Stock(None), free_port())
    }

    fn new(kind: Kind, port: u16) -> ZooKeeper {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let folder = tempfile::Builder::new().prefix("ottla-test-zk-").tempdir().expect("temp folder");
        let mut zookeeper = ZooKeeper { port, runtime: runtime.expect("a runtime"), kind, folder };
        zookeeper.start();
        zookeeper
    }

    /// Starts the stopped server again, on the same folder and port.
    pub fn start(&mut self) {
        let (port, dir) = (self.port, self.folder.path().to_owned());
        match &mut self.kind {
            Kind::Inside(server) => {
                let config = EmbeddedConfig {
                    address: "127.0.0.1".into(),
                    port,
                    tick_time_ms: 100,
                    max_session_timeout_ms: Some(120_000),
                    ..EmbeddedConfig::new(dir)
                };
                *server = Some(self.runtime.block_on(Server::start(config)).expect("a ZooKeeper server"));
            }
            Kind::Stock(child) => {
                *child = Some(stock_server(dir, port));
                eventually("the stock ZooKeeper listens", || TcpStream::connect(("127.0.0.1", port)).ok());
            }
            Kind::OfBroker => {}
        }
    }

    /// A clean end, as of a server that is restarted.
    pub fn stop(&mut self) {
        match &mut self.kind {
            Kind::Inside(server) => {
                if let Some(server) = server.take() {
                    self.runtime.block_on(server.shutdown());
                }
            }
            Kind::Stock(child) => {
                if let Some(mut child) = child.take() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            Kind::OfBroker => {}
        }
    }

    /// Stops (or lets go on) the process of a stock ZooKeeper without ending it.
    pub fn signal(&self, signal: Signal) {
        let Kind::Stock(Some(child)) = &self.kind else { panic!("only a stock ZooKeeper has a process of its own") };
        kill_process(Pid::from_child(child), signal).expect("signal");
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client with a session of its own; it belongs to the runtime of [`ZooKeeper::run`].
    pub fn connect(&self) -> Zk {
        let config = ZkConfig {
            connect: self.address(),
            session_timeout: Duration::from_secs(30),
            connection_timeout: PATIENCE,
            ..ZkConfig::default()
        };
        self.run(Zk::connect(config)).expect("connected to ZooKeeper")
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A znode as it is now.
    pub fn get(&self, path: &str) -> Option<(Vec<u8>, Stat)> {
        self.run(async {
            let zk = self.client().await;
            let found = zk.get(path).await.expect("an answer of ZooKeeper");
            zk.close().await;
            found
        })
    }

    pub fn json(&self, path: &str) -> Option<serde_json::Value> {
        self.get(path).map(|(data, _)| serde_json::from_slice(&data).expect("JSON in a znode"))
    }

    pub fn children(&self, path: &str) -> Vec<String> {
        self.run(async {
            let zk = self.client().await;
            let found = zk.children(path).await.expect("an answer of ZooKeeper");
            zk.close().await;
            found
        })
    }

    async fn client(&self) -> Zk {
        let config = ZkConfig {
            connect: self.address(),
            session_timeout: Duration::from_secs(10),
            connection_timeout: PATIENCE,
            ..ZkConfig::default()
        };
        Zk::connect(config).await.expect("connected to ZooKeeper")
    }

    /// The id of the controller's broker.
    pub fn controller(&self) -> Option<i32> {
        self.json("/controller").and_then(|json| json["brokerid"].as_i64()).map(|id| id as i32)
    }

    /// Epoch (czxid) of a registered broker.
    pub fn broker_epoch(&self, id: i32) -> Option<i64> {
        self.get(&format!("/brokers/ids/{id}")).map(|(_, stat)| stat.czxid)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stock_server(dir: PathBuf, port: u16) -> Child {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or_else(|| root.join("target/kafka-3.9.2/libs"), PathBuf::from);
    assert!(libs.is_dir(), "{} is missing: run scripts/kafka libs once, or set OTTLA_KAFKA_LIBS", libs.display());
    let config = dir.join("zoo.cfg");
    let text = format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\nmaxSessionTimeout=120000\nmaxClientCnxns=0\n\
         admin.enableServer=false\n4lw.commands.whitelist=*\n",
        dir.display()
    );
    fs::write(&config, text).expect("zoo.cfg");
    let log = File::options().create(true).append(true).open(dir.join("zookeeper.log")).expect("zookeeper.log");
    Command::new("java")
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp"])
        .arg(format!("{}/*", libs.display()))
        .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
        .arg(config)
        .stdout(log.try_clone().expect("second handle"))
        .stderr(log)
        .spawn()
        .expect("java runs")
}

/// Brokers 1 to N. They end with the test.
pub struct Cluster {
    brokers: Vec<Broker>,
    pub zookeeper: ZooKeeper,
}

impl Cluster {
    /// Starts `count` brokers on a ZooKeeper and waits until each of them knows all.
    pub fn start(count: i32, zookeeper: ZooKeeper, overrides: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::prepare(count, zookeeper, overrides);
        cluster.brokers.iter_mut().for_each(Broker::spawn);
        cluster.wait_for_members();
        cluster
    }

    /// The brokers' folders and properties; none is started.
    pub fn prepare(count: i32, zookeeper: ZooKeeper, overrides: &[(&str, &str)]) -> Cluster {
        let connect = zookeeper.address();
        let broker = |id: i32| {
            let id = id.to_string();
            let mut all = vec![("broker.id", id.as_str()), ("zookeeper.connect", connect.as_str())];
            all.extend(DEFAULTS);
            all.extend(overrides);
            Broker::prepare(&all)
        };
        Cluster { brokers: (1..=count).map(broker).collect(), zookeeper }
    }

    /// Broker 1 has the ZooKeeper inside; the others use it.
    pub fn start_on_embedded(count: i32, overrides: &[(&str, &str)]) -> Cluster {
        let mut first = vec![("broker.id", "1")];
        first.extend(DEFAULTS);
        first.extend(overrides);
        let mut first = Broker::prepare(&first);
        first.spawn();
        first.wait_until(|first| TcpStream::connect(("127.0.0.1", first.zk_port)).is_ok(), "open its ZooKeeper");
        let zookeeper = ZooKeeper::new(Kind::OfBroker, first.zk_port);
        let mut cluster = Cluster::prepare(count, zookeeper, overrides);
        cluster.brokers[0] = first;
        cluster.brokers[1..].iter_mut().for_each(Broker::spawn);
        cluster.wait_for_members();
        cluster
    }

    pub fn broker(&mut self, id: i32) -> &mut Broker {
        &mut self.brokers[id as usize - 1]
    }

    pub fn client(&self, id: i32) -> Client {
        Client::connect(self.brokers[id as usize - 1].port).expect("connection to the broker")
    }

    pub fn port(&self, id: i32) -> u16 {
        self.brokers[id as usize - 1].port
    }

    pub fn ids(&self) -> std::ops::RangeInclusive<i32> {
        1..=self.brokers.len() as i32
    }

    /// Waits until every running broker answers and knows every running broker.
    pub fn wait_for_members(&mut self) {
        let mut running: Vec<i32> = Vec::new();
        for (at, broker) in self.brokers.iter_mut().enumerate() {
            if broker.has_process() {
                running.push(at as i32 + 1);
            }
        }
        for id in running.clone() {
            let running = running.clone();
            let knows = move |broker: &Broker| {
                let known = Client::connect(broker.port).and_then(|mut client| client.brokers());
                known.is_ok_and(|known| running.iter().all(|id| known.iter().any(|(other, ..)| other == id)))
            };
            self.broker(id).wait_until(knows, "know all brokers of the cluster");
        }
    }

    /// A connection to the broker that is the controller.
    pub fn controller_client(&self) -> Client {
        self.client(eventually("a controller", || self.zookeeper.controller()))
    }

    /// Leader, leader epoch and ISR of a partition, as ZooKeeper has them.
    pub fn partition_state(&self, topic: &str, partition: i32) -> (i32, i32, Vec<i32>) {
        let path = format!("/brokers/topics/{topic}/partitions/{partition}/state");
        let json = eventually("the state of a partition", || self.zookeeper.json(&path));
        let number = |json: &serde_json::Value| json.as_i64().expect("a number") as i32;
        let isr = json["isr"].as_array().expect("a list").iter().map(number).collect();
        (number(&json["leader"]), number(&json["leader_epoch"]), isr)
    }

    /// SIGTERM to one broker, and its exit.
    pub fn stop(&mut self, id: i32) -> ExitStatus {
        self.broker(id).stop()
    }

    /// kill -9 of one broker.
    pub fn kill(&mut self, id: i32) {
        self.broker(id).kill();
    }

    pub fn freeze(&mut self, id: i32) {
        self.broker(id).signal(Signal::STOP);
    }

    pub fn thaw(&mut self, id: i32) {
        self.broker(id).signal(Signal::CONT);
    }

    /// Starts a stopped or killed broker again and waits until all know it.
    pub fn restart(&mut self, id: i32) {
        self.broker(id).spawn();
        self.wait_for_members();
    }

    /// What all brokers have said, for a failed test.
    pub fn logs(&self) -> String {
        let each = self.brokers.iter().enumerate();
        each.map(|(at, broker)| format!("--- broker {}\n{}", at + 1, broker.log())).collect()
    }
}

/// Internal topics that fit a small cluster and a short test.
const DEFAULTS: [(&str, &str); 2] =
    [("offsets.topic.num.partitions", "5"), ("transaction.state.log.num.partitions", "5")];
