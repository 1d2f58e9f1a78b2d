//! lz4 frames (classes `Lz4BlockInputStream`, `Lz4BlockOutputStream`): independent blocks of 64 KiB, no content checksum.
//!
//! ```text
//! 0 magic 04 22 4D 18   4 flags   5 block size   [6 content size, 8 bytes]   then 1 checksum byte of what precedes it
//! then blocks: u32 little-endian size (top bit: stored as it is), data, [u32 checksum]; size 0 ends the frame
//! ```
//! The checksum byte is the second byte of XXH32. Kafka's first clients computed it from byte 0 instead of byte 4, and readers of
//! message format 0 expect that: there it is ignored on reading and put in wrong on writing (KIP-57).
//!
//! Read is what Kafka's clients can read, no more: a frame has to have its end mark, and a block may not refer to the one before.
//! What follows the first frame is not looked at.
//!
//! At level 9, the default, Kafka's encoder is the fast one, and so it is here. Any other level is that of the thorough one, which
//! only the C library has; its levels end at 12, and Kafka's at 17 do the same.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};

use super::{Compression, RecordError, failed};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
const FLAGS_VERSION: u8 = 0xC0;
const FLAGS_VERSION_1: u8 = 0x40;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
/// Reserved, and the dictionary that Kafka does not have.
const FLAGS_UNKNOWN: u8 = 0x03;
const BLOCK_STORED: u32 = 1 << 31;
/// No block expands more than this.
const EXPANSION_MAX: usize = 255;

pub struct Reader<'a> {
    rest: &'a [u8],
    block_size_max: usize,
    block_checksums: bool,
    block: Vec<u8>,
    given: usize,
    at_end: bool,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], ignore_header_checksum: bool) -> Result<Reader<'a>, RecordError> {
        let bad = |what: &str| failed(Compression::Lz4, what);
        let (head, rest) = header_size(bytes)
            .and_then(|size| bytes.split_at_checked(size))
            .filter(|(head, _)| head.starts_with(&MAGIC))
            .ok_or_else(|| bad("it does not begin as an lz4 frame"))?;
        let [_, _, _, _, flags, size, .., checksum] = *head else { return Err(bad("its header is cut off")) };
        if flags & FLAGS_VERSION != FLAGS_VERSION_1 || flags & FLAGS_UNKNOWN != 0 {
            return Err(bad("its header has unknown flags"));
        }
        let covered = head.get(MAGIC.len()..head.len() - 1).unwrap_or_default();
        if !ignore_header_checksum && checksum != second_byte(xxh32(covered)) {
            return Err(bad("the checksum of its header is wrong"));
        }
        let block_size_max = match size >> 4 {
            code @ 4..=7 if size & 0x0F == 0 => 1 << (8 + 2 * code),
            _ => return Err(bad("its header has no known block size")),
        };
        let block_checksums = flags & FLAG_BLOCK_CHECKSUM != 0;
        Ok(Reader { rest, block_size_max, block_checksums, block: Vec::new(), given: 0, at_end: false })
    }

    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordError> {
        while self.given == self.block.len() && !self.at_end {
            self.next_block()?;
        }
        let ready = self.block.get(self.given..).unwrap_or_default();
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        self.given += count;
        Ok(count)
    }

    fn next_block(&mut self) -> Result<(), RecordError> {
        (self.given, self.at_end) = (0, true);
        self.block.clear();
        let word = self.word()?;
        if word == 0 {
            return Ok(());
        }
        let size = (word & !BLOCK_STORED) as usize;
        if size > self.block_size_max {
            return Err(failed(Compression::Lz4, "a block is larger than its header allows"));
        }
        let (data, rest) = self.rest.split_at_checked(size).ok_or_else(torn)?;
        self.rest = rest;
        if self.block_checksums && self.word()? != xxh32(data) {
            return Err(failed(Compression::Lz4, "the checksum of a block is wrong"));
        }
        self.at_end = false;
        if word & BLOCK_STORED != 0 {
            self.block.extend_from_slice(data);
            return Ok(());
        }
        self.block.resize(self.block_size_max.min(size.saturating_mul(EXPANSION_MAX)), 0);
        let count =
            lz4_flex::block::decompress_into(data, &mut self.block).map_err(|error| failed(Compression::Lz4, error))?;
        self.block.truncate(count);
        Ok(())
    }

    fn word(&mut self) -> Result<u32, RecordError> {
        let (word, rest) = self.rest.split_first_chunk().ok_or_else(torn)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*word))
    }
}

