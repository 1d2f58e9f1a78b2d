//! Batches of any format as views over bytes (classes `ByteBufferLogInputStream`, `DefaultRecordBatch`,
//! `AbstractLegacyRecordBatch`). Format 0 and 1 "batches" are single messages, or wrappers around compressed ones.
//!
//! ```text
//! all formats:   0 i64 offset   8 i32 size of what follows   16 i8 magic
//! magic 0 and 1: 12 u32 CRC-32 of 16..end   17 i8 attributes   [magic 1: 18 i64 timestamp]   key   value
//! ```
//! Invariant: a `RawBatch` lies wholly inside the bytes it was made from and is at least as long as its header.

use super::batch::{BatchHeader, HEADER_SIZE, LOG_OVERHEAD};
use super::compression::Compression;
use super::crc;
use super::error::RecordError;

/// Bytes that tell offset, size and magic of the next batch.
pub const PREFIX_SIZE: usize = 17;
/// The smallest message of format 0: offset, size, crc, magic, attributes, null key, null value.
const LEGACY_HEADER_V0: usize = 26;
const LEGACY_HEADER_V1: usize = 34;

/// What the first 17 bytes of a batch say: enough to know how many bytes to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchPrefix {
    pub base_offset: i64,
    pub magic: i8,
    /// Bytes of the whole batch, at least the header of its format.
    pub size_bytes: usize,
}

impl BatchPrefix {
    /// `Ok(None)` if fewer than 17 bytes are there; an error if no batch can begin like this.
    pub fn read(bytes: &[u8]) -> Result<Option<BatchPrefix>, RecordError> {
        let Some(prefix) = bytes.first_chunk::<PREFIX_SIZE>() else { return Ok(None) };
        let [b0, b1, b2, b3, b4, b5, b6, b7, s0, s1, s2, s3, _, _, _, _, magic] = *prefix;
        let base_offset = i64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
        let length = i32::from_be_bytes([s0, s1, s2, s3]);
        let magic = magic as i8;
        let header = match magic {
            0 => LEGACY_HEADER_V0,
            1 => LEGACY_HEADER_V1,
            2 => HEADER_SIZE,
            _ => return Err(RecordError::corrupt(format!("no record format has the magic {magic}"))),
        };
        let size = i64::from(length) + LOG_OVERHEAD as i64;
        match usize::try_from(size) {
            Ok(size_bytes) if size_bytes >= header => Ok(Some(BatchPrefix { base_offset, magic, size_bytes })),
            _ => Err(RecordError::corrupt(format!("size {length} is too small for a batch of format {magic}"))),
        }
    }
}

/// One batch as it lies in memory. Its checksum is not verified until [`RawBatch::verify`].
#[derive(Clone, Copy, Debug)]
pub struct RawBatch<'a> {
    bytes: &'a [u8],
    magic: i8,
}

/// Iterator over the whole batches at the front of `bytes`. It ends where fewer bytes are left than the next batch needs (a torn
/// tail), and after the first error.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes, position: 0 }
}

#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Batches<'a> {
    /// Bytes of the batches handed out so far: where the next one, or the torn tail, begins.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RawBatch<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        match BatchPrefix::read(self.rest) {
            Ok(None) => None,
            Ok(Some(prefix)) => {
                let (bytes, rest) = self.rest.split_at_checked(prefix.size_bytes)?;
                self.rest = rest;
                self.position += prefix.size_bytes;
                Some(Ok(RawBatch { bytes, magic: prefix.magic }))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl<'a> RawBatch<'a> {
    /// The batch at the front of `bytes`; `Ok(None)` if it is not there whole.
    pub fn read(bytes: &'a [u8]) -> Result<Option<RawBatch<'a>>, RecordError> {
        batches(bytes).next().transpose()
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn magic(&self) -> i8 {
        self.magic
    }

    /// The header of a batch of format 2.
    pub fn header(&self) -> Option<BatchHeader> {
        if self.magic == 2 { BatchHeader::read(self.bytes) } else { None }
    }

    /// The offset field. Offset of the first record in format 2 (as the batch was written, before compaction); of the only message
    /// or, for a compressed wrapper, of the LAST inner message in formats 0 and 1.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.field(0))
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        match self.header() {
            Some(header) => header.last_offset(),
            None => self.base_offset(),
        }
    }

    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Largest timestamp of the records, as the header tells it; -1 in format 0.
    pub fn max_timestamp(&self) -> i64 {
        match self.magic {
            2 => i64::from_be_bytes(self.field(35)),
            1 => i64::from_be_bytes(self.field(18)),
            _ => -1,
        }
    }

    /// Leader epoch; -1 before format 2.
    pub fn partition_leader_epoch(&self) -> i32 {
        if self.magic == 2 { i32::from_be_bytes(self.field(12)) } else { -1 }
    }

    pub fn is_log_append_time(&self) -> bool {
        self.magic > 0 && self.attributes() & 0x08 != 0
    }

    pub fn is_control(&self) -> bool {
        self.header().is_some_and(|header| header.is_control())
    }

    /// The codec, or an error if its number means nothing.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        let id = (self.attributes() & 0x07) as u8;
        Compression::from_id(id)
            .ok_or_else(|| RecordError::UnsupportedCompression(format!("no compression codec has the number {id}")))
    }

    /// The checksum the batch carries.
    pub fn stored_crc(&self) -> u32 {
        u32::from_be_bytes(if self.magic == 2 { self.field(17) } else { self.field(12) })
    }

    /// The checksum of what it holds.
    pub fn computed_crc(&self) -> u32 {
        match self.magic {
            2 => crc::crc32c(self.bytes.get(21..).unwrap_or_default()),
            _ => crc::crc32(self.bytes.get(16..).unwrap_or_default()),
        }
    }

    /// Checks the checksum.
    pub fn verify(&self) -> Result<(), RecordError> {
        let (stored, computed) = (self.stored_crc(), self.computed_crc());
        if stored == computed {
            return Ok(());
        }
        Err(RecordError::corrupt(format!("record is corrupt (stored crc = {stored}, computed crc = {computed})")))
    }

    fn attributes(&self) -> i16 {
        if self.magic == 2 {
            i16::from_be_bytes(self.field(21))
        } else {
            i16::from(self.bytes.get(17).copied().unwrap_or(0))
        }
    }

    /// A fixed field. All of them lie inside the header that the constructor made sure of.
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}
