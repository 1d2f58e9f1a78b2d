//! Java properties files (`java.util.Properties.load` from a stream): ISO-8859-1 with `\uXXXX` escapes, `#` and `!` comments,
//! `=`, `:` or blanks between key and value, and `\` at the end of a line to go on in the next.
//!
//! Invariant: any bytes give either the pairs that Java gives or an error, in one pass and with memory of the order of the input.
//! `tests/config_reference.rs` compares with Java itself.

use super::error::ConfigError;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// A larger file is refused: no broker has a megabyte of settings.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Key-value pairs; of a repeated key the last value holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Properties {
    entries: BTreeMap<String, String>,
}

impl Properties {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Properties, ConfigError> {
        let unreadable = |error: std::io::Error| ConfigError::unreadable(path, error);
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Properties::parse(&bytes).map_err(|error| error.located(&path.display().to_string()))
    }

    pub fn parse(bytes: &[u8]) -> Result<Properties, ConfigError> {
        if bytes.len() > FILE_BYTES_MAX {
            let reason = format!("the file is larger than {FILE_BYTES_MAX} bytes");
            return Err(ConfigError::Malformed { line: 1, reason });
        }
        let mut lines = LogicalLines { rest: bytes, line: 1 };
        let mut entries = BTreeMap::new();
        let mut buffer = Vec::new();
        while let Some(line) = lines.next_into(&mut buffer) {
            let (key, value) = split(&buffer);
            entries.insert(unescape(key, line)?, unescape(value, line)?);
        }
        Ok(Properties { entries })
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

/// Lines as a person means them: comments and empty lines left out, continued lines joined, escapes still in place.
struct LogicalLines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl LogicalLines<'_> {
    /// The next natural line without its end, and whether nothing follows; CR LF ends one line.
    fn natural_line(&mut self) -> Option<(&[u8], bool)> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len());
        let (line, tail) = self.rest.split_at(end);
        let end_of_file = tail.len() <= 1;
        self.rest = tail.strip_prefix(b"\r\n").unwrap_or(tail.get(1..).unwrap_or_default());
        self.line += 1;
        Some((line, end_of_file))
    }

    /// Puts the next logical line into `buffer` and returns the number of its first line.
    fn next_into(&mut self, buffer: &mut Vec<u8>) -> Option<usize> {
        buffer.clear();
        let mut first = self.line;
        while let Some((line, end_of_file)) = self.natural_line() {
            let start = line.iter().position(|byte| !is_blank(*byte)).unwrap_or(line.len());
            let text = line.get(start..).unwrap_or_default();
            if buffer.is_empty() && (text.is_empty() || matches!(text.first(), Some(b'#' | b'!'))) {
                first = self.line;
                continue;
            }
            let backslashes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
            let continues = backslashes % 2 == 1;
            buffer.extend_from_slice(text.get(..text.len() - usize::from(continues)).unwrap_or_default());
            // Java drops a backslash at the very end of the file, and still has a line, be it empty.
            if !continues || end_of_file {
                return Some(first);
            }
        }
        if buffer.is_empty() { None } else { Some(first) }
    }
}

/// Key and value of a logical line, escapes still in place.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let mut key_end = line.len();
    for (at, byte) in line.iter().enumerate() {
        if !escaped && (is_blank(*byte) || matches!(byte, b'=' | b':')) {
            key_end = at;
            break;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    let (key, mut value) = line.split_at(key_end);
    let mut separator_seen = false;
    while let [first, tail @ ..] = value {
        let separator = matches!(first, b'=' | b':') && !separator_seen;
        if !separator && !is_blank(*first) {
            break;
        }
        separator_seen |= separator;
        value = tail;
    }
    (key, value)
}

fn unescape(text: &[u8], line: usize) -> Result<String, ConfigError> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            units.push(u16::from(byte));
            continue;
        }
        match bytes.next() {
            Some(b'u') => units.push(code_unit(&mut bytes, line)?),
            Some(b't') => units.push(u16::from(b'\t')),
            Some(b'n') => units.push(u16::from(b'\n')),
            Some(b'r') => units.push(u16::from(b'\r')),
            Some(b'f') => units.push(0x0c),
            Some(other) => units.push(u16::from(other)),
            None => {}
        }
    }
    // Java strings may hold half a surrogate pair; ours cannot.
    Ok(String::from_utf16_lossy(&units))
}

fn code_unit(bytes: &mut impl Iterator<Item = u8>, line: usize) -> Result<u16, ConfigError> {
    (0..4).try_fold(0u16, |unit, _| {
        let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let malformed =
            || ConfigError::Malformed { line, reason: "\\u must be followed by four hexadecimal digits".into() };
        Ok(unit << 4 | digit.ok_or_else(malformed)? as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[u8]) -> Vec<(String, String)> {
        let properties = Properties::parse(text).expect("parses");
        properties.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn lines_are_split_as_in_java() {
        for (text, expected) in [
            (&b"a=b"[..], &[("a", "b")][..]),
            (b"a = b ", &[("a", "b ")]),
            (b"a:b\r\nc d\re\n", &[("a", "b"), ("c", "d"), ("e", "")]),
            (b"# x=y\n ! z=1\n\n\t\x0ca==b", &[("a", "=b")]),
            (b"a=1,\\\n   2,\\\r\n\t3", &[("a", "1,2,3")]),
            (b"a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]),
            (b"a=1\\\n\nb=2", &[("a", "1"), ("b", "2")]),
            (b"a\\ b\\=c=d", &[("a b=c", "d")]),
            (b"k=\\u0041\\t\\n\\q\\:", &[("k", "A\t\nq:")]),
            (b"k=\\ud83d\\ude00", &[("k", "\u{1f600}")]),
            (b"k=\xe4", &[("k", "\u{e4}")]),
            (b"a=1\na=2", &[("a", "2")]),
            (b"=x", &[("", "x")]),
            (b"a=x\\", &[("a", "x")]),
            (b"\\\n", &[("", "")]),
            (b"\\\r\n", &[]),
            (b"a=1\\\n# not a comment", &[("a", "1# not a comment")]),
            (b"", &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(pairs(text), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_malformed_escape_names_its_line() {
        for text in ["a=1\nb=\\u12", "#\nb=\\\nx\\uzzzz"] {
            let error = Properties::parse(text.as_bytes()).expect_err("malformed");
            assert!(error.to_string().starts_with("line 2: "), "{error}");
        }
    }

    #[test]
    fn a_huge_file_is_refused() {
        assert!(Properties::parse(&vec![b'a'; FILE_BYTES_MAX + 1]).is_err());
        assert!(Properties::parse(&vec![b'\\'; FILE_BYTES_MAX]).is_ok());
    }
}
