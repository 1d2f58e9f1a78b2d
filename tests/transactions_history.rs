//! Many transactional producers, some of which die, on a broker that is killed again and again; and a judge of what was read.
//!
//! The rules are those of Jepsen's Kafka test. A transaction is `ok` if its commit was answered, `fail` if its abort was or the
//! producer was fenced before it asked for a commit, and otherwise unknown. Values are unique. Judged are: one value at an offset,
//! a value at one offset only, no value of a failed transaction, every value of an ok one, a transaction whole or not at all, the
//! writes of a producer in their order, and readers that see what others saw.
//!
//! A run is short unless `OTTLA_HISTORY_OPERATIONS` says how many operations it has (a write, a request to the coordinator, a
//! read). With `OTTLA_HISTORY_BOOTSTRAP` it uses that broker, which somebody else kills: `scripts/transactions-history`.

mod common;

use common::transactional::{Transactional, is_retriable, read_committed};
use common::{Broker, Client};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "history";
const PARTITIONS: i32 = 4;
const PRODUCERS: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Ok,
    Fail,
    Unknown,
}

/// One transaction: what it wrote, in order.
#[derive(Debug)]
struct Transaction {
    producer: usize,
    writes: Vec<(i32, String)>,
    end: End,
}

#[derive(Default)]
struct History {
    transactions: Mutex<Vec<Transaction>>,
    /// What readers saw during the run: partition, offset, value.
    reads: Mutex<Vec<(i32, i64, String)>>,
    operations: AtomicU64,
    is_over: AtomicBool,
}

impl History {
    fn count(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Random numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A connection that is made anew whenever it breaks.
struct Line {
    port: u16,
    client: Option<Client>,
}

impl Line {
    fn with<T>(&mut self, ask: impl FnOnce(&mut Client) -> io::Result<T>) -> Option<T> {
        if self.client.is_none() {
            self.client = Client::connect(self.port).ok();
            let patience = Some(Duration::from_secs(10));
            self.client.as_ref().and_then(|client| client.stream.set_read_timeout(patience).ok());
        }
        let Some(client) = self.client.as_mut() else {
            std::thread::sleep(Duration::from_millis(20));
            return None;
        };
        match ask(client) {
            Ok(answer) => Some(answer),
            Err(_) => {
                self.client = None;
                None
            }
        }
    }
}

struct Writer<'a> {
    at: usize,
    history: &'a History,
    line: Line,
    dice: Dice,
    producer: Transactional,
    number: u64,
}

/// How an attempt ended: `None` is unknown.
type Answer = Option<i16>;

impl Writer<'_> {
    fn run(&mut self) {
        while !self.history.is_over() {
            if !self.init() {
                continue;
            }
            // Until it dies or is fenced.
            while !self.history.is_over() && self.transaction() && self.dice.roll(20) > 0 {}
            // A new connection, as of a process that was started again.
            self.line.client = None;
        }
    }

    fn init(&mut self) -> bool {
        let (line, producer) = (&mut self.line, &mut self.producer);
        self.history.count();
        match line.with(|client| producer.try_init(client, 4, None)) {
            Some(0) => true,
            Some(code) => {
                let later = is_retriable(code) || code == 15;
                assert!(later, "InitProducerId: {code}");
                if code != 51 {
                    self.line.with(|client| producer.find(client, 4));
                }
                std::thread::sleep(Duration::from_millis(2));
                false
            }
            None => false,
        }
    }

    /// Asks the coordinator until there is an answer that is not "later".
    fn coordinated(&mut self, ask: impl Fn(&Transactional, &mut Client) -> io::Result<i16>) -> Answer {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            self.history.count();
            let producer = &self.producer;
            match self.line.with(|client| ask(producer, client)) {
                Some(code) if is_retriable(code) || code == 3 => std::thread::sleep(Duration::from_millis(2)),
                Some(code) => return Some(code),
                None => {}
            }
        }
        None
    }

    /// One transaction. `false`: this producer is fenced, or does not know what became of it and begins anew.
    fn transaction(&mut self) -> bool {
        let count = 1 + self.dice.roll(4);
        let mut writes: Vec<(i32, String)> = Vec::new();
        let mut partitions: Vec<i32> = (0..PARTITIONS).filter(|_| self.dice.roll(2) == 0).collect();
        if partitions.is_empty() {
            partitions.push(0);
        }
        let add = |producer: &Transactional, client: &mut Client| {
            let codes = producer.try_add(client, 3, TOPIC, &partitions)?;
            Ok(codes.into_iter().map(|code| if code == 55 { 3 } else { code }).max().unwrap_or(-1))
        };
        if self.coordinated(add) != Some(0) {
            return false;
        }
        for _ in 0..count {
            let partition = partitions[self.dice.roll(partitions.len() as u64) as usize];
            self.number += 1;
            let value = format!("{}-{}", self.at, self.number);
            writes.push((partition, value.clone()));
            if !self.write(partition, &value) {
                self.note(writes, End::Fail);
                return false;
            }
        }
        // Some processes die here, and their successors fence them.
        if self.dice.roll(30) == 0 {
            self.note(writes, End::Fail);
            return false;
        }
        let commit = self.dice.roll(4) > 0;
        let ended = self.coordinated(|producer, client| producer.try_end(client, 3, commit));
        let end = match (ended, commit) {
            (Some(0), true) => End::Ok,
            (Some(0), false) => End::Fail,
            (_, false) => End::Fail,
            (_, true) => End::Unknown,
        };
        let goes_on = ended == Some(0);
        self.note(writes, end);
        goes_on
    }

    /// Writes a record once, however often it has to be sent.
    fn write(&mut self, partition: i32, value: &str) -> bool {
        const LATER: [i16; 6] = [3, 5, 6, 7, 19, 20];
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            self.history.count();
            let producer = &mut self.producer;
            match self.line.with(|client| producer.produce(client, TOPIC, partition, &[value])) {
                Some(0) => return true,
                Some(code) if LATER.contains(&code) => std::thread::sleep(Duration::from_millis(2)),
                Some(_) => return false,
                None => {}
            }
        }
        false
    }

    fn note(&self, writes: Vec<(i32, String)>, end: End) {
        self.history.transactions.lock().push(Transaction { producer: self.at, writes, end });
    }
}

