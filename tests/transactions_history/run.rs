//! Makes a history: clients in processes of their own and, unless they run elsewhere, three brokers, all of which are killed again
//! and again; then reads everything once more and has it judged.

use crate::clients::{self, Dice, PARTITIONS, READERS, Role, WRITERS};
use crate::common::cluster::eventually;
use crate::common::transactional::{Transactional, fetch_committed, read_committed_once};
use crate::common::{Client, Cluster, ZooKeeper};
use crate::history::{End, Kind, Op, Step, now, operations, parse};
use crate::judge::judge;
use crate::net::{Net, TOPIC};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a process finds in its environment if it is one of the clients.
const CLIENT: &str = "OTTLA_HISTORY_CLIENT";
const NAME: &str = "run::transactions_are_whole_while_brokers_and_clients_die";

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub fn bootstrap() -> Option<Vec<u16>> {
    let text = setting("OTTLA_HISTORY_BOOTSTRAP")?;
    let port = |address: &str| address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    Some(text.split(',').map(port).collect())
}

fn three_brokers() -> Cluster {
    let properties = [
        ("offsets.topic.replication.factor", "3"),
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.min.isr", "2"),
        ("default.replication.factor", "3"),
        ("min.insync.replicas", "2"),
    ];
    Cluster::start(3, ZooKeeper::inside(), &properties)
}

/// With as many replicas as there are brokers, three at most. Only the controller can create it.
fn create_topic(ports: &[u16]) {
    let replicas = ports.len().min(3) as i16;
    let configs: &[(&str, &str)] = if replicas > 2 { &[("min.insync.replicas", "2")] } else { &[] };
    eventually("the topic exists", || {
        ports.iter().find_map(|port| {
            let mut client = Client::connect(*port).ok()?;
            match client.leaders(TOPIC) {
                Ok(leaders) if leaders.len() == PARTITIONS as usize => Some(()),
                _ => client.create_replicated(TOPIC, PARTITIONS, replicas, configs).ok(),
            }
        })
    });
}

struct Run {
    ports: Vec<u16>,
    folder: PathBuf,
    wanted: u64,
    answered: AtomicU64,
    kills: AtomicU64,
    is_over: AtomicBool,
}

impl Run {
    /// One process after another of the same name, each killed after a while, until there are enough operations.
    fn lives(&self, process: u32) {
        let mut dice = Dice::new(u64::from(process) + 1);
        for life in 0.. {
            let role = Role {
                process,
                life,
                bootstrap: self.ports.clone(),
                folder: self.folder.clone(),
                parent: std::process::id(),
            };
            let mut child = self.spawn(&role);
            let end = Instant::now() + Duration::from_millis(1_000 + dice.roll(7_000));
            while !self.is_over.load(Ordering::Relaxed) && Instant::now() < end {
                let ended = child.try_wait().expect("wait").filter(|status| !status.success());
                assert_eq!(ended, None, "client {process} has failed");
                std::thread::sleep(Duration::from_millis(20));
            }
            let is_over = self.is_over.load(Ordering::Relaxed);
            if !is_over {
                let _ = child.kill();
                self.kills.fetch_add(1, Ordering::Relaxed);
            }
            let status = child.wait().expect("wait");
            assert!(!is_over || status.success(), "client {process} has failed: {status}");
            let text = std::fs::read_to_string(role.path()).unwrap_or_default();
            self.answered.fetch_add(operations(&text), Ordering::Relaxed);
            if is_over {
                return;
            }
        }
    }

    fn spawn(&self, role: &Role) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("clients.log"));
        let log = log.expect("a log for the clients");
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", NAME, "--nocapture"])
            .env(CLIENT, role.to_text())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("a client starts")
    }

    fn is_enough(&self) -> bool {
        self.answered.load(Ordering::Relaxed) >= self.wanted
    }

    /// kill -9 of one broker after another.
    fn kill_brokers(&self, cluster: &mut Cluster, goes_on: impl Fn() -> bool) -> u64 {
        let mut kills = 0;
        while goes_on() && (!self.is_enough() || kills < 3) {
            std::thread::sleep(Duration::from_secs(2));
            let broker = (kills % 3) as i32 + 1;
            cluster.kill(broker);
            std::thread::sleep(Duration::from_millis(500));
            cluster.restart(broker);
            kills += 1;
        }
        kills
    }
}

