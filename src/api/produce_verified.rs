//! Produce inside a transaction: before its first batch in a partition the coordinator is asked whether it knows of the partition
//! (KIP-890, `ReplicaManager.handleProduceAppend`).

use super::Services;
use super::produce::{Prepared, Refusal};
use crate::base::time::monotonic_ms;
use crate::base::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::VerificationGuard;
use crate::record::BatchHeader;
use crate::replica::Partition;
use crate::transaction::message::AddRequest;
use crate::transaction::verifier::Verification;
use std::sync::Arc;

/// First version that knows TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 11;

/// A question to the coordinator about some of a request's partitions.
pub struct Question {
    request: AddRequest,
    /// Which of the prepared partitions, in the order of the question.
    asked: Vec<(usize, Arc<Partition>, VerificationGuard)>,
    version: i16,
}

/// The question that has to be asked before `prepared` is appended. `None`: no transaction begins here.
pub fn question(id: &Arc<str>, version: i16, prepared: &mut [Prepared]) -> Option<Question> {
    let mut producer: Option<(ProducerId, ProducerEpoch)> = None;
    let mut asked = Vec::new();
    for at in 0..prepared.len() {
        let Some((partition, header)) = transactional(prepared.get(at)?) else { continue };
        let (id, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
        if *producer.get_or_insert((id, epoch)) != (id, epoch) {
            refuse_all(prepared);
            return None;
        }
        let (partition, sequence) = (partition.clone(), header.base_sequence());
        if let Some(guard) = partition.log().begin_verification(id, epoch, Some(sequence), monotonic_ms()) {
            asked.push((at, partition, guard));
        }
    }
    let (producer_id, producer_epoch) = producer.filter(|_| !asked.is_empty())?;
    let partitions: Vec<TopicPartition> =
        asked.iter().map(|(_, partition, _)| partition.topic_partition().clone()).collect();
    let request = AddRequest { id: id.clone(), producer_id, producer_epoch, partitions };
    Some(Question { request, asked, version })
}

fn transactional(prepared: &Prepared) -> Option<(&Arc<Partition>, &BatchHeader)> {
    let (partition, records) = prepared.result.as_ref().ok()?;
    let batch = records.batches.iter().find(|batch| batch.header.is_transactional())?;
    Some((partition, &batch.header))
}

fn refuse_all(prepared: &mut [Prepared]) {
    for one in prepared.iter_mut().filter(|one| one.result.is_ok()) {
        let why = "the transactional records have more than one producer id";
        one.result = Err(Refusal::because(ErrorCode::InvalidProducerIdMapping, why));
    }
}

impl Question {
    pub fn ask(&self, services: &Services) -> Verification {
        services.verifier.verify(self.request.clone())
    }

    /// Refuses the partitions that the coordinator does not know of.
    pub fn answered(self, codes: &[ErrorCode], prepared: &mut [Prepared]) {
        for (place, (at, partition, guard)) in self.asked.into_iter().enumerate() {
            let code = codes.get(place).copied().unwrap_or(ErrorCode::UnknownServerError);
            if code == ErrorCode::None {
                partition.log().confirm_verification(self.request.producer_id, guard);
            } else if let Some(one) = prepared.get_mut(at) {
                one.result = Err(unverified(code, self.version));
            }
        }
    }
}

/// What the producer sees: a code that makes it repeat the batch, or one that ends its transaction.
fn unverified(code: ErrorCode, version: i16) -> Refusal {
    match code {
        ErrorCode::ConcurrentTransactions
        | ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => Refusal::because(
            // It does not make clients fetch metadata.
            ErrorCode::NotEnoughReplicas,
            format!("it cannot be verified that the partition belongs to the transaction: {code:?}"),
        ),
        ErrorCode::TransactionAbortable if version >= KNOWS_ABORTABLE => {
            Refusal::because(code, "the partition does not belong to the transaction")
        }
        ErrorCode::TransactionAbortable | ErrorCode::InvalidTxnState => {
            Refusal::because(ErrorCode::InvalidTxnState, "the partition does not belong to the transaction")
        }
        code => Refusal::code(code),
    }
}
