//! Conversions that the transaction APIs share.

use crate::base::{ErrorCode, TopicPartition};
use crate::transaction::message::Response;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Clients of before KIP-588 know a fenced producer by another code. `since` is the first version that knows the new one.
pub fn fenced(version: i16, since: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < since => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}

/// The code in an answer to AddPartitionsToTxn, AddOffsetsToTxn or EndTxn.
pub fn code_of(response: Response) -> ErrorCode {
    match response {
        Response::Done(error) => error,
        Response::Init(_) => ErrorCode::UnknownServerError,
    }
}

/// Partitions by topic, in order.
pub fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    topics
}
