//! Walks over the records of a batch of format 2 and looks at their structure only: no key, value or header is kept.
//!
//! Invariant: works in the memory of one buffer, whatever lengths the records claim.

use std::cell::Cell;

use super::compression::{Compressor, Decompressor};
use super::error::RecordError;
use super::varint::{VARINT_MAX, VARLONG_MAX, read_varint, read_varlong};

/// Attributes, timestamp delta, offset delta, key length.
const HEAD_SIZE_MAX: usize = 1 + VARLONG_MAX + VARINT_MAX + VARINT_MAX;
const BUFFER_SIZE: usize = 32 << 10;

/// Where the bytes come from.
pub trait Source {
    /// The next bytes: at least `want` of them, fewer only at the end.
    fn peek(&mut self, want: usize) -> Result<&[u8], RecordError>;
    /// Moves on.
    fn skip(&mut self, count: usize) -> Result<(), RecordError>;
}

/// What a rule may ask about a record.
pub struct Seen {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub has_key: bool,
}

/// Visits `count` records; an error if they do not fill `source` exactly.
pub fn walk<S: Source>(source: &mut S, count: i32, mut visit: impl FnMut(i32, &Seen)) -> Result<(), RecordError> {
    for index in 0..count {
        match whole_record(source.peek(VARINT_MAX)?) {
            Some((seen, size)) => {
                source.skip(size)?;
                visit(index, &seen);
            }
            None => visit(index, &record(source, index)?),
        }
    }
    if source.peek(1)?.is_empty() {
        return Ok(());
    }
    Err(RecordError::invalid(format!("bytes are left behind the {count} records that the batch declares")))
}

/// A record field by field.
#[cold]
fn record<S: Source>(source: &mut S, index: i32) -> Result<Seen, RecordError> {
    let mut at = 0;
    let length = read_varint(source.peek(VARINT_MAX)?, &mut at).ok_or_else(|| bad(index, "no length"))?;
    source.skip(at)?;
    fields(source, length, index)
}

/// The way of nearly all records: right, and whole in what is at hand. Gives its size too. The others go field by field, where it
/// turns out what is wrong, or where more is read.
#[inline(always)]
fn whole_record(ready: &[u8]) -> Option<(Seen, usize)> {
    let mut at = 0;
    let length = usize::try_from(read_varint(ready, &mut at)?).ok()?;
    let end = at.checked_add(length)?;
    let record = ready.get(..end)?;
    at += 1;
    let timestamp_delta = read_varlong(record, &mut at)?;
    let offset_delta = read_varint(record, &mut at)?;
    let key_length = read_varint(record, &mut at)?;
    skip_field(&mut at, key_length)?;
    let value_length = read_varint(record, &mut at)?;
    skip_field(&mut at, value_length)?;
    let headers = u32::try_from(read_varint(record, &mut at)?).ok()?;
    for _ in 0..headers {
        let key_length = read_varint(record, &mut at)?;
        at = at.checked_add(usize::try_from(key_length).ok()?)?;
        let value_length = read_varint(record, &mut at)?;
        skip_field(&mut at, value_length)?;
    }
    (at == end).then_some((Seen { timestamp_delta, offset_delta, has_key: key_length >= 0 }, end))
}

/// Moves behind a nullable field of `length` bytes.
#[inline]
fn skip_field(at: &mut usize, length: i32) -> Option<()> {
    if length != -1 {
        *at = at.checked_add(usize::try_from(length).ok()?)?;
    }
    Some(())
}

#[cold]
fn bad(index: i32, what: &str) -> RecordError {
    RecordError::invalid(format!("record {index} of the batch: {what}"))
}

/// What follows the length of a record.
fn fields<S: Source>(source: &mut S, length: i32, index: i32) -> Result<Seen, RecordError> {
    let head = source.peek(HEAD_SIZE_MAX)?;
    let mut at = 1;
    let numbers = read_varlong(head, &mut at)
        .and_then(|timestamp| Some((timestamp, read_varint(head, &mut at)?, read_varint(head, &mut at)?)));
    let (timestamp_delta, offset_delta, key_length) = numbers.ok_or_else(|| bad(index, "its fields are cut off"))?;
    let mut left = i64::from(length);
    take(&mut left, at as i64).ok_or_else(|| bad(index, "its length is too small"))?;
    source.skip(at)?;
    skip_bytes(source, key_length, true, &mut left)?.ok_or_else(|| impossible(index, "key length", key_length))?;
    let length = number(source, &mut left)?.ok_or_else(|| bad(index, "no value length"))?;
    skip_bytes(source, length, true, &mut left)?.ok_or_else(|| impossible(index, "value length", length))?;
    let headers = number(source, &mut left)?.ok_or_else(|| bad(index, "no header count"))?;
    if headers < 0 || i64::from(headers) > left {
        return Err(impossible(index, "header count", headers));
    }
    for _ in 0..headers {
        for (part, nullable) in [("header key length", false), ("header value length", true)] {
            let length = number(source, &mut left)?.ok_or_else(|| bad(index, "a header is cut off"))?;
            skip_bytes(source, length, nullable, &mut left)?.ok_or_else(|| impossible(index, part, length))?;
        }
    }
    if left != 0 {
        return Err(bad(index, "its fields do not fill its length"));
    }
    Ok(Seen { timestamp_delta, offset_delta, has_key: key_length >= 0 })
}

