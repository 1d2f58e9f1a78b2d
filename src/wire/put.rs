//! A writer of message fields for the hot codecs: plain or compact lengths by the version, large bytes as segments of their own.

use super::reply::Segment;
use bytes::{BufMut, BytesMut};

/// Bytes below this are copied beside the fields around them; larger ones stay where they are.
const COPY_BYTES_MAX: usize = 512;

pub struct Put {
    buffer: BytesMut,
    segments: Vec<Segment>,
    compact: bool,
}

impl Put {
    pub fn new(compact: bool, capacity: usize) -> Put {
        Put { buffer: BytesMut::with_capacity(capacity), segments: Vec::new(), compact }
    }

    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// The count of an array or the length of bytes; `None` is null.
    pub fn length(&mut self, length: Option<usize>) {
        match length {
            Some(length) if self.compact => self.unsigned_varint(length as u32 + 1),
            Some(length) => self.buffer.put_i32(length as i32),
            None if self.compact => self.buffer.put_u8(0),
            None => self.buffer.put_i32(-1),
        }
    }

    pub fn string(&mut self, value: &str) {
        match self.compact {
            true => self.unsigned_varint(value.len() as u32 + 1),
            false => self.buffer.put_i16(value.len() as i16),
        }
        self.buffer.put_slice(value.as_bytes());
    }

    pub fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None if self.compact => self.buffer.put_u8(0),
            None => self.buffer.put_i16(-1),
        }
    }

    /// A tagged field whose value `write` puts.
    pub fn tagged(&mut self, tag: u32, write: impl FnOnce(&mut Put)) {
        let mut value = Put::new(self.compact, 64);
        write(&mut value);
        self.unsigned_varint(tag);
        self.unsigned_varint(value.buffer.len() as u32);
        self.buffer.unsplit(value.buffer);
    }

    /// Segments as they are, in their place between the fields.
    pub fn segments(&mut self, segments: Vec<Segment>) {
        for segment in segments {
            match segment {
                Segment::Bytes(bytes) if bytes.len() < COPY_BYTES_MAX => self.buffer.put_slice(&bytes),
                segment => {
                    self.cut();
                    self.segments.push(segment);
                }
            }
        }
    }

    pub fn finish(mut self) -> Vec<Segment> {
        self.cut();
        self.segments
    }

    fn cut(&mut self) {
        if !self.buffer.is_empty() {
            self.segments.push(Segment::Bytes(self.buffer.split().freeze()));
        }
    }
}
