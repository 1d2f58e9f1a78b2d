//! Record batches as views over bytes: header fields, records, compression, legacy formats, control records, checksums.
//!
//! Invariant: a batch that came from a client is never re-encoded unless a rule says so; offsets and epochs are patched
//! into a copy of its 61-byte header.

pub mod batch;

pub use batch::{BatchHeader, HEADER_SIZE};
