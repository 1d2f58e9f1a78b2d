//! A request as it came off a connection: header read, body still bytes.

use super::codec::{WireError, decode};
use super::guard;
use bytes::Bytes;
use kafka_protocol::protocol::Decodable;
use std::net::IpAddr;
use std::sync::Arc;

/// What a connection knows of its client: shared by all its requests.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// Name of the listener that accepted it, upper case: decides which endpoints Metadata shows.
    pub listener: Arc<str>,
    pub client_address: IpAddr,
    /// `User:ANONYMOUS` on PLAINTEXT listeners.
    pub principal: String,
}

/// Header of a request, all header versions.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Arc<str>>,
}

/// One request. The body is a slice of the frame that was read, never a copy.
#[derive(Clone, Debug)]
pub struct Request {
    pub header: RequestHeader,
    pub body: Bytes,
    pub connection: Arc<Connection>,
}

impl Request {
    /// Decodes the body as `T`, after the bounds guard has passed it.
    pub fn decode<T: Decodable>(&self) -> Result<T, WireError> {
        guard::check(self.header.api_key, self.header.version, &self.body)?;
        decode(self.body.clone(), self.header.version)
    }

    /// The client id, or the empty string as Kafka has it for null.
    pub fn client_id(&self) -> &str {
        self.header.client_id.as_deref().unwrap_or("")
    }
}
