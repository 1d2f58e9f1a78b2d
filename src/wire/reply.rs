//! Replies: lists of segments that `net` sends with writev and sendfile.

use super::codec::{WireError, encode};
use super::frame::RequestHeader;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
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
    /// Encodes `response` with its header, at the version of the request.
    pub fn message<T: Encodable + HeaderVersion>(request: &RequestHeader, response: &T) -> Result<Reply, WireError> {
        let body = encode(response, request.version)?;
        let header = response_header(request, T::header_version(request.version))?;
        let mut buffer = BytesMut::with_capacity(header.len() + body.len());
        buffer.put(header);
        buffer.put(body);
        Ok(Reply::Segments(vec![Segment::Bytes(buffer.freeze())]))
    }
}

/// The encoded response header: correlation id, and from header version 1 an empty tagged section.
pub fn response_header(request: &RequestHeader, header_version: i16) -> Result<Bytes, WireError> {
    encode(&ResponseHeader::default().with_correlation_id(request.correlation_id), header_version)
}
