//! Kafka's wire protocol: the only room that names `kafka_protocol`.
//!
//! A frame becomes a [`Request`] (header read, body still bytes). A handler decodes the body with [`Request::decode`],
//! which bounds-checks every length and count first, and answers with a [`Reply`]: a list of [`Segment`]s.
//! Produce and Fetch have codecs of their own because their records must not be copied.

pub mod codec;
pub mod coordinator_record;
pub mod cursor;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod header;
pub mod produce;
pub mod put;
pub mod reply;
pub mod schema;

/// Request and response structs of every API that a 3.9 ZooKeeper-mode broker speaks.
pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request as RequestMessage, StrBytes};

pub use codec::{WireError, decode, encode};
pub use frame::{Request, RequestHeader};
pub use reply::{Outcome, Reply, Segment};

/// A string for a message field.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
