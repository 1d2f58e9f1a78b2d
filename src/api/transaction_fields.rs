//! Conversions that the transaction APIs share.

use crate::base::{ErrorCode, TopicPartition};
use crate::transaction::Answer;
use crate::wire::{Encodable, HeaderVersion, Outcome, Reply, RequestHeader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// First version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn that knows PRODUCER_FENCED.
pub const PRODUCER_FENCED_SINCE: i16 = 2;

/// Clients of before KIP-588 know a fenced producer by another code. `since` is the first version that knows the new one.
pub fn fenced(version: i16, since: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < since => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}

/// The reply of AddOffsetsToTxn and EndTxn, which is a code.
pub fn reply_code<T: Encodable + HeaderVersion>(
    header: RequestHeader,
    answer: Answer<ErrorCode>,
    response: impl FnOnce(i16) -> T + Send + 'static,
) -> Outcome {
    answer.reply(move |error| {
        let code = fenced(header.version, PRODUCER_FENCED_SINCE, error).code();
        Reply::or_close(&header, &response(code))
    })
}

/// Partitions by topic, in order.
pub fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_know_a_fenced_producer_by_another_code() {
        for version in 0..=4 {
            let expected = if version < 2 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::ProducerFenced };
            assert_eq!(fenced(version, PRODUCER_FENCED_SINCE, ErrorCode::ProducerFenced), expected);
            assert_eq!(fenced(version, PRODUCER_FENCED_SINCE, ErrorCode::None), ErrorCode::None);
        }
    }
}
