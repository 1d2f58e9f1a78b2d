//! What a leader checks before it appends what a client produced, and the rewriting that follows from it (classes `LogValidator`,
//! `ProduceRequest.validateRecords`, the analysis in `UnifiedLog`).
//!
//! Invariant: what comes out has offsets 0, 1, 2, ... from the first batch on, exactly as many records as its headers say, and can be
//! read to its end by any consumer. A batch that needs no other codec or format keeps its payload where the client put it; its
//! header is copied and patched.

mod fault;
mod rewrite;
mod rules;

pub use fault::{RecordFault, ValidationError, ValidationErrorKind};
pub use rules::{ValidatedRecords, ValidationRules};

use bytes::Bytes;

use super::batch::{BatchHeader, HEADER_SIZE};
use super::builder::{ValidatedBatch, checksum};
use super::compression::{Compression, Decompressor};
use super::error::RecordError;
use super::raw::{RawBatch, batches};
use super::walk::{Plain, Source, Stream, walk};
use fault::{Faults, invalid};

/// Checks `records` as one partition's part of a Produce request and makes them ready to append.
pub fn validate(records: Bytes, rules: &ValidationRules) -> Result<ValidatedRecords, ValidationError> {
    let list = cut(&records, rules)?;
    let Some(first) = list.first() else { return Ok(ValidatedRecords::none()) };
    let mut source_codec = Compression::None;
    for batch in &list {
        match batch.compression()? {
            Compression::None => {}
            codec => source_codec = codec,
        }
        if batch.magic() != first.magic() {
            return Err(invalid("the batches of one partition are of different formats"));
        }
    }
    let (target, level) = rules.target_codec.unwrap_or((source_codec, None));
    let single = source_codec != Compression::None || (first.magic() == 2 && target != Compression::None);
    if single && list.len() > 1 {
        return Err(invalid("compressed records must come as one batch"));
    }
    let converted = if first.magic() < 2 {
        vec![rewrite::up_convert(&list, target, level, rules)?]
    } else {
        in_order(&records, &list, target, level, rules)?
    };
    finish(converted, rules)
}

/// The batches, each with a size, checksum and place that may be. A torn tail is dropped, as Kafka does.
fn cut<'a>(records: &'a Bytes, rules: &ValidationRules) -> Result<Vec<RawBatch<'a>>, ValidationError> {
    let mut list = Vec::with_capacity(1);
    for batch in batches(records) {
        let batch = batch?;
        rules.check_version(&batch, list.len())?;
        if batch.magic() == 2 && batch.base_offset() != 0 {
            let message = format!("the base offset of a produced batch should be 0, but it is {}", batch.base_offset());
            return Err(invalid(message));
        }
        rules.check_size(batch.size_bytes())?;
        batch.verify()?;
        list.push(batch);
    }
    if list.is_empty() && rules.produce_version >= 3 {
        let version = rules.produce_version;
        return Err(invalid(format!("Produce requests of version {version} must have a record batch per partition")));
    }
    Ok(list)
}

