//! The log against a model that is a list of batches, under random appends, rolls, truncations, retention, stops and crashes.

use ottla::base::{LeaderEpoch, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogManager};
use ottla::record::{BatchBuilder, RawBatch, ValidatedRecords, batches};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const START_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
enum Op {
    /// So many records, so much later (or earlier) than the last ones, of so many bytes.
    Append {
        count: u8,
        later_ms: i16,
        bytes: u16,
    },
    NewLeader,
    /// A fraction of the log, in 1/256, is kept.
    Truncate {
        keep: u8,
    },
    StartAnew {
        gap: u8,
    },
    /// Committed up to a fraction of the log, and below a fraction of that deleted.
    DeleteRecords {
        committed: u8,
        deleted: u8,
    },
    Retention,
    Flush,
    StopAndStart,
    Crash,
    /// Of what was not flushed in the last segment a fraction, in 1/256 of its bytes, is on the disk.
    PowerCut {
        keep: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1u8..5, -50i16..400, 0u16..300).prop_map(|(count, later_ms, bytes)| Op::Append { count, later_ms, bytes }),
        2 => Just(Op::NewLeader),
        1 => any::<u8>().prop_map(|keep| Op::Truncate { keep }),
        1 => (0u8..20).prop_map(|gap| Op::StartAnew { gap }),
        1 => any::<(u8, u8)>().prop_map(|(committed, deleted)| Op::DeleteRecords { committed, deleted }),
        1 => Just(Op::Retention),
        1 => Just(Op::Flush),
        1 => Just(Op::StopAndStart),
        2 => Just(Op::Crash),
        1 => any::<u8>().prop_map(|keep| Op::PowerCut { keep }),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Batch {
    base: i64,
    last: i64,
    epoch: i32,
    /// (timestamp, value) of each record.
    records: Vec<(i64, String)>,
}

#[derive(Default)]
struct Model {
    batches: Vec<Batch>,
    start: i64,
    end: i64,
    epoch: i32,
    now_ms: i64,
    /// Epochs and where they begin, as a leader notes them.
    epochs: Vec<(i32, i64)>,
    written: u64,
}

impl Model {
    fn drop_from(&mut self, offset: i64) {
        self.batches.retain(|batch| batch.last < offset);
        self.epochs.retain(|(_, start)| *start < offset);
        self.end = self.end.min(offset);
        self.start = self.start.min(self.end);
    }

    fn raise_start(&mut self, start: i64) {
        self.start = start;
        let holds = self.epochs.iter().rposition(|(_, at)| *at <= start);
        if let Some(holds) = holds {
            self.epochs.drain(..holds);
            self.epochs[0].1 = start;
        }
    }

    fn end_of_epoch(&self, asked: i32) -> (i32, i64) {
        match (self.epochs.first(), self.epochs.last()) {
            (Some(first), Some(last)) if asked <= last.0 && asked >= 0 => {
                if asked == last.0 {
                    (asked, self.end)
                } else if asked < first.0 {
                    (asked, first.1)
                } else {
                    let next = self.epochs.iter().position(|(epoch, _)| *epoch > asked).unwrap();
                    (self.epochs[next - 1].0, self.epochs[next].1)
                }
            }
            _ => (-1, -1),
        }
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 150,
        // Offset indexes of 12 entries, time indexes of 8: some segments end for want of room there.
        segment_index_bytes: 96,
        retention_ms: 3000,
        ..LogConfig::default()
    }
}

struct Subject {
    manager: Arc<LogManager>,
    log: Arc<Log>,
}

fn open(dir: &Path) -> Subject {
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    let manager = LogManager::open(&broker, &|_| config()).unwrap();
    let log = manager.create(&TopicPartition::new("model", 0), None, config()).unwrap();
    Subject { manager, log }
}

fn fraction(of: i64, part: u8) -> i64 {
    of * i64::from(part) / 256
}

fn append(log: &Log, model: &mut Model, count: u8, later_ms: i16, bytes: u16) {
    model.now_ms += i64::from(later_ms);
    let mut builder = BatchBuilder::new();
    let mut batch = Batch { base: model.end, last: model.end, epoch: model.epoch, records: Vec::new() };
    for i in 0..i64::from(count) {
        let value = format!("{} {}", model.written, "z".repeat(usize::from(bytes)));
        let timestamp = START_MS + model.now_ms - i * 3;
        builder.append(timestamp, None, Some(value.as_bytes()), []);
        batch.records.push((timestamp, value));
        batch.last = model.end + i;
        model.written += 1;
    }
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    let info = log.append_as_leader(records, LeaderEpoch(model.epoch), AppendOrigin::Client).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (batch.base, batch.last));
    model.end = batch.last + 1;
    if model.epochs.last().is_none_or(|(epoch, _)| *epoch < model.epoch) {
        model.epochs.retain(|(_, start)| *start < batch.base);
        model.epochs.push((model.epoch, batch.base));
    }
    model.batches.push(batch);
}

