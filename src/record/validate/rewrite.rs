//! Produced records that cannot stay as they are: another codec, message formats 0 and 1, offsets to be numbered anew.

use super::fault::{Faults, ValidationError};
use super::rules::ValidationRules;
use super::{Checked, check_records, payload, stamp};
use crate::record::batch::BatchHeader;
use crate::record::builder::{BatchBuilder, ValidatedBatch};
use crate::record::compression::{Compression, Compressor, Decompressor, compress};
use crate::record::error::RecordError;
use crate::record::raw::RawBatch;
use crate::record::walk::{Plain, Stream};

/// The same records by another codec, piece by piece: they are never held whole.
pub fn recompress(
    batch: &RawBatch<'_>,
    mut header: BatchHeader,
    target: Compression,
    level: Option<i32>,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, ValidationError> {
    let (checked, payload) = match batch.compression()? {
        Compression::None => {
            let checked = check_records(&mut Plain(payload(batch)), &header, rules)?;
            (checked, compress(target, level, payload(batch))?)
        }
        codec => transcode(codec, batch, &header, target, level, rules)?,
    };
    if !checked.in_sequence {
        return renumber(batch, &header, target, level, &checked, rules);
    }
    header.set_codec_id(target.id());
    stamp(&mut header, &checked, 0, rules);
    Ok(ValidatedBatch::seal(header, payload.into()))
}

fn transcode(
    codec: Compression,
    batch: &RawBatch<'_>,
    header: &BatchHeader,
    target: Compression,
    level: Option<i32>,
    rules: &ValidationRules,
) -> Result<(Checked, Vec<u8>), ValidationError> {
    let limit = rules.decompressed_bytes_max;
    let limit = if target == Compression::None { limit.min(rules.max_message_bytes.max(0) as usize) } else { limit };
    let reader = Decompressor::new(codec, payload(batch), limit)?;
    let mut stream = Stream::new(reader, Some(Compressor::new(target, level)?));
    let checked = check_records(&mut stream, header, rules)?;
    let out = stream.into_copy().map_or(Ok(Vec::new()), Compressor::finish)?;
    Ok((checked, out))
}

/// Builds the batch anew with offsets 0, 1, 2, ...
fn renumber(
    batch: &RawBatch<'_>,
    header: &BatchHeader,
    target: Compression,
    level: Option<i32>,
    checked: &Checked,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, ValidationError> {
    let mut builder = BatchBuilder::new()
        .compression(target, level)
        .producer(header.producer_id(), header.producer_epoch(), header.base_sequence())
        .transactional(header.is_transactional());
    for record in batch.records(rules.decompressed_bytes_max)?.iter() {
        let record = record?;
        builder.append(record.timestamp, record.key, record.value, record.headers.iter());
    }
    let mut built = builder.build()?;
    stamp(&mut built.header, checked, built.payload.len(), rules);
    Ok(built)
}

/// One batch of format 2 of all the messages in `list`.
pub fn up_convert(
    list: &[RawBatch<'_>],
    target: Compression,
    level: Option<i32>,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, ValidationError> {
    let mut builder = BatchBuilder::new().compression(target, level);
    if rules.log_append_time {
        builder = builder.log_append_time(rules.now_ms);
    }
    let mut faults = Faults::default();
    let mut index = 0i32;
    for batch in list {
        let stamped = batch.is_log_append_time();
        for record in batch.records(rules.decompressed_bytes_max)?.iter() {
            let record = record?;
            rules.check_record(index, record.key.is_some(), record.timestamp, stamped, &mut faults);
            builder.append(record.timestamp, record.key, record.value, []);
            index = index.checked_add(1).ok_or_else(|| RecordError::invalid("too many messages"))?;
        }
    }
    faults.into_result()?;
    Ok(builder.build()?)
}
