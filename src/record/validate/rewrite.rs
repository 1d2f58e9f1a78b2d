//! Produced records that cannot stay as they are: another codec, message formats 0 and 1.

use super::fault::{Faults, ValidationError};
use super::rules::ValidationRules;
use super::{check_records, payload, stamp};
use crate::record::batch::BatchHeader;
use crate::record::builder::{BatchBuilder, ValidatedBatch};
use crate::record::compression::{Compression, Compressor, Decompressor, compress};
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
    let (max_timestamp, payload) = match batch.compression()? {
        Compression::None => {
            let max_timestamp = check_records(&mut Plain(payload(batch)), &header, rules)?;
            (max_timestamp, compress(target, level, payload(batch))?)
        }
        codec => transcode(codec, batch, &header, target, level, rules)?,
    };
    header.set_codec_id(target.id());
    stamp(&mut header, max_timestamp, rules);
    Ok(ValidatedBatch::seal(header, payload.into()))
}

fn transcode(
    codec: Compression,
    batch: &RawBatch<'_>,
    header: &BatchHeader,
    target: Compression,
    level: Option<i32>,
    rules: &ValidationRules,
) -> Result<(i64, Vec<u8>), ValidationError> {
    let limit = rules.decompressed_bytes_max;
    let limit = if target == Compression::None { limit.min(rules.max_message_bytes.max(0) as usize) } else { limit };
    let reader = Decompressor::new(codec, payload(batch), limit)?;
    let mut stream = Stream::new(reader, Some(Compressor::new(target, level)?));
    let max_timestamp = check_records(&mut stream, header, rules)?;
    let out = stream.into_copy().map_or(Ok(Vec::new()), Compressor::finish)?;
    Ok((max_timestamp, out))
}

/// Messages of formats 0 and 1 are held whole while they are rewritten: this bounds the memory for it.
const UNPACKED_BYTES_MAX: usize = 16 << 20;

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
    let limit = rules.decompressed_bytes_max.min(UNPACKED_BYTES_MAX);
    for batch in list {
        let stamped = batch.is_log_append_time();
        let mut faults = Faults::default();
        for (index, record) in (0..).zip(batch.records(limit)?.iter()) {
            let record = record?;
            rules.check_record(index, record.key.is_some(), record.timestamp, stamped, &mut faults);
            builder.append(record.timestamp, record.key, record.value, []);
        }
        faults.into_result()?;
    }
    Ok(builder.build()?)
}
