//! Why produced records were refused.

/// Kafka's error for the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValidationErrorKind {
    CorruptMessage,
    InvalidRecord,
    InvalidTimestamp,
    MessageTooLarge,
    RecordListTooLarge,
    UnsupportedCompressionType,
    UnsupportedForMessageFormat,
}

/// The whole partition's part of the request is refused; `records` names those that are to blame (Produce v8 and later).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ValidationError {
    pub kind: ValidationErrorKind,
    pub message: String,
    pub records: Vec<RecordFault>,
}

/// One record that is to blame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordFault {
    /// Its place in the batch, from 0.
    pub index: i32,
    pub message: String,
}

pub(super) fn invalid(message: impl Into<String>) -> ValidationError {
    ValidationError { kind: ValidationErrorKind::InvalidRecord, message: message.into(), records: Vec::new() }
}

/// Most faults that are listed: a batch can hold more records than a reply should.
const FAULTS_MAX: usize = 1000;

/// Collects the faults of the records of a batch.
#[derive(Default)]
pub(super) struct Faults {
    kind: Option<ValidationErrorKind>,
    list: Vec<RecordFault>,
    count: u64,
}

impl Faults {
    #[cold]
    pub fn add(&mut self, kind: ValidationErrorKind, index: i32, message: impl FnOnce() -> String) {
        self.kind = match self.kind {
            Some(ValidationErrorKind::InvalidTimestamp) => self.kind,
            _ => Some(kind),
        };
        self.count += 1;
        if self.list.len() < FAULTS_MAX {
            self.list.push(RecordFault { index, message: message() });
        }
    }

    /// An error, if there is any fault. One bad timestamp makes it INVALID_TIMESTAMP, whatever else there is.
    pub fn into_result(self) -> Result<(), ValidationError> {
        let Some(kind) = self.kind else { return Ok(()) };
        let message = match kind {
            ValidationErrorKind::InvalidTimestamp => {
                "One or more records have been rejected due to invalid timestamp".to_owned()
            }
            _ => {
                let first = self.list.first().map_or("", |fault| fault.message.as_str());
                format!("One or more records have been rejected due to {} record errors, first: {first}", self.count)
            }
        };
        Err(ValidationError { kind, message, records: self.list })
    }
}
