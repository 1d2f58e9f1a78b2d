//! Compaction against a model that remembers every record: under random appends, transactions, passes of the cleaner, stops and
//! crashes no newest record is lost, and what is left is where it was.

#[path = "common/kafka_dump.rs"]
mod kafka_dump;

use kafka_dump::dump_without_fault;
use ottla::base::time::wall_ms;
use ottla::base::{LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};
use ottla::config::{BrokerConfig, CleanupPolicy, LogConfig};
use ottla::log::{AppendOrigin, Log, LogAppendInfo, LogManager};
use ottla::record::{BatchBuilder, BatchHeader, Compression, EndTxnMarker, ValidatedBatch, ValidatedRecords, batches};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const DAY_MS: i64 = 86_400_000;

#[derive(Clone, Debug)]
enum Op {
    /// Keys (some more than once), of which those divisible by 5 are deleted, with a codec, by a producer or by none.
    Append {
        keys: Vec<u8>,
        codec: u8,
        producer: Option<u8>,
    },
    /// The same inside the producer's transaction.
    AppendInTransaction {
        keys: Vec<u8>,
        producer: u8,
    },
    EndTransaction {
        producer: u8,
        commit: bool,
    },
    /// Passes of the cleaner until nothing is left to do, so many days later.
    Clean {
        days: u8,
    },
    LargerSegments,
    StopAndStart,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let keys = || prop::collection::vec(0u8..20, 1..5);
    prop_oneof![
        12 => (keys(), 0u8..5, prop::option::of(0u8..3)).prop_map(|(keys, codec, producer)| Op::Append { keys, codec, producer }),
        5 => (keys(), 10u8..12).prop_map(|(keys, producer)| Op::AppendInTransaction { keys, producer }),
        3 => (10u8..12, any::<bool>()).prop_map(|(producer, commit)| Op::EndTransaction { producer, commit }),
        3 => (0u8..5).prop_map(|days| Op::Clean { days }),
        1 => Just(Op::LargerSegments),
        1 => Just(Op::StopAndStart),
        2 => Just(Op::Crash),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: u8,
    value: Option<String>,
    timestamp: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Live,
    /// Of a producer's transaction that is not ended.
    Open(u8),
    Aborted,
}

#[derive(Default)]
struct Producer {
    next_sequence: i32,
    last: Option<(ValidatedBatch, i64)>,
    in_transaction: bool,
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<i64, (Entry, Fate)>,
    producers: BTreeMap<u8, Producer>,
    end: i64,
    written: u64,
    /// The map of keys is as small as it may be.
    is_short_of_memory: bool,
    segment_bytes: i32,
}

impl Model {
    fn config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            index_interval_bytes: 150,
            cleanup_policy: CleanupPolicy { compact: true, delete: false },
            min_cleanable_dirty_ratio: 0.0,
            ..LogConfig::default()
        }
    }
}

struct Subject {
    manager: Arc<LogManager>,
    log: Arc<Log>,
}

fn open(dir: &Path, model: &Model) -> Subject {
    let mut broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    if model.is_short_of_memory {
        broker.log_cleaner.dedupe_buffer_size = 0;
        broker.log_cleaner.io_buffer_load_factor = 0.1;
    }
    let manager = LogManager::open(&broker, &|_| model.config()).unwrap();
    let log = manager.create(&TopicPartition::new("model", 0), None, model.config()).unwrap();
    log.update_high_watermark(i64::MAX);
    Subject { manager, log }
}

