//! One pass over a log: first the map of newest offsets, then group after group of segments written anew (class `Cleaner`).
//!
//! Invariant: what is read is checked before it is copied; nothing in the log changes until a group is complete and on the disk.

use super::offset_map::{Full, OffsetMap};
use super::plan::{self, Cleanable, SegmentInfo};
use super::retain::{LastOfProducer, Outcome, Rules, filter};
use super::throttle::Throttle;
use super::transactions::{Standing, Transactions};
use super::{Halt, StopSignal, output, swap};
use crate::base::Millis;
use crate::base::time::monotonic_ms;
use crate::config::{LogCleanerConfig, LogConfig};
use crate::log::error::LogError;
use crate::log::marker::read_marker;
use crate::log::partition::Log;
use crate::log::retention::modified_ms;
use crate::log::scan::{BatchAt, Scanner, Step};
use crate::log::segment::Segment;
use crate::log::transaction_index::AbortedTransaction;
use crate::record::RawBatch;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// What a producer may send is bounded by the same number.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

pub(super) struct Pass<'a> {
    pub log: &'a Arc<Log>,
    pub stop: &'a StopSignal,
    pub config: LogCleanerConfig,
    pub throttle: Throttle,
    /// Of the log when the pass began: a truncation ends the pass.
    pub generation: u64,
    pub now_ms: Millis,
}

