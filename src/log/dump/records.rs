//! `.log` files: a line a batch, and below it one a record if asked for.

use super::{Decoder, Dump, Pair, absolute, coordinator, file_name};
use crate::log::scan::{BatchAt, CUT_OFF, Scanner, Step};
use crate::record::{BatchHeader, EndTxnMarker, RawBatch, Record, RecordError};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// No broker takes a batch that unpacks to more.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

impl Dump<'_> {
    pub(super) fn log(&mut self, path: &Path, base_offset: i64) -> io::Result<()> {
        writeln!(self.out, "Log starting offset: {base_offset}")?;
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let end = size.min(self.options.max_bytes);
        let mut scanner = Scanner::new(&file, 0, end);
        let mut last_offset = None;
        let mut gaps = Vec::new();
        loop {
            let batch = match scanner.next_header()? {
                Step::Batch(batch) => batch,
                Step::End => break,
                Step::Bad { position, reason } => {
                    if end == size {
                        let left = size - position;
                        writeln!(self.out, "Found {left} invalid bytes at the end of {}", file_name(path))?;
                        let is_torn = reason == CUT_OFF;
                        let what = if is_torn { "the last batch" } else { "the batch" };
                        self.problem(format!("{}: {what} at position {position} {reason}", path.display()))?;
                    }
                    break;
                }
            };
            let mut bytes = vec![0; batch.size as usize];
            file.read_exact_at(&mut bytes, batch.position)?;
            if let Err(error) = self.batch(&batch, &bytes, &mut last_offset, &mut gaps)? {
                self.problem(format!("{}: batch at position {}: {error}", path.display(), batch.position))?;
            }
        }
        if !gaps.is_empty() {
            gaps.reverse();
            self.findings.gaps.push((absolute(path), gaps));
        }
        Ok(())
    }

    fn batch(
        &mut self,
        at: &BatchAt,
        bytes: &[u8],
        last_offset: &mut Option<i64>,
        gaps: &mut Vec<Pair>,
    ) -> io::Result<Result<(), RecordError>> {
        let batch = match RawBatch::read(bytes) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(Err(RecordError::corrupt("is cut off"))),
            Err(error) => return Ok(Err(error)),
        };
        let is_valid = batch.verify().is_ok();
        if !is_valid {
            self.is_sound = false;
        }
        writeln!(self.out, "{}", batch_line(at, &batch, is_valid))?;
        if !(self.options.deep_iteration || self.options.print_data_log) {
            return Ok(Ok(()));
        }
        let records = match batch.records(UNPACKED_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        let mut checksums = records.stored_checksums();
        for record in records.iter() {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Ok(Err(error)),
            };
            if let Some(last) = last_offset.filter(|last| record.offset != last.wrapping_add(1)) {
                gaps.push((last, record.offset));
            }
            *last_offset = Some(record.offset);
            match self.record_line(&batch, &record, checksums.next()) {
                Ok(line) => writeln!(self.out, "{line}")?,
                Err(reason) => return Ok(Err(RecordError::invalid(reason))),
            }
        }
        Ok(Ok(()))
    }

    fn record_line(&self, batch: &RawBatch<'_>, record: &Record<'_>, crc: Option<u32>) -> Result<String, String> {
        let mut line = String::new();
        let header = batch.header();
        if !self.options.skip_record_metadata {
            add_metadata(&mut line, batch, header.as_ref(), record, crc);
        }
        if header.is_some_and(|header| header.is_control()) {
            if !self.options.skip_record_metadata {
                add_marker(&mut line, record)?;
            }
            return Ok(line);
        }
        if !self.options.print_data_log {
            return Ok(line);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (key, value) = match self.options.decoder {
            Decoder::Text => (record.key.map(text), record.value.map(text)),
            Decoder::Offsets => coordinator::offsets(record).map(|(key, value)| (Some(key), value))?,
            Decoder::Transactions => coordinator::transactions(record).map(|(key, value)| (Some(key), value))?,
        };
        for (name, shown) in [("key", key), ("payload", value)] {
            if let Some(shown) = shown {
                // Without metadata only a key has the mark before it.
                let mark = if line.is_empty() && name == "key" { "|" } else { "" };
                // Writing to a string cannot fail.
                let _ = write!(line, "{mark} {name}: {shown}");
            }
        }
        Ok(line)
    }
}

fn batch_line(at: &BatchAt, batch: &RawBatch<'_>, is_valid: bool) -> String {
    let codec = batch.compression().map_or("unknown", |codec| codec.name());
    let position = at.position;
    let size = at.size;
    let tail = format!(
        "position: {position} {}: {} size: {size} magic: {} compresscodec: {codec} crc: {} isvalid: {is_valid}",
        timestamp_type(batch),
        batch.max_timestamp(),
        batch.magic(),
        batch.stored_crc(),
    );
    let Some(header) = batch.header() else { return format!("offset: {} {tail}", batch.last_offset()) };
    let horizon = if header.has_delete_horizon() {
        format!("OptionalLong[{}]", header.base_timestamp())
    } else {
        "OptionalLong.empty".to_owned()
    };
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} {tail}",
        header.base_offset(),
        header.last_offset(),
        header.record_count(),
        header.base_sequence(),
        header.last_sequence(),
        header.producer_id(),
        header.producer_epoch(),
        header.partition_leader_epoch(),
        header.is_transactional(),
        header.is_control(),
    )
}

fn timestamp_type(batch: &RawBatch<'_>) -> &'static str {
    match batch.magic() {
        0 => "NoTimestampType",
        _ if batch.is_log_append_time() => "LogAppendTime",
        _ => "CreateTime",
    }
}

fn add_metadata(
    line: &mut String,
    batch: &RawBatch<'_>,
    header: Option<&BatchHeader>,
    record: &Record<'_>,
    crc: Option<u32>,
) {
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "| offset: {} {}: {} keySize: {} valueSize: {}",
        record.offset,
        timestamp_type(batch),
        record.timestamp,
        size(record.key),
        size(record.value),
    );
    let Some(header) = header else {
        // The brace is Kafka's.
        let _ = write!(line, " isValid: true crc: {}}}", crc.unwrap_or_default());
        return;
    };
    let keys: Vec<_> = record.headers.iter().map(|(key, _)| String::from_utf8_lossy(key)).collect();
    let _ = write!(line, " sequence: {} headerKeys: [{}]", sequence(header, record.offset), keys.join(","));
}

/// Sequence numbers go on with 0 after the largest.
fn sequence(header: &BatchHeader, offset: i64) -> i64 {
    let base = i64::from(header.base_sequence());
    if base < 0 { base } else { base.wrapping_add(offset.wrapping_sub(header.base_offset())) & i64::from(i32::MAX) }
}

fn add_marker(line: &mut String, record: &Record<'_>) -> Result<(), String> {
    let marker = EndTxnMarker::decode(record).map_err(|error| error.to_string())?;
    // Other control records belong to KRaft.
    if let Some(marker) = marker {
        let name = if marker.commit { "COMMIT" } else { "ABORT" };
        let _ = write!(line, " endTxnMarker: {name} coordinatorEpoch: {}", marker.coordinator_epoch);
    }
    Ok(())
}