fn apply(subject: &mut Subject, model: &mut Model, dir: &Path, op: &Op) {
    let log = &subject.log;
    match *op {
        Op::Append { count, later_ms, bytes } => append(log, model, count, later_ms, bytes),
        Op::NewLeader => {
            model.epoch += 2;
            log.assign_epoch_start_offset(LeaderEpoch(model.epoch)).unwrap();
            model.epochs.retain(|(_, start)| *start < model.end);
            model.epochs.push((model.epoch, model.end));
        }
        Op::Truncate { keep } => {
            // Leaders agree on where batches begin, and on what is committed.
            let offset = model.start + fraction(model.end - model.start, keep);
            let holds = model.batches.iter().find(|batch| (batch.base..=batch.last).contains(&offset));
            let offset = holds.map_or(offset, |b| if b.base < model.start { b.last + 1 } else { b.base });
            subject.manager.truncate_to(&[(TopicPartition::new("model", 0), offset)]).unwrap();
            model.drop_from(offset);
        }
        Op::StartAnew { gap } => {
            let offset = model.end + i64::from(gap);
            let partition = TopicPartition::new("model", 0);
            subject.manager.truncate_fully_and_start_at(&partition, offset).unwrap();
            *model = Model { start: offset, end: offset, epoch: model.epoch, now_ms: model.now_ms, ..Model::default() };
        }
        Op::DeleteRecords { committed, deleted } => {
            let committed = log.update_high_watermark(model.start + fraction(model.end - model.start, committed));
            let start = model.start + fraction(committed - model.start, deleted);
            log.increment_log_start_offset(start).unwrap();
            model.raise_start(start);
        }
        Op::Retention => {
            log.update_high_watermark(model.end);
            log.apply_retention(START_MS + model.now_ms).unwrap();
            let start = log.log_start_offset();
            assert!(start >= model.start && start <= model.end);
            let is_new = |batch: &&Batch| {
                batch.last >= start && batch.records.iter().any(|(ts, _)| START_MS + model.now_ms - ts <= 3000)
            };
            let lost = model.batches.iter().filter(|batch| batch.last >= model.start).filter(|b| b.last < start);
            assert!(
                lost.clone().count() == 0
                    || model.batches.iter().filter(is_new).count() > 0
                    || start == model.end
                    || model.batches.iter().any(|batch| batch.last >= start),
                "retention"
            );
            model.raise_start(start);
        }
        Op::Flush => {
            log.flush().unwrap();
            assert_eq!(log.recovery_point(), model.end);
        }
        Op::StopAndStart => {
            subject.manager.shutdown();
            restart(subject, model, dir);
            assert_eq!(subject.log.log_start_offset(), model.start);
        }
        Op::PowerCut { keep } => {
            let flushed = log.recovery_point();
            let nowhere = tempfile::tempdir().unwrap();
            *subject = open(nowhere.path());
            lose_unflushed(&dir.join("model-0"), flushed, keep);
            *subject = open(dir);
            let end = subject.log.log_end_offset();
            assert!(end >= flushed && end <= model.end, "{end} of {}, {flushed} flushed", model.end);
            model.drop_from(end);
            let log = &subject.log;
            log.update_high_watermark(model.start);
            log.increment_log_start_offset(model.start).unwrap();
            log.truncate_to(model.end).unwrap();
        }
        Op::Crash => {
            restart(subject, model, dir);
            // Only a checkpoint remembers a log start inside a segment: it is asked for again.
            let log = &subject.log;
            assert!(log.log_start_offset() <= model.start);
            log.update_high_watermark(model.start);
            log.increment_log_start_offset(model.start).unwrap();
            log.truncate_to(model.end).unwrap();
        }
    }
}

