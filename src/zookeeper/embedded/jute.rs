//! Jute, ZooKeeper's serialization: big-endian integers, length-prefixed buffers and strings, counted vectors.
//!
//! Invariant: the reader never allocates more than the bytes it was given justify; every length and count is checked
//! against what is left before anything is reserved. Classes `BinaryInputArchive` and `BinaryOutputArchive`.

use bytes::Bytes;

/// Why some bytes are no jute record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JuteError {
    #[error("the record ends early")]
    Truncated,
    #[error("a length is negative or larger than the record")]
    BadLength,
    #[error("a field that must be present is null")]
    Null,
}

/// A cursor over borrowed bytes.
#[derive(Clone, Debug)]
pub struct JuteReader<'a> {
    rest: &'a [u8],
}

impl<'a> JuteReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], JuteError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(JuteError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub fn bool(&mut self) -> Result<bool, JuteError> {
        Ok(self.array::<1>()? != [0])
    }

    pub fn i32(&mut self) -> Result<i32, JuteError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, JuteError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A buffer; `None` is null, which is not the same as empty.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, JuteError> {
        match self.i32()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| JuteError::BadLength)?;
                if len > self.rest.len() {
                    return Err(JuteError::BadLength);
                }
                self.take(len).map(Some)
            }
        }
    }

    /// A buffer that outlives the frame it came in.
    pub fn data(&mut self) -> Result<Option<Bytes>, JuteError> {
        Ok(self.buffer()?.map(Bytes::copy_from_slice))
    }

    /// A string; bytes that are no UTF-8 become U+FFFD, as Java does, which no path rule lets through.
    pub fn nullable_string(&mut self) -> Result<Option<String>, JuteError> {
        Ok(self.buffer()?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    pub fn string(&mut self) -> Result<String, JuteError> {
        self.nullable_string()?.ok_or(JuteError::Null)
    }

    /// The count of a vector whose items take at least `item_bytes_min` each; null counts as empty.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, JuteError> {
        let count = self.i32()?;
        if count == -1 {
            return Ok(0);
        }
        let count = usize::try_from(count).map_err(|_| JuteError::BadLength)?;
        match count.checked_mul(item_bytes_min.max(1)) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(JuteError::BadLength),
        }
    }

    pub fn strings(&mut self) -> Result<Vec<String>, JuteError> {
        let count = self.count(4)?;
        (0..count).map(|_| self.string()).collect()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], JuteError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(JuteError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }
}

/// Appends jute fields to a growing buffer.
#[derive(Default, Debug)]
pub struct JuteWriter {
    bytes: Vec<u8>,
}

impl JuteWriter {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes.push(u8::from(value));
        self
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn buffer(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            None => self.i32(-1),
            Some(bytes) => self.count(bytes.len()).raw(bytes),
        }
    }

    pub fn string(&mut self, value: &str) -> &mut Self {
        self.buffer(Some(value.as_bytes()))
    }

    pub fn count(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX))
    }

    pub fn strings<S: AsRef<str>>(&mut self, values: impl ExactSizeIterator<Item = S>) -> &mut Self {
        self.count(values.len());
        for value in values {
            self.string(value.as_ref());
        }
        self
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = JuteWriter::new();
        writer.bool(true).i32(-7).i64(i64::MIN).buffer(None).buffer(Some(b"")).string("/ä").strings(["a", "b"].iter());
        let bytes = writer.into_bytes();
        let mut reader = JuteReader::new(&bytes);
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.i32(), Ok(-7));
        assert_eq!(reader.i64(), Ok(i64::MIN));
        assert_eq!(reader.buffer(), Ok(None));
        assert_eq!(reader.buffer(), Ok(Some(&b""[..])));
        assert_eq!(reader.string().as_deref(), Ok("/ä"));
        assert_eq!(reader.strings(), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(reader.is_empty());
    }

    #[test]
    fn lengths_and_counts_are_checked_before_anything_is_reserved() {
        let huge = 0x7fff_ffffi32.to_be_bytes();
        assert_eq!(JuteReader::new(&huge).buffer(), Err(JuteError::BadLength));
        assert_eq!(JuteReader::new(&huge).strings(), Err(JuteError::BadLength));
        assert_eq!(JuteReader::new(&(-2i32).to_be_bytes()).buffer(), Err(JuteError::BadLength));
        assert_eq!(JuteReader::new(&(-2i32).to_be_bytes()).count(4), Err(JuteError::BadLength));
        assert_eq!(JuteReader::new(&(-1i32).to_be_bytes()).strings(), Ok(vec![]));
        assert_eq!(JuteReader::new(&[0, 0]).i32(), Err(JuteError::Truncated));
        assert_eq!(JuteReader::new(&(-1i32).to_be_bytes()).string(), Err(JuteError::Null));
    }
}