/// Reads committed records from the start to where they end, again and again.
fn read(history: &History, port: u16, partition: i32) {
    let mut line = Line { port, client: None };
    let mut offset = 0;
    while !history.is_over() {
        history.count();
        if let Some((values, end)) = line.with(|client| read_committed(client, TOPIC, partition, offset)) {
            offset = end;
            history.reads.lock().extend(values.into_iter().map(|(at, value)| (partition, at, value)));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is wrong with a history, given what a last reader found: by partition, offsets and values in order.
fn judge(
    transactions: &[Transaction],
    reads: &[(i32, i64, String)],
    last: &BTreeMap<i32, Vec<(i64, String)>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut at: HashMap<(i32, i64), &str> = HashMap::new();
    let mut seen: HashMap<&str, (i32, i64)> = HashMap::new();
    for (partition, values) in last {
        for (offset, value) in values {
            at.insert((*partition, *offset), value);
            if let Some(before) = seen.insert(value, (*partition, *offset)) {
                wrong.push(format!("duplicate: {value} at {before:?} and at {:?}", (partition, offset)));
            }
        }
    }
    for (partition, offset, value) in reads {
        match at.get(&(*partition, *offset)) {
            Some(now) if now == value => {}
            Some(now) => wrong.push(format!("inconsistent: {partition}@{offset} was {value} and is {now}")),
            None => wrong.push(format!("vanished: {value} was read at {partition}@{offset}")),
        }
    }
    let mut known = HashSet::new();
    let mut newest: HashMap<(usize, i32), i64> = HashMap::new();
    for transaction in transactions {
        known.extend(transaction.writes.iter().map(|(_, value)| value.as_str()));
        let there = transaction.writes.iter().filter(|(_, value)| seen.contains_key(value.as_str())).count();
        let all = transaction.writes.len();
        match transaction.end {
            End::Fail if there > 0 => wrong.push(format!("aborted read: {transaction:?}")),
            End::Ok if there < all => wrong.push(format!("lost: {transaction:?}")),
            _ if there != 0 && there != all => wrong.push(format!("torn: {transaction:?}")),
            _ => {}
        }
        for (partition, value) in &transaction.writes {
            let Some((found, offset)) = seen.get(value.as_str()) else { continue };
            if found != partition {
                wrong.push(format!("astray: {value} of partition {partition} in {found}"));
            }
            let before = newest.insert((transaction.producer, *partition), *offset);
            if before.is_some_and(|before| before > *offset) {
                wrong.push(format!("disorder: {value} of producer {} at {partition}@{offset}", transaction.producer));
            }
        }
    }
    let strange = seen.keys().filter(|value| !known.contains(*value)).map(|value| format!("never written: {value}"));
    wrong.extend(strange);
    wrong
}

fn operations() -> u64 {
    std::env::var("OTTLA_HISTORY_OPERATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(6_000)
}

#[test]
fn transactions_are_whole_while_broker_and_producers_die() {
    let elsewhere = std::env::var("OTTLA_HISTORY_BOOTSTRAP").ok();
    let mut broker = elsewhere.is_none().then(|| Broker::start(&[("transaction.state.log.num.partitions", "5")]));
    let port = match (&broker, &elsewhere) {
        (Some(broker), _) => broker.port,
        (None, Some(address)) => address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port"),
        (None, None) => unreachable!("one of both"),
    };
    Client::connect(port).and_then(|mut client| client.create_topic(TOPIC, PARTITIONS, &[])).expect("topic");
    let history = Arc::new(History::default());
    let wanted = operations();
    let mut threads = Vec::new();
    for at in 0..PRODUCERS {
        let history = history.clone();
        threads.push(std::thread::spawn(move || {
            let producer = Transactional::new(&format!("writer-{at}"));
            let dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (at as u64 + 1));
            Writer { at, history: &history, line: Line { port, client: None }, dice, producer, number: 0 }.run();
        }));
    }
    for partition in 0..PARTITIONS {
        let history = history.clone();
        threads.push(std::thread::spawn(move || read(&history, port, partition)));
    }
    let (mut kills, mut next) = (0, wanted / 6);
    while history.operations.load(Ordering::Relaxed) < wanted {
        std::thread::sleep(Duration::from_millis(50));
        if let Some(broker) = broker.as_mut()
            && history.operations.load(Ordering::Relaxed) >= next
        {
            broker.kill();
            broker.restart();
            kills += 1;
            next = history.operations.load(Ordering::Relaxed) + (wanted / 6).clamp(500, 5_000);
        }
        assert!(threads.iter().all(|thread| !thread.is_finished()), "a producer or reader has given up");
    }
    history.is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a producer or reader");
    }
    let last = last_read(port);
    let transactions = history.transactions.lock();
    let count = |end| transactions.iter().filter(|transaction| transaction.end == end).count();
    let read: usize = last.values().map(Vec::len).sum();
    println!(
        "{} operations, {kills} kills; transactions: {} committed, {} aborted, {} unknown; {read} records read",
        history.operations.load(Ordering::Relaxed),
        count(End::Ok),
        count(End::Fail),
        count(End::Unknown),
    );
    let wrong = judge(&transactions, &history.reads.lock(), &last);
    assert!(wrong.is_empty(), "{} anomalies:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(count(End::Ok) > 0 && count(End::Fail) > 0 && read > 0, "the history says too little");
}

/// Everything that is committed in the end: each id is taken over once more, which ends what is open.
fn last_read(port: u16) -> BTreeMap<i32, Vec<(i64, String)>> {
    let mut client = common::cluster::eventually("the broker is back", || Client::connect(port).ok());
    for at in 0..PRODUCERS {
        let mut producer = Transactional::new(&format!("writer-{at}"));
        common::cluster::eventually("the last epoch", || match producer.init(&mut client) {
            Ok(0) => Some(()),
            _ => {
                client = Client::connect(port).ok()?;
                None
            }
        });
    }
    let read = |partition| {
        common::cluster::eventually("the last read", || {
            let mut client = Client::connect(port).ok()?;
            read_committed(&mut client, TOPIC, partition, 0).ok().map(|(values, _)| values)
        })
    };
    (0..PARTITIONS).map(|partition| (partition, read(partition))).collect()
}

mod the_judge {
    use super::*;

    fn transaction(producer: usize, values: &[(i32, &str)], end: End) -> Transaction {
        let writes = values.iter().map(|(partition, value)| (*partition, value.to_string())).collect();
        Transaction { producer, writes, end }
    }

    fn last(values: &[(i32, i64, &str)]) -> BTreeMap<i32, Vec<(i64, String)>> {
        let mut all: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
        for (partition, offset, value) in values {
            all.entry(*partition).or_default().push((*offset, value.to_string()));
        }
        all
    }

    #[test]
    fn sees_each_anomaly() {
        let ok = || transaction(0, &[(0, "a"), (1, "b")], End::Ok);
        let good = [(0, 0, "a"), (1, 0, "b")];
        assert_eq!(judge(&[ok()], &[(0, 0, "a".into())], &last(&good)), Vec::<String>::new());
        let unknown = || transaction(0, &[(0, "a"), (1, "b")], End::Unknown);
        assert!(judge(&[unknown()], &[], &last(&good)).is_empty() && judge(&[unknown()], &[], &last(&[])).is_empty());
        let check =
            |transactions: Vec<Transaction>, reads: &[(i32, i64, &str)], found: &[(i32, i64, &str)], name: &str| {
                let reads: Vec<_> = reads.iter().map(|(p, o, v)| (*p, *o, v.to_string())).collect();
                let wrong = judge(&transactions, &reads, &last(found));
                assert!(wrong.iter().any(|what| what.starts_with(name)), "{name}: {wrong:?}");
            };
        check(vec![ok()], &[], &[(0, 0, "a"), (0, 1, "a"), (1, 0, "b")], "duplicate");
        check(vec![ok()], &[(0, 0, "x")], &good, "inconsistent");
        check(vec![ok()], &[(0, 7, "a")], &good, "vanished");
        check(vec![transaction(0, &[(0, "a")], End::Fail)], &[], &[(0, 0, "a")], "aborted read");
        check(vec![ok()], &[], &[(0, 0, "a")], "lost");
        check(vec![unknown()], &[], &[(0, 0, "a")], "torn");
        check(vec![ok()], &[], &[(1, 1, "a"), (1, 0, "b")], "astray");
        check(vec![transaction(0, &[(0, "a"), (0, "b")], End::Ok)], &[], &[(0, 5, "a"), (0, 1, "b")], "disorder");
        check(vec![ok()], &[], &[(0, 0, "a"), (1, 0, "b"), (1, 1, "c")], "never written");
    }
}
