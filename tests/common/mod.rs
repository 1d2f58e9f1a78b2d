//! A broker process for a test: its own folder, free ports, and an end with the test.

// Each test program compiles this and uses the part that it needs.
#![allow(dead_code, unused_imports)]

mod client;
pub mod cluster;
pub mod transactional;

pub use client::{Client, frame};
pub use cluster::{Cluster, ZooKeeper};

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Long enough for a debug build on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Broker {
    pub port: u16,
    pub zk_port: u16,
    /// Holds `kafka-logs`, `zookeeper`, `server.properties` and `broker.log`.
    pub dir: PathBuf,
    properties: PathBuf,
    /// What the process finds in its environment besides.
    environment: Vec<(String, String)>,
    /// Gets the properties as flags over the defaults for one machine, and no file.
    without_file: bool,
    child: Option<Child>,
    /// Removes `dir` at the end.
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Starts a broker with an embedded ZooKeeper in a new folder, and waits until it answers.
    pub fn start(overrides: &[(&str, &str)]) -> Broker {
        let mut broker = Broker::prepare(overrides);
        broker.launch();
        broker
    }

    /// As [`Broker::start`], without a properties file: what a developer gets who just starts it, on other ports.
    pub fn start_without_file(overrides: &[(&str, &str)]) -> Broker {
        let mut broker = Broker::prepare(overrides);
        broker.without_file = true;
        broker.launch();
        broker
    }

    /// A folder, ports and properties for a broker that is not started yet.
    pub fn prepare(overrides: &[(&str, &str)]) -> Broker {
        let folder = tempfile::Builder::new().prefix("ottla-test-").tempdir().expect("temp folder");
        let (port, zk_port) = (free_port(), free_port());
        let dir = folder.path().to_owned();
        let properties = dir.join("server.properties");
        fs::write(&properties, properties_text(&dir, port, zk_port, overrides)).expect("server.properties");
        Broker {
            port,
            zk_port,
            dir,
            properties,
            environment: Vec::new(),
            without_file: false,
            child: None,
            _folder: folder,
        }
    }

    /// For the next start.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the stopped or killed broker again, on the same folder and ports.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "still running");
        self.launch();
    }

    /// As [`Broker::restart`], with properties changed in the file before.
    pub fn restart_with(&mut self, overrides: &[(&str, &str)]) {
        let text = properties_text(&self.dir, self.port, self.zk_port, overrides);
        fs::write(&self.properties, text).expect("server.properties");
        self.restart();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("a running broker"));
        kill_process(pid, signal).expect("signal");
    }

    /// SIGTERM, and the exit of the process.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// The exit of the process, which comes by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running broker");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the broker does not end\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processes that the broker has started.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid()).iter().map(|pid| pid.as_raw_nonzero().get() as u32).collect()
    }

    /// kill -9 to the broker's children first, so that nobody is left to tell of its death: a lost machine.
    pub fn lose(&mut self) {
        for guardian in children_of(self.pid()) {
            let _ = kill_process(guardian, Signal::KILL);
        }
        self.kill();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running broker").id()
    }

    /// Started and not ended by the test; it may be frozen.
    pub fn has_process(&self) -> bool {
        self.child.is_some()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_none())
    }

    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("kafka-logs")
    }

    /// What the broker has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default()
    }

    /// Resident memory of the process.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        kilobytes * 1024
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("connection to the broker")
    }

    fn launch(&mut self) {
        self.spawn();
        self.wait_until(Broker::answers, "answer");
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "still running");
        let log = File::options().create(true).append(true).open(self.dir.join("broker.log")).expect("broker.log");
        let child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .args(self.arguments())
            .envs(self.environment.iter().cloned())
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("the broker starts");
        self.child = Some(child);
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        if !self.without_file {
            return vec![self.properties.clone().into()];
        }
        let text = fs::read_to_string(&self.properties).expect("server.properties");
        text.lines().flat_map(|line| ["--override".into(), line.into()]).collect()
    }

    /// Waits for something that the running broker is to come to.
    pub fn wait_until(&mut self, ready: impl Fn(&Broker) -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !ready(self) {
            assert!(self.is_running(), "the broker ended at its start\n{}", self.log());
            assert!(Instant::now() < deadline, "the broker does not {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it serves requests, whatever it knows of the cluster yet.
    pub fn serves(&self) -> bool {
        Client::connect(self.port).is_ok_and(|mut client| client.api_versions().is_ok())
    }

    /// Whether it is registered: ApiVersions and Metadata with itself in it.
    fn answers(&self) -> bool {
        let Ok(mut client) = Client::connect(self.port) else { return false };
        client.api_versions().is_ok() && client.brokers().is_ok_and(|brokers| !brokers.is_empty())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.lose();
        }
    }
}

fn properties_text(dir: &Path, port: u16, zk_port: u16, overrides: &[(&str, &str)]) -> String {
    let mut all: BTreeMap<&str, String> = [
        ("broker.id", "0".to_owned()),
        ("listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("log.dirs", dir.join("kafka-logs").display().to_string()),
        ("zookeeper.embedded.port", zk_port.to_string()),
        ("zookeeper.embedded.data.dir", dir.join("zookeeper").display().to_string()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
    ]
    .into();
    all.extend(overrides.iter().map(|(name, value)| (*name, (*value).to_owned())));
    all.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// A port that is free, outside the range from which the kernel takes those of outgoing connections: one of these could have it
/// by the time that it is listened on.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(12_000..31_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The processes that a process has started.
fn children_of(parent: u32) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split_whitespace());
        fields.and_then(|mut fields| fields.nth(1)?.parse().ok()) == Some(parent)
    };
    pids.filter(is_child).filter_map(Pid::from_raw).collect()
}
