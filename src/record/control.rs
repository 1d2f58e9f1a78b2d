//! The markers that end a transaction in a partition (classes `EndTransactionMarker`, `ControlRecordType`).

use super::builder::{BatchBuilder, ValidatedBatch};
use super::error::RecordError;
use super::records::Record;

/// What the record of a control batch says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndTxnMarker {
    pub commit: bool,
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads a control record. `Ok(None)` for types this broker does not know (they are skipped), as of Raft or snapshots.
    pub fn decode(record: &Record<'_>) -> Result<Option<EndTxnMarker>, RecordError> {
        let short = || RecordError::invalid("a control record is too short");
        let key = record.key.and_then(|key| key.first_chunk::<4>()).ok_or_else(short)?;
        let [v0, v1, t0, t1] = *key;
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(RecordError::invalid("a control record with a negative version"));
        }
        let commit = match i16::from_be_bytes([t0, t1]) {
            0 => false,
            1 => true,
            _ => return Ok(None),
        };
        let value = record.value.and_then(|value| value.first_chunk::<6>()).ok_or_else(short)?;
        let [_, _, e0, e1, e2, e3] = *value;
        Ok(Some(EndTxnMarker { commit, coordinator_epoch: i32::from_be_bytes([e0, e1, e2, e3]) }))
    }

    pub fn key(&self) -> [u8; 4] {
        [0, 0, 0, u8::from(self.commit)]
    }

    pub fn value(&self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }

    /// The control batch that a partition's leader appends.
    pub fn batch(&self, producer_id: i64, producer_epoch: i16, timestamp: i64) -> Result<ValidatedBatch, RecordError> {
        let mut builder =
            BatchBuilder::new().producer(producer_id, producer_epoch, -1).transactional(true).control(true);
        builder.append(timestamp, Some(&self.key()), Some(&self.value()), []);
        builder.build()
    }
}
