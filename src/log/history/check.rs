//! What has to hold after every step: the log is what the model says, by every question that can be asked of it.

use super::model::{Batch, Model, Producer, Transaction};
use super::reader::{Found, read};
use crate::base::LeaderEpoch;
use crate::log::{Log, ProducerEntry};
use std::collections::{BTreeMap, BTreeSet};

type Outcome = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

pub fn check(log: &Log, model: &Model) -> Result<Vec<Found>, String> {
    same("log start and end", (log.log_start_offset(), log.log_end_offset()), (model.start, model.end))?;
    same("high watermark", log.high_watermark(), model.high_watermark)?;
    let first_base = log.first_segment_base();
    // Behind a gap that is too far for one segment the log begins with the batch that follows it.
    let is_before = model.batches.values().any(|batch| batch.last >= model.start && batch.base < first_base);
    if log.recovery_point() > model.end || (first_base > model.start && is_before) {
        return Err(format!("recovery point {}, first segment {first_base}", log.recovery_point()));
    }
    let (lowest, highest) = model.stable_ends();
    let stable = log.last_stable_offset();
    if !(lowest..=highest).contains(&stable) {
        return Err(format!("last stable offset: {stable} instead of {lowest} to {highest}"));
    }
    let found = read(log)?;
    check_batches(&found, model)?;
    check_producers(log, model)?;
    check_epochs(log, model)?;
    check_lookups(log, model, &found)?;
    Ok(found)
}

fn check_batches(found: &[Found], model: &Model) -> Outcome {
    let transactions = model.transactions();
    for Found { batch, is_passed_over } in found {
        let Some(expected) = model.batches.get(&batch.base) else {
            return Err(format!("nobody wrote a batch at {}", batch.base));
        };
        check_batch(batch, expected)?;
        let is_aborted = Model::fate(&transactions, expected) == Some(true);
        // A marker says nothing of itself.
        if batch.marker.is_none() && !batch.records.is_empty() && *is_passed_over != is_aborted {
            return Err(format!("batch {}: aborted {is_aborted}, passed over {is_passed_over}", batch.base));
        }
    }
    let bases: Vec<i64> = found.iter().map(|found| found.batch.base).collect();
    let is_visible = |batch: &&Batch| batch.last >= model.start && !batch.records.is_empty();
    match model.batches.values().filter(is_visible).find(|batch| bases.binary_search(&batch.base).is_err()) {
        Some(lost) => Err(format!("batch {} to {} is lost: {lost:?}", lost.base, lost.last)),
        None => Ok(()),
    }
}

/// Of an emptied batch only the header counts.
fn check_batch(found: &Batch, expected: &Batch) -> Outcome {
    let header = |batch: &Batch| {
        let producer = (batch.producer, batch.producer_epoch, batch.sequence, batch.is_transactional);
        (batch.base, batch.last, batch.leader_epoch, producer)
    };
    same("header", header(found), header(expected))?;
    if found.records != expected.records {
        return Err(format!("batch {}: {:?} instead of {:?}", found.base, found.records, expected.records));
    }
    if found.records.is_empty() {
        return Ok(());
    }
    same("marker and delete horizon", (found.marker, found.horizon), (expected.marker, expected.horizon))
}

fn producer_of(entry: &ProducerEntry) -> Producer {
    Producer {
        epoch: entry.epoch.0,
        last: entry.last_batch().map(|batch| (batch.last_sequence, batch.last_offset, i64::from(batch.offset_delta))),
        coordinator_epoch: entry.coordinator_epoch,
        open_from: entry.transaction_first_offset,
        timestamp: entry.last_timestamp,
    }
}

pub fn producers(log: &Log) -> BTreeMap<i64, Producer> {
    log.active_producers().iter().map(|entry| (entry.id.0, producer_of(entry))).collect()
}

/// A batch that a pass has rewritten has the largest timestamp of those that are left.
fn is_same(found: &Producer, expected: &Producer, model: &Model) -> bool {
    found == expected || (model.is_reloaded && Producer { timestamp: expected.timestamp, ..*found } == *expected)
}

fn check_producers(log: &Log, model: &Model) -> Outcome {
    let (found, (expected, _)) = (producers(log), model.replay());
    for id in found.keys().chain(expected.keys()) {
        match (found.get(id), expected.get(id)) {
            (Some(found), Some(expected)) if is_same(found, expected, model) => {}
            (found, expected) => {
                let batches = batches_of(log, model, *id);
                return Err(format!("producer {id}: {found:?} instead of {expected:?}, of these batches: {batches}"));
            }
        }
    }
    Ok(())
}

/// Base, last offset and sequence of each batch of a producer, how many records are left, and whether the log has it.
fn batches_of(log: &Log, model: &Model, id: i64) -> String {
    let there: BTreeSet<i64> = read(log).unwrap_or_default().iter().map(|found| found.batch.base).collect();
    let of_it = model.batches.values().filter(|batch| batch.producer == id);
    let tell = |batch: &Batch| {
        let (last, sequence, records) = (batch.last, batch.sequence, batch.records.len());
        format!("{} to {last}: {sequence}, {records} records, {}", batch.base, there.contains(&batch.base))
    };
    of_it.map(tell).collect::<Vec<_>>().join("; ")
}