#[cold]
fn impossible(index: i32, what: &str, number: i32) -> RecordError {
    bad(index, &format!("impossible {what} {number}"))
}

fn take(left: &mut i64, count: i64) -> Option<()> {
    *left -= count;
    if *left >= 0 { Some(()) } else { None }
}

/// A varint, taken from what is left of the record. `None` if it does not fit there.
#[inline]
fn number<S: Source>(source: &mut S, left: &mut i64) -> Result<Option<i32>, RecordError> {
    let mut at = 0;
    let Some(value) = read_varint(source.peek(VARINT_MAX)?, &mut at) else { return Ok(None) };
    source.skip(at)?;
    Ok(take(left, at as i64).map(|()| value))
}

/// Skips `length` bytes, -1 being null where that is allowed. `None` if the length cannot be.
#[inline]
fn skip_bytes<S: Source>(
    source: &mut S,
    length: i32,
    nullable: bool,
    left: &mut i64,
) -> Result<Option<()>, RecordError> {
    let Ok(count) = usize::try_from(length) else { return Ok((length == -1 && nullable).then_some(())) };
    if take(left, i64::from(length)).is_none() {
        return Ok(None);
    }
    source.skip(count)?;
    Ok(Some(()))
}

/// Records that are not compressed.
pub struct Plain<'a>(pub &'a [u8]);

impl Source for Plain<'_> {
    #[inline]
    fn peek(&mut self, _: usize) -> Result<&[u8], RecordError> {
        Ok(self.0)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), RecordError> {
        self.0 = self.0.get(count..).ok_or_else(|| RecordError::invalid("a record reaches beyond its batch"))?;
        Ok(())
    }
}

/// Records that are being decompressed, and compressed again by another codec if asked.
pub struct Stream<'a> {
    reader: Decompressor<'a>,
    /// Taken from the thread, and given back.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    copy: Option<Compressor>,
}

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.buffer));
    }
}

impl<'a> Stream<'a> {
    pub fn new(reader: Decompressor<'a>, copy: Option<Compressor>) -> Stream<'a> {
        let mut buffer = BUFFER.take();
        buffer.resize(BUFFER_SIZE, 0);
        Stream { reader, buffer, start: 0, end: 0, ended: false, copy }
    }

    /// The compressor, with all bytes that were walked over.
    pub fn into_copy(mut self) -> Option<Compressor> {
        self.copy.take()
    }

    /// Keeps what is not used yet and reads behind it.
    fn fill(&mut self) -> Result<(), RecordError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let count = self.reader.read(&mut self.buffer[self.end..])?;
        self.ended = count == 0;
        self.end += count;
        Ok(())
    }
}

impl Source for Stream<'_> {
    #[inline]
    fn peek(&mut self, want: usize) -> Result<&[u8], RecordError> {
        while self.end - self.start < want && !self.ended {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn skip(&mut self, mut count: usize) -> Result<(), RecordError> {
        loop {
            let now = count.min(self.end - self.start);
            if let Some(copy) = &mut self.copy {
                copy.write(&self.buffer[self.start..self.start + now])?;
            }
            self.start += now;
            count -= now;
            if count == 0 {
                return Ok(());
            }
            if self.ended {
                return Err(RecordError::invalid("a record reaches beyond its batch"));
            }
            self.fill()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;

    fn seen(seen: &Seen) -> (i64, i32, bool) {
        (seen.timestamp_delta, seen.offset_delta, seen.has_key)
    }

    #[test]
    fn both_ways_over_a_record_agree() {
        let mut builder = BatchBuilder::new();
        builder.append(5, None, None, []);
        builder.append(9, Some(b""), Some(&[7; 300]), [(&b"name"[..], None), (b"", Some(&b"x"[..]))]);
        builder.append(2, Some(b"key"), Some(b""), [(&b"name"[..], Some(&[0; 70][..]))]);
        let payload = builder.build().unwrap().payload;
        let mut rest = &payload[..];
        for index in 0..3 {
            let (quick, size) = whole_record(rest).expect("a good record goes the quick way");
            let mut plain = Plain(rest);
            let slow = record(&mut plain, index).unwrap();
            assert_eq!(seen(&quick), seen(&slow));
            rest = &rest[size..];
            assert_eq!(plain.0, rest);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn changed_records_are_judged_alike_by_both() {
        let mut builder = BatchBuilder::new();
        builder.append(2, Some(b"key"), Some(b"v"), [(&b"n"[..], Some(&b"h"[..]))]);
        let payload = builder.build().unwrap().payload;
        for at in 0..payload.len() {
            for byte in 0..=255 {
                let mut bytes = payload.to_vec();
                bytes[at] = byte;
                let quick = whole_record(&bytes).map(|(quick, size)| (seen(&quick), size));
                let mut plain = Plain(&bytes);
                let slow = record(&mut plain, 0).ok().map(|slow| (seen(&slow), bytes.len() - plain.0.len()));
                assert_eq!(quick, slow, "byte {at} = {byte}");
            }
        }
    }
}