/// As the partition's leader does after the coordinator's answer: without it no transaction begins.
fn verify(log: &Log, header: &BatchHeader) {
    let (producer, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
    if let Some(guard) = log.begin_verification(producer, epoch, None, 0) {
        log.confirm_verification(producer, guard);
    }
}

fn append_batch(log: &Log, batch: &ValidatedBatch, origin: AppendOrigin) -> LogAppendInfo {
    verify(log, &batch.header);
    let info = log.append_as_leader(ValidatedRecords::from_batch(batch.clone()), LeaderEpoch(1), origin).unwrap();
    log.update_high_watermark(i64::MAX);
    info
}

fn append(log: &Log, model: &mut Model, keys: &[u8], codec: u8, producer: Option<u8>, in_transaction: bool) {
    let mut builder = BatchBuilder::new().compression(Compression::ALL[usize::from(codec)], None);
    if let Some(id) = producer {
        let state = model.producers.entry(id).or_default();
        builder = builder.producer(i64::from(id), 0, state.next_sequence).transactional(in_transaction);
        state.next_sequence += keys.len() as i32;
        state.in_transaction = in_transaction;
    }
    for (at, key) in keys.iter().enumerate() {
        model.written += 1;
        let value = (!model.written.is_multiple_of(5))
            .then(|| format!("{} {}", model.written, "x".repeat(usize::from(*key) * 2)));
        let timestamp = wall_ms() - 7 * (model.written as i64 % 3);
        builder.append(timestamp, Some(&[*key]), value.as_deref().map(str::as_bytes), [(&b"h"[..], None)]);
        let fate = if in_transaction { Fate::Open(producer.unwrap()) } else { Fate::Live };
        model.entries.insert(model.end + at as i64, (Entry { key: *key, value, timestamp }, fate));
    }
    let batch = builder.build().unwrap();
    let info = append_batch(log, &batch, AppendOrigin::Client);
    assert_eq!((info.first_offset, info.is_duplicate), (model.end, false));
    if let Some(id) = producer {
        model.producers.entry(id).or_default().last = Some((batch, model.end));
    }
    model.end += keys.len() as i64;
}

fn end_transaction(log: &Log, model: &mut Model, producer: u8, commit: bool) {
    let Some(state) = model.producers.get_mut(&producer).filter(|state| state.in_transaction) else { return };
    state.in_transaction = false;
    let marker = EndTxnMarker { commit, coordinator_epoch: 1 }.batch(i64::from(producer), 0, wall_ms()).unwrap();
    append_batch(log, &marker, AppendOrigin::Coordinator);
    model.end += 1;
    for (_, fate) in model.entries.values_mut().filter(|(_, fate)| *fate == Fate::Open(producer)) {
        *fate = if commit { Fate::Live } else { Fate::Aborted };
    }
}

fn apply(subject: &mut Subject, model: &mut Model, dir: &Path, op: &Op) {
    let log = &subject.log;
    match op {
        Op::Append { keys, codec, producer } => append(log, model, keys, *codec, *producer, false),
        Op::AppendInTransaction { keys, producer } => append(log, model, keys, 0, Some(*producer), true),
        Op::EndTransaction { producer, commit } => end_transaction(log, model, *producer, *commit),
        Op::Clean { days } => {
            while subject.manager.clean_dirtiest(wall_ms() + i64::from(*days) * DAY_MS).is_some() {}
            let path = dir.join("cleaner-offset-checkpoint");
            if let Ok(text) = fs::read_to_string(path) {
                let clean = text.lines().nth(2).and_then(|line| line.split(' ').nth(2)?.parse().ok());
                check_clean(log, clean.unwrap_or(0));
            }
        }
        Op::LargerSegments => {
            model.segment_bytes += 1000;
            log.set_config(model.config());
        }
        Op::StopAndStart => {
            subject.manager.shutdown();
            restart(subject, model, dir);
        }
        Op::Crash => restart(subject, model, dir),
    }
}

fn restart(subject: &mut Subject, model: &Model, dir: &Path) {
    let nowhere = tempfile::tempdir().unwrap();
    // The old one lets go of the directory first.
    *subject = open(nowhere.path(), model);
    *subject = open(dir, model);
    // Producers are still known by their last batches.
    for (producer, state) in &model.producers {
        let Some((batch, offset)) = &state.last else { continue };
        let info = append_batch(&subject.log, batch, AppendOrigin::Client);
        assert_eq!((info.first_offset, info.is_duplicate), (*offset, true), "producer {producer}");
    }
}

/// Every record that is left, and whether a reader of committed records passes it over.
fn survivors(log: &Log) -> BTreeMap<i64, (Entry, bool)> {
    let mut found = BTreeMap::new();
    let (mut offset, end) = (log.log_start_offset(), log.log_end_offset());
    let aborted = log.aborted_transactions(offset, end).unwrap();
    let mut last = -1;
    while offset < end {
        let bytes = log.read_bytes(offset, 500, i64::MAX, true).unwrap();
        let before = offset;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            assert!(batch.base_offset() > last, "batches are in order");
            (offset, last) = (batch.next_offset(), batch.last_offset());
            let header = batch.header().unwrap();
            assert_eq!(header.partition_leader_epoch(), 1);
            if header.is_control() {
                continue;
            }
            let is_aborted = aborted.iter().any(|transaction| {
                transaction.producer_id.0 == header.producer_id()
                    && (transaction.first_offset..=transaction.last_offset).contains(&batch.base_offset())
            });
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                assert_eq!(record.headers.iter().collect::<Vec<_>>(), [(&b"h"[..], None)]);
                let value = record.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
                let entry = Entry { key: record.key.unwrap()[0], value, timestamp: record.timestamp };
                assert!(found.insert(record.offset, (entry, is_aborted)).is_none());
            }
        }
        if offset == before {
            break;
        }
    }
    found
}

