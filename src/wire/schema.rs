//! The shape of every message, read once from `schema.txt` (which `scripts/wire-schema` writes from Kafka's own schemas).
//!
//! Only what the bounds guard needs: which fields a version has, in which order, how long they are and which may be null.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

static TEXT: &str = include_str!("schema.txt");
static MESSAGES: LazyLock<HashMap<(i16, Direction), Message>> = LazyLock::new(|| read(TEXT).unwrap_or_default());

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    Request,
    Response,
}

pub type Versions = RangeInclusive<i16>;

pub struct Message {
    /// `Metadata request`
    pub name: &'static str,
    pub versions: Versions,
    /// `i16::MAX` if no version is.
    pub first_flexible: i16,
    pub fields: Vec<Field>,
}

pub struct Field {
    pub kind: Kind,
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
}

pub enum Kind {
    /// So many bytes.
    Fixed(usize),
    String,
    /// Bytes and records: an `i32` or compact length.
    Bytes,
    Array(Box<Kind>),
    Struct(Vec<Field>),
}

impl Message {
    pub fn of(api_key: i16, direction: Direction) -> Option<&'static Message> {
        MESSAGES.get(&(api_key, direction))
    }

    /// Keys of all messages, in order.
    pub fn api_keys() -> Vec<i16> {
        let requests = MESSAGES.keys().filter(|(_, direction)| *direction == Direction::Request);
        let mut keys: Vec<i16> = requests.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }
}

impl Field {
    /// Whether it stands among the untagged fields of `version`.
    pub fn is_plain(&self, version: i16) -> bool {
        self.tag.is_none() && self.versions.contains(&version)
    }

    pub fn is_nullable(&self, version: i16) -> bool {
        self.nullable.as_ref().is_some_and(|versions| versions.contains(&version))
    }
}

fn read(text: &'static str) -> Option<HashMap<(i16, Direction), Message>> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    let mut messages = HashMap::new();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, _, direction, versions, first_flexible] = words[..] else { return None };
        let name_ends = line.len() - versions.len() - first_flexible.len() - 2;
        let message = Message {
            name: line.get(key.len() + 1..name_ends)?,
            versions: read_versions(versions)?,
            first_flexible: first_flexible.parse().unwrap_or(i16::MAX),
            fields: read_fields(&mut lines, 1)?,
        };
        let direction = if direction == "request" { Direction::Request } else { Direction::Response };
        messages.insert((key.parse().ok()?, direction), message);
    }
    Some(messages)
}

fn read_fields(
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'static str>>,
    depth: usize,
) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while let Some(line) = lines.next_if(|line| line.len() - line.trim_start().len() == depth) {
        let mut words = line.split_whitespace().skip(1);
        let (kind, versions) = (words.next()?, read_versions(words.next()?)?);
        let mut field = Field { kind: Kind::String, versions, nullable: None, tag: None };
        for word in words {
            match word.split_at_checked(1)? {
                ("?", nullable) => field.nullable = Some(read_versions(nullable)?),
                (_, tag) => field.tag = Some(tag.parse().ok()?),
            }
        }
        field.kind = match kind.strip_prefix("[]") {
            Some(element) => Kind::Array(Box::new(read_kind(element, lines, depth)?)),
            None => read_kind(kind, lines, depth)?,
        };
        fields.push(field);
    }
    Some(fields)
}

fn read_kind(
    name: &str,
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'static str>>,
    depth: usize,
) -> Option<Kind> {
    Some(match name {
        "bool" | "int8" => Kind::Fixed(1),
        "int16" | "uint16" => Kind::Fixed(2),
        "int32" => Kind::Fixed(4),
        "int64" | "float64" => Kind::Fixed(8),
        "uuid" => Kind::Fixed(16),
        "string" => Kind::String,
        "bytes" | "records" => Kind::Bytes,
        "struct" => Kind::Struct(read_fields(lines, depth + 1)?),
        _ => return None,
    })
}

/// `3`, `3-7` or `3+`.
fn read_versions(text: &str) -> Option<Versions> {
    if let Some(first) = text.strip_suffix('+') {
        return Some(first.parse().ok()?..=i16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiKey;

    #[test]
    fn the_text_agrees_with_the_message_crate_on_every_key_and_version() {
        assert_eq!(Message::api_keys().len(), 62);
        for key in Message::api_keys() {
            let known = ApiKey::try_from(key).unwrap();
            for direction in [Direction::Request, Direction::Response] {
                let message = Message::of(key, direction).unwrap();
                let range = known.valid_versions();
                assert_eq!(message.versions, range.min..=range.max, "{}", message.name);
                for version in message.versions.clone() {
                    let (header, plain) = match direction {
                        Direction::Request => (known.request_header_version(version), 1),
                        Direction::Response => (known.response_header_version(version), 0),
                    };
                    let flexible = version >= message.first_flexible;
                    let exception = direction == Direction::Response && known == ApiKey::ApiVersions;
                    assert!((header > plain) == flexible || exception, "{} {version}", message.name);
                }
            }
        }
    }

    #[test]
    fn fields_are_read_with_their_depth_and_marks() {
        let fetch = Message::of(1, Direction::Request).unwrap();
        assert_eq!((fetch.name, fetch.first_flexible), ("Fetch request", 12));
        let state = &fetch.fields[2];
        assert!(matches!(&state.kind, Kind::Struct(fields) if fields.len() == 2) && state.tag == Some(1));
        let metadata = Message::of(3, Direction::Request).unwrap();
        assert!(!metadata.fields[0].is_nullable(0) && metadata.fields[0].is_nullable(1));
    }
}
