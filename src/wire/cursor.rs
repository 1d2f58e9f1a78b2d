//! A reader over bytes from outside: every step is checked, nothing is allocated, nothing panics.
//!
//! Shared by the request header, the bounds guard and the hot codecs (class `ByteBufferAccessor`).

use super::codec::WireError;
use std::fmt::Display;
use std::ops::Range;

/// The longest string of the protocol: its length is an `i16`, also in the compact form.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Strings, structs and tagged fields that one request may hold. A struct of two bytes on the wire is a hundred in memory, so
/// that the size of the frame alone bounds nothing. The largest honest request, UpdateMetadata for 200,000 partitions,
/// has a fifth of this.
pub const ELEMENTS_MAX: usize = 1_000_000;

#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    elements_left: usize,
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// `what` names the message in errors.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Cursor<'a> {
        Cursor { bytes, position: 0, elements_left: ELEMENTS_MAX, what }
    }

    /// For what comes from another broker.
    pub fn without_element_limit(self) -> Cursor<'a> {
        Cursor { elements_left: usize::MAX, ..self }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub fn malformed(&self, reason: impl Display) -> WireError {
        WireError::malformed(self.what, format_args!("{reason} at byte {}", self.position))
    }

    pub fn take(&mut self, size: usize) -> Result<&'a [u8], WireError> {
        let end = self.position.checked_add(size).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.malformed(format_args!("{size} bytes wanted, {} left", self.remaining())));
        };
        let taken = self.bytes.get(self.position..end).unwrap_or_default();
        self.position = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().unwrap_or([0; N]))
    }

    pub fn i8(&mut self) -> Result<i8, WireError> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    /// At most five bytes that hold at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("varint is too long"))
    }

    /// The length of a string, `None` for null. A compact length is one more than the length, and 0 is null.
    pub fn string_length(&mut self, compact: bool) -> Result<Option<usize>, WireError> {
        let length = if compact {
            (self.unsigned_varint()? as usize).checked_sub(1)
        } else {
            match self.i16()? {
                -1 => None,
                length => Some(usize::try_from(length).map_err(|_| self.malformed("negative string length"))?),
            }
        };
        match length {
            Some(length) if length > STRING_BYTES_MAX => Err(self.malformed("string is too long")),
            length => Ok(length),
        }
    }

    /// The length of bytes or records, or the count of an array: `None` for null.
    pub fn length(&mut self, compact: bool) -> Result<Option<usize>, WireError> {
        if compact {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        match self.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed("negative length or count")),
        }
    }

    /// The count of an array whose elements take at least `element_bytes_min` bytes each.
    pub fn count(&mut self, compact: bool, element_bytes_min: usize) -> Result<Option<usize>, WireError> {
        let count = self.length(compact)?;
        match count {
            Some(count) if count.saturating_mul(element_bytes_min.max(1)) > self.remaining() => {
                Err(self.malformed(format_args!("{count} elements cannot be in {} bytes", self.remaining())))
            }
            count => Ok(count),
        }
    }

    /// The count of an array of structs or strings, taken from the number of elements that a request may hold.
    pub fn elements(&mut self, compact: bool, element_bytes_min: usize) -> Result<Option<usize>, WireError> {
        let count = self.count(compact, element_bytes_min)?;
        self.spend(count.unwrap_or(0))?;
        Ok(count)
    }

    fn spend(&mut self, elements: usize) -> Result<(), WireError> {
        let left = self.elements_left.checked_sub(elements);
        self.elements_left = left.ok_or_else(|| self.malformed(format_args!("more than {ELEMENTS_MAX} elements")))?;
        Ok(())
    }

    /// The number of tagged fields.
    pub fn tag_count(&mut self) -> Result<usize, WireError> {
        let count = self.unsigned_varint()? as usize;
        self.spend(count)?;
        Ok(count)
    }

    /// The number of a tagged field.
    pub fn tag(&mut self) -> Result<u32, WireError> {
        let tag = self.unsigned_varint()?;
        if tag > i32::MAX as u32 { Err(self.malformed(format_args!("tag {tag}"))) } else { Ok(tag) }
    }

    /// A tagged section: `known` reads the value of a tag and says so, or leaves an unknown one to be skipped.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(&mut Cursor<'a>, u32) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        for _ in 0..self.tag_count()? {
            let tag = self.tag()?;
            let size = self.unsigned_varint()? as usize;
            let end = self.position.saturating_add(size);
            if !known(self, tag)? {
                self.take(size)?;
            }
            if self.position != end {
                return Err(self.malformed("a tagged field has another size than announced"));
            }
        }
        Ok(())
    }

    pub fn nullable_string(&mut self, compact: bool) -> Result<Option<&'a str>, WireError> {
        let Some(length) = self.string_length(compact)? else { return Ok(None) };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|error| self.malformed(error))
    }

    /// A string that may not be null.
    pub fn string(&mut self, compact: bool) -> Result<&'a str, WireError> {
        self.nullable_string(compact)?.ok_or_else(|| self.malformed("null is not allowed"))
    }

    /// Where nullable bytes stand.
    pub fn nullable_bytes(&mut self, compact: bool) -> Result<Option<Range<usize>>, WireError> {
        let Some(length) = self.length(compact)? else { return Ok(None) };
        let start = self.position;
        self.take(length)?;
        Ok(Some(start..self.position))
    }

    /// Reads each element of an array that may not be null.
    pub fn array_of<T>(
        &mut self,
        compact: bool,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Cursor<'a>) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.elements(compact, element_bytes_min)?;
        let count = count.ok_or_else(|| self.malformed("null is not allowed"))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Fails unless everything has been read.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.malformed(format_args!("{left} bytes are left over"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Option<u32> {
        Cursor::new(bytes, "test").unsigned_varint().ok()
    }

    #[test]
    fn varints_hold_32_bits_in_at_most_five_bytes() {
        assert_eq!(varint(&[0x00]), Some(0));
        assert_eq!(varint(&[0xac, 0x02]), Some(300));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some(u32::MAX));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(varint(&[]), None);
    }

    #[test]
    fn lengths_are_null_at_minus_one_and_errors_below() {
        let length = |bytes: &[u8], compact| Cursor::new(bytes, "test").length(compact).ok();
        assert_eq!(length(&[0xff, 0xff, 0xff, 0xff], false), Some(None));
        assert_eq!(length(&[0xff, 0xff, 0xff, 0xfe], false), None);
        assert_eq!(length(&[0, 0, 0, 9], false), Some(Some(9)));
        assert_eq!(length(&[0], true), Some(None));
        assert_eq!(length(&[1], true), Some(Some(0)));
    }

    #[test]
    fn a_count_must_fit_the_bytes_that_are_left() {
        let count = |bytes: &[u8], least| Cursor::new(bytes, "test").count(true, least).ok();
        assert_eq!(count(&[3, 0, 0, 0, 0], 2), Some(Some(2)));
        assert_eq!(count(&[3, 0, 0, 0], 2), None);
        assert_eq!(count(&[0xff, 0xff, 0xff, 0xff, 0x0f], 0), None);
    }

    #[test]
    fn strings_are_utf8_and_at_most_32767_bytes() {
        let string =
            |bytes: &[u8], compact| Cursor::new(bytes, "test").nullable_string(compact).ok().flatten().map(str::len);
        assert_eq!(string(b"\0\x02ab", false), Some(2));
        assert_eq!(string(b"\x03ab", true), Some(2));
        assert_eq!(string(b"\0\x02\xc3\x28", false), None);
        let mut long = vec![0x81, 0x80, 0x02];
        long.resize(40_000, b'a');
        assert_eq!(string(&long, true), None);
    }
}
