//! Why a request to another broker has no answer.

use crate::base::BrokerId;
use crate::wire::WireError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The connection could not be made, or ended before the answer: the request may or may not have been carried out.
    #[error("{address} cannot be reached: {reason}")]
    Disconnected { address: String, reason: String },
    /// No answer in time. The connection is closed, since answers come in order.
    #[error("{address} did not answer within {timeout_ms} ms")]
    TimedOut { address: String, timeout_ms: u64 },
    #[error("{address} sent something that is no answer: {reason}")]
    Malformed { address: String, reason: String },
    /// The peer does not speak this version; nothing was sent.
    #[error("{address} does not support version {version} of api key {api_key}")]
    UnsupportedVersion { address: String, api_key: i16, version: i16 },
    /// A request that does not encode: a mistake of ours.
    #[error("a request cannot be sent: {0}")]
    Request(String),
    #[error("broker {0} is not alive, or has no endpoint on the inter-broker listener")]
    Unknown(BrokerId),
}

impl From<WireError> for PeerError {
    fn from(error: WireError) -> PeerError {
        PeerError::Request(error.to_string())
    }
}
