//! AddPartitionsToTxn and AddOffsetsToTxn: a transaction knows its partitions before anything is written to them (KIP-98); and
//! the question of a partition's leader whether it does (KIP-890).

use super::message::{AddRequest, ReplyToken};
use super::records::TransactionValue;
use super::shard::{Purpose, Step, TransactionShard};
use super::state::{Status, Transaction};
use crate::base::{ErrorCode, ProducerEpoch, ProducerId};

/// Judges who asks. Lower epochs have been fenced; higher ones nobody was given.
pub(super) fn check_producer(transaction: &Transaction, id: ProducerId, epoch: ProducerEpoch) -> Result<(), ErrorCode> {
    if transaction.stored.producer_id != id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if transaction.stored.producer_epoch != epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    Ok(())
}

pub(super) fn add(step: &mut Step<'_>, transaction: Option<&mut Transaction>, token: ReplyToken, request: AddRequest) {
    if request.id.is_empty() {
        return step.done(token, ErrorCode::InvalidRequest);
    }
    let Some(transaction) = transaction else { return step.done(token, ErrorCode::InvalidProducerIdMapping) };
    if let Err(error) = check_producer(transaction, request.producer_id, request.producer_epoch) {
        return step.done(token, error);
    }
    let status = transaction.status();
    if transaction.pending.is_some() || status.decision().is_some() {
        return step.done(token, ErrorCode::ConcurrentTransactions);
    }
    let known = &transaction.stored.partitions;
    if status == Status::Ongoing && request.partitions.iter().all(|partition| known.contains(partition)) {
        return step.done(token, ErrorCode::None);
    }
    let mut partitions = known.clone();
    partitions.extend(request.partitions);
    let now_ms = step.now.wall_ms;
    let value = TransactionValue {
        status: Status::Ongoing,
        partitions,
        start_ms: if status.is_idle() { now_ms } else { transaction.stored.start_ms },
        last_update_ms: now_ms,
        ..transaction.stored.clone()
    };
    step.store(&request.id, transaction, value, Purpose::Add { reply: token });
}

impl TransactionShard {
    /// Whether each of the partitions belongs to the producer's transaction, one code each. What is being written does not count
    /// before it is: the partition's leader judges once more when it appends.
    pub fn verify(&self, request: &AddRequest) -> Vec<ErrorCode> {
        let all = |error| vec![error; request.partitions.len()];
        if request.id.is_empty() {
            return all(ErrorCode::InvalidRequest);
        }
        let Some(transaction) = self.transaction(&request.id) else {
            return all(ErrorCode::InvalidProducerIdMapping);
        };
        if let Err(error) = check_producer(transaction, request.producer_id, request.producer_epoch) {
            return all(error);
        }
        if transaction.status().decision().is_some() {
            return all(ErrorCode::ConcurrentTransactions);
        }
        let known = &transaction.stored.partitions;
        let judge = |contained| if contained { ErrorCode::None } else { ErrorCode::TransactionAbortable };
        request.partitions.iter().map(|partition| judge(known.contains(partition))).collect()
    }
}