/// Of a producer whose batches lie below the log start a log that is read again may know nothing, or only what lies above it, or all
/// again after a crash that forgot the log start. If the log was once cut below what a pass of the cleaner had judged by, as only an
/// unclean election or a power cut does it, batches that the pass took whole are known as far as a snapshot told of them: the later
/// ones, for which it took them, are gone (`LogCleaner.lastRecordsOfActiveProducers` looks at the whole log too).
pub fn forget(log: &Log, model: &mut Model) {
    let found = producers(log);
    let taken = taken(log, model);
    let (mut expected, _) = model.replay();
    for id in found.keys() {
        // Forgotten, and known again.
        expected.entry(*id).or_insert(Producer::NEW);
    }
    for (id, expected) in expected {
        let found = found.get(&id);
        if found.is_some_and(|found| is_same(found, &expected, model)) {
            continue;
        }
        let known_from = |from: i64, untold: &BTreeSet<i64>| {
            let is_known = |batch: &Batch| batch.producer == id && batch.base >= from && !untold.contains(&batch.base);
            let replayed = model.replay_if(is_known).0;
            match (replayed.get(&id), found) {
                (Some(expected), Some(found)) => is_same(found, expected, model),
                (expected, found) => expected.is_none() && found.is_none(),
            }
        };
        let below = model.batches.values().filter(|batch| batch.producer == id && batch.base < model.highest_start);
        // An emptied marker does not tell its epoch.
        let is_only_marked = expected.last.is_none();
        let bases = [0].into_iter().chain(below.map(|batch| batch.base + 1)).chain(is_only_marked.then_some(model.end));
        let bases: Vec<i64> = bases.collect();
        let told_to = model.snapshots.iter().rev().copied().chain([0]);
        let is_of_it = |base: &&i64| model.batches.get(base).is_some_and(|batch| batch.producer == id);
        let untold = [model.untold.clone()].into_iter().chain(told_to.map(|offset| {
            let of_others = model.untold.iter().filter(|base| !is_of_it(base));
            of_others.chain(taken.range(offset..).filter(is_of_it)).copied().collect()
        }));
        let candidates = untold.flat_map(|untold| bases.iter().map(move |from| (*from, untold.clone())));
        if let Some((from, untold)) = candidates.into_iter().find(|(from, untold)| known_from(*from, untold)) {
            model.forgotten.insert(id, from);
            model.untold = untold;
        }
    }
}

/// Batches that a pass took whole and of which a log that is read again need not know: transactions with their markers, since a pass keeps
/// the last data of a producer and not what tells its coordinator's epoch, and all of them if the log was cut since.
fn taken(log: &Log, model: &Model) -> BTreeSet<i64> {
    let Ok(found) = read(log) else { return BTreeSet::new() };
    let there: BTreeSet<i64> = found.iter().map(|found| found.batch.base).collect();
    let is_taken = |batch: &&Batch| batch.records.is_empty() && !there.contains(&batch.base);
    let taken: Vec<&Batch> = model.batches.values().filter(is_taken).collect();
    let ends = |marker: &Batch, batch: &Batch| {
        marker.marker.is_some() && marker.producer == batch.producer && marker.base >= batch.base
    };
    let may_be_forgotten = |batch: &&&Batch| model.is_cut_into_clean || taken.iter().any(|other| ends(other, batch));
    taken.iter().filter(may_be_forgotten).map(|batch| batch.base).collect()
}

fn check_epochs(log: &Log, model: &Model) -> Outcome {
    same("leader epochs", log.epochs.read().entries(), model.epochs.as_slice())?;
    let latest = model.epochs.last().map(|(epoch, _)| LeaderEpoch(*epoch));
    same("latest epoch", log.latest_epoch(), latest)?;
    for pair in model.epochs.windows(2) {
        let (epoch, end) = log.end_offset_for_epoch(LeaderEpoch(pair[0].0));
        same("end of an epoch", (epoch.0, end), (pair[0].0, pair[1].1))?;
    }
    Ok(())
}

fn check_lookups(log: &Log, model: &Model, found: &[Found]) -> Outcome {
    let step = (found.len() / 5).max(1);
    for batch in found.iter().step_by(step).map(|found| &found.batch) {
        for offset in [batch.base.max(model.start), batch.last] {
            let bytes = log.read_bytes(offset, 1, i64::MAX, true).map_err(|error| error.to_string())?;
            let first = crate::record::batches(&bytes).next().and_then(Result::ok).map(|batch| batch.base_offset());
            same("batch by offset", first, Some(batch.base))?;
        }
    }
    let records = || found.iter().flat_map(|found| &found.batch.records).filter(|record| record.offset >= model.start);
    for back_ms in [-1, 0, 300, 2000, 10_000, 1 << 40] {
        let asked = model.now - back_ms;
        let expected = records().find(|record| record.timestamp >= asked);
        let answer = log.offset_for_timestamp(asked).map_err(|error| error.to_string())?;
        let expected = expected.map(|record| (record.offset, record.timestamp));
        same("offset by timestamp", answer.map(|found| (found.offset, found.timestamp)), expected)?;
    }
    Ok(())
}

