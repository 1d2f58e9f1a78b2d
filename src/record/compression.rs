//! The codecs of record batches: bounded streaming out, streaming in (classes `CompressionType`, `Compression`).
//!
//! Invariant: reading never holds more than one block or window of the codec, and never hands out more than the budget it was
//! given. The framing of each codec is the one Kafka's clients use: gzip members, snappy in xerial frames, lz4 frames of
//! independent 64 KiB blocks, zstd frames.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use super::error::RecordError;

/// A codec, by its number in the attributes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    pub fn from_id(id: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    pub fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The name in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Compresses `bytes` as one block. `level` is the codec's own (`compression.gzip.level`, ...); `None` is its default. Codecs
/// without levels ignore it.
pub fn compress(codec: Compression, level: Option<i32>, bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut compressor = Compressor::new(codec, level)?;
    compressor.write(bytes)?;
    compressor.finish()
}

/// Decompresses `bytes`; an error as soon as more than `limit_bytes` come out.
pub fn decompress(codec: Compression, bytes: &[u8], limit_bytes: usize) -> Result<Vec<u8>, RecordError> {
    Decompressor::new(codec, bytes, limit_bytes)?.read_to_end()
}

/// Reads decompressed bytes piece by piece, up to a budget.
pub struct Decompressor<'a> {
    codec: Codec<'a>,
    limit: usize,
    left: usize,
}

enum Codec<'a> {
    None(&'a [u8]),
    Gzip(gzip::Reader<'a>),
    Snappy(snappy::Reader<'a>),
    Lz4(lz4::Reader<'a>),
    Zstd(zstandard::Reader<'a>),
}

impl<'a> Decompressor<'a> {
    pub fn new(codec: Compression, bytes: &'a [u8], limit_bytes: usize) -> Result<Decompressor<'a>, RecordError> {
        let mut limit = limit_bytes;
        let codec = match codec {
            Compression::None => Codec::None(bytes),
            Compression::Gzip => Codec::Gzip(gzip::Reader::new(bytes)),
            Compression::Snappy => Codec::Snappy(snappy::Reader::new(bytes)),
            Compression::Lz4 => Codec::Lz4(lz4::Reader::new(bytes, false)?),
            Compression::Zstd => {
                let reader = zstandard::Reader::new(bytes)?;
                limit = limit.min(reader.output_bytes_max());
                Codec::Zstd(reader)
            }
        };
        Ok(Decompressor { codec, limit, left: limit })
    }

    /// For message format 0, whose writers got the checksum of the lz4 frame header wrong: it is not looked at.
    pub fn for_format_0(codec: Compression, bytes: &'a [u8], limit: usize) -> Result<Decompressor<'a>, RecordError> {
        match codec {
            Compression::Lz4 => {
                Ok(Decompressor { codec: Codec::Lz4(lz4::Reader::new(bytes, true)?), limit, left: limit })
            }
            _ => Decompressor::new(codec, bytes, limit),
        }
    }

    /// All that is left.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, RecordError> {
        let mut out = Vec::new();
        let mut chunk = [0; 16 << 10];
        loop {
            match self.read(&mut chunk)? {
                0 => return Ok(out),
                count => out.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Puts bytes into `out` and returns how many; 0 is the end (or an empty `out`).
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordError> {
        let count = match &mut self.codec {
            Codec::None(bytes) => {
                let count = bytes.len().min(out.len());
                let (now, rest) = bytes.split_at(count);
                out[..count].copy_from_slice(now);
                *bytes = rest;
                count
            }
            Codec::Gzip(reader) => reader.read(out)?,
            Codec::Snappy(reader) => reader.read(out, self.left)?,
            Codec::Lz4(reader) => reader.read(out)?,
            Codec::Zstd(reader) => reader.read(out)?,
        };
        self.left = self.left.checked_sub(count).ok_or(RecordError::OverBudget { limit: self.limit })?;
        Ok(count)
    }
}

/// Takes bytes piece by piece and gives the compressed block at the end.
pub struct Compressor {
    codec: Writer,
}

enum Writer {
    None(Vec<u8>),
    Gzip(gzip::Writer),
    Snappy(snappy::Writer),
    Lz4(lz4::Writer),
    Zstd(zstandard::Writer),
}

impl Compressor {
    pub fn new(codec: Compression, level: Option<i32>) -> Result<Compressor, RecordError> {
        let codec = match codec {
            Compression::None => Writer::None(Vec::new()),
            Compression::Gzip => Writer::Gzip(gzip::Writer::new(level)),
            Compression::Snappy => Writer::Snappy(snappy::Writer::new()),
            Compression::Lz4 => Writer::Lz4(lz4::Writer::new(level)),
            Compression::Zstd => Writer::Zstd(zstandard::Writer::new(level)?),
        };
        Ok(Compressor { codec })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        match &mut self.codec {
            Writer::None(out) => out.extend_from_slice(bytes),
            Writer::Gzip(writer) => writer.write(bytes)?,
            Writer::Snappy(writer) => writer.write(bytes)?,
            Writer::Lz4(writer) => writer.write(bytes)?,
            Writer::Zstd(writer) => writer.write(bytes)?,
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Vec<u8>, RecordError> {
        match self.codec {
            Writer::None(out) => Ok(out),
            Writer::Gzip(writer) => writer.finish(),
            Writer::Snappy(writer) => writer.finish(),
            Writer::Lz4(writer) => writer.finish(),
            Writer::Zstd(writer) => writer.finish(),
        }
    }
}

/// Turns a compressed block for format 1 and later into what readers of format 0 expect (differs for lz4 only).
pub(super) fn adapt_to_format_0(codec: Compression, block: &mut [u8]) {
    if codec == Compression::Lz4 {
        lz4::break_header_checksum(block);
    }
}

fn failed(codec: Compression, error: impl std::fmt::Display) -> RecordError {
    RecordError::invalid(format!("the {} stream of the records cannot be read: {error}", codec.name()))
}
