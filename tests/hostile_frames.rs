//! A live broker is sent everything that no honest client sends, while an honest one goes on: the process lives, nobody else
//! sees an error, memory stays, and nothing is created where it does not belong.

mod common;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "common/zookeeper_raw.rs"]
mod raw;
#[path = "hostile/records.rs"]
mod records;
mod vectors;
#[path = "common/zookeeper_hostile.rs"]
mod zookeeper_hostile;

use bytes::Bytes;
use common::{Broker, Client};
use frames::Hostile;
use ottla::record::Compression;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MEMORY_GROWTH_MAX: u64 = 64 << 20;
const HOSTILE_FRAMES_MIN: usize = 500;
const STEADY: &str = "steady";
const HOSTILE: &str = "hostile";

/// ZooKeeper's operation.
const EXISTS: i32 = 3;

/// An honest client in a thread of its own: produces, fetches what it produced, and compares.
struct Steady {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Steady {
    fn start(port: u16) -> Steady {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (stop, rounds) = (stop.clone(), rounds.clone());
            move || {
                let mut client = Client::connect(port).map_err(|error| error.to_string())?;
                while !stop.load(Ordering::Relaxed) {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    steady_round(&mut client, round).map_err(|error| format!("round {round}: {error}"))?;
                }
                Ok(())
            }
        });
        Steady { stop, rounds, thread }
    }

    /// Waits until it has gone around so many times more.
    fn wait_rounds(&self, more: usize) {
        let target = self.rounds.load(Ordering::Relaxed) + more;
        while self.rounds.load(Ordering::Relaxed) < target && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the honest client does not panic")
    }
}

fn steady_round(client: &mut Client, round: usize) -> Result<(), String> {
    let value = format!("value {round}");
    let produced = client.produce(STEADY, 0, records::honest(1, value.as_bytes())).map_err(|e| e.to_string())?;
    if produced.error_code != 0 {
        return Err(format!("produce: error {}", produced.error_code));
    }
    let fetched = client.fetch(STEADY, 0, produced.base_offset).map_err(|e| e.to_string())?;
    let records = fetched.records.unwrap_or_default();
    let found = records.windows(value.len()).any(|window| window == value.as_bytes());
    match (fetched.error_code, found) {
        (0, true) => Ok(()),
        (code, _) => Err(format!("fetch: error {code}, {} bytes", records.len())),
    }
}

/// Sends a hostile frame and reads until the broker answers once or closes. Both are fine.
fn attack(port: u16, hostile: &Hostile) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { panic!("no connection: {}", hostile.name) };
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let _ = stream.write_all(&hostile.bytes);
    // Ends what the broker would wait for; a frame that is too short is closed without an answer.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{}: {error}", hostile.name),
        }
    }
}

fn produce_must_fail(port: u16, name: &str, topic: &str, version: i16, batch: Bytes) {
    let Ok(mut client) = Client::connect(port) else { panic!("no connection: {name}") };
    match client.produce_version(version, topic, 0, batch) {
        Ok(answer) => assert_ne!(answer.error_code, 0, "{name}: accepted at offset {}", answer.base_offset),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{name}: no answer"),
    }
}

/// Frames of which only a part comes: one that announces a lot, sends a little and waits.
fn half_frames(port: u16) -> Vec<TcpStream> {
    let announced = [4i32 << 10, 1 << 20, 99 << 20];
    (0..60)
        .map(|at| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            stream.write_all(&announced[at % announced.len()].to_be_bytes()).expect("the length");
            stream.write_all(&vec![0; at * 50]).expect("some of it");
            stream
        })
        .collect()
}

/// The most that the process ever held.
fn peak_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("readable folder");
    entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

