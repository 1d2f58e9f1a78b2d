//! The processes that make a history: writers, whose transactions read, write and commit offsets, and readers of committed records.
//! Each writes down what it does, and goes on until it is killed or told to end.

use crate::common::Client;
use crate::common::transactional::{Transactional, is_retriable, read_committed_once};
use crate::history::{End, Key, Kind, Recorder, Value};
use crate::net::{Net, TOPIC};
use ottla::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla::wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use ottla::wire::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName};
use ottla::wire::text;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const PARTITIONS: i32 = 4;
/// Processes below this number are writers.
pub const WRITERS: u32 = 6;
pub const READERS: u32 = 2;

/// For as long a request is repeated before its operation is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who a process is: given to it in its environment.
#[derive(Clone, Debug)]
pub struct Role {
    pub process: u32,
    pub life: u64,
    pub bootstrap: Vec<u16>,
    pub folder: PathBuf,
    pub parent: u32,
}

impl Role {
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{:02}-{:05}.jsonl", self.process, self.life))
    }

    pub fn to_text(&self) -> String {
        let ports: Vec<String> = self.bootstrap.iter().map(u16::to_string).collect();
        format!("{} {} {} {} {}", self.process, self.life, self.parent, ports.join(","), self.folder.display())
    }

    pub fn parse(text: &str) -> Option<Role> {
        let mut words = text.splitn(5, ' ');
        let (process, life, parent) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let bootstrap = words.next()?.split(',').filter_map(|port| port.parse().ok()).collect();
        Some(Role { process, life, parent, bootstrap, folder: words.next()?.into() })
    }
}

/// Random numbers that a seed repeats.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

struct Process {
    role: Role,
    net: Net,
    dice: Dice,
    history: Recorder,
    group: String,
    positions: BTreeMap<Key, i64>,
}

/// The whole life of a process.
pub fn live(role: Role) {
    let history = Recorder::create(&role.path());
    let mut process = Process {
        net: Net::new(&role.bootstrap),
        dice: Dice::new((u64::from(role.process) << 32) | (role.life + 1)),
        history,
        group: format!("group-{}", role.process),
        positions: BTreeMap::new(),
        role,
    };
    if process.role.process < WRITERS { Writer::new(process).run() } else { process.read_on() }
}

pub fn id(process: u32) -> String {
    format!("writer-{process}")
}

