//! The header of a record batch, format 2 (class `DefaultRecordBatch`).
//!
//! ```text
//!  0 i64 base offset          8 i32 length (bytes that follow)   12 i32 partition leader epoch   16 i8 magic = 2
//! 17 u32 CRC-32C of 21..end  21 i16 attributes                   23 i32 last offset delta        27 i64 base timestamp
//! 35 i64 max timestamp       43 i64 producer id                  51 i16 producer epoch           53 i32 base sequence
//! 57 i32 record count        61 records, compressed as one block if a codec is set
//! ```
//! Base offset and leader epoch lie outside the checksum, so that a broker can assign them without touching the rest.

/// Bytes of the header.
pub const HEADER_SIZE: usize = 61;
/// Bytes before the part that `length` counts.
pub const LOG_OVERHEAD: usize = 12;

const ATTRIBUTES_CODEC: i16 = 0x07;
const ATTRIBUTES_LOG_APPEND_TIME: i16 = 0x08;
const ATTRIBUTES_TRANSACTIONAL: i16 = 0x10;
const ATTRIBUTES_CONTROL: i16 = 0x20;
const ATTRIBUTES_DELETE_HORIZON: i16 = 0x40;

/// The 61 header bytes of a batch, copied out so that they can be patched while the payload stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    bytes: [u8; HEADER_SIZE],
}

macro_rules! field {
    ($get:ident, $set:ident, $kind:ty, $at:expr) => {
        pub fn $get(&self) -> $kind {
            let mut field = [0; size_of::<$kind>()];
            field.copy_from_slice(&self.bytes[$at..$at + size_of::<$kind>()]);
            <$kind>::from_be_bytes(field)
        }
        pub fn $set(&mut self, value: $kind) {
            self.bytes[$at..$at + size_of::<$kind>()].copy_from_slice(&value.to_be_bytes());
        }
    };
}

impl BatchHeader {
    /// Copies the header off the front of `bytes`, whatever its magic. `None` if there are fewer than 61 bytes.
    pub fn read(bytes: &[u8]) -> Option<BatchHeader> {
        Some(BatchHeader { bytes: *bytes.first_chunk()? })
    }

    /// An all-zero header with magic 2.
    pub fn new() -> BatchHeader {
        let mut header = BatchHeader { bytes: [0; HEADER_SIZE] };
        header.set_magic(2);
        header
    }

    pub fn as_bytes(&self) -> &[u8; HEADER_SIZE] {
        &self.bytes
    }

    field!(base_offset, set_base_offset, i64, 0);
    field!(length, set_length, i32, 8);
    field!(partition_leader_epoch, set_partition_leader_epoch, i32, 12);
    field!(magic, set_magic, i8, 16);
    field!(crc, set_crc, u32, 17);
    field!(attributes, set_attributes, i16, 21);
    field!(last_offset_delta, set_last_offset_delta, i32, 23);
    field!(base_timestamp, set_base_timestamp, i64, 27);
    field!(max_timestamp, set_max_timestamp, i64, 35);
    field!(producer_id, set_producer_id, i64, 43);
    field!(producer_epoch, set_producer_epoch, i16, 51);
    field!(base_sequence, set_base_sequence, i32, 53);
    field!(record_count, set_record_count, i32, 57);

    /// Bytes of the whole batch, header included. 12 + `length`; may be nonsense in bytes from outside.
    pub fn size_bytes(&self) -> i64 {
        i64::from(self.length()) + LOG_OVERHEAD as i64
    }

    /// Offset of the last record (or of the last that there was before compaction).
    pub fn last_offset(&self) -> i64 {
        self.base_offset().wrapping_add(i64::from(self.last_offset_delta()))
    }

    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Sequence of the last record: wraps from 2^31-1 to 0. -1 without sequences.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence() < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence()) + i64::from(self.last_offset_delta());
        if last > i64::from(i32::MAX) { (last - (1 << 31)) as i32 } else { last as i32 }
    }

    fn set_attribute(&mut self, bit: i16, on: bool) {
        let attributes = self.attributes();
        self.set_attributes(if on { attributes | bit } else { attributes & !bit });
    }

    pub fn set_codec_id(&mut self, id: u8) {
        self.set_attributes(self.attributes() & !ATTRIBUTES_CODEC | i16::from(id) & ATTRIBUTES_CODEC);
    }

    pub fn set_log_append_time(&mut self, on: bool) {
        self.set_attribute(ATTRIBUTES_LOG_APPEND_TIME, on);
    }

    pub fn set_transactional(&mut self, on: bool) {
        self.set_attribute(ATTRIBUTES_TRANSACTIONAL, on);
    }

    pub fn set_control(&mut self, on: bool) {
        self.set_attribute(ATTRIBUTES_CONTROL, on);
    }

    pub fn set_delete_horizon(&mut self, on: bool) {
        self.set_attribute(ATTRIBUTES_DELETE_HORIZON, on);
    }

    /// Codec bits, 0-7: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd, others invalid.
    pub fn codec_id(&self) -> u8 {
        (self.attributes() & ATTRIBUTES_CODEC) as u8
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & ATTRIBUTES_LOG_APPEND_TIME != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes() & ATTRIBUTES_TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes() & ATTRIBUTES_CONTROL != 0
    }

    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & ATTRIBUTES_DELETE_HORIZON != 0
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id() >= 0
    }
}

impl Default for BatchHeader {
    fn default() -> BatchHeader {
        BatchHeader::new()
    }
}