/// Validates batches of format 2 one after another and gives each its offsets behind the one before.
fn in_order(
    records: &Bytes,
    list: &[RawBatch<'_>],
    target: Compression,
    level: Option<i32>,
    rules: &ValidationRules,
) -> Result<Vec<ValidatedBatch>, ValidationError> {
    let mut done = Vec::with_capacity(list.len());
    let mut next_offset = 0;
    for batch in list {
        let header = batch.header().ok_or_else(|| invalid("not a batch of format 2"))?;
        check_header(&header)?;
        let mut validated = if batch.compression()? == target {
            in_place(records, batch, header, rules)?
        } else {
            rewrite::recompress(batch, header, target, level, rules)?
        };
        validated.header.set_base_offset(next_offset);
        next_offset += i64::from(validated.header.record_count());
        done.push(validated);
    }
    Ok(done)
}

/// The rules for the header of a client's batch.
fn check_header(header: &BatchHeader) -> Result<(), ValidationError> {
    let count = header.record_count();
    if header.last_offset_delta() < 0 {
        return Err(invalid(format!("the batch has the impossible last offset delta {}", header.last_offset_delta())));
    }
    if count <= 0 {
        return Err(invalid(format!("the batch declares {count} records")));
    }
    if i64::from(header.last_offset_delta()) + 1 != i64::from(count) {
        let delta = header.last_offset_delta();
        return Err(invalid(format!("the batch declares {count} records, but its last offset delta is {delta}")));
    }
    if header.is_control() {
        return Err(invalid("clients are not allowed to write control records"));
    }
    if header.has_producer_id() && header.base_sequence() < 0 {
        let sequence = header.base_sequence();
        return Err(invalid(format!("invalid sequence number {sequence} in a batch with a producer id")));
    }
    Ok(())
}

/// Leaves the payload as it is.
fn in_place(
    records: &Bytes,
    batch: &RawBatch<'_>,
    mut header: BatchHeader,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, ValidationError> {
    let max_timestamp = match batch.compression()? {
        Compression::None => check_records(&mut Plain(payload(batch)), &header, rules)?,
        codec => {
            let reader = Decompressor::new(codec, payload(batch), rules.decompressed_bytes_max)?;
            check_records(&mut Stream::new(reader, None), &header, rules)?
        }
    };
    let payload = records.slice_ref(payload(batch));
    if stamp(&mut header, max_timestamp, rules) {
        header.set_crc(checksum(&header, &payload));
    }
    Ok(ValidatedBatch { header, payload })
}

fn payload<'a>(batch: &RawBatch<'a>) -> &'a [u8] {
    batch.bytes().get(HEADER_SIZE..).unwrap_or_default()
}

/// Walks over the records and applies the rules for each. Gives their largest timestamp.
///
/// Apache Kafka stores uncompressed records with wrong offset deltas, and consumers then stop at them; compressed ones end in an
/// unknown server error unless the topic has another codec, when they are numbered anew. Here they are always refused.
fn check_records<S: Source>(
    source: &mut S,
    header: &BatchHeader,
    rules: &ValidationRules,
) -> Result<i64, ValidationError> {
    let mut faults = Faults::default();
    let mut max_timestamp = -1;
    let mut in_sequence = true;
    let append_time = header.is_log_append_time().then(|| header.max_timestamp());
    let base_timestamp = header.base_timestamp();
    walk(source, header.record_count(), |index, record| {
        let timestamp = append_time.unwrap_or_else(|| base_timestamp.wrapping_add(record.timestamp_delta));
        in_sequence &= record.offset_delta == index;
        max_timestamp = max_timestamp.max(timestamp);
        rules.check_record(index, record.has_key, timestamp, append_time.is_some(), &mut faults);
    })?;
    faults.into_result()?;
    if !in_sequence {
        return Err(invalid("the offset deltas of the records are not 0, 1, 2, ..."));
    }
    Ok(max_timestamp)
}

/// Puts timestamp type and largest timestamp into the header. True if that changed it.
fn stamp(header: &mut BatchHeader, max_timestamp: i64, rules: &ValidationRules) -> bool {
    let before = *header;
    header.set_log_append_time(rules.log_append_time);
    header.set_max_timestamp(if rules.log_append_time { rules.now_ms } else { max_timestamp });
    *header != before
}

/// The last checks, on what will be written.
fn finish(batches: Vec<ValidatedBatch>, rules: &ValidationRules) -> Result<ValidatedRecords, ValidationError> {
    let mut size = 0;
    let mut max_timestamp = -1;
    let mut record_count = 0;
    for batch in &batches {
        rules.check_size(batch.size_bytes())?;
        size += batch.size_bytes();
        max_timestamp = max_timestamp.max(batch.header.max_timestamp());
        record_count += i64::from(batch.header.record_count());
    }
    rules.check_total(size)?;
    let log_append_time = if rules.log_append_time { rules.now_ms } else { -1 };
    Ok(ValidatedRecords { batches, record_count, max_timestamp, log_append_time })
}

impl From<RecordError> for ValidationError {
    fn from(error: RecordError) -> ValidationError {
        let kind = match &error {
            RecordError::Corrupt(_) => ValidationErrorKind::CorruptMessage,
            RecordError::Invalid(_) => ValidationErrorKind::InvalidRecord,
            RecordError::UnsupportedCompression(_) => ValidationErrorKind::UnsupportedCompressionType,
            RecordError::OverBudget { .. } => ValidationErrorKind::MessageTooLarge,
        };
        ValidationError { kind, message: error.to_string(), records: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
