//! The steps of a history, and what each does to the log and to the model.

use super::check::{self, PassOf};
use super::model::{Batch, Model, Record};
use super::world::{World, partition};
use crate::base::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::config::{CleanupPolicy, LogConfig};
use crate::log::background::Lane;
use crate::log::{AppendOrigin, Log, LogError};
use crate::record::{BatchBuilder, BatchHeader, Compression, EndTxnMarker, ValidatedBatch, ValidatedRecords};
use proptest::prelude::*;

pub const HOUR_MS: i64 = 3_600_000;
const COORDINATOR_EPOCH: i32 = 3;
const KEYS: u8 = 12;
/// Further than an index entry can say.
const FAR: i64 = 3_000_000_000;

/// Records of one batch. Producers from 1 to 3 are idempotent, those from 4 to 6 transactional; 0 is none.
#[derive(Clone, Debug)]
pub struct Append {
    pub producer: u8,
    /// Some are of no key, and some values are tombstones.
    pub keys: Vec<u8>,
    pub codec: u8,
    pub later_ms: i16,
    pub bytes: u8,
    /// The producer begins a new epoch.
    pub is_new_epoch: bool,
    /// All is committed afterwards.
    pub is_committed: bool,
}

/// The end of a producer's transaction, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub producer: u8,
    pub commit: bool,
    pub is_fenced: bool,
}

/// What a follower gets from its leader, several at once.
#[derive(Clone, Debug)]
pub enum Replicated {
    Append(Append),
    End(End),
}

#[derive(Clone, Debug)]
pub enum Op {
    Append(Append),
    /// What a leader has, behind a gap.
    Follow {
        gap: u8,
        batches: Vec<Replicated>,
    },
    End(End),
    /// The producer's last batch once more.
    Retry {
        producer: u8,
    },
    /// A batch that skips sequences.
    Skip {
        producer: u8,
    },
    NewLeader,
    /// Up to a part of the log, in 1/255.
    HighWatermark {
        part: u8,
    },
    DeleteRecords {
        part: u8,
    },
    Retention {
        hours: u8,
    },
    Clean {
        hours: u8,
    },
    Roll,
    Configure {
        what: u8,
    },
    Truncate {
        keep: u8,
    },
    StartAnew {
        by: i8,
    },
    Flush,
    Checkpoint {
        what: u8,
    },
    Housekeep,
    Delete,
    StopAndStart,
    Crash,
    PowerCut {
        keep: u8,
        harm: u8,
    },
}

/// A step, and at which call that changes a file the process dies, if it does.
#[derive(Clone, Debug)]
pub struct Step {
    pub op: Op,
    pub dies_at: Option<u8>,
}

fn appends() -> impl Strategy<Value = Append> {
    let keys = prop::collection::vec(0..KEYS * 5, 1..5);
    let how = (any::<bool>(), 0u8..12);
    (0u8..7, keys, 0u8..5, -50i16..900, 0u8..60, how).prop_map(
        |(producer, keys, codec, later_ms, bytes, (is_committed, epoch))| Append {
            producer,
            keys,
            codec,
            later_ms,
            bytes,
            is_new_epoch: epoch == 0,
            is_committed,
        },
    )
}

fn ends() -> impl Strategy<Value = End> {
    (4u8..7, any::<bool>(), 0u8..6).prop_map(|(producer, commit, fenced)| {
        let is_fenced = fenced == 0;
        End { producer, commit: commit && !is_fenced, is_fenced }
    })
}

fn replicated() -> impl Strategy<Value = Replicated> {
    prop_oneof![2 => appends().prop_map(Replicated::Append), 1 => ends().prop_map(Replicated::End)]
}

