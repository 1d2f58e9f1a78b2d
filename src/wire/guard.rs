//! The bounds guard: walks over a body by its schema before anything decodes it, and allocates nothing.
//!
//! The message decoder reserves memory for a count straight off the wire, so five bytes could ask for gigabytes and abort the process.
//! A body that passes here has every length within its bytes, every count backed by that many elements, null only where
//! it is allowed, and no more elements than a sane request holds. Bytes left over behind a request's body are ignored, as Kafka does:
//! librdkafka leaves three behind its Metadata request for all topics.

use super::codec::WireError;
use super::cursor::Cursor;
use super::schema::{Direction, Field, Kind, Message};

/// Checks the body of a request.
pub fn check(api_key: i16, version: i16, body: &[u8]) -> Result<(), WireError> {
    let message = message(api_key, Direction::Request, version)?;
    walk(message, version, Cursor::new(body, message.name)).map(drop)
}

/// Checks the body of a response, which comes from a broker: its number of elements is not limited.
pub fn check_response(api_key: i16, version: i16, body: &[u8]) -> Result<(), WireError> {
    let message = message(api_key, Direction::Response, version)?;
    walk(message, version, Cursor::new(body, message.name).without_element_limit())?.finish()
}

fn message(api_key: i16, direction: Direction, version: i16) -> Result<&'static Message, WireError> {
    Message::of(api_key, direction)
        .filter(|message| message.versions.contains(&version))
        .ok_or(WireError::Unsupported { api_key, version })
}

