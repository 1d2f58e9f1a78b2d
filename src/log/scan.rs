//! Walks over the batches of a `.log` file by their headers, or by their whole bytes when checksums matter.
//!
//! Every format begins alike, so that a walk needs to know little:
//! ```text
//! 0 i64 offset: base (format 2) or last (0 and 1)     8 i32 bytes that follow     16 i8 format
//! formats 0, 1: 12 u32 CRC-32 of 16..end   17 i8 attributes   [1: 18 i64 timestamp]
//! ```
//! Invariant: nothing read here is trusted; a batch that does not fit the file or contradicts itself ends the walk.

use crate::record::{BatchHeader, HEADER_SIZE, crc};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const OVERHEAD: u64 = 12;
/// Smallest message of format 0, without its 12 bytes of overhead.
const LEGACY_LENGTH_MIN: i32 = 14;
const V2_LENGTH_MIN: i32 = (HEADER_SIZE - OVERHEAD as usize) as i32;
const HEADER_CHUNK: usize = 4 << 10;
const BODY_CHUNK: usize = 256 << 10;

/// Why a walk ends where the file does.
pub const CUT_OFF: &str = "is cut off";

/// One batch, or one message (or wrapper) of an older format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchAt {
    pub position: u64,
    pub size: u64,
    pub magic: i8,
    /// Of a compressed wrapper of format 0 or 1: its last offset, as the first is only inside.
    pub base_offset: i64,
    pub last_offset: i64,
    /// -1 if the format has none.
    pub max_timestamp: i64,
    /// Format 2 only.
    pub header: Option<BatchHeader>,
}

impl BatchAt {
    pub fn end(&self) -> u64 {
        self.position + self.size
    }
}

/// How a walk ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Batch(BatchAt),
    /// The end of the range, exactly.
    End,
    /// At this position is no whole, sound batch.
    Bad {
        position: u64,
        reason: &'static str,
    },
}

/// A walk from a position to an end, through one buffer.
pub struct Scanner<'a> {
    file: &'a File,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_position: u64,
}

impl<'a> Scanner<'a> {
    pub fn new(file: &'a File, position: u64, end: u64) -> Scanner<'a> {
        Scanner { file, position, end, buffer: Vec::new(), buffer_position: 0 }
    }

    /// The next batch by its header alone.
    pub fn next_header(&mut self) -> io::Result<Step> {
        self.step(HEADER_CHUNK)
    }

    /// The next batch, its checksum included. The bytes are in [`Scanner::body`] until the next call.
    pub fn next_checked(&mut self) -> io::Result<Step> {
        let step = self.step(BODY_CHUNK)?;
        let Step::Batch(batch) = step else { return Ok(step) };
        self.fill(batch.position, batch.size as usize)?;
        let Some(body) = self.view(batch.position, batch.size as usize) else {
            return Ok(Step::Bad { position: batch.position, reason: CUT_OFF });
        };
        if is_checksum_right(batch.magic, body) {
            return Ok(step);
        }
        Ok(Step::Bad { position: batch.position, reason: "has a wrong checksum" })
    }

    /// Bytes of a batch that [`Scanner::next_checked`] just gave.
    pub fn body(&self, batch: &BatchAt) -> &[u8] {
        self.view(batch.position, batch.size as usize).unwrap_or_default()
    }

    fn step(&mut self, chunk: usize) -> io::Result<Step> {
        let position = self.position;
        if position >= self.end {
            return Ok(Step::End);
        }
        let left = self.end - position;
        let head_len = left.min(HEADER_SIZE as u64) as usize;
        if self.view(position, head_len).is_none() {
            self.fill(position, chunk.max(head_len))?;
        }
        let Some(head) = self.view(position, head_len) else {
            return Ok(Step::Bad { position, reason: CUT_OFF });
        };
        Ok(match parse_header(head, position, left) {
            Ok(batch) => {
                self.position = batch.end();
                Step::Batch(batch)
            }
            Err(reason) => Step::Bad { position, reason },
        })
    }

    fn view(&self, position: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(position.checked_sub(self.buffer_position)?).ok()?;
        self.buffer.get(start..start.checked_add(len)?)
    }

    /// Has at least `len` bytes from `position` in the buffer, unless the file ends before.
    fn fill(&mut self, position: u64, len: usize) -> io::Result<()> {
        if self.view(position, len).is_some() {
            return Ok(());
        }
        let want = (self.end - position).min(len.max(self.buffer.capacity().min(BODY_CHUNK)) as u64) as usize;
        self.buffer.clear();
        self.buffer.resize(want, 0);
        self.buffer_position = position;
        let mut filled = 0;
        while filled < want {
            match self.file.read_at(&mut self.buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

/// A whole batch that lies in memory.
pub fn parse_batch(bytes: &[u8], position: u64) -> Result<BatchAt, &'static str> {
    parse_header(bytes.get(..HEADER_SIZE).unwrap_or(bytes), position, bytes.len() as u64)
}

fn parse_header(head: &[u8], position: u64, left: u64) -> Result<BatchAt, &'static str> {
    let (Some(offset), Some(length), Some(&magic)) =
        (head.first_chunk::<8>(), head.get(8..).and_then(<[u8]>::first_chunk::<4>), head.get(16))
    else {
        return Err(CUT_OFF);
    };
    let (offset, length) = (i64::from_be_bytes(*offset), i32::from_be_bytes(*length));
    let length_min = if magic == 2 { V2_LENGTH_MIN } else { LEGACY_LENGTH_MIN };
    if magic > 2 {
        return Err("has an unknown format");
    }
    if length < length_min {
        return Err("has an impossible length");
    }
    if offset < 0 {
        return Err("has a negative offset");
    }
    let size = length as u64 + OVERHEAD;
    if size > left {
        return Err(CUT_OFF);
    }
    let mut batch = BatchAt {
        position,
        size,
        magic: magic as i8,
        base_offset: offset,
        last_offset: offset,
        max_timestamp: -1,
        header: None,
    };
    if magic == 2 {
        let header = BatchHeader::read(head).ok_or(CUT_OFF)?;
        if header.last_offset_delta() < 0 {
            return Err("has a negative offset delta");
        }
        batch.last_offset = header.last_offset();
        batch.max_timestamp = header.max_timestamp();
        batch.header = Some(header);
    } else if magic == 1 {
        let timestamp = head.get(18..).and_then(<[u8]>::first_chunk::<8>).ok_or(CUT_OFF)?;
        batch.max_timestamp = i64::from_be_bytes(*timestamp);
    }
    Ok(batch)
}

fn is_checksum_right(magic: i8, body: &[u8]) -> bool {
    let (at, covered) = if magic == 2 { (17, 21) } else { (12, 16) };
    let (Some(stored), Some(rest)) = (body.get(at..).and_then(<[u8]>::first_chunk::<4>), body.get(covered..)) else {
        return false;
    };
    let computed = if magic == 2 { crc::crc32c(rest) } else { crc::crc32(rest) };
    u32::from_be_bytes(*stored) == computed
}