fn folders_in(folder: &Path) -> BTreeSet<String> {
    names_in(folder).into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

#[test]
fn hostile_frames_harm_nobody() {
    let mut broker = Broker::start(&[("auto.create.topics.enable", "true")]);
    for topic in [STEADY, HOSTILE] {
        broker.client().create_topic(topic, 1, &[]).expect("a topic");
    }
    let steady = Steady::start(broker.port);
    steady.wait_rounds(50);
    let (outside, logs) = (names_in(&broker.dir), folders_in(&broker.log_dir()));
    let memory = broker.resident_bytes();

    let held_open = half_frames(broker.port);
    let mut sent = held_open.len();
    for kind in [
        frames::impossible_lengths(),
        frames::strangers(),
        frames::unknown_keys_and_versions(),
        frames::broken_bodies(),
        frames::absurd_requests(),
    ] {
        for hostile in &kind {
            attack(broker.port, hostile);
            assert!(broker.is_running(), "{} ended the broker\n{}", hostile.name, broker.log());
        }
        sent += kind.len();
        steady.wait_rounds(2);
    }
    for (name, batch) in records::wrong_batches() {
        for version in [3, 9, 11] {
            produce_must_fail(broker.port, name, HOSTILE, version, batch.clone());
            sent += 1;
        }
    }
    for (name, codec, size) in [("gzip", Compression::Gzip, 256 << 20), ("zstd", Compression::Zstd, 1 << 30)] {
        produce_must_fail(broker.port, name, HOSTILE, 9, records::bomb(codec, size));
        sent += 1;
    }
    for name in frames::bad_topic_names() {
        produce_must_fail(broker.port, "a topic's name", &name, 9, records::honest(1, b"v"));
        sent += 1;
    }
    let zookeeper = SocketAddr::from(([127, 0, 0, 1], broker.zk_port));
    let held_sessions = zookeeper_hostile::attack(zookeeper);
    let registered = raw::Raw::connect(zookeeper, 10_000).ask(EXISTS, b"\0\0\0\x0e/brokers/ids/0\0");
    assert!(registered.is_ok(), "the broker is not registered any more\n{}", broker.log());
    steady.wait_rounds(50);

    assert!(sent >= HOSTILE_FRAMES_MIN, "only {sent} hostile frames");
    assert_eq!(steady.finish(), Ok(()), "the honest client saw an error\n{}", broker.log());
    assert!(broker.is_running());
    drop((held_open, held_sessions));
    let growth = peak_bytes(&broker).saturating_sub(memory);
    assert!(growth < MEMORY_GROWTH_MAX, "memory grew by {growth} bytes over {memory}");
    assert_eq!(names_in(&broker.dir), outside, "something was created beside the folders of the broker");
    assert_eq!(folders_in(&broker.log_dir()), logs, "something was created beside the topics");
    assert!(!Path::new("/tmp/etc-0").exists() && !Path::new("/etc/ottla-0").exists());
    let fetched = broker.client().fetch(HOSTILE, 0, 0).expect("a fetch");
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 0), "a broken batch is in the log");
    assert!(broker.stop().success(), "no clean end\n{}", broker.log());
}

/// More connections than the process has descriptors for: those that are open go on, and new ones come in once others have gone.
#[test]
fn a_broker_without_descriptors_comes_back() {
    let mut broker = Broker::start(&[]);
    let mut honest = broker.client();
    for topic in [STEADY, HOSTILE] {
        honest.create_topic(topic, 1, &[]).expect("a topic");
    }
    steady_round(&mut honest, 0).expect("the files of the topic are open");
    let open = names_in(Path::new(&format!("/proc/{}/fd", broker.pid()))).len() as u64;
    let pid = rustix::process::Pid::from_raw(broker.pid() as i32);
    let limit = rustix::process::Rlimit { current: Some(open + 20), maximum: Some(open + 20) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("a lower limit");
    let crowd: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(("127.0.0.1", broker.port)).expect("the backlog takes it")).collect();
    steady_round(&mut honest, 1).expect("open connections go on");
    // Its files are not open yet and cannot be opened now.
    honest.produce(HOSTILE, 0, records::honest(1, b"v")).expect("an answer");
    drop(crowd);
    let mut late = broker.client();
    steady_round(&mut late, 2).expect("a new connection is served");
    let produced = late.produce(HOSTILE, 0, records::honest(1, b"v")).expect("an answer");
    assert_eq!(produced.error_code, 0, "a topic that could not open its files stays out of order\n{}", broker.log());
    assert!(broker.is_running());
}
