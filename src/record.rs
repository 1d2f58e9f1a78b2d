//! Record batches as views over bytes: header fields, records, compression, legacy formats, control records, checksums.
//!
//! Invariant: a batch that came from a client is never re-encoded unless a rule says so; offsets and epochs are patched
//! into a copy of its 61-byte header.
//!
//! Reading: [`batches`] cuts bytes into [`RawBatch`]es of any format, [`RawBatch::records`] gives the records.
//! Writing: [`validate`] takes what a client produced, [`BatchBuilder`] what the broker itself writes; both give
//! [`ValidatedBatch`]es. [`down_convert`] serves consumers that know only the formats 0 or 1.

pub mod batch;
mod builder;
pub mod compression;
mod control;
mod convert;
pub mod crc;
mod error;
mod legacy;
mod raw;
mod records;
mod validate;
mod varint;
mod walk;

pub use batch::{BatchHeader, HEADER_SIZE};
pub use builder::{BatchBuilder, ValidatedBatch};
pub use compression::{Compression, compress, decompress};
pub use control::EndTxnMarker;
pub use convert::down_convert;
pub use error::RecordError;
pub use legacy::LegacyBatch;
pub use raw::{BatchPrefix, Batches, PREFIX_SIZE, RawBatch, batches};
pub use records::{BatchRecords, Headers, Record, RecordIter};
pub use validate::{RecordFault, ValidatedRecords, ValidationError, ValidationErrorKind, ValidationRules, validate};
