//! Replies: lists of segments that `net` sends with writev and sendfile.

use super::codec::{WireError, encode_behind};
use super::frame::RequestHeader;
use bytes::Bytes;
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

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
/// in order, but the next one may be handled while an earlier one is still `Later`.
pub enum Outcome {
    Now(Reply),
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// As `Later`, but the request has not acted yet: the next one has to wait.
    Alone(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Outcome {
    pub fn later(future: impl Future<Output = Reply> + Send + 'static) -> Outcome {
        Outcome::Later(Box::pin(future))
    }

    /// The reply if the future has it at once, else the future.
    pub fn now_or_later(future: impl Future<Output = Reply> + Send + 'static) -> Outcome {
        let mut future = Box::pin(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => Outcome::Now(reply),
            Poll::Pending => Outcome::Later(future),
        }
    }

    /// Waits for the reply.
    pub async fn reply(self) -> Reply {
        match self {
            Outcome::Now(reply) => reply,
            Outcome::Later(reply) | Outcome::Alone(reply) => reply.await,
        }
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
