//! gzip: one or more members after one another. As with Java's `GZIPInputStream`, what follows a member and does not begin as
//! another one is not looked at.

use std::io::{Read, Write};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::{Compression, RecordError, failed};

pub struct Reader<'a> {
    member: Box<GzDecoder<&'a [u8]>>,
    is_first: bool,
    at_end: bool,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { member: Box::new(GzDecoder::new(bytes)), is_first: true, at_end: false }
    }

    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordError> {
        while !self.at_end && !out.is_empty() {
            match self.member.read(out) {
                Ok(0) => self.next_member(),
                Ok(count) => return Ok(count),
                Err(_) if !self.is_first && self.member.header().is_none() => self.at_end = true,
                Err(error) => return Err(failed(Compression::Gzip, error)),
            }
        }
        Ok(0)
    }

    fn next_member(&mut self) {
        let rest: &'a [u8] = self.member.get_ref();
        self.at_end = rest.is_empty();
        if !self.at_end {
            (*self.member, self.is_first) = (GzDecoder::new(rest), false);
        }
    }
}

pub struct Writer {
    encoder: GzEncoder<Vec<u8>>,
}

impl Writer {
    /// Levels 1 to 9; -1 or none is the codec's default, 6.
    pub fn new(level: Option<i32>) -> Writer {
        let level = level.and_then(|level| u32::try_from(level).ok()).map_or(6, |level| level.min(9));
        Writer { encoder: GzEncoder::new(Vec::new(), flate2::Compression::new(level)) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.encoder.write_all(bytes).map_err(|error| failed(Compression::Gzip, error))
    }

    pub fn finish(self) -> Result<Vec<u8>, RecordError> {
        self.encoder.finish().map_err(|error| failed(Compression::Gzip, error))
    }
}