#[test]
fn transactions_are_whole_while_brokers_and_clients_die() {
    if let Some(role) = setting(CLIENT) {
        return clients::live(Role::parse(&role).expect("a role"));
    }
    let mut cluster = bootstrap().is_none().then(three_brokers);
    let ports = match &cluster {
        Some(cluster) => cluster.ids().map(|id| cluster.port(id)).collect(),
        None => bootstrap().expect("ports"),
    };
    create_topic(&ports);
    let temporary = tempfile::Builder::new().prefix("ottla-test-history-").tempdir().expect("a folder");
    let folder = setting("OTTLA_HISTORY_FOLDER").map_or(temporary.path().to_owned(), PathBuf::from);
    let wanted = setting("OTTLA_HISTORY_OPERATIONS").and_then(|count| count.parse().ok()).unwrap_or(3_000);
    let run = Run {
        ports,
        folder,
        wanted,
        answered: AtomicU64::new(0),
        kills: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let began = Instant::now();
    let mut broker_kills = 0;
    std::thread::scope(|scope| {
        let lives: Vec<_> = (0..WRITERS + READERS)
            .map(|process| {
                scope.spawn({
                    let run = &run;
                    move || run.lives(process)
                })
            })
            .collect();
        let goes_on = || lives.iter().all(|life| !life.is_finished());
        let watch = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match cluster.as_mut() {
            Some(cluster) => broker_kills = run.kill_brokers(cluster, goes_on),
            None => {
                while goes_on() && !run.is_enough() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }));
        std::fs::write(run.folder.join("stop"), "").expect("a file");
        run.is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = watch {
            std::panic::resume_unwind(panic);
        }
    });
    let took = began.elapsed();
    last_reads(&run.ports, &run.folder);
    let ops = gather(&run.folder);
    let count = |end| ops.iter().filter(|op| op.kind == Kind::Txn && op.end == end).count();
    let (committed, aborted, unknown) = (count(End::Ok), count(End::Fail), count(End::Info));
    println!(
        "{} operations in {} s, {} clients and {broker_kills} brokers killed here; transactions: {committed} committed, {aborted} \
         aborted, {unknown} unknown",
        run.answered.load(Ordering::Relaxed),
        took.as_secs(),
        run.kills.load(Ordering::Relaxed),
    );
    let report = judge(&ops);
    println!("{report}");
    assert!(report.bad().is_empty(), "{report}");
    assert!(committed > 0 && aborted > 0, "the history says too little");
}

/// All that was written down, each process with its lives one after another.
fn gather(folder: &Path) -> Vec<Op> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    let mut ops = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let process = name.split('-').next().and_then(|number| number.parse().ok()).expect("a process");
        ops.extend(parse(process, &std::fs::read_to_string(&file).expect("a history")));
    }
    ops
}

/// Everything that is committed in the end. Each id is taken over once more, which ends what is open; every process looks once more
/// where its group is; and each partition is read from its start to its end.
fn last_reads(ports: &[u16], folder: &Path) {
    let mut net = Net::new(ports);
    for process in 0..WRITERS {
        let mut producer = Transactional::new(&clients::id(process));
        eventually("the last epoch", || {
            let port = net.transaction_coordinator(&producer)?;
            (net.ask(port, |client| producer.try_init(client, 4, None))? == 0).then_some(())
        });
    }
    let mut recorder = crate::history::Recorder::create(&folder.join("99-00000.jsonl"));
    for key in 0..PARTITIONS {
        let mut values = Vec::new();
        let mut offset = 0;
        eventually("the last read", || {
            let port = net.leader(key)?;
            let read = net.ask(port, |client| {
                let (more, next) = read_committed_once(client, TOPIC, key, offset)?;
                let end = fetch_committed(client, TOPIC, key, next)?.high_watermark;
                Ok((more, next, end))
            });
            let Some((more, next, end)) = read else {
                net.forget_leaders();
                return None;
            };
            let is_new = next > offset;
            values.extend(more.into_iter().map(|(offset, value)| (offset, value.parse().unwrap_or(u64::MAX))));
            offset = next;
            (!is_new && next == end).then_some(())
        });
        recorder.begin(Kind::Poll);
        recorder.polled(key, &values);
        recorder.end(End::Ok);
    }
}

/// An operation made by hand, for the tests beside.
pub fn op(process: u32, kind: Kind, end: End, steps: Vec<Step>) -> Op {
    let at = now();
    Op { process, kind, end, begun: at, ended: at, steps }
}
