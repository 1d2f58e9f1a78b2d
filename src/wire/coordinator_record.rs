//! Primitives of the records in `__consumer_offsets` and `__transaction_state`: an i16 version, then fields in the encoding
//! of the wire protocol, in keys and in values (classes generated from `OffsetCommitValue.json` and its neighbours).
//!
//! Invariant: reading never trusts a length or a count: nothing is reserved beyond the bytes that are there.

use bytes::BufMut;

/// A record that does not have the form its version says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFormatError {
    #[error("{field} runs past the end of the record")]
    Truncated { field: &'static str },
    #[error("{field} has the impossible length {length}")]
    Length { field: &'static str, length: i64 },
    #[error("{field} is not UTF-8")]
    Text { field: &'static str },
    #[error("version {version} of {what} is not known")]
    Version { what: &'static str, version: i16 },
}

/// Reads fields off the front of a key or value. A flexible version has compact lengths and tagged sections.
pub struct FieldReader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> FieldReader<'a> {
    pub fn new(bytes: &'a [u8]) -> FieldReader<'a> {
        FieldReader { rest: bytes, flexible: false }
    }

    /// From here on lengths are compact and structs end with tagged fields.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], RecordFormatError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RecordFormatError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordFormatError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(RecordFormatError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn i8(&mut self, field: &'static str) -> Result<i8, RecordFormatError> {
        Ok(i8::from_be_bytes(self.array(field)?))
    }

    pub fn i16(&mut self, field: &'static str) -> Result<i16, RecordFormatError> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    pub fn i32(&mut self, field: &'static str) -> Result<i32, RecordFormatError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub fn i64(&mut self, field: &'static str) -> Result<i64, RecordFormatError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, RecordFormatError> {
        let mut value = 0u32;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordFormatError::Length { field, length: -1 })
    }

    /// The length of a string, bytes or array; `None` is null.
    fn length(&mut self, field: &'static str, short: bool) -> Result<Option<usize>, RecordFormatError> {
        let length = match (self.flexible, short) {
            (true, _) => i64::from(self.unsigned_varint(field)?) - 1,
            (false, true) => i64::from(self.i16(field)?),
            (false, false) => i64::from(self.i32(field)?),
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| RecordFormatError::Length { field, length }),
        }
    }

    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<&'a str>, RecordFormatError> {
        let Some(len) = self.length(field, true)? else { return Ok(None) };
        let bytes = self.take(len, field)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| RecordFormatError::Text { field })
    }

    pub fn string(&mut self, field: &'static str) -> Result<&'a str, RecordFormatError> {
        self.nullable_string(field)?.ok_or(RecordFormatError::Length { field, length: -1 })
    }

    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], RecordFormatError> {
        let len = self.length(field, false)?.ok_or(RecordFormatError::Length { field, length: -1 })?;
        self.take(len, field)
    }

    /// As many bytes as an earlier field said.
    pub fn raw(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], RecordFormatError> {
        self.take(len, field)
    }

    /// The count of an array whose elements take at least `element_bytes_min` bytes each; `None` is null.
    pub fn nullable_count(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, RecordFormatError> {
        let Some(count) = self.length(field, false)? else { return Ok(None) };
        if count > self.rest.len() / element_bytes_min.max(1) {
            return Err(RecordFormatError::Truncated { field });
        }
        Ok(Some(count))
    }

    pub fn count(&mut self, field: &'static str, element_bytes_min: usize) -> Result<usize, RecordFormatError> {
        self.nullable_count(field, element_bytes_min)?.ok_or(RecordFormatError::Length { field, length: -1 })
    }

    /// The end of a struct: skips the tagged fields that flexible versions have there.
    pub fn end_of_struct(&mut self) -> Result<(), RecordFormatError> {
        if !self.flexible {
            return Ok(());
        }
        const FIELD: &str = "tagged fields";
        for _ in 0..self.unsigned_varint(FIELD)? {
            self.unsigned_varint(FIELD)?;
            let len = self.unsigned_varint(FIELD)? as usize;
            self.take(len, FIELD)?;
        }
        Ok(())
    }
}

/// Writes an i16 length and the bytes. The caller keeps strings below 32 KiB: all come from fields with i16 lengths.
pub fn put_string(out: &mut Vec<u8>, value: &str) {
    let len = i16::try_from(value.len()).unwrap_or(i16::MAX);
    out.put_i16(len);
    out.put_slice(&value.as_bytes()[..len as usize]);
}

pub fn put_nullable_string(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => put_string(out, value),
        None => out.put_i16(-1),
    }
}

/// Writes an i32 length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.put_i32(value.len() as i32);
    out.put_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_are_refused() {
        let cases: &[(&[u8], bool)] = &[
            (&[0x7f, 0xff, b'a'], false),
            (&[0xff, 0xfe, b'a'], false),
            (&[0x05, b'a'], true),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f, b'a'], true),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], true),
            (&[0x80], true),
            (&[], false),
            (&[0, 1, 0xff], false),
        ];
        for (bytes, flexible) in cases {
            let mut reader = FieldReader::new(bytes);
            reader.set_flexible(*flexible);
            assert!(reader.nullable_string("x").is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_count_never_exceeds_what_the_bytes_can_hold() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        assert!(FieldReader::new(&bytes).count("x", 1).is_err());
        let bytes = [0, 0, 0, 2, 1, 2, 3, 4];
        assert_eq!(FieldReader::new(&bytes).count("x", 2), Ok(2));
        assert!(FieldReader::new(&bytes).count("x", 3).is_err());
    }

    #[test]
    fn tagged_fields_are_skipped() {
        let mut reader = FieldReader::new(&[2, 0, 2, 9, 9, 5, 1, 9, 7]);
        reader.set_flexible(true);
        assert_eq!(reader.end_of_struct(), Ok(()));
        assert_eq!(reader.i8("x"), Ok(7));
    }
}
