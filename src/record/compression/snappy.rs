//! snappy in the frames of the xerial library, or one bare raw block (classes `SnappyInputStream`, `SnappyOutputStream`).
//!
//! ```text
//! 0 magic 82 'S' 'N' 'A' 'P' 'P' 'Y' 00   8 i32 version 1   12 i32 lowest compatible version 1
//! then, until the end: i32 size, raw snappy block of that size
//! ```
//! The header may come again between blocks, where streams were put after one another.

use super::{Compression, RecordError, failed};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_SIZE: usize = 16;
/// Input of one block, as Kafka's clients cut it.
const BLOCK_SIZE: usize = 32 << 10;
/// No snappy block expands more than this: its densest element is 3 bytes (or a 2-byte near copy of 11) for up to 64.
const EXPANSION_MAX: usize = 64;

pub struct Reader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    given: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        let framed = bytes.starts_with(&MAGIC);
        Reader { rest: bytes, framed, block: Vec::new(), given: 0 }
    }

    /// `left` is how much the caller may still take: a block that claims more is refused before memory is set aside for it.
    pub fn read(&mut self, out: &mut [u8], left: usize) -> Result<usize, RecordError> {
        while self.given == self.block.len() {
            if !self.next_block(left)? {
                return Ok(0);
            }
        }
        let ready = self.block.get(self.given..).unwrap_or_default();
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        self.given += count;
        Ok(count)
    }

    fn next_block(&mut self, left: usize) -> Result<bool, RecordError> {
        let Some(block) = self.take_block()? else { return Ok(false) };
        let size = snap::raw::decompress_len(block).map_err(|error| failed(Compression::Snappy, error))?;
        if size > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(failed(Compression::Snappy, "a block claims more bytes than it can hold"));
        }
        if size > left {
            return Err(RecordError::OverBudget { limit: left });
        }
        self.given = 0;
        self.block.resize(size, 0);
        let count = snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(|error| failed(Compression::Snappy, error))?;
        self.block.truncate(count);
        Ok(true)
    }

    fn take_block(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        if !self.framed {
            let block = std::mem::take(&mut self.rest);
            return Ok(if block.is_empty() { None } else { Some(block) });
        }
        while self.rest.starts_with(&MAGIC) {
            self.rest = self
                .rest
                .get(HEADER_SIZE..)
                .ok_or_else(|| failed(Compression::Snappy, "the stream ends inside its header"))?;
        }
        // Fewer bytes than a size are the end to Kafka's readers.
        let Some((size, rest)) = self.rest.split_first_chunk::<4>() else { return Ok(None) };
        let torn = || failed(Compression::Snappy, "the stream ends inside a block");
        let size = usize::try_from(i32::from_be_bytes(*size)).map_err(|_| torn())?;
        let (block, rest) = rest.split_at_checked(size).ok_or_else(torn)?;
        self.rest = rest;
        Ok(Some(block))
    }
}

pub struct Writer {
    out: Vec<u8>,
    pending: Vec<u8>,
}

impl Writer {
    pub fn new() -> Writer {
        let mut out = Vec::with_capacity(4 << 10);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&1i32.to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
        Writer { out, pending: Vec::with_capacity(BLOCK_SIZE) }
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), RecordError> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_SIZE - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == BLOCK_SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Vec<u8>, RecordError> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok(self.out)
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        let block = snap::raw::Encoder::new()
            .compress_vec(&self.pending)
            .map_err(|error| failed(Compression::Snappy, error))?;
        self.out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        self.out.extend_from_slice(&block);
        self.pending.clear();
        Ok(())
    }
}
