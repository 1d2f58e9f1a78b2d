//! Down-conversion for consumers that know only message formats 0 or 1 (Fetch v0 to v3; class `RecordsUtil`).

use bytes::Bytes;

use super::compression::{Compression, adapt_to_format_0, compress};
use super::crc;
use super::error::RecordError;
use super::raw::{RawBatch, batches};
use super::records::Record;

/// Rewrites whole batches into format `to_magic` (0 or 1). Headers and control batches are dropped; batches of that format or an
/// older one stay as they are; of uncompressed batches only records from `from_offset` on are kept. `limit_bytes` bounds what one
/// batch may expand to. zstd cannot be converted, for the older formats do not have it.
pub fn down_convert(records: &[u8], to_magic: i8, from_offset: i64, limit_bytes: usize) -> Result<Bytes, RecordError> {
    let mut out = Vec::with_capacity(records.len());
    for batch in batches(records) {
        let batch = batch?;
        if batch.is_control() {
            continue;
        }
        if batch.magic() <= to_magic {
            out.extend_from_slice(batch.bytes());
            continue;
        }
        convert(&batch, to_magic, from_offset, limit_bytes, &mut out)?;
    }
    Ok(out.into())
}

fn convert(
    batch: &RawBatch<'_>,
    to_magic: i8,
    from_offset: i64,
    limit_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let codec = batch.compression()?;
    if codec == Compression::Zstd {
        let message = "down-conversion of batches compressed with zstd is not supported";
        return Err(RecordError::UnsupportedCompression(message.to_owned()));
    }
    let records = batch.records(limit_bytes)?;
    let stamped = batch.is_log_append_time();
    if codec == Compression::None {
        for record in records.iter() {
            let record = record?;
            if record.offset >= from_offset {
                write_message(out, to_magic, stamped, Compression::None, record.offset, &record)?;
            }
        }
        return Ok(());
    }
    let mut inner = Vec::new();
    let mut ends: Option<(i64, i64)> = None;
    for record in records.iter() {
        let record = record?;
        let (first, _) = *ends.get_or_insert((record.offset, record.offset));
        ends = Some((first, record.offset));
        let offset = if to_magic == 0 { record.offset } else { record.offset.wrapping_sub(first) };
        write_message(&mut inner, to_magic, stamped, Compression::None, offset, &record)?;
    }
    let Some((_, last)) = ends else { return Ok(()) };
    let mut block = compress(codec, None, &inner)?;
    if to_magic == 0 {
        adapt_to_format_0(codec, &mut block);
    }
    let wrapper = Record::without_headers(last, batch.max_timestamp(), None, Some(&block));
    write_message(out, to_magic, stamped, codec, last, &wrapper)
}

/// Writes one message of format 0 or 1.
fn write_message(
    out: &mut Vec<u8>,
    magic: i8,
    log_append_time: bool,
    codec: Compression,
    offset: i64,
    record: &Record<'_>,
) -> Result<(), RecordError> {
    let stamp = if magic > 0 && log_append_time { 0x08 } else { 0 };
    let bytes = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    let size = 14 + if magic > 0 { 8 } else { 0 } + bytes(record.key) + bytes(record.value);
    let size = i32::try_from(size).map_err(|_| RecordError::invalid("a message of more than 2 GiB"))?;
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[magic as u8, codec.id() | stamp]);
    if magic > 0 {
        out.extend_from_slice(&record.timestamp.to_be_bytes());
    }
    for field in [record.key, record.value] {
        out.extend_from_slice(&field.map_or(-1, |field| field.len() as i32).to_be_bytes());
        out.extend_from_slice(field.unwrap_or_default());
    }
    let crc = crc::crc32(out.get(start + 4..).unwrap_or_default());
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
    Ok(())
}
