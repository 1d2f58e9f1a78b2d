//! Listeners and connections: frames in, replies out in order (classes `SocketServer`, `Acceptor`, `Processor`, `NetworkReceive`).
//!
//! A connection is one task. It reads a frame, hands the request to the dispatch function it was given, and writes the reply
//! before the next request is looked at, as Kafka mutes a channel until the reply has been sent. Produce is the exception: up to
//! a bound, further Produce requests are dispatched, in order, while earlier ones wait for their replicas.
//!
//! Invariants: replies leave in the order of their requests; a connection holds no buffer while it is idle and never more bytes
//! than a small multiple of what its peer has sent; whatever goes wrong on a connection ends that connection and nothing else.

mod activity;
mod cold_read;
mod connection;
mod limits;
mod listener;
mod pipeline;
mod reader;
mod server;
mod writer;

pub use listener::NetError;
pub use server::{Dispatch, Server};