/// What a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Clean up to here now.
    pub end_offset: i64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Pass<'_> {
    pub fn run(
        &mut self,
        segments: &[Arc<Segment>],
        infos: &[SegmentInfo],
        cleanable: &Cleanable,
    ) -> Result<Done, Halt> {
        let config = self.log.config();
        let aborted = self.aborted(segments, cleanable.first_uncleanable)?;
        let ready = infos.partition_point(|info| info.end <= cleanable.first_uncleanable);
        let (map, end_offset) = self.build_map(&segments[..ready], &infos[..ready], cleanable, &aborted)?;
        let taken = infos[..ready].partition_point(|info| info.base < end_offset);
        let clean = infos[..ready].partition_point(|info| info.end <= cleanable.first_dirty);
        let legacy_horizon_ms = match clean.checked_sub(1) {
            Some(last) => self.modified_ms(&segments[last])?.saturating_sub(config.delete_retention_ms),
            None => 0,
        };
        let producers = self.producers();
        let mut transactions = Transactions::new(aborted);
        let mut done = Done { end_offset, ..Done::default() };
        for range in plan::group(&infos[..taken], config.segment_bytes.max(0) as u64, index_bytes_max(&config)) {
            let sources = &segments[range];
            let rules = |segment_modified_ms: Millis| Rules {
                map: &map,
                end_offset,
                boundary: cleanable.first_uncleanable,
                now_ms: self.now_ms,
                delete_retention_ms: config.delete_retention_ms,
                keeps_legacy_tombstones: segment_modified_ms > legacy_horizon_ms,
                producers: &producers,
                decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
            };
            let mut modified = Vec::with_capacity(sources.len());
            for segment in sources {
                modified.push(self.modified_ms(segment)?);
            }
            let rules: Vec<Rules<'_>> = modified.iter().map(|&modified_ms| rules(modified_ms)).collect();
            let before: u64 = sources.iter().map(|segment| segment.size()).sum();
            done.bytes_before += before;
            done.bytes_after += self.clean_group(sources, &rules, &mut transactions, &config)?.unwrap_or(before);
        }
        Ok(done)
    }

    /// Writes the group anew and puts it in place. `None` if nothing in it would change.
    fn clean_group(
        &mut self,
        sources: &[Arc<Segment>],
        rules: &[Rules<'_>],
        transactions: &mut Transactions,
        config: &LogConfig,
    ) -> Result<Option<u64>, Halt> {
        let [first, ..] = sources else { return Ok(None) };
        let mut output = output::Output::create(self.log, first.base_offset(), config, self.config.io_buffer_size)?;
        let written = self.write_group(sources, rules, transactions, &mut output);
        let is_same = written.as_ref().is_ok_and(|is_same| *is_same) && sources.len() == 1;
        if written.is_err() || is_same {
            output.discard();
            return written.map(|_| None);
        }
        let cleaned = match sources.last() {
            Some(last) => output.finish(last)?,
            None => return Ok(None),
        };
        swap::replace(self.log, sources, &cleaned, self.generation)?;
        Ok(Some(cleaned.size))
    }

    /// Whether the output is the same as the sources.
    fn write_group(
        &mut self,
        sources: &[Arc<Segment>],
        rules: &[Rules<'_>],
        transactions: &mut Transactions,
        output: &mut output::Output,
    ) -> Result<bool, Halt> {
        let mut is_same = true;
        for (segment, rules) in sources.iter().zip(rules) {
            self.for_each_batch(segment, |pass, at, batch| {
                let standing = standing_of(batch, transactions)?;
                let size = match filter(batch, standing, rules)? {
                    Outcome::Keep => output.copy(at, batch.bytes())?,
                    Outcome::Rewrite(rewritten) => {
                        is_same = false;
                        output.write(&rewritten)?
                    }
                    Outcome::Drop => {
                        is_same = false;
                        0
                    }
                };
                for aborted in transactions.take_retained() {
                    output.aborted(&aborted)?;
                }
                pass.pay(size)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(is_same)
    }

    /// The newest offsets of the dirty part, and where the map ends.
    fn build_map(
        &mut self,
        segments: &[Arc<Segment>],
        infos: &[SegmentInfo],
        cleanable: &Cleanable,
        aborted: &[AbortedTransaction],
    ) -> Result<(OffsetMap, i64), Halt> {
        let first_dirty = cleanable.first_dirty;
        let keys = u64::try_from(cleanable.first_uncleanable - first_dirty).unwrap_or(0);
        let LogCleanerConfig { dedupe_buffer_size, io_buffer_load_factor, .. } = self.config;
        let mut map = OffsetMap::new(dedupe_buffer_size, io_buffer_load_factor, first_dirty, keys);
        let live = aborted.iter().filter(|transaction| transaction.last_offset >= first_dirty);
        let mut transactions = Transactions::new(live.copied().collect());
        let mut full_at = None;
        for (segment, _) in segments.iter().zip(infos).filter(|(_, info)| info.end > first_dirty) {
            self.for_each_batch(segment, |_, at, batch| {
                if at.last_offset < first_dirty {
                    return Ok(ControlFlow::Continue(()));
                }
                if standing_of(batch, &mut transactions)? != Standing::Live || batch.is_control() {
                    return Ok(ControlFlow::Continue(()));
                }
                full_at = add_keys(&mut map, batch, first_dirty)?;
                Ok(if full_at.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            if full_at.is_some() {
                break;
            }
        }
        tracing::debug!(log = %self.log.topic_partition(), keys = map.len(), "keys are known");
        Ok((map, full_at.unwrap_or(cleanable.first_uncleanable)))
    }

    fn for_each_batch(
        &mut self,
        segment: &Arc<Segment>,
        mut visit: impl FnMut(&mut Self, &BatchAt, &RawBatch<'_>) -> Result<ControlFlow<()>, Halt>,
    ) -> Result<(), Halt> {
        let path = segment.path();
        let file = segment.scan_file().map_err(|error| Halt::of(self.log, segment, error))?;
        let mut scanner = Scanner::new(&file, 0, segment.size());
        loop {
            let at = match scanner.next_checked().map_err(|error| self.log.read_failed(path, error))? {
                Step::Batch(at) => at,
                Step::End => return Ok(()),
                Step::Bad { position, reason } => {
                    self.check_current()?;
                    return Err(LogError::corrupt(path, format!("batch at {position} {reason}")).into());
                }
            };
            let Some(batch) = RawBatch::read(scanner.body(&at))? else { return Ok(()) };
            if visit(self, &at, &batch)?.is_break() {
                return Ok(());
            }
            self.pay(at.size)?;
        }
    }

    /// Counts bytes, and waits if there were too many. A stop, or a change that makes the pass pointless, ends it here.
    fn pay(&mut self, bytes: u64) -> Result<(), Halt> {
        self.throttle.add(bytes);
        loop {
            self.check_current()?;
            match self.throttle.wait_ms(monotonic_ms()) {
                0 => return Ok(()),
                wait_ms => self.stop.sleep(Duration::from_millis(wait_ms as u64)),
            }
        }
    }

    fn check_current(&self) -> Result<(), Halt> {
        let is_changed = self.log.cleaning.generation() != self.generation;
        if self.stop.is_set() || is_changed || self.log.is_closed() { Err(Halt::Aborted) } else { Ok(()) }
    }

    /// Aborted transactions that begin before `end`, wherever their markers are.
    fn aborted(&self, segments: &[Arc<Segment>], end: i64) -> Result<Vec<AbortedTransaction>, Halt> {
        let _no_truncation = self.log.truncation.read();
        let mut found = Vec::new();
        for segment in segments {
            let path = segment.transaction_index.path();
            let aborted = segment.transaction_index.read().map_err(|error| self.log.read_failed(path, error))?;
            found.extend(aborted.into_iter().filter(|transaction| transaction.first_offset < end));
        }
        Ok(found)
    }

    fn modified_ms(&self, segment: &Arc<Segment>) -> Result<Millis, Halt> {
        modified_ms(segment).map_err(|error| Halt::of(self.log, segment, error))
    }

    fn producers(&self) -> HashMap<i64, LastOfProducer> {
        let last_of = |entry: &crate::log::ProducerEntry| LastOfProducer {
            last_offset: entry.last_batch().map(|batch| batch.last_offset),
            epoch: entry.epoch.0,
        };
        self.log.writer.lock().producers.entries().map(|entry| (entry.id.0, last_of(entry))).collect()
    }
}

/// Where the map got full, if it did.
fn add_keys(map: &mut OffsetMap, batch: &RawBatch<'_>, first_dirty: i64) -> Result<Option<i64>, Halt> {
    let records = batch.records(DECOMPRESSED_BYTES_MAX)?;
    for record in records.iter() {
        let record = record?;
        if let Some(key) = record.key.filter(|_| record.offset >= first_dirty)
            && map.put(key, record.offset) == Err(Full)
        {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}

fn standing_of(batch: &RawBatch<'_>, transactions: &mut Transactions) -> Result<Standing, Halt> {
    let Some(header) = batch.header() else { return Ok(Standing::Live) };
    let marker = if header.is_control() { read_marker(batch.bytes())? } else { None };
    if header.is_control() && marker.is_none() && header.record_count() > 0 {
        // A kind of control record that this broker does not know.
        return Ok(Standing::Live);
    }
    Ok(transactions.see(&header, marker))
}

fn index_bytes_max(config: &LogConfig) -> u64 {
    config.segment_index_bytes.max(0) as u64
}

/// What the plan has to know of the segments.
pub(super) fn infos(log: &Log, segments: &[Arc<Segment>], config: &LogConfig) -> Result<Vec<SegmentInfo>, Halt> {
    let mut infos = Vec::with_capacity(segments.len());
    for (at, segment) in segments.iter().enumerate() {
        let failed = |error| Halt::of(log, segment, error);
        let timestamp = match config.min_compaction_lag_ms {
            lag_ms if lag_ms > 0 => match segment.largest_timestamp().map_err(failed)? {
                Some(largest) => largest.timestamp,
                None => modified_ms(segment).map_err(failed)?,
            },
            _ => -1,
        };
        let has_deadline = config.max_compaction_lag_ms < i64::MAX;
        infos.push(SegmentInfo {
            base: segment.base_offset(),
            end: segments.get(at + 1).map_or_else(|| log.log_end_offset(), |next| next.base_offset()),
            size: segment.size(),
            offset_index_bytes: segment.offset_index.file().size_bytes().map_err(failed)?,
            time_index_bytes: segment.time_index.file().size_bytes().map_err(failed)?,
            timestamp,
            first_timestamp: if has_deadline { segment.first_timestamp().map_err(failed)? } else { -1 },
        });
    }
    Ok(infos)
}