fn torn() -> RecordError {
    failed(Compression::Lz4, "it ends before its end mark")
}

/// Puts the checksum of the early clients into a frame.
pub fn break_header_checksum(block: &mut [u8]) {
    let Some(head) = header_size(block).and_then(|size| block.get_mut(..size)) else { return };
    if let Some((checksum, covered)) = head.split_last_mut() {
        *checksum = second_byte(xxh32(covered));
    }
}

/// Magic, flags, block size, content size if told, checksum.
fn header_size(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(MAGIC.len())?;
    Some(MAGIC.len() + 3 + if flags & FLAG_CONTENT_SIZE != 0 { 8 } else { 0 })
}

fn second_byte(hash: u32) -> u8 {
    (hash >> 8) as u8
}

/// XXH32 with seed 0.
fn xxh32(bytes: &[u8]) -> u32 {
    const P: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];
    let word = |at: &[u8]| at.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    let stripes = bytes.chunks_exact(16);
    let mut rest = stripes.remainder();
    let mut hash = P[4];
    if bytes.len() >= 16 {
        let mut lanes = [P[0].wrapping_add(P[1]), P[1], 0, 0u32.wrapping_sub(P[0])];
        for stripe in stripes {
            for (lane, at) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
                *lane = lane.wrapping_add(word(at).wrapping_mul(P[1])).rotate_left(13).wrapping_mul(P[0]);
            }
        }
        let [a, b, c, d] = lanes;
        hash = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
    }
    hash = hash.wrapping_add(bytes.len() as u32);
    while let Some((now, later)) = rest.split_first_chunk::<4>() {
        hash = hash.wrapping_add(word(now).wrapping_mul(P[2])).rotate_left(17).wrapping_mul(P[3]);
        rest = later;
    }
    for byte in rest {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(P[4])).rotate_left(11).wrapping_mul(P[0]);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(P[1]);
    hash = (hash ^ (hash >> 13)).wrapping_mul(P[2]);
    hash ^ (hash >> 16)
}

/// Level of the fast encoder.
const LEVEL_DEFAULT: i32 = 9;
const BLOCK_BYTES: usize = 64 << 10;

pub enum Writer {
    Fast(FrameEncoder<Vec<u8>>),
    Thorough(Thorough),
}