/// What a pass of the cleaner did: where it began to look for keys, up to where it knows them all, and when.
pub struct PassOf {
    pub first_dirty: i64,
    pub end: i64,
    pub now: i64,
}

/// Judges a pass by what it left, and takes that over.
pub fn judge_pass(before: &mut Model, log: &Log, pass: &PassOf) -> Outcome {
    let found = read(log)?;
    let by_base: BTreeMap<i64, &Batch> = found.iter().map(|found| (found.batch.base, &found.batch)).collect();
    let transactions = before.transactions();
    let newest = newest_of_keys(before, &transactions, pass);
    let model = before.clone();
    for batch in before.batches.values_mut().filter(|batch| batch.last >= model.start) {
        let there = by_base.get(&batch.base).copied();
        let left = there.map_or(&[][..], |found| &found.records);
        for record in &batch.records {
            let is_left = left.contains(record);
            let fate = Model::fate(&transactions, batch);
            let must = match record.offset {
                _ if batch.marker.is_some() => must_keep_marker(&model, &transactions, batch, pass),
                _ if fate == Some(true) => (record.offset < pass.end).then_some(false),
                offset if offset >= pass.end || fate.is_none() => Some(true),
                offset => match record.key.as_ref().and_then(|key| newest.get(key)) {
                    None if record.key.is_none() => Some(false),
                    // Without a newer one in the part that was not clean yet.
                    None => Some(record.value.is_some() || batch.horizon.is_none_or(|horizon| horizon > pass.now)),
                    Some(newest) if *newest > offset => Some(false),
                    Some(_) => Some(record.value.is_some() || batch.horizon.is_none_or(|horizon| horizon > pass.now)),
                },
            };
            if must.is_some_and(|must| must != is_left) {
                return Err(format!("compaction: {record:?} of batch {} is kept: {is_left}; {must:?}", batch.base));
            }
        }
        if let Some(there) = there.filter(|there| !there.records.is_empty()) {
            check_horizon(batch, there, &model, pass)?;
            batch.horizon = there.horizon;
        }
        let left = left.to_vec();
        batch.records.retain(|record| left.contains(record));
    }
    Ok(())
}

/// Offsets of the newest records that are not aborted, in the part that the pass has looked at for keys.
fn newest_of_keys(model: &Model, transactions: &[Transaction], pass: &PassOf) -> BTreeMap<Vec<u8>, i64> {
    let mut newest = BTreeMap::new();
    for batch in model.batches.values().filter(|batch| batch.marker.is_none() && batch.last >= model.start) {
        if Model::fate(transactions, batch) != Some(false) {
            continue;
        }
        for record in batch.records.iter().filter(|record| (pass.first_dirty..pass.end).contains(&record.offset)) {
            if let Some(key) = &record.key {
                newest.insert(key.clone(), record.offset);
            }
        }
    }
    newest
}

/// `None`: a reader cannot tell.
fn must_keep_marker(model: &Model, transactions: &[Transaction], marker: &Batch, pass: &PassOf) -> Option<bool> {
    let is_its_end = |transaction: &&Transaction| transaction.end.is_some_and(|(end, _)| end == marker.base);
    let first = transactions.iter().find(is_its_end).map(|transaction| transaction.first);
    if first.is_some_and(|first| first < model.start) {
        return None;
    }
    let mut data = first.into_iter().flat_map(|first| model.batches.range(first..marker.base)).map(|(_, batch)| batch);
    if data.any(|batch| batch.producer == marker.producer && !batch.records.is_empty()) {
        return Some(true);
    }
    match marker.horizon {
        // Its data may be there as a header, and then it stays.
        Some(horizon) if horizon <= pass.now => None,
        _ => Some(true),
    }
}

fn check_horizon(before: &Batch, found: &Batch, model: &Model, pass: &PassOf) -> Outcome {
    let has_tombstone = found.marker.is_none() && found.records.iter().any(|record| record.value.is_none());
    let new = pass.now + model.config.delete_retention_ms;
    let is_right = match (before.horizon, found.horizon) {
        (None, None) => !has_tombstone || before.base >= pass.end,
        (None, Some(horizon)) => horizon == new && (has_tombstone || found.marker.is_some()),
        (before, found) => before == found,
    };
    if is_right {
        return Ok(());
    }
    Err(format!("batch {}: delete horizon {:?} became {:?}", before.base, before.horizon, found.horizon))
}