fn lose_unflushed(dir: &Path, flushed: i64, keep: u8) {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let last = all.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let is_flushed = |batch: &RawBatch<'_>| batch.last_offset() < flushed;
    let safe: usize = batches(&bytes).map(|b| b.unwrap()).take_while(is_flushed).map(|b| b.size_bytes()).sum();
    let len = safe + (bytes.len() - safe) * usize::from(keep) / 256;
    std::fs::write(&last, &bytes[..len]).unwrap();
}

fn restart(subject: &mut Subject, model: &mut Model, dir: &Path) {
    let nowhere = tempfile::tempdir().unwrap();
    // The old one lets go of the directory first.
    *subject = open(nowhere.path());
    *subject = open(dir);
    // Epochs without records are forgotten; their leader notes them again.
    model.epochs.retain(|(_, start)| *start < model.end);
}

fn check(log: &Log, model: &Model) {
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (model.start, model.end));
    assert!(log.high_watermark() >= model.start && log.high_watermark() <= model.end);
    let mut found = Vec::new();
    let mut offset = model.start;
    while offset < model.end {
        let bytes = log.read_bytes(offset, 500, i64::MAX, true).unwrap();
        let mut next = offset;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            let records = batch.records(1 << 20).unwrap();
            let records = records.iter().map(|record| record.unwrap());
            let records =
                records.map(|r| (r.timestamp, String::from_utf8(r.value.unwrap().to_vec()).unwrap())).collect();
            next = batch.next_offset();
            let epoch = batch.partition_leader_epoch();
            found.push(Batch { base: batch.base_offset(), last: batch.last_offset(), epoch, records });
        }
        if next == offset {
            break;
        }
        offset = next;
    }
    let expected: Vec<_> = model.batches.iter().filter(|batch| batch.last >= model.start).cloned().collect();
    assert_eq!(found, expected);
    check_times(log, model, &expected);
    for epoch in 0..=model.epoch + 1 {
        let (found, end) = log.end_offset_for_epoch(LeaderEpoch(epoch));
        assert_eq!((found.0, end), model.end_of_epoch(epoch), "epoch {epoch} of {:?}", model.epochs);
    }
}

fn check_times(log: &Log, model: &Model, expected: &[Batch]) {
    let records = || {
        expected.iter().flat_map(|batch| {
            batch.records.iter().enumerate().map(|(at, (timestamp, _))| (batch.base + at as i64, *timestamp))
        })
    };
    for back_ms in [-1, 0, 150, 700, 5000, 1 << 40] {
        let asked = START_MS + model.now_ms - back_ms;
        let first = records().find(|(offset, timestamp)| *timestamp >= asked && *offset >= model.start);
        let found = log.offset_for_timestamp(asked).unwrap().map(|found| (found.offset, found.timestamp));
        assert_eq!(found, first, "{back_ms} ms ago");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_of_batches(ops in prop::collection::vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut subject = open(dir.path());
        let mut model = Model::default();
        for op in &ops {
            apply(&mut subject, &mut model, dir.path(), op);
            check(&subject.log, &model);
        }
    }
}
