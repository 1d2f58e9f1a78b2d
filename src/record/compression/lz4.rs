//! lz4 frames (classes `Lz4BlockInputStream`, `Lz4BlockOutputStream`): independent blocks of 64 KiB, no content checksum.
//!
//! ```text
//! 0 magic 04 22 4D 18   4 flags   5 block size   [6 content size, 8 bytes]   then 1 checksum byte of what precedes it
//! then blocks, each u32 little-endian size and data; size 0 ends the frame
//! ```
//! The checksum byte is the second byte of XXH32. Kafka's first clients computed it from byte 0 instead of byte 4, and readers of
//! message format 0 expect that: there it is ignored on reading and put in wrong on writing (KIP-57).
//!
//! `compression.lz4.level` changes nothing here: the encoder has one strength, about that of Kafka's default level.

use std::io::{Chain, Cursor, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Compression, RecordError, failed};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_DICTIONARY: u8 = 0x01;
/// Magic, flags, block size, content size, dictionary id, checksum.
const HEADER_SIZE_MAX: usize = 19;

type Input<'a> = Chain<Cursor<Vec<u8>>, &'a [u8]>;

pub struct Reader<'a> {
    decoder: Box<FrameDecoder<Input<'a>>>,
    at_end: bool,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], ignore_header_checksum: bool) -> Result<Reader<'a>, RecordError> {
        if !bytes.is_empty() && !bytes.starts_with(&MAGIC) {
            return Err(failed(Compression::Lz4, "it does not begin as an lz4 frame"));
        }
        let (head, rest) = if ignore_header_checksum { corrected(bytes) } else { (Vec::new(), bytes) };
        let decoder = Box::new(FrameDecoder::new(Cursor::new(head).chain(rest)));
        Ok(Reader { decoder, at_end: false })
    }

    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordError> {
        if self.at_end || out.is_empty() {
            return Ok(0);
        }
        let count = self.decoder.read(out).map_err(|error| failed(Compression::Lz4, error))?;
        self.at_end = count == 0;
        Ok(count)
    }
}

/// The frame header with a right checksum, and the rest of the frame.
fn corrected(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some((head, rest)) = header_size(bytes).and_then(|size| bytes.split_at_checked(size)) else {
        return (Vec::new(), bytes);
    };
    let mut head = head.to_vec();
    if let Some((checksum, covered)) = head.split_last_mut() {
        *checksum = second_byte(xxh32(covered.get(MAGIC.len()..).unwrap_or_default()));
    }
    (head, rest)
}

/// Puts the checksum of the early clients into a frame.
pub fn break_header_checksum(block: &mut [u8]) {
    let Some(head) = header_size(block).and_then(|size| block.get_mut(..size)) else { return };
    if let Some((checksum, covered)) = head.split_last_mut() {
        *checksum = second_byte(xxh32(covered));
    }
}

fn header_size(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(MAGIC.len())?;
    let content = if flags & FLAG_CONTENT_SIZE != 0 { 8 } else { 0 };
    let dictionary = if flags & FLAG_DICTIONARY != 0 { 4 } else { 0 };
    Some((MAGIC.len() + 3 + content + dictionary).min(HEADER_SIZE_MAX))
}

fn second_byte(hash: u32) -> u8 {
    (hash >> 8) as u8
}

/// XXH32 with seed 0 of a frame header (at most 18 bytes, but right for any length).
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

pub struct Writer {
    encoder: FrameEncoder<Vec<u8>>,
}

impl Writer {
    pub fn new() -> Writer {
        let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
        Writer { encoder: FrameEncoder::with_frame_info(info, Vec::new()) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.encoder.write_all(bytes).map_err(|error| failed(Compression::Lz4, error))
    }

    pub fn finish(self) -> Result<Vec<u8>, RecordError> {
        self.encoder.finish().map_err(|error| failed(Compression::Lz4, error))
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
    fn the_checksum_of_the_early_clients_is_wrong_and_ignored_on_request() {
        let mut writer = Writer::new();
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
