//! Replies: lists of segments that `net` sends with writev and sendfile.

use super::codec::{WireError, encode_behind};
use super::frame::RequestHeader;
use bytes::Bytes;
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A piece of a reply.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a segment file, sent with sendfile. The file stays open for as long as this lives.
    File { file: Arc<File>, position: u64, len: usize },
}

impl Segment {
    pub fn len(&self) -> usize {
        match self {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::File { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What goes back to the client for one request.
#[derive(Debug)]
pub enum Reply {
    /// Response header and body, without the i32 frame length, which `net` puts in front.
    Segments(Vec<Segment>),
    /// No reply (Produce with acks=0).
    Nothing,
    /// Close the connection.
    Close,
}

/// What a handler returns: a reply, or one that comes later. Requests of one connection are handled in order and answered
/// in order, but the next one is handled while an earlier one is still `Later`.
pub enum Outcome {
    Now(Reply),
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Outcome {
    pub fn later(future: impl Future<Output = Reply> + Send + 'static) -> Outcome {
        Outcome::Later(Box::pin(future))
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Outcome {
        Outcome::Now(reply)
    }
}

impl Reply {
    /// As [`message`](Reply::message) where no error can be returned any more: a response that does not encode, which is a
    /// mistake of ours, closes the connection.
    pub fn or_close<T: Encodable + HeaderVersion>(request: &RequestHeader, response: &T) -> Reply {
        Reply::message(request, response).unwrap_or_else(|error| {
            tracing::error!(api_key = request.api_key, version = request.version, %error, "a response does not encode");
            Reply::Close
        })
    }

    /// Encodes `response` with its header, at the version of the request.
    pub fn message<T: Encodable + HeaderVersion>(request: &RequestHeader, response: &T) -> Result<Reply, WireError> {
        let mut header = [0; 5];
        header[..4].copy_from_slice(&request.correlation_id.to_be_bytes());
        // From header version 1 on an empty tagged section follows the correlation id.
        let size = if T::header_version(request.version) >= 1 { 5 } else { 4 };
        let message = encode_behind(&header[..size], response, request.version)?;
        Ok(Reply::Segments(vec![Segment::Bytes(message)]))
    }
}
