//! AddPartitionsToTxn: partitions join a transaction before anything is written to them. From version 4 on brokers ask it of each
//! other, for many transactions at once and, to verify, without adding (KIP-890).

use super::Services;
use super::group_fields::shared;
use super::transaction_fields::{PRODUCER_FENCED_SINCE, fenced};
use crate::base::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use crate::replica::MetadataImage;
use crate::transaction::Answer;
use crate::transaction::message::AddRequest;
use crate::wire::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use crate::wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use crate::wire::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

/// First version for brokers.
const BATCHED: i16 = 4;

/// The answer for one transaction: a code each partition, or one for all that is still to come.
enum Added {
    Codes(Vec<ErrorCode>),
    All(Answer<ErrorCode>),
}

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let mut body: AddPartitionsToTxnRequest = request.decode()?;
    let header = request.header;
    if header.version < BATCHED {
        body.transactions = vec![single(&mut body)];
    }
    let image = services.metadata.image();
    let mut answers = Vec::with_capacity(body.transactions.len());
    for transaction in body.transactions {
        let added = add(services, &image, &transaction);
        answers.push((transaction, added));
    }
    Ok(Outcome::now_or_later(async move {
        let mut results = Vec::with_capacity(answers.len());
        for (transaction, added) in answers {
            let codes = match added {
                Added::Codes(codes) => codes,
                Added::All(answer) => vec![answer.get().await; count(&transaction)],
            };
            results.push(result(transaction, &codes, header.version));
        }
        Reply::or_close(&header, &response(results, header.version))
    }))
}

/// The one transaction of versions 0 to 3.
fn single(body: &mut AddPartitionsToTxnRequest) -> AddPartitionsToTxnTransaction {
    let topics = std::mem::take(&mut body.v3_and_below_topics);
    AddPartitionsToTxnTransaction::default()
        .with_transactional_id(body.v3_and_below_transactional_id.clone())
        .with_producer_id(body.v3_and_below_producer_id)
        .with_producer_epoch(body.v3_and_below_producer_epoch)
        .with_topics(topics)
}

fn count(transaction: &AddPartitionsToTxnTransaction) -> usize {
    transaction.topics.iter().map(|topic| topic.partitions.len()).sum()
}

fn add(services: &Services, image: &MetadataImage, transaction: &AddPartitionsToTxnTransaction) -> Added {
    if let Some(codes) = unknown(image, &transaction.topics) {
        return Added::Codes(codes);
    }
    let partitions = transaction.topics.iter().flat_map(|topic| {
        let name = shared(&topic.name.0);
        topic.partitions.iter().map(move |partition| TopicPartition::new(name.clone(), *partition))
    });
    let request = AddRequest {
        id: shared(&transaction.transactional_id.0),
        producer_id: ProducerId(transaction.producer_id.0),
        producer_epoch: ProducerEpoch(transaction.producer_epoch),
        partitions: partitions.collect(),
    };
    match transaction.verify_only {
        true => Added::Codes(services.transactions.verify(&request)),
        false => Added::All(services.transactions.add(request)),
    }
}

/// If one partition does not exist none is added, and the others are told so.
fn unknown(image: &MetadataImage, topics: &[AddPartitionsToTxnTopic]) -> Option<Vec<ErrorCode>> {
    let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (&*topic.name, *partition)));
    let exists: Vec<bool> = all.map(|(topic, partition)| image.partition(topic, partition).is_some()).collect();
    if exists.iter().all(|exists| *exists) {
        return None;
    }
    let code = |exists| if exists { ErrorCode::OperationNotAttempted } else { ErrorCode::UnknownTopicOrPartition };
    Some(exists.into_iter().map(code).collect())
}

fn result(transaction: AddPartitionsToTxnTransaction, codes: &[ErrorCode], version: i16) -> AddPartitionsToTxnResult {
    let mut codes = codes.iter();
    let mut topics = Vec::with_capacity(transaction.topics.len());
    for topic in transaction.topics {
        let results = topic.partitions.iter().map(|partition| {
            let error = codes.next().copied().unwrap_or(ErrorCode::UnknownServerError);
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(fenced(version, PRODUCER_FENCED_SINCE, error).code())
        });
        let results = results.collect();
        topics.push(AddPartitionsToTxnTopicResult::default().with_name(topic.name).with_results_by_partition(results));
    }
    AddPartitionsToTxnResult::default().with_transactional_id(transaction.transactional_id).with_topic_results(topics)
}

fn response(mut results: Vec<AddPartitionsToTxnResult>, version: i16) -> AddPartitionsToTxnResponse {
    let response = AddPartitionsToTxnResponse::default();
    match version < BATCHED {
        true => {
            let topics = results.pop().map(|result| result.topic_results).unwrap_or_default();
            response.with_results_by_topic_v3_and_below(topics)
        }
        false => response.with_results_by_transaction(results),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::messages::{TopicName, TransactionalId};
    use crate::wire::text;

    #[test]
    fn every_version_encodes_and_knows_its_codes() {
        for version in 0..=5 {
            let topic = AddPartitionsToTxnTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![0, 1]);
            let transaction = AddPartitionsToTxnTransaction::default()
                .with_transactional_id(TransactionalId(text("id")))
                .with_topics(vec![topic]);
            let result = result(transaction, &[ErrorCode::None, ErrorCode::ProducerFenced], version);
            let codes: Vec<i16> =
                result.topic_results[0].results_by_partition.iter().map(|r| r.partition_error_code).collect();
            assert_eq!(codes, [0, if version < 2 { 47 } else { 90 }]);
            assert!(encode(&response(vec![result], version), version).is_ok(), "version {version}");
        }
    }
}
