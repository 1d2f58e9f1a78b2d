//! gzip: one or more members after one another, as Java's `GZIPInputStream` reads them.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Compression, RecordError, failed};

pub struct Reader<'a> {
    decoder: Box<MultiGzDecoder<&'a [u8]>>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { decoder: Box::new(MultiGzDecoder::new(bytes)) }
    }

    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordError> {
        self.decoder.read(out).map_err(|error| failed(Compression::Gzip, error))
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
