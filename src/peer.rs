//! Connections to other brokers (classes `NetworkClient`, `BrokerBlockingSender`, `NodeToControllerChannelManager`).
//!
//! A [`Peer`] is the way to one address: it connects when somebody has something to say, sends requests one behind the other without
//! waiting for answers, and matches the answers in their order. [`Peers`] keeps one for each broker.
//!
//! Invariants: a request is written at most once, and its sender hears exactly one of an answer and an error; repeating is the
//! sender's business, who knows what a repetition means. What a peer sends is bounded and checked like what a client sends: a broker
//! can be misconfigured, or not be one.

mod connection;
mod error;
mod link;
mod peers;
mod sender;
#[cfg(test)]
mod tests;

pub use error::PeerError;
pub use peers::Peers;
pub use sender::{Peer, PeerConfig};
