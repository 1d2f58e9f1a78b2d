//! Decoding and encoding of message bodies, with the one error of this room.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

/// A request that does not follow the protocol. The connection that sent it is closed, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("malformed {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error("api key {api_key} version {version} is not supported")]
    Unsupported { api_key: i16, version: i16 },
}

impl WireError {
    pub fn malformed(what: &'static str, reason: impl ToString) -> WireError {
        WireError::Malformed { what, reason: reason.to_string() }
    }
}

/// Decodes one message from the front of `bytes`. The caller has bounds-checked the bytes if they come from outside; what is left
/// over is ignored, as Kafka does.
pub fn decode<T: Decodable>(mut bytes: Bytes, version: i16) -> Result<T, WireError> {
    let what = std::any::type_name::<T>().rsplit("::").next().unwrap_or("message");
    T::decode(&mut bytes, version).map_err(|error| WireError::malformed(what, error))
}

/// Encodes one message. It fails when a field that `version` does not have holds something else than its default:
/// a mistake of the caller, who has to clear such fields.
pub fn encode<T: Encodable>(message: &T, version: i16) -> Result<Bytes, WireError> {
    let mut buffer = BytesMut::new();
    encode_into(&mut buffer, message, version)?;
    Ok(buffer.freeze())
}

/// As [`encode`], with bytes in front.
pub fn encode_behind<T: Encodable>(front: &[u8], message: &T, version: i16) -> Result<Bytes, WireError> {
    let mut buffer = BytesMut::new();
    if !front.is_empty() {
        // One allocation: replies go this way.
        let size = message.compute_size(version).unwrap_or(0);
        buffer.reserve(front.len() + size);
        buffer.extend_from_slice(front);
    }
    encode_into(&mut buffer, message, version)?;
    Ok(buffer.freeze())
}

/// As [`encode`], behind what is in `buffer`.
pub fn encode_into<T: Encodable>(buffer: &mut BytesMut, message: &T, version: i16) -> Result<(), WireError> {
    let what = std::any::type_name::<T>().rsplit("::").next().unwrap_or("message");
    let size = message.compute_size(version).map_err(|error| WireError::malformed(what, error))?;
    buffer.reserve(size);
    message.encode(buffer, version).map_err(|error| WireError::malformed(what, error))
}