pub fn steps() -> impl Strategy<Value = Step> {
    let producer = || 1u8..7;
    let op = prop_oneof![
        40 => appends().prop_map(Op::Append),
        4 => (0u8..40, prop::collection::vec(replicated(), 1..6)).prop_map(|(gap, batches)| Op::Follow { gap, batches }),
        10 => ends().prop_map(Op::End),
        3 => producer().prop_map(|producer| Op::Retry { producer }),
        2 => producer().prop_map(|producer| Op::Skip { producer }),
        3 => Just(Op::NewLeader),
        5 => any::<u8>().prop_map(|part| Op::HighWatermark { part }),
        2 => any::<u8>().prop_map(|part| Op::DeleteRecords { part }),
        2 => (0u8..60).prop_map(|hours| Op::Retention { hours }),
        10 => (0u8..30).prop_map(|hours| Op::Clean { hours }),
        2 => Just(Op::Roll),
        3 => any::<u8>().prop_map(|what| Op::Configure { what }),
        2 => any::<u8>().prop_map(|keep| Op::Truncate { keep }),
        1 => (-60i8..60).prop_map(|by| Op::StartAnew { by }),
        3 => Just(Op::Flush),
        3 => (0u8..4).prop_map(|what| Op::Checkpoint { what }),
        2 => Just(Op::Housekeep),
        1 => Just(Op::Delete),
        3 => Just(Op::StopAndStart),
        4 => Just(Op::Crash),
        3 => any::<(u8, u8)>().prop_map(|(keep, harm)| Op::PowerCut { keep, harm }),
    ];
    let dies_at = prop_oneof![4 => Just(None), 1 => (0u8..30).prop_map(Some)];
    (op, dies_at).prop_map(|(op, dies_at)| Step { op, dies_at })
}

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 150,
        // Offset indexes of 24 entries, time indexes of 16: some segments end for want of room there.
        segment_index_bytes: 192,
        retention_ms: 12 * HOUR_MS,
        delete_retention_ms: 6 * HOUR_MS,
        min_cleanable_dirty_ratio: 0.0,
        cleanup_policy: CleanupPolicy { compact: true, delete: false },
        ..LogConfig::default()
    }
}

fn configure(config: &mut LogConfig, what: u8) {
    let value = usize::from(what / 8);
    match what % 8 {
        0 | 1 => config.segment_bytes = [700, 900, 2500, 6000][value % 4],
        2 => config.delete_retention_ms = [0, HOUR_MS, 24 * HOUR_MS][value % 3],
        3 => config.min_compaction_lag_ms = [0, 5 * HOUR_MS][value % 2],
        4 => config.retention_ms = [-1, 3 * HOUR_MS, 40 * HOUR_MS][value % 3],
        5 => config.retention_bytes = [-1, 2000][value % 2],
        6 => config.segment_ms = [i64::MAX, 3000][value % 2],
        _ => config.cleanup_policy = CleanupPolicy { compact: value % 3 < 2, delete: value % 3 > 0 },
    }
}

/// Does a step, and if the process dies in it, goes on with what was there.
pub fn take(world: &mut World, step: &Step) -> Result<(), String> {
    let before = world.model.clone();
    if let Some(calls) = step.dies_at {
        world.arm(usize::from(calls));
    }
    apply(world, &step.op)?;
    if let Some(picture) = world.disarm() {
        let after = world.model.clone();
        die_at(world, &picture, &before, &after, &step.op)?;
    }
    world.note_snapshots();
    check::check(&world.log(), &world.model).map(|_| ())
}

/// The process died in the middle of a step: the log is what it was before, or after, or part of the way.
pub fn die_at(
    world: &mut World,
    picture: &std::path::Path,
    before: &Model,
    after: &Model,
    op: &Op,
) -> Result<(), String> {
    world.die(picture);
    let mut candidates = vec![after.clone(), before.clone()];
    if let Op::Clean { .. } = op {
        candidates.extend(part_of_a_pass(world, before, after));
    }
    let cuts = matches!(op, Op::Truncate { .. } | Op::StartAnew { .. });
    if cuts {
        // A log start that lies beyond the end: all that was left is below it.
        let mut anew = after.clone();
        anew.start_anew(world.saved().start);
        candidates.push(anew);
    }
    let floor = if let Op::StartAnew { .. } = op { 0 } else { after.end };
    let outcome = world.recover(&candidates, |_, end| cuts && end >= floor);
    outcome.map_err(|reason| format!("{op:?}, {}: {reason}", picture.display()))
}

