//! The request header, versions 0 to 2: `i16 key, i16 version, i32 correlation id`, from version 1 an `i16`-length nullable client
//! id (also in the flexible version 2), in version 2 a tagged section (class `RequestHeader`).
//!
//! Which header a request carries follows from its key and version alone, so a key or version that nobody knows cannot be read
//! at all and closes the connection. The one exception is ApiVersions, whose unknown versions are answered.
//!
//! Towards other brokers the same headers are written, and those of responses read: a correlation id, in version 1 a tagged section.

use super::codec::WireError;
use super::cursor::Cursor;
use super::frame::{Connection, Request, RequestHeader};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::sync::Arc;

/// Tagged fields of a request header that are skipped; none is defined for a client.
const HEADER_TAGS_MAX: u32 = 64;

/// Reads the header of a frame. `client_id` is the last one seen on this connection: clients never change theirs, so it is
/// shared rather than allocated for each request.
pub fn parse(
    frame: Bytes,
    connection: &Arc<Connection>,
    client_id: &mut Option<Arc<str>>,
) -> Result<Request, WireError> {
    let mut cursor = Cursor::new(&frame, "request header");
    let api_key = cursor.i16()?;
    let version = cursor.i16()?;
    let correlation_id = cursor.i32()?;
    let header_version = header_version(api_key, version)?;
    let id = if header_version >= 1 { cursor.nullable_string(false)? } else { None };
    if id != client_id.as_deref() {
        *client_id = id.map(Arc::from);
    }
    if header_version >= 2 {
        skip_tags(&mut cursor)?;
    }
    let body = frame.slice(cursor.position()..);
    let header = RequestHeader { api_key, version, correlation_id, client_id: client_id.clone() };
    Ok(Request { header, body, connection: connection.clone() })
}

fn header_version(api_key: i16, version: i16) -> Result<i16, WireError> {
    let unsupported = WireError::Unsupported { api_key, version };
    let Ok(key) = ApiKey::try_from(api_key) else { return Err(unsupported) };
    let known = key.valid_versions();
    if version < known.min || (version > known.max && key != ApiKey::ApiVersions) {
        return Err(unsupported);
    }
    Ok(key.request_header_version(version))
}

/// A whole request, its length in front. `put_body` writes the body behind the header.
pub fn request_frame(
    api_key: i16,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    put_body: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
) -> Result<Bytes, WireError> {
    let header_version = header_version(api_key, version)?;
    let wrong = |error: &dyn std::fmt::Display| WireError::malformed("request", error);
    let id_size = i16::try_from(client_id.len()).map_err(|error| wrong(&error))?;
    let mut frame = BytesMut::with_capacity(16 + client_id.len());
    frame.put_i32(0);
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    if header_version >= 1 {
        frame.put_i16(id_size);
        frame.put_slice(client_id.as_bytes());
    }
    if header_version >= 2 {
        frame.put_u8(0);
    }
    put_body(&mut frame)?;
    let size = i32::try_from(frame.len() - 4).map_err(|error| wrong(&error))?;
    if let Some(length) = frame.first_chunk_mut::<4>() {
        *length = size.to_be_bytes();
    }
    Ok(frame.freeze())
}

/// The correlation id and the body of a response to a request of this key and version.
pub fn parse_response(frame: Bytes, api_key: i16, version: i16) -> Result<(i32, Bytes), WireError> {
    let key = ApiKey::try_from(api_key).map_err(|()| WireError::Unsupported { api_key, version })?;
    let mut cursor = Cursor::new(&frame, "response header");
    let correlation_id = cursor.i32()?;
    if key.response_header_version(version) >= 1 {
        skip_tags(&mut cursor)?;
    }
    let body = frame.slice(cursor.position()..);
    Ok((correlation_id, body))
}

