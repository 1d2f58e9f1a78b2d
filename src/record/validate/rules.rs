//! What produced records are measured by, and what comes out.

use super::fault::{Faults, ValidationError, ValidationErrorKind, invalid};
use crate::record::builder::ValidatedBatch;
use crate::record::compression::Compression;
use crate::record::raw::RawBatch;

/// The topic's settings and the request's version.
#[derive(Clone, PartialEq, Debug)]
pub struct ValidationRules {
    /// Version of the Produce request.
    pub produce_version: i16,
    /// `max.message.bytes`.
    pub max_message_bytes: i32,
    /// `segment.bytes`.
    pub segment_bytes: i32,
    /// `compression.type` and its level; `None` is `producer`.
    pub target_codec: Option<(Compression, Option<i32>)>,
    /// `message.timestamp.type` is LogAppendTime.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `compact`: every record needs a key.
    pub compacted: bool,
    pub now_ms: i64,
    /// Most bytes that one batch may expand to.
    pub decompressed_bytes_max: usize,
}

impl Default for ValidationRules {
    /// Kafka's defaults for the latest Produce version; 128 MiB to decompress.
    fn default() -> ValidationRules {
        ValidationRules {
            produce_version: 11,
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            target_codec: None,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            compacted: false,
            now_ms: 0,
            decompressed_bytes_max: 128 << 20,
        }
    }
}

/// Batches of format 2, ready to append. The first has base offset 0, each other follows the one before.
#[derive(Clone, PartialEq, Debug)]
pub struct ValidatedRecords {
    pub batches: Vec<ValidatedBatch>,
    pub record_count: i64,
    pub max_timestamp: i64,
    /// For the Produce reply: -1 unless the topic stamps records itself.
    pub log_append_time: i64,
}

impl ValidatedRecords {
    pub(super) fn none() -> ValidatedRecords {
        ValidatedRecords { batches: Vec::new(), record_count: 0, max_timestamp: -1, log_append_time: -1 }
    }

    /// Of one batch that the broker itself built.
    pub fn from_batch(batch: ValidatedBatch) -> ValidatedRecords {
        let record_count = i64::from(batch.header.record_count());
        let max_timestamp = batch.header.max_timestamp();
        ValidatedRecords { batches: vec![batch], record_count, max_timestamp, log_append_time: -1 }
    }

    /// Bytes of all batches.
    pub fn size_bytes(&self) -> usize {
        self.batches.iter().map(ValidatedBatch::size_bytes).sum()
    }
}

impl ValidationRules {
    /// Since version 3 a partition's records are one batch of format 2; since version 7 it may be zstd.
    pub(super) fn check_version(&self, batch: &RawBatch<'_>, index: usize) -> Result<(), ValidationError> {
        let version = self.produce_version;
        if version < 3 {
            return Ok(());
        }
        if batch.magic() != 2 {
            let magic = batch.magic();
            return Err(invalid(format!("Produce requests of version {version} need record format 2, not {magic}")));
        }
        if version < 7 && batch.compression()? == Compression::Zstd {
            let kind = ValidationErrorKind::UnsupportedCompressionType;
            let message = format!("Produce requests of version {version} are not allowed to use zstd");
            return Err(ValidationError { kind, message, records: Vec::new() });
        }
        if index > 0 {
            return Err(invalid(format!("Produce requests of version {version} must have one batch per partition")));
        }
        Ok(())
    }

    pub(super) fn check_size(&self, size_bytes: usize) -> Result<(), ValidationError> {
        let max = self.max_message_bytes;
        if size_bytes as i64 <= i64::from(max) {
            return Ok(());
        }
        let message = format!("a record batch of {size_bytes} bytes exceeds max.message.bytes, which is {max}");
        Err(ValidationError { kind: ValidationErrorKind::MessageTooLarge, message, records: Vec::new() })
    }

    pub(super) fn check_total(&self, size_bytes: usize) -> Result<(), ValidationError> {
        let max = self.segment_bytes;
        if size_bytes as i64 <= i64::from(max) {
            return Ok(());
        }
        let message = format!("records of {size_bytes} bytes exceed segment.bytes, which is {max}");
        Err(ValidationError { kind: ValidationErrorKind::RecordListTooLarge, message, records: Vec::new() })
    }

    /// The rules for a single record.
    #[inline]
    pub(super) fn check_record(
        &self,
        index: i32,
        has_key: bool,
        timestamp: i64,
        stamped_by_client: bool,
        faults: &mut Faults,
    ) {
        if self.compacted && !has_key {
            faults.add(ValidationErrorKind::InvalidRecord, index, || {
                "Compacted topic cannot accept message without key".to_owned()
            });
        } else if !self.log_append_time && timestamp != -1 {
            if !self.is_in_time(timestamp) {
                faults.add(ValidationErrorKind::InvalidTimestamp, index, || {
                    let from = self.now_ms.saturating_sub(self.timestamp_before_max_ms);
                    let to = self.now_ms.saturating_add(self.timestamp_after_max_ms);
                    format!("Timestamp {timestamp} is out of range. The timestamp should be within [{from}, {to}]")
                });
            }
        } else if stamped_by_client {
            faults.add(ValidationErrorKind::InvalidTimestamp, index, || {
                "Producer should not set timestamp type to LogAppendTime".to_owned()
            });
        }
    }

    #[inline]
    fn is_in_time(&self, timestamp: i64) -> bool {
        let age = self.now_ms.saturating_sub(timestamp);
        age <= self.timestamp_before_max_ms && age.saturating_neg() <= self.timestamp_after_max_ms
    }
}