/// Each segment that a pass rewrites is as it was, or as it is after it.
fn part_of_a_pass(world: &mut World, before: &Model, after: &Model) -> Option<Model> {
    world.open();
    let found = super::reader::read(&world.log()).ok()?;
    world.stop();
    let mut model = Model { judged_to: after.judged_to, ..before.clone() };
    for batch in model.batches.values_mut() {
        let there = found.iter().find(|found| found.batch.base == batch.base).map(|found| &found.batch);
        let left = there.map_or(&[][..], |there| &there.records);
        if let Some(after) = after.batches.get(&batch.base).filter(|after| after.records == left && *after != batch) {
            let horizon = there.map_or(batch.horizon, |there| there.horizon);
            *batch = Batch { horizon, ..after.clone() };
        }
    }
    Some(model)
}

fn part_of(model: &Model, part: u8) -> i64 {
    model.start + (model.end - model.start) * i64::from(part) / 255
}

pub fn apply(world: &mut World, op: &Op) -> Result<(), String> {
    let (log, manager) = (world.log(), world.manager());
    let model = &mut world.model;
    match op {
        Op::Append(append) => lead(&log, model, append)?,
        Op::Follow { gap, batches } => follow(&log, model, *gap, batches)?,
        Op::End(ending) => end(&log, model, ending)?,
        Op::Retry { producer } => retry(&log, model, *producer)?,
        Op::Skip { producer } => skip(&log, model, *producer)?,
        Op::NewLeader => {
            model.leader_epoch += 2;
            log.assign_epoch_start_offset(LeaderEpoch(model.leader_epoch)).map_err(|error| error.to_string())?;
            model.note_epoch(model.leader_epoch, model.end);
        }
        Op::HighWatermark { part } => {
            // It never goes back while a log is open.
            let offset = part_of(model, *part).max(model.high_watermark);
            model.high_watermark = log.update_high_watermark(offset);
        }
        Op::DeleteRecords { part } => {
            let start = model.start + (model.high_watermark - model.start) * i64::from(*part) / 255;
            log.increment_log_start_offset(start).map_err(|error| error.to_string())?;
            model.raise_start(start);
        }
        Op::Retention { hours } => retain(&log, model, *hours)?,
        Op::Clean { hours } => {
            model.now += i64::from(*hours) * HOUR_MS;
            let first_dirty = log.cleaning.offset();
            let first_dirty = match (model.start..=model.end).contains(&first_dirty) {
                true => first_dirty,
                false => model.start,
            };
            if manager.clean_dirtiest(model.now).is_some() {
                let pass = PassOf { first_dirty, end: log.cleaning.offset(), now: model.now };
                check::judge_pass(model, &log, &pass)?;
                model.judged_to = model.judged_to.max(model.end);
                world.passes += 1;
            }
        }
        Op::Roll => {
            let mut writer = log.writer.lock();
            log.roll(&mut writer, model.end, &log.config()).map_err(|error| error.to_string())?;
        }
        Op::Configure { what } => {
            configure(&mut model.config, *what);
            log.set_config(model.config.clone());
        }
        Op::Truncate { keep } => {
            let offset = part_of(model, *keep);
            let holds = model.batches.values().find(|batch| (batch.base..=batch.last).contains(&offset));
            let offset = holds.map_or(offset, |batch| batch.base);
            manager.truncate_to(&[(partition(), offset)]).map_err(|error| error.to_string())?;
            model.cut(offset);
            check::forget(&log, model);
        }
        Op::StartAnew { by } => {
            let offset = (model.end + i64::from(*by)).max(0);
            manager.truncate_fully_and_start_at(&partition(), offset).map_err(|error| error.to_string())?;
            model.start_anew(offset);
        }
        Op::Flush => {
            log.flush().map_err(|error| error.to_string())?;
            assert_eq!(log.recovery_point(), model.end);
        }
        Op::Checkpoint { what } => checkpoint(world, *what)?,
        Op::Housekeep => {
            for (log, offset) in log.background.take(Lane::Flush, i64::MAX).flushes {
                log.upgrade().map_or(Ok(()), |log| log.flush_to(offset)).map_err(|error| error.to_string())?;
            }
            for path in log.background.take(Lane::Removal, i64::MAX).removals {
                let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
        }
        Op::Delete => {
            manager.delete(&partition()).map_err(|error| error.to_string())?;
            let config = model.config.clone();
            let leader_epoch = model.leader_epoch;
            *model = Model { leader_epoch, ..Model::new(config, model.now) };
            world.recreate();
        }
        Op::StopAndStart => {
            manager.shutdown();
            drop((log, manager));
            let stopped = world.model.clone();
            world.die(&world.dir.clone());
            world.crashes -= 1;
            world.recover(std::slice::from_ref(&stopped), |_, _| false)?;
            let model = &world.model;
            // Behind a gap that is too far for one segment the log begins with the batch that follows it.
            let first_base = world.log().first_segment_base();
            let is_before = |batch: &Batch| batch.last >= stopped.start && batch.base < first_base;
            let start = match stopped.batches.values().any(is_before) {
                true => stopped.start,
                false => stopped.start.max(first_base),
            };
            let kept = (start, stopped.high_watermark.min(model.end));
            if (model.start, model.high_watermark) != kept {
                return Err(format!("start and high watermark after a clean stop: {kept:?} became {model:?}"));
            }
        }
        Op::Crash => {
            drop((log, manager));
            let candidates = [world.model.clone()];
            world.die(&world.dir.clone());
            world.recover(&candidates, |_, _| false)?;
        }
        Op::PowerCut { keep, harm } => {
            let flushed = log.recovery_point();
            drop((log, manager));
            let candidates = [world.model.clone()];
            world.cut_power(*keep, *harm);
            world.recover(&candidates, |_, end| end >= flushed)?;
        }
    }
    Ok(())
}

fn checkpoint(world: &mut World, what: u8) -> Result<(), String> {
    let (log, manager) = (world.log(), world.manager());
    let dir = log.log_dir();
    let written = match what {
        0 => manager.write_high_watermarks(&dir),
        1 => manager.write_recovery_points(&dir),
        2 => manager.write_log_starts(&dir),
        _ => manager.write_checkpoints(&dir),
    };
    written.map_err(|error| error.to_string())?;
    let (saved, model) = (world.saved(), &world.model);
    let is_high_watermark_wrong = [0, 3].contains(&what) && saved.high_watermark != model.high_watermark;
    // A start before the first segment is not written: it says nothing.
    let first = log.first_segment_base();
    let is_start_wrong = [2, 3].contains(&what) && saved.start.max(first) != model.start.max(first);
    if is_high_watermark_wrong || is_start_wrong {
        return Err(format!("checkpoint {what} says {saved:?}: {} {}", model.start, model.high_watermark));
    }
    Ok(())
}

/// As the partition's leader does after the coordinator's answer: without it no transaction begins.
fn verify(log: &Log, header: &BatchHeader) {
    let (producer, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
    if header.is_transactional()
        && let Some(guard) = log.begin_verification(producer, epoch, None, 0)
    {
        log.confirm_verification(producer, guard);
    }
}

/// The batch as it is sent, and as the log has it at `base`.
fn build(model: &mut Model, append: &Append, base: i64) -> (ValidatedBatch, Batch) {
    model.now += i64::from(append.later_ms);
    let id = if append.producer == 0 { -1 } else { i64::from(append.producer) };
    let is_transactional = append.producer > 3;
    let (mut epoch, mut sequence) = (if id < 0 { -1 } else { 0 }, if id < 0 { -1 } else { 0 });
    if let Some(known) = model.replay().0.get(&id) {
        epoch = known.epoch;
        sequence = known.last.map_or(0, |(last, ..)| last + 1);
        if append.is_new_epoch && known.open_from.is_none() {
            (epoch, sequence) = (epoch + 1, 0);
        }
    }
    let mut builder = BatchBuilder::new()
        .compression(Compression::ALL[usize::from(append.codec)], None)
        .producer(id, epoch, sequence)
        .transactional(is_transactional);
    let mut records = Vec::new();
    for (at, key) in append.keys.iter().enumerate() {
        model.written += 1;
        let value = format!("{} {}", model.written, "x".repeat(usize::from(append.bytes)));
        let headers = match model.written % 4 {
            0 => vec![],
            1 => vec![(b"h".to_vec(), None)],
            _ => vec![(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), Some(vec![]))],
        };
        let record = Record {
            offset: base + at as i64,
            key: (*key < KEYS * 5 - 1).then(|| vec![key % KEYS]),
            value: (key / KEYS != 1).then(|| value.into_bytes()),
            timestamp: model.now - 3 * at as i64,
            headers,
        };
        let headers = record.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
        records.push(record);
    }
    let batch = Batch {
        base,
        last: base + append.keys.len() as i64 - 1,
        leader_epoch: model.leader_epoch,
        producer: id,
        producer_epoch: epoch,
        sequence,
        is_transactional,
        marker: None,
        horizon: None,
        records,
        timestamp: model.now,
    };
    (builder.build().unwrap(), batch)
}

fn send(log: &Log, batch: ValidatedBatch, epoch: i32, origin: AppendOrigin) -> Result<(i64, bool), LogError> {
    verify(log, &batch.header);
    let info = log.append_as_leader(ValidatedRecords::from_batch(batch), LeaderEpoch(epoch), origin)?;
    Ok((info.first_offset, info.is_duplicate))
}

fn lead(log: &Log, model: &mut Model, append: &Append) -> Result<(), String> {
    let (sent, batch) = build(model, append, model.end);
    let taken = send(log, sent, model.leader_epoch, AppendOrigin::Client).map_err(|error| error.to_string())?;
    if taken != (batch.base, false) {
        return Err(format!("appended at {taken:?}, not at {}", batch.base));
    }
    model.add(batch);
    if append.is_committed {
        model.high_watermark = log.update_high_watermark(model.end);
    }
    Ok(())
}

fn follow(log: &Log, model: &mut Model, gap: u8, batches: &[Replicated]) -> Result<(), String> {
    let (mut sent, mut size) = (Vec::new(), 0);
    let gap = match gap {
        0 => FAR,
        gap => i64::from(gap / 4),
    };
    let mut next = model.end + gap;
    for batch in batches {
        let built = match batch {
            Replicated::Append(append) => Some(build(model, append, next)),
            Replicated::End(ending) => marker(model, ending, next),
        };
        let Some((mut batch, written)) = built else { continue };
        // A follower takes no more at once than fits into a segment.
        size += batch.size_bytes();
        if size > log.config().segment_bytes as usize && !sent.is_empty() {
            break;
        }
        batch.header.set_base_offset(written.base);
        batch.header.set_partition_leader_epoch(written.leader_epoch);
        next = written.last + 1;
        sent.push(batch);
        model.add(written);
    }
    if !sent.is_empty() {
        log.append_as_follower(&sent).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn end(log: &Log, model: &mut Model, ending: &End) -> Result<(), String> {
    let Some((sent, written)) = marker(model, ending, model.end) else { return Ok(()) };
    let taken = send(log, sent, model.leader_epoch, AppendOrigin::Coordinator).map_err(|error| error.to_string())?;
    if taken != (written.base, false) {
        return Err(format!("marker appended at {taken:?}, not at {}", written.base));
    }
    model.add(written);
    Ok(())
}

/// The marker as it is sent, and as the log has it at `base`; `None` if the producer is not known.
fn marker(model: &Model, ending: &End, base: i64) -> Option<(ValidatedBatch, Batch)> {
    let id = i64::from(ending.producer);
    let epoch = model.replay().0.get(&id)?.epoch + i16::from(ending.is_fenced);
    let marker = EndTxnMarker { commit: ending.commit, coordinator_epoch: COORDINATOR_EPOCH };
    let record = Record {
        offset: base,
        key: Some(marker.key().to_vec()),
        value: Some(marker.value().to_vec()),
        timestamp: model.now,
        headers: vec![],
    };
    let written = Batch {
        base,
        last: base,
        leader_epoch: model.leader_epoch,
        producer: id,
        producer_epoch: epoch,
        sequence: -1,
        is_transactional: true,
        marker: Some((ending.commit, COORDINATOR_EPOCH)),
        horizon: None,
        records: vec![record],
        timestamp: model.now,
    };
    Some((marker.batch(id, epoch, model.now).unwrap(), written))
}

/// The same sequences once more are answered with the offsets of the first time.
fn retry(log: &Log, model: &Model, producer: u8) -> Result<(), String> {
    let id = i64::from(producer);
    let Some(known) = model.replay().0.get(&id).copied() else { return Ok(()) };
    let Some((last_sequence, last_offset, reach)) = known.last else { return Ok(()) };
    let first = last_sequence - reach as i32;
    let mut builder = BatchBuilder::new().producer(id, known.epoch, first).transactional(producer > 3);
    (0..=reach).for_each(|_| builder.append(model.now, Some(b"again"), Some(b"again"), []));
    let taken = send(log, builder.build().unwrap(), model.leader_epoch, AppendOrigin::Client);
    match taken {
        Ok(taken) if taken == (last_offset - reach, true) => Ok(()),
        other => Err(format!("a batch that was sent before, at {}: {other:?}", last_offset - reach)),
    }
}

fn skip(log: &Log, model: &Model, producer: u8) -> Result<(), String> {
    let id = i64::from(producer);
    let Some(known) = model.replay().0.get(&id).copied() else { return Ok(()) };
    let Some((last_sequence, ..)) = known.last else { return Ok(()) };
    let mut builder = BatchBuilder::new().producer(id, known.epoch, last_sequence + 2).transactional(producer > 3);
    builder.append(model.now, Some(b"skipped"), Some(b"skipped"), []);
    match send(log, builder.build().unwrap(), model.leader_epoch, AppendOrigin::Client) {
        Err(LogError::OutOfOrderSequence { .. }) => Ok(()),
        other => Err(format!("a batch that skips a sequence: {other:?}")),
    }
}

/// What retention takes is old, too much, or below the log start, and committed.
fn retain(log: &Log, model: &mut Model, hours: u8) -> Result<(), String> {
    model.now += i64::from(hours) * HOUR_MS;
    let segments = log.segments.load_full();
    let (bases, total) = (segments.iter().map(|segment| segment.base_offset()), log.size_bytes());
    let bases: Vec<i64> = bases.chain([model.end]).collect();
    let count = log.apply_retention(model.now).map_err(|error| error.to_string())?;
    let config = &model.config;
    let mut left = total;
    for (segment, range) in segments.iter().zip(bases.windows(2)).take(count) {
        left -= segment.size();
        let (base, end) = (range[0], range[1]);
        let is_young =
            |batch: &Batch| batch.records.iter().any(|record| record.timestamp >= model.now - config.retention_ms);
        let is_old = config.cleanup_policy.delete
            && config.retention_ms >= 0
            && !model.batches.range(base..end).any(|(_, batch)| is_young(batch));
        let limit = u64::try_from(config.retention_bytes).ok().filter(|_| config.cleanup_policy.delete);
        let is_too_much = limit.is_some_and(|limit| left >= limit);
        if end > model.high_watermark || !(is_old || is_too_much || end <= model.start) {
            return Err(format!("retention took {base} to {end} of a log from {} on", model.start));
        }
    }
    model.raise_start(log.first_segment_base());
    Ok(())
}
