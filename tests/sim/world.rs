//! One simulated cluster: brokers, the network between them, ZooKeeper, and what has been seen of them all.

use super::check::Observed;
use super::clock::sleep_ms;
use super::dice::Dice;
use super::keeper::Keeper;
use super::mistake::Mistake;
use super::process::Process;
use ottla::base::{BrokerId, TopicId, TopicPartition};
use ottla::zookeeper::paths::{self, ReplicaAssignment, TopicZnode};
use ottla::zookeeper::{Operation, Write};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub const BROKERS: i32 = 4;
pub const REPLICAS: usize = 3;
pub const TOPIC: &str = "t";
pub const PARTITIONS: i32 = 2;
pub const MIN_ISR: i32 = 2;
/// After which a request that gets no answer is given up.
const REQUEST_TIMEOUT_MS: u64 = 1000;

pub struct World {
    pub seed: u64,
    pub mistake: Option<Mistake>,
    pub dice: Mutex<Dice>,
    pub keeper: Mutex<Keeper>,
    processes: Mutex<BTreeMap<i32, Arc<Process>>>,
    /// Pairs of brokers that cannot reach each other; [`ZOOKEEPER`] is one of a pair that cannot reach ZooKeeper.
    cuts: Mutex<BTreeSet<(i32, i32)>>,
    pub observed: Mutex<Observed>,
    /// Clients are to end what they have begun.
    closing: AtomicBool,
    folder: tempfile::TempDir,
}

/// ZooKeeper's place in the network.
pub const ZOOKEEPER: i32 = 0;

impl World {
    pub fn new(seed: u64, mistake: Option<Mistake>) -> Arc<World> {
        let mut keeper = Keeper::new();
        make_topic(&mut keeper);
        // In memory where there is such a place: thousands of clusters write small files.
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Arc::new(World {
            seed,
            mistake,
            dice: Mutex::new(Dice::new(seed)),
            keeper: Mutex::new(keeper),
            processes: Mutex::default(),
            cuts: Mutex::default(),
            observed: Mutex::new(Observed::new()),
            closing: AtomicBool::new(false),
            folder: folder.expect("a folder"),
        })
    }

    pub fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    pub fn folder_of(&self, broker: i32) -> PathBuf {
        self.folder.path().join(broker.to_string())
    }

    /// The running process of a broker.
    pub fn process(&self, broker: i32) -> Option<Arc<Process>> {
        self.processes.lock().get(&broker).cloned()
    }

    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.processes.lock().values().cloned().collect()
    }

    pub fn up(&self) -> Vec<i32> {
        self.processes.lock().keys().copied().collect()
    }

    /// Starts the broker on what its folder holds.
    pub async fn start(self: &Arc<World>, broker: i32) {
        let process = Process::start(self, broker).await;
        self.processes.lock().insert(broker, process);
    }

    /// Ends the process as `kill -9` does: what it has written is in the files.
    pub async fn kill(&self, broker: i32) {
        let process = self.processes.lock().remove(&broker);
        if let Some(process) = process {
            self.observed.lock().leaves(&process);
            process.kill().await;
        }
    }

    /// Ends the process and loses what the disk had not yet been told to keep: the ends of all logs, by chance.
    pub async fn lose_power(&self, broker: i32) {
        self.kill(broker).await;
        for partition in partitions() {
            super::disk::cut(&self.folder_of(broker).join(partition.to_string()), &mut self.dice.lock());
        }
    }

    pub fn cut(&self, one: i32, other: i32) {
        self.cuts.lock().insert((one.min(other), one.max(other)));
    }

    pub fn heal(&self) {
        self.cuts.lock().clear();
    }

    pub fn is_cut(&self, one: i32, other: i32) -> bool {
        self.cuts.lock().contains(&(one.min(other), one.max(other)))
    }

    /// How long a message travels: a few milliseconds, now and then much more.
    pub async fn travel(&self) {
        let millis = {
            let mut dice = self.dice.lock();
            if dice.one_in(40) { dice.below(300) } else { dice.below(4) }
        };
        sleep_ms(millis).await;
    }

    /// A message to or from ZooKeeper: it waits while there is no way.
    pub async fn travel_to_keeper(&self, broker: i32) {
        self.travel().await;
        while self.is_cut(broker, ZOOKEEPER) {
            sleep_ms(20).await;
        }
    }

    /// A request from one broker to another, and its answer; `None` if there is none.
    pub async fn call<T, F>(
        self: &Arc<World>,
        from: &Process,
        to: i32,
        serve: impl FnOnce(Arc<Process>) -> F,
    ) -> Option<T>
    where
        F: Future<Output = T>,
    {
        self.travel().await;
        if self.is_cut(from.id, to) {
            sleep_ms(REQUEST_TIMEOUT_MS).await;
            return None;
        }
        let target = self.process(to).filter(|_| from.is_alive())?;
        let answer = serve(target.clone()).await;
        self.look();
        self.travel().await;
        if self.is_cut(from.id, to) {
            sleep_ms(REQUEST_TIMEOUT_MS).await;
            return None;
        }
        (target.is_alive() && from.is_alive()).then_some(answer)
    }

    /// Checks everything that holds at any moment.
    pub fn look(&self) {
        self.observed.lock().look(&self.keeper.lock(), &self.processes());
    }

    /// Something worth repeating when the seed is repeated.
    pub fn note(&self, what: String) {
        self.observed.lock().note(what);
    }

    /// A producer has its acknowledgement for values from an offset on.
    pub fn acknowledge(&self, partition: i32, offset: i64, values: &[String]) {
        let processes = self.processes();
        for (place, value) in (offset..).zip(values) {
            self.observed.lock().acknowledge(&processes, (partition, place), value.clone());
        }
        self.look();
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub fn fail(&self, what: String) {
        self.observed.lock().fail(what);
    }

    pub fn is_over(&self) -> bool {
        self.observed.lock().violation.is_some()
    }
}

/// What the first broker and an admin would have written.
fn make_topic(keeper: &mut Keeper) {
    let (id, _, _) = keeper.connect();
    let mut writes: Vec<Write> = paths::PERSISTENT.iter().map(|path| Write::create(*path, "")).collect();
    let partitions = (0..PARTITIONS).map(|partition| {
        let replicas = (0..REPLICAS as i32).map(|at| BrokerId((partition + at) % BROKERS + 1));
        (partition, ReplicaAssignment::new(replicas.collect()))
    });
    let topic_id = TopicId(uuid::Uuid::from_u128(0xc0ffee));
    let topic = TopicZnode { topic_id: Some(topic_id), partitions: partitions.collect() };
    writes.push(Write::create(paths::topic(TOPIC), topic.to_json()));
    keeper.request(id, &super::keeper::encode(&Operation::Multi(writes)));
    keeper.disconnect(id);
}

pub fn partitions() -> impl Iterator<Item = TopicPartition> {
    (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition))
}
