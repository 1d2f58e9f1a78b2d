//! Appending what another log of the same partition has, as it lies there: any message format, offsets and epochs as given.
//!
//! Invariant: as for every append: checks, one write, then the changes in memory, and last the new end.

use super::append::Incoming;
use super::checkpoint::Durability;
use super::error::LogError;
use super::partition::{Log, LogPosition, Writer};
use super::recovery::Replay;
use super::scan::{BatchAt, parse_batch};
use super::segment::AppendedBatch;
use crate::record::{RawBatch, batches};
use std::io::IoSlice;
use std::sync::atomic::Ordering;

impl Log {
    /// Appends the whole batches in `bytes`; a torn last one, and those that the log has already, are passed over.
    pub(super) fn append_copy(&self, bytes: &[u8]) -> Result<(), LogError> {
        let mut found = Vec::new();
        for batch in batches(bytes) {
            let batch = batch.and_then(|batch| batch.verify().map(|()| batch));
            let batch = batch.map_err(|error| LogError::corrupt(&self.dir(), error.to_string()))?;
            let at = parse_batch(batch.bytes(), 0).map_err(|reason| LogError::corrupt(&self.dir(), reason))?;
            found.push((at, batch));
        }
        let end = self.log_end_offset();
        found.retain(|(at, _)| at.last_offset >= end);
        let Some(first) = found.first().map(|(at, _)| at.base_offset) else { return Ok(()) };
        let is_empty = self.log_start_offset() == end && self.size_bytes() == 0;
        if first < end && found.first().is_some_and(|(at, _)| at.magic == 2) {
            if !is_empty {
                return Err(LogError::UnexpectedOffset {
                    log: self.topic_partition.clone(),
                    offset: first,
                    expected: end,
                });
            }
            // The log start lies inside the first batch, which comes whole.
            self.truncate_fully_and_start_at(first)?;
        }
        let mut writer = self.writer.lock();
        let limit = self.config.load().segment_bytes.max(0) as u64;
        let size: u64 = found.iter().map(|(at, _)| at.size).sum();
        if size <= limit {
            return self.append_found(&mut writer, &found);
        }
        found.iter().try_for_each(|one| self.append_found(&mut writer, std::slice::from_ref(one)))
    }

    fn append_found(&self, writer: &mut Writer, found: &[(BatchAt, RawBatch<'_>)]) -> Result<(), LogError> {
        self.check_usable()?;
        let (Some((first, _)), Some((last, _))) = (found.first(), found.last()) else { return Ok(()) };
        self.sync_topic_id()?;
        let config = self.config.load_full();
        let incoming = Incoming {
            size: found.iter().map(|(at, _)| at.size).sum(),
            first_offset: first.base_offset,
            last_offset: last.last_offset,
            max_timestamp: found.iter().map(|(at, _)| at.max_timestamp).max().unwrap_or(-1),
        };
        let segment = self.segment_for(writer, &incoming, &config)?;
        let mut slices: Vec<IoSlice<'_>> = found.iter().map(|(_, batch)| IoSlice::new(batch.bytes())).collect();
        let appended: Vec<AppendedBatch> = found
            .iter()
            .map(|(at, _)| AppendedBatch {
                size: at.size,
                last_offset: at.last_offset,
                max_timestamp: at.max_timestamp,
            })
            .collect();
        let known_epoch = self.latest_epoch();
        self.write_slices(&segment, &mut slices, &appended, &config)?;
        let mut epochs = self.epochs.write();
        let mut replay = Replay { producers: &mut writer.producers, epochs: &mut epochs };
        let mut aborted = Vec::new();
        for (at, batch) in found {
            let ended = replay.add(at, || Ok(batch.bytes().to_vec()));
            aborted.extend(ended.map_err(|error| self.read_failed(segment.path(), error))?);
        }
        drop(epochs);
        self.note_aborted(&segment, &aborted);
        self.publish_first_unstable(writer);
        let position =
            LogPosition { offset: last.last_offset + 1, segment_base: segment.base_offset(), position: segment.size() };
        *self.end.write() = position;
        if self.latest_epoch() != known_epoch || self.are_epochs_unwritten.load(Ordering::Acquire) {
            self.write_epochs(Durability::Written)?;
        }
        Ok(())
    }
}