impl Writer {
    pub fn new(level: Option<i32>) -> Writer {
        match level {
            None | Some(LEVEL_DEFAULT) => {
                let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                Writer::Fast(FrameEncoder::with_frame_info(info, Vec::new()))
            }
            Some(level) => Writer::Thorough(Thorough::new(level)),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        match self {
            Writer::Fast(encoder) => encoder.write_all(bytes).map_err(|error| failed(Compression::Lz4, error)),
            Writer::Thorough(encoder) => encoder.write(bytes),
        }
    }

    pub fn finish(self) -> Result<Vec<u8>, RecordError> {
        match self {
            Writer::Fast(encoder) => encoder.finish().map_err(|error| failed(Compression::Lz4, error)),
            Writer::Thorough(encoder) => encoder.finish(),
        }
    }
}

/// The frame around blocks of the C library.
pub struct Thorough {
    level: i32,
    out: Vec<u8>,
    /// What the next block begins with.
    block: Vec<u8>,
}

impl Thorough {
    fn new(level: i32) -> Thorough {
        // Version 1, independent blocks of 64 KiB.
        let mut out = MAGIC.to_vec();
        out.extend([FLAGS_VERSION_1 | 0x20, 4 << 4]);
        out.push(second_byte(xxh32(&out[MAGIC.len()..])));
        Thorough { level, out, block: Vec::new() }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), RecordError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    /// A block that does not get smaller is stored as it is.
    fn end_block(&mut self) -> Result<(), RecordError> {
        let error = |error| failed(Compression::Lz4, error);
        let mut room = vec![0; compress_bound(self.block.len()).map_err(error)?];
        let mode = CompressionMode::HIGHCOMPRESSION(self.level);
        let size = compress_to_buffer(&self.block, Some(mode), false, &mut room).map_err(error)?;
        let (size, stored, data) = match room.get(..size).filter(|data| data.len() < self.block.len()) {
            Some(data) => (size, 0, data),
            None => (self.block.len(), BLOCK_STORED, self.block.as_slice()),
        };
        self.out.extend((size as u32 | stored).to_le_bytes());
        self.out.extend_from_slice(data);
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, RecordError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.out.extend([0; 4]);
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh32_has_the_published_values() {
        for (bytes, hash) in [
            (&b""[..], 0x02CC_5D05),
            (b"a", 0x550D_7456),
            (b"abc", 0x32D1_53FF),
            (b"Nobody inspects the spammish repetition", 0xE229_3B2F),
        ] {
            assert_eq!(xxh32(bytes), hash);
        }
    }

    #[test]
    fn levels() {
        let text: Vec<u8> = (0..60_000u32).flat_map(|n| (n * n / 977).to_le_bytes()).collect();
        let noise: Vec<u8> = (0..30_000u32).map(|n| (n.wrapping_mul(0x9E37_79B1) >> 13) as u8).collect();
        for bytes in [&text[..], &noise, b"", b"short"] {
            let size = |level| {
                let mut writer = Writer::new(level);
                bytes.chunks(1000).for_each(|chunk| writer.write(chunk).unwrap());
                let frame = writer.finish().unwrap();
                let (mut reader, mut out) = (Reader::new(&frame, false).unwrap(), vec![0; bytes.len() + 1]);
                let mut read = 0;
                loop {
                    match reader.read(&mut out[read..]).unwrap() {
                        0 => break,
                        count => read += count,
                    }
                }
                assert!(out[..read] == *bytes, "level {level:?}");
                frame.len()
            };
            let [default, nine, one, twelve, seventeen] = [None, Some(9), Some(1), Some(12), Some(17)].map(size);
            assert_eq!((default, twelve), (nine, seventeen));
            assert!(twelve <= one, "{twelve} {one}");
            assert!(bytes.len() < 100_000 || twelve < default, "{twelve} {default}");
        }
    }

    #[test]
    fn a_frame_needs_its_end_mark() {
        let mut writer = Writer::new(None);
        writer.write(b"some records").unwrap();
        let whole = writer.finish().unwrap();
        for cut in 0..whole.len() {
            let mut out = [0; 64];
            let torn = whole.get(..cut).unwrap();
            let result = Reader::new(torn, false).and_then(|mut reader| {
                reader.read(&mut out)?;
                reader.read(&mut out)
            });
            assert!(result.is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_checksum_of_the_early_clients_is_wrong_and_ignored_on_request() {
        let mut writer = Writer::new(None);
        writer.write(b"some records").unwrap();
        let good = writer.finish().unwrap();
        let mut bad = good.clone();
        break_header_checksum(&mut bad);
        assert_eq!(good[..6], bad[..6]);
        assert_ne!(good[6], bad[6]);
        assert_eq!(good[7..], bad[7..]);
        for (bytes, ignore, readable) in
            [(&good, false, true), (&good, true, true), (&bad, false, false), (&bad, true, true)]
        {
            let mut out = [0; 64];
            let read = Reader::new(bytes, ignore).and_then(|mut reader| reader.read(&mut out));
            assert_eq!(read.is_ok(), readable);
            if let Ok(count) = read {
                assert_eq!(&out[..count], b"some records");
            }
        }
    }
}