impl Process {
    fn is_over(&self) -> bool {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get() as u32);
        parent != self.role.parent || self.role.folder.join("stop").exists()
    }

    /// Begins where its group is.
    fn assign(&mut self) -> bool {
        self.history.begin(Kind::Assign);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !self.is_over() {
            if let Some(positions) = self.fetch_offsets() {
                for (key, offset) in &positions {
                    self.history.committed(*key, *offset);
                }
                self.positions = positions.into_iter().map(|(key, offset)| (key, offset.max(0))).collect();
                self.history.end(End::Ok);
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    fn fetch_offsets(&mut self) -> Option<BTreeMap<Key, i64>> {
        let port = self.net.group_coordinator(&self.group.clone())?;
        let topic = OffsetFetchRequestTopic::default()
            .with_name(TopicName(text(TOPIC)))
            .with_partition_indexes((0..PARTITIONS).collect());
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_topics(Some(vec![topic]))
            .with_require_stable(true);
        let found = self.net.ask(port, |client| client.call(&request, 7))?;
        let partitions = &found.topics.first()?.partitions;
        let is_good = found.error_code == 0 && partitions.iter().all(|partition| partition.error_code == 0);
        is_good.then(|| partitions.iter().map(|found| (found.partition_index, found.committed_offset)).collect())
    }

    /// One fetch of a partition, from where this process is.
    fn poll(&mut self, key: Key) -> bool {
        let from = self.positions.get(&key).copied().unwrap_or(0);
        let Some(port) = self.net.leader(key) else { return false };
        match self.net.ask(port, |client| read_committed_once(client, TOPIC, key, from)) {
            Some((values, next)) => {
                let values: Vec<(i64, Value)> =
                    values.iter().map(|(offset, value)| (*offset, value.parse().unwrap_or(Value::MAX))).collect();
                self.history.polled(key, &values);
                self.positions.insert(key, next);
                true
            }
            None => {
                self.net.forget_leaders();
                false
            }
        }
    }

    /// A reader: polls, and commits what it has read.
    fn read_on(&mut self) {
        if !self.assign() {
            return;
        }
        while !self.is_over() {
            self.history.begin(Kind::Poll);
            for key in 0..PARTITIONS {
                self.poll(key);
            }
            for (key, offset) in &self.positions {
                self.history.commits(*key, *offset);
            }
            self.history.asks();
            let end = Instant::now() + PATIENCE;
            while !self.commit() {
                // Nobody knows what became of it: as one that was killed.
                if Instant::now() > end || self.is_over() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            self.history.end(End::Ok);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn commit(&mut self) -> bool {
        let Some(port) = self.net.group_coordinator(&self.group.clone()) else { return false };
        let partitions = self.positions.iter().map(|(key, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*key)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text("")))
        });
        let topic =
            OffsetCommitRequestTopic::default().with_name(TopicName(text(TOPIC))).with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.net.ask(port, |client| client.call(&request, 7));
        answer.is_some_and(|answer| {
            answer.topics.iter().flat_map(|topic| &topic.partitions).all(|partition| partition.error_code == 0)
        })
    }
}

struct Writer {
    process: Process,
    producer: Transactional,
    coordinator: Option<u16>,
    number: u64,
}

impl Writer {
    fn new(process: Process) -> Writer {
        let producer = Transactional::new(&id(process.role.process));
        // A value says who wrote it: process, life, number.
        let number = (u64::from(process.role.process + 1) << 48) | (process.role.life << 24);
        Writer { process, producer, coordinator: None, number }
    }

    fn run(&mut self) {
        while !self.process.is_over() {
            if !self.init() || !self.process.assign() {
                return;
            }
            while !self.process.is_over() && self.transaction() {}
        }
    }

    fn init(&mut self) -> bool {
        while !self.process.is_over() {
            if let Some(port) = self.coordinator() {
                let producer = &mut self.producer;
                match self.process.net.ask(port, |client| producer.try_init(client, 4, None)) {
                    Some(0) => {
                        self.process.history.answered("InitProducerId");
                        return true;
                    }
                    Some(code) => {
                        assert!(is_retriable(code), "InitProducerId: {code}");
                        self.not_now(code);
                    }
                    None => self.coordinator = None,
                }
            }
        }
        false
    }

    fn coordinator(&mut self) -> Option<u16> {
        if self.coordinator.is_none() {
            self.coordinator = self.process.net.transaction_coordinator(&self.producer);
        }
        self.coordinator
    }

    fn not_now(&mut self, code: i16) {
        const CONCURRENT_TRANSACTIONS: i16 = 51;
        if code != CONCURRENT_TRANSACTIONS {
            self.coordinator = None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }

    /// Asks the coordinator until there is an answer that is not "later".
    fn coordinated(&mut self, what: &str, ask: impl Fn(&Transactional, &mut Client) -> io::Result<i16>) -> Option<i16> {
        const UNKNOWN_PARTITION: i16 = 3;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Some(port) = self.coordinator() else { continue };
            let producer = &self.producer;
            match self.process.net.ask(port, |client| ask(producer, client)) {
                Some(code) if is_retriable(code) || code == UNKNOWN_PARTITION => self.not_now(code),
                Some(code) => {
                    self.process.history.answered(what);
                    return Some(code);
                }
                None => self.coordinator = None,
            }
        }
        None
    }

    /// One transaction. `false`: this producer is fenced, or does not know what became of it, and begins anew.
    fn transaction(&mut self) -> bool {
        let before = self.process.positions.clone();
        self.process.history.begin(Kind::Txn);
        let partitions: Vec<i32> = (0..PARTITIONS).filter(|_| self.process.dice.roll(2) == 0).collect();
        let is_written = self.steps(&partitions);
        // The ones that do not go on are fenced by their successors.
        if !is_written {
            self.process.history.end(End::Fail);
            return false;
        }
        let commit = self.process.dice.roll(4) > 0;
        if commit {
            self.process.history.asks();
        }
        let ended = self.coordinated("EndTxn", |producer, client| producer.try_end(client, 3, commit));
        let end = match (ended, commit) {
            (Some(0), true) => End::Ok,
            (_, false) => End::Fail,
            (_, true) => End::Info,
        };
        self.process.history.end(end);
        if end != End::Ok {
            self.process.positions = before;
        }
        ended == Some(0)
    }

    /// Reads and writes in some order, and offsets for what was read.
    fn steps(&mut self, partitions: &[i32]) -> bool {
        let Some(_) = partitions.first() else {
            // One that has nothing but offsets.
            let key = self.process.dice.roll(PARTITIONS as u64) as i32;
            return self.process.poll(key) && self.offsets(&[key]);
        };
        let add = |producer: &Transactional, client: &mut Client| {
            // OPERATION_NOT_ATTEMPTED stands beside what is not known yet.
            let codes = producer.try_add(client, 3, TOPIC, partitions)?;
            Ok(codes.into_iter().map(|code| if code == 55 { 3 } else { code }).max().unwrap_or(-1))
        };
        if self.coordinated("AddPartitionsToTxn", add) != Some(0) {
            return false;
        }
        let mut polled = Vec::new();
        for _ in 0..1 + self.process.dice.roll(5) {
            let pick = self.process.dice.roll(PARTITIONS as u64) as i32;
            match self.process.dice.roll(3) {
                0 => {
                    if self.process.poll(pick) {
                        polled.push(pick);
                    }
                }
                _ => {
                    if !self.write(partitions[pick as usize % partitions.len()]) {
                        return false;
                    }
                }
            }
        }
        polled.sort_unstable();
        polled.dedup();
        polled.is_empty() || self.offsets(&polled)
    }

    /// Writes a record once, however often it has to be sent.
    fn write(&mut self, key: Key) -> bool {
        const LATER: [i16; 7] = [3, 5, 6, 7, 9, 19, 20];
        self.number += 1;
        let value = self.number;
        self.process.history.sends(key, value);
        let text = value.to_string();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Some(port) = self.process.net.leader(key) else { continue };
            let producer = &mut self.producer;
            let send = |client: &mut Client| producer.produce_version(client, 9, TOPIC, key, &[&text]);
            match self.process.net.ask(port, send) {
                Some((0, offset)) => {
                    self.process.history.sent(offset);
                    return true;
                }
                Some((code, _)) if LATER.contains(&code) => self.process.net.forget_leaders(),
                Some(_) => return false,
                None => self.process.net.forget_leaders(),
            }
        }
        false
    }

    /// The group's offsets, which count if the transaction does.
    fn offsets(&mut self, keys: &[Key]) -> bool {
        let group = self.process.group.clone();
        let add = |producer: &Transactional, client: &mut Client| producer.try_add_offsets(client, 3, &group);
        if self.coordinated("AddOffsetsToTxn", add) != Some(0) {
            return false;
        }
        let offsets: Vec<(i32, i64)> = keys.iter().map(|key| (*key, self.process.positions[key])).collect();
        for (key, offset) in &offsets {
            self.process.history.commits(*key, *offset);
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Some(port) = self.process.net.group_coordinator(&group) else { continue };
            let producer = &self.producer;
            let commit = |client: &mut Client| producer.try_commit_offsets(client, 3, &group, TOPIC, &offsets);
            match self.process.net.ask(port, commit) {
                Some(0) => {
                    self.process.history.answered("TxnOffsetCommit");
                    return true;
                }
                // Of partitions that a broker does not know yet, and while coordinators move.
                Some(code) if is_retriable(code) || [3, 6, 7, 19, 20].contains(&code) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Some(_) => return false,
                None => {}
            }
        }
        false
    }
}