fn skip_tags(cursor: &mut Cursor<'_>) -> Result<(), WireError> {
    let count = cursor.unsigned_varint()?;
    if count > HEADER_TAGS_MAX {
        return Err(cursor.malformed(format_args!("{count} tagged fields")));
    }
    for _ in 0..count {
        cursor.unsigned_varint()?;
        let size = cursor.unsigned_varint()? as usize;
        cursor.take(size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::encode_into;
    use std::net::{IpAddr, Ipv4Addr};

    fn connection() -> Arc<Connection> {
        Arc::new(Connection {
            id: 1,
            listener: "PLAINTEXT".into(),
            client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            principal: "User:ANONYMOUS".into(),
        })
    }

    fn check(frame: &'static [u8], expected: Option<(i16, i16, i32, &str, usize)>) {
        let got = parse(Bytes::from_static(frame), &connection(), &mut None).ok();
        let got = got.map(|request| {
            let header = &request.header;
            (header.api_key, header.version, header.correlation_id, request.client_id().to_owned(), request.body.len())
        });
        assert_eq!(got, expected.map(|(k, v, c, id, left)| (k, v, c, id.to_owned(), left)), "{frame:?}");
    }

    #[test]
    fn every_header_version_is_read() {
        check(b"\0\x07\0\0\0\0\0\x05\x01\x02", Some((7, 0, 5, "", 2)));
        check(b"\0\x03\0\x01\0\0\0\x05\0\x02me\x09", Some((3, 1, 5, "me", 1)));
        check(b"\0\x03\0\x01\0\0\0\x05\xff\xff", Some((3, 1, 5, "", 0)));
        check(b"\0\x12\0\x03\0\0\0\x05\0\x02me\0\x09", Some((18, 3, 5, "me", 1)));
        check(b"\0\x12\0\x03\0\0\0\x05\xff\xff\x01\x07\x02ab\x09", Some((18, 3, 5, "", 1)));
        check(b"\0\x12\0\x63\0\0\0\x05\0\x02me\0\x09", Some((18, 99, 5, "me", 1)));
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        check(b"", None);
        check(b"\0\x03\0\x01\0\0\0", None);
        check(b"\x03\xe7\0\0\0\0\0\x05\xff\xff", None);
        check(b"\0\x03\0\x63\0\0\0\x05\xff\xff", None);
        check(b"\0\x03\xff\xff\0\0\0\x05\xff\xff", None);
        check(b"\0\x12\xff\xff\0\0\0\x05\xff\xff", None);
        check(b"\0\x03\0\x01\0\0\0\x05\0\x09me", None);
        check(b"\0\x03\0\x01\0\0\0\x05\xff\xfeme", None);
        check(b"\0\x03\0\x01\0\0\0\x05\0\x02\xc3\x28", None);
        check(b"\0\x12\0\x03\0\0\0\x05\xff\xff\xff\xff\xff\xff\x0f", None);
    }

    #[test]
    fn the_client_id_is_shared_between_requests() {
        let (connection, mut seen) = (connection(), None);
        let frame = Bytes::from_static(b"\0\x03\0\x01\0\0\0\x05\0\x02me");
        let first = parse(frame.clone(), &connection, &mut seen).unwrap().header.client_id.unwrap();
        let second = parse(frame, &connection, &mut seen).unwrap().header.client_id.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }

    /// What one side writes the other reads, in every header version.
    #[test]
    fn frames_of_our_own_are_read_back() {
        let body = kafka_protocol::messages::ControlledShutdownRequest::default();
        for (version, client_id) in [(0, ""), (2, "me"), (3, "me")] {
            let frame = request_frame(7, version, 5, "me", |frame| encode_into(frame, &body, version)).unwrap();
            assert_eq!(frame.len() - 4, u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize);
            let request = parse(frame.slice(4..), &connection(), &mut None).unwrap();
            assert_eq!(
                (request.header.version, request.header.correlation_id, request.client_id()),
                (version, 5, client_id)
            );
        }
        assert!(request_frame(7, 4, 5, "me", |_| Ok(())).is_err());
        assert_eq!(parse_response(Bytes::from_static(b"\0\0\0\x05ab"), 7, 2).unwrap(), (5, Bytes::from_static(b"ab")));
        assert_eq!(
            parse_response(Bytes::from_static(b"\0\0\0\x05\0ab"), 7, 3).unwrap(),
            (5, Bytes::from_static(b"ab"))
        );
        assert!(parse_response(Bytes::from_static(b"\0\0\0"), 7, 2).is_err());
    }
}