/// Walks over one message; the cursor then stands behind it.
fn walk<'a>(message: &Message, version: i16, cursor: Cursor<'a>) -> Result<Cursor<'a>, WireError> {
    let mut walk = Walk { cursor, version, compact: version >= message.first_flexible };
    walk.fields(&message.fields)?;
    Ok(walk.cursor)
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    compact: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), WireError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_plain(version)) {
            self.value(&field.kind, field.is_nullable(version))?;
        }
        if self.compact { self.tags(fields) } else { Ok(()) }
    }

    fn tags(&mut self, fields: &[Field]) -> Result<(), WireError> {
        for _ in 0..self.cursor.tag_count()? {
            let tag = self.cursor.tag()?;
            let size = self.cursor.unsigned_varint()? as usize;
            match fields.iter().find(|field| field.tag == Some(tag)) {
                Some(field) if field.versions.contains(&self.version) => self.tagged(field, size)?,
                Some(_) => {
                    return Err(self.cursor.malformed(format_args!("version {} has no tag {tag}", self.version)));
                }
                None => drop(self.cursor.take(size)?),
            }
        }
        Ok(())
    }

    /// A known tagged field fills the bytes that its size announces.
    fn tagged(&mut self, field: &Field, size: usize) -> Result<(), WireError> {
        let end = self.cursor.position().saturating_add(size);
        self.value(&field.kind, field.is_nullable(self.version))?;
        if self.cursor.position() != end {
            return Err(self.cursor.malformed("a tagged field has another size than announced"));
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, nullable: bool) -> Result<(), WireError> {
        match kind {
            Kind::Fixed(size) => drop(self.cursor.take(*size)?),
            Kind::String => {
                let length = self.cursor.string_length(self.compact)?;
                self.skip(length, nullable)?;
            }
            Kind::Bytes => {
                let length = self.cursor.length(self.compact)?;
                self.skip(length, nullable)?;
            }
            Kind::Array(element) => self.array(element, nullable)?,
            Kind::Struct(fields) => {
                if nullable && self.cursor.i8()? < 0 {
                    return Ok(());
                }
                self.fields(fields)?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, length: Option<usize>, nullable: bool) -> Result<(), WireError> {
        match length {
            Some(length) => drop(self.cursor.take(length)?),
            None if nullable => {}
            None => return Err(self.cursor.malformed("null is not allowed")),
        }
        Ok(())
    }

    fn array(&mut self, element: &Kind, nullable: bool) -> Result<(), WireError> {
        let least = least_bytes(element, self.version, self.compact);
        let count = match element {
            Kind::Fixed(_) => self.cursor.count(self.compact, least)?,
            _ => self.cursor.elements(self.compact, least)?,
        };
        match (count, element) {
            (None, _) if nullable => {}
            (None, _) => return Err(self.cursor.malformed("null is not allowed")),
            (Some(count), Kind::Fixed(size)) => drop(self.cursor.take(count.saturating_mul(*size))?),
            (Some(count), _) => {
                for _ in 0..count {
                    self.value(element, false)?;
                }
            }
        }
        Ok(())
    }
}

/// The fewest bytes that a value of this kind takes: what a count is measured against.
fn least_bytes(kind: &Kind, version: i16, compact: bool) -> usize {
    match kind {
        Kind::Fixed(size) => *size,
        Kind::String => {
            if compact {
                1
            } else {
                2
            }
        }
        Kind::Bytes | Kind::Array(_) => {
            if compact {
                1
            } else {
                4
            }
        }
        Kind::Struct(fields) => {
            let plain = fields.iter().filter(|field| field.is_plain(version));
            plain.map(|field| least_of_field(field, version, compact)).sum::<usize>() + usize::from(compact)
        }
    }
}

fn least_of_field(field: &Field, version: i16, compact: bool) -> usize {
    match field.kind {
        Kind::Struct(_) if field.is_nullable(version) => 1,
        _ => least_bytes(&field.kind, version, compact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cursor::ELEMENTS_MAX;

    fn check_metadata(version: i16, body: &[u8], expected: bool) {
        assert_eq!(check(3, version, body).is_ok(), expected, "version {version}: {body:?}");
    }

    #[test]
    fn counts_lengths_and_nulls_are_checked_and_left_overs_ignored() {
        check_metadata(0, &[0, 0, 0, 0], true);
        check_metadata(0, &[0xff, 0xff, 0xff, 0xff], false);
        check_metadata(1, &[0xff, 0xff, 0xff, 0xff], true);
        check_metadata(1, &[0xff, 0xff, 0xff, 0xfe], false);
        check_metadata(1, &[0x7f, 0xff, 0xff, 0xff, 0], false);
        check_metadata(1, &[0, 0, 0, 1, 0, 1, b'a'], true);
        check_metadata(1, &[0, 0, 0, 1, 0, 2, b'a'], false);
        check_metadata(1, &[0, 0, 0, 1, 0xff, 0xff], false);
        check_metadata(1, &[0, 0, 0, 0, 0], true);
        check_metadata(1, &[], false);
        check_metadata(13, &[0, 0, 0, 0], false);
        check_metadata(9, &[1, 0, 0, 0, 0], true);
        check_metadata(9, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0], false);
        check_metadata(9, &[0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 0, 0, 0, 0], false);
    }

    #[test]
    fn tagged_fields_fill_their_size() {
        let fetch = |tags: &[u8]| {
            let mut body = vec![0; 4 + 4 + 4 + 1 + 4 + 4];
            body.extend([1, 1, 1]);
            body.extend(tags);
            check(1, 17, &body).is_ok()
        };
        assert!(fetch(&[0]));
        assert!(fetch(&[1, 9, 2, 7, 7]), "an unknown tag is skipped");
        assert!(fetch(&[1, 0, 3, 3, b'm', b'e']), "cluster id");
        assert!(!fetch(&[1, 0, 4, 3, b'm', b'e', 0]));
        assert!(!fetch(&[1, 0, 2, 3, b'm', b'e']));
        assert!(!fetch(&[1, 9, 0xff, 0xff, 0xff, 0xff, 0x0f]));
        assert!(!fetch(&[0xff, 0xff, 0xff, 0xff, 0x0f]));
    }

    #[test]
    fn more_elements_than_a_sane_request_holds_are_refused() {
        let body = |count: usize| {
            let mut body = (count as i32).to_be_bytes().to_vec();
            body.resize(4 + 2 * count, 0);
            body
        };
        assert!(check(3, 1, &body(ELEMENTS_MAX)).is_ok());
        assert!(check(3, 1, &body(ELEMENTS_MAX + 1)).is_err());
    }
}
