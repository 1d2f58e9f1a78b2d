//! What a pass keeps of one batch (classes `Cleaner.shouldRetainRecord`, `MemoryRecords.filterTo`).
//!
//! Invariant: the newest record of a key is kept, at its offset, in a batch with the same base offset, last offset, sequences,
//! producer and leader epoch. A tombstone is the newest record too, until its horizon has passed: the first pass that meets it
//! writes down when that will be.

use super::offset_map::OffsetMap;
use super::transactions::Standing;
use crate::base::Millis;
use crate::record::{BatchBuilder, BatchHeader, RawBatch, Record, RecordError, ValidatedBatch};
use std::collections::HashMap;

/// What a producer did last, by which its next batch will be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastOfProducer {
    /// Last offset of its last batch of data; `None` if only a marker is known.
    pub last_offset: Option<i64>,
    pub epoch: i16,
}

pub struct Rules<'a> {
    pub map: &'a OffsetMap,
    /// Where the map ends: records from there on are not judged.
    pub end_offset: i64,
    /// Where the cleanable part ends. Its last batch stays at least as a header: whoever reads up to there must arrive, even
    /// if nothing follows yet.
    pub boundary: i64,
    pub now_ms: Millis,
    pub delete_retention_ms: Millis,
    /// Tombstones of formats 0 and 1 in this segment are still needed.
    pub keeps_legacy_tombstones: bool,
    pub producers: &'a HashMap<i64, LastOfProducer>,
    /// Most bytes that a batch may decompress to.
    pub decompressed_bytes_max: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Byte for byte.
    Keep,
    Rewrite(ValidatedBatch),
    Drop,
}

pub fn filter(batch: &RawBatch<'_>, standing: Standing, rules: &Rules<'_>) -> Result<Outcome, RecordError> {
    match batch.header() {
        Some(header) => filter_v2(batch, &header, standing, rules),
        None => filter_legacy(batch, rules),
    }
}

fn filter_v2(
    batch: &RawBatch<'_>,
    header: &BatchHeader,
    standing: Standing,
    rules: &Rules<'_>,
) -> Result<Outcome, RecordError> {
    let horizon = header.has_delete_horizon().then(|| header.base_timestamp());
    let is_past_horizon = horizon.is_some_and(|horizon| horizon <= rules.now_ms);
    let drops_all = match standing {
        Standing::Live => false,
        Standing::Aborted => true,
        Standing::UselessMarker => is_past_horizon,
    };
    let without_records = || {
        let is_needed = header.next_offset() == rules.boundary
            || (header.has_producer_id() && is_last_of_producer(header, rules.producers));
        match (is_needed, header.record_count()) {
            (false, _) => Outcome::Drop,
            (true, 0) => Outcome::Keep,
            (true, _) => Outcome::Rewrite(ValidatedBatch::emptied(*header)),
        }
    };
    if drops_all || header.record_count() == 0 {
        return Ok(without_records());
    }
    let records = batch.records(rules.decompressed_bytes_max)?;
    let mut kept: Vec<Record<'_>> = Vec::new();
    let mut has_tombstone = false;
    let mut is_whole = true;
    for record in records.iter() {
        let record = record?;
        if header.is_control() || keeps(&record, !is_past_horizon, rules) {
            has_tombstone |= record.value.is_none();
            kept.push(record);
        } else {
            is_whole = false;
        }
    }
    if kept.is_empty() {
        return Ok(without_records());
    }
    let needs_horizon = horizon.is_none() && (has_tombstone || standing == Standing::UselessMarker);
    if is_whole && !needs_horizon {
        return Ok(Outcome::Keep);
    }
    let mut builder = BatchBuilder::retaining(header);
    if needs_horizon {
        builder = builder.delete_horizon(rules.now_ms.saturating_add(rules.delete_retention_ms));
    }
    rebuild(builder, header.base_offset(), &kept)
}

/// Single messages stay or go. A wrapper of which some go becomes a batch of format 2, which every reader of the file knows.
fn filter_legacy(batch: &RawBatch<'_>, rules: &Rules<'_>) -> Result<Outcome, RecordError> {
    let records = batch.records(rules.decompressed_bytes_max)?;
    let mut kept: Vec<Record<'_>> = Vec::new();
    let mut is_whole = true;
    for record in records.iter() {
        let record = record?;
        if keeps(&record, rules.keeps_legacy_tombstones, rules) { kept.push(record) } else { is_whole = false }
    }
    let Some(first) = kept.first().map(|record| record.offset) else { return Ok(Outcome::Drop) };
    if is_whole {
        return Ok(Outcome::Keep);
    }
    let mut builder = BatchBuilder::new().base_offset(first).compression(batch.compression()?, None);
    if batch.is_log_append_time() {
        builder = builder.log_append_time(batch.max_timestamp());
    }
    if kept.iter().any(|record| record.value.is_none()) {
        builder = builder.delete_horizon(rules.now_ms.saturating_add(rules.delete_retention_ms));
    }
    rebuild(builder, first, &kept)
}

fn rebuild(mut builder: BatchBuilder, base_offset: i64, kept: &[Record<'_>]) -> Result<Outcome, RecordError> {
    for record in kept {
        let delta = record.offset.checked_sub(base_offset).and_then(|delta| i32::try_from(delta).ok());
        let delta =
            delta.ok_or_else(|| RecordError::invalid("a record lies too far from the beginning of its batch"))?;
        builder.append_at(delta, record.timestamp, record.key, record.value, record.headers.iter());
    }
    Ok(Outcome::Rewrite(builder.build()?))
}

fn keeps(record: &Record<'_>, keeps_tombstones: bool, rules: &Rules<'_>) -> bool {
    if record.offset >= rules.end_offset {
        return true;
    }
    let Some(key) = record.key else { return false };
    let is_newest = rules.map.get(key).is_none_or(|newest| record.offset >= newest);
    is_newest && (record.value.is_some() || keeps_tombstones)
}

/// The next batch of a producer is judged by its last one, which a restart reads from here.
fn is_last_of_producer(header: &BatchHeader, producers: &HashMap<i64, LastOfProducer>) -> bool {
    producers.get(&header.producer_id()).is_some_and(|last| match last.last_offset {
        Some(offset) => header.last_offset() == offset,
        None => header.is_control() && header.producer_epoch() == last.epoch,
    })
}

#[cfg(test)]
mod tests;
