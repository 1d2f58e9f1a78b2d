//! What a control batch in a log says about a transaction (class `EndTransactionMarker`).

use crate::record::{EndTxnMarker, RawBatch, RecordError};

/// Control records are tiny and never compressed.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// Reads the marker of a whole control batch; `None` for control records of other kinds.
pub fn read_marker(batch: &[u8]) -> Result<Option<EndTxnMarker>, RecordError> {
    let Some(batch) = RawBatch::read(batch)? else { return Ok(None) };
    match batch.records(RECORD_BYTES_MAX)?.iter().next() {
        Some(record) => EndTxnMarker::decode(&record?),
        None => Ok(None),
    }
}