fn check(log: &Log, model: &Model) {
    assert_eq!(log.log_end_offset(), model.end);
    let found = survivors(log);
    for (offset, (entry, is_passed_over)) in &found {
        let (expected, fate) = &model.entries[offset];
        assert_eq!(entry, expected, "offset {offset}");
        assert_eq!(*is_passed_over, *fate == Fate::Aborted, "offset {offset}");
    }
    for key in 0..20 {
        let live = || model.entries.iter().filter(|(_, (entry, fate))| entry.key == key && *fate == Fate::Live);
        let Some((offset, (newest, _))) = live().next_back() else { continue };
        if found.contains_key(offset) {
            continue;
        }
        assert_eq!(newest.value, None, "the newest record of key {key}, at offset {offset}, is lost");
        let older = live().map(|(offset, _)| offset).find(|offset| found.contains_key(offset));
        assert_eq!(older, None, "a deleted value of key {key} comes back");
    }
    let is_open = |(_, (_, fate)): &(&i64, &(Entry, Fate))| matches!(fate, Fate::Open(_));
    for (offset, _) in model.entries.iter().filter(is_open) {
        assert!(found.contains_key(offset), "offset {offset} of an open transaction is lost");
    }
}

/// Below `clean` every key has one record at most.
fn check_clean(log: &Log, clean: i64) {
    let mut seen = BTreeMap::new();
    for (offset, (entry, is_aborted)) in survivors(log).range(..clean) {
        assert!(!is_aborted, "offset {offset}");
        assert_eq!(seen.insert(entry.key, *offset), None, "two records of key {} below {clean}", entry.key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_newest_record_is_lost(ops in prop::collection::vec(op(), 20..160), is_short_of_memory in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model { is_short_of_memory, segment_bytes: 700, ..Model::default() };
        let mut subject = open(dir.path(), &model);
        for op in &ops {
            apply(&mut subject, &mut model, dir.path(), op);
            check(&subject.log, &model);
        }
    }
}

#[test]
fn logs_that_are_also_deleted_lose_old_segments_to_the_cleaner() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = BrokerConfig { log_dirs: vec![dir.path().to_path_buf()], ..BrokerConfig::default() };
    broker.log_cleaner.backoff_ms = 50;
    let config = LogConfig {
        segment_bytes: 300,
        retention_ms: 3_600_000,
        cleanup_policy: CleanupPolicy { compact: true, delete: true },
        ..LogConfig::default()
    };
    let manager = LogManager::open(&broker, &|_| config.clone()).unwrap();
    let log = manager.create(&TopicPartition::new("both", 0), None, config).unwrap();
    for (n, age_ms) in [(0u8, DAY_MS), (1, DAY_MS), (2, DAY_MS), (3, 0), (4, 0), (5, 0), (6, 0)] {
        let mut builder = BatchBuilder::new();
        builder.append(wall_ms() - age_ms, Some(&[n]), Some(&[n; 150]), []);
        append_batch(&log, &builder.build().unwrap(), AppendOrigin::Client);
    }
    manager.start_background().unwrap();
    let deadline = wall_ms() + 60_000;
    while log.log_start_offset() < 3 || !dir.path().join("cleaner-offset-checkpoint").exists() {
        assert!(wall_ms() < deadline, "the cleaner does nothing");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    manager.shutdown();
    assert_eq!(log.log_start_offset(), 3);
}

#[test]
fn kafkas_own_dump_tool_finds_no_fault_in_a_compacted_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model { segment_bytes: 2000, ..Model::default() };
    let subject = open(dir.path(), &model);
    // A producer that is heard of only once.
    append(&subject.log, &mut model, &[1, 2], 3, Some(9), false);
    for n in 0..200u8 {
        let keys = [n % 7, n % 20, n % 3];
        append(&subject.log, &mut model, &keys, n % 5, Some(n % 3), false);
        if n % 3 == 0 {
            append(&subject.log, &mut model, &keys, 0, Some(10 + n % 2), true);
            end_transaction(&subject.log, &mut model, 10 + n % 2, n % 4 == 0);
        }
        if n == 120 {
            while subject.manager.clean_dirtiest(wall_ms()).is_some() {}
            assert!(survivors(&subject.log).len() < model.entries.len() / 2);
        }
    }
    while subject.manager.clean_dirtiest(wall_ms() + 2 * DAY_MS).is_some() {}
    check(&subject.log, &model);
    subject.manager.shutdown();

    let all = dump_without_fault(dir.path(), true);
    assert!(all.contains("deleteHorizonMs: OptionalLong["));
    assert!(all.contains("count: 0 "), "a producer's last batch is a bare header");
}
