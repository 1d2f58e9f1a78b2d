//! What can be wrong with bytes that claim to be record batches.

/// Why bytes were refused. The message is for the operator; the variant decides Kafka's error code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// The frame of a batch: its size, magic or checksum (CORRUPT_MESSAGE).
    #[error("{0}")]
    Corrupt(String),
    /// The inside of a batch with a good checksum: counts, lengths, offsets, the compressed stream (INVALID_RECORD).
    #[error("{0}")]
    Invalid(String),
    /// A codec number nobody defined, or a codec that this format does not have (UNSUPPORTED_COMPRESSION_TYPE).
    #[error("{0}")]
    UnsupportedCompression(String),
    /// More bytes came out of the codec than the caller allows (MESSAGE_TOO_LARGE).
    #[error("the compressed records expand to more than the {limit} bytes allowed")]
    OverBudget { limit: usize },
}

impl RecordError {
    pub(crate) fn corrupt(message: impl Into<String>) -> RecordError {
        RecordError::Corrupt(message.into())
    }

    pub(crate) fn invalid(message: impl Into<String>) -> RecordError {
        RecordError::Invalid(message.into())
    }
}
