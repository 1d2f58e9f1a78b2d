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
        let seen = record(source, index)?;
        visit(index, &seen);
    }
    if source.peek(1)?.is_empty() {
        return Ok(());
    }
    Err(RecordError::invalid(format!("bytes are left behind the {count} records that the batch declares")))
}

/// A record that lies whole in what is at hand is looked at there, a longer one piece by piece.
#[inline]
fn record<S: Source>(source: &mut S, index: i32) -> Result<Seen, RecordError> {
    let ready = source.peek(VARINT_MAX)?;
    let mut at = 0;
    let length = read_varint(ready, &mut at).ok_or_else(|| bad(index, "no length"))?;
    let whole = usize::try_from(length).ok().and_then(|length| ready.get(at..)?.get(..length));
    if let Some(whole) = whole {
        let seen = fields(&mut Plain(whole), length, index)?;
        let size = at + whole.len();
        source.skip(size)?;
        return Ok(seen);
    }
    source.skip(at)?;
    fields(source, length, index)
}

#[cold]
fn bad(index: i32, what: &str) -> RecordError {
    RecordError::invalid(format!("record {index} of the batch: {what}"))
}

/// What follows the length of a record.
#[inline]
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
