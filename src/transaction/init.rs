//! InitProducerId: who may write under a transactional id, and in which epoch (KIP-98, KIP-360).
//!
//! Invariant: an epoch is given to one producer only, and from then on every lower one is refused.

use super::end;
use super::message::{Errand, InitRequest, ReplyToken};
use super::records::TransactionValue;
use super::shard::{Asker, Purpose, Step};
use super::state::{LAST_EPOCH, Status, Transaction};
use crate::base::{ErrorCode, ProducerEpoch, ProducerId};
use std::collections::BTreeSet;

/// What an InitProducerId leads to.
enum Decision {
    Refuse(ErrorCode),
    /// A transaction is under way: its producer is fenced, and the client comes again when it has been aborted.
    Fence,
    /// All epochs of the producer id are used.
    NewProducerId,
    NextEpoch {
        previous_epoch: ProducerEpoch,
    },
    /// The answer to the same request was lost.
    Repeat,
}

pub(super) fn init(
    step: &mut Step<'_>,
    transaction: Option<&mut Transaction>,
    token: ReplyToken,
    request: InitRequest,
    allocated: Option<ProducerId>,
) {
    if request.id.is_empty() {
        return step.init(token, Err(ErrorCode::InvalidRequest));
    }
    if request.timeout_ms <= 0 || request.timeout_ms > step.config.max_timeout_ms {
        return step.init(token, Err(ErrorCode::InvalidTransactionTimeout));
    }
    let Some(transaction) = transaction else { return step.errand(Errand::Allocate(token, request)) };
    let current = (transaction.stored.producer_id, transaction.stored.producer_epoch);
    let next = |producer_id, producer_epoch| TransactionValue {
        producer_id,
        producer_epoch,
        timeout_ms: request.timeout_ms,
        status: Status::Empty,
        partitions: BTreeSet::new(),
        last_update_ms: step.now.wall_ms,
        start_ms: -1,
    };
    let (value, previous_id, previous_epoch) = match decide(transaction, request.expected) {
        Decision::Refuse(error) => return step.init(token, Err(error)),
        Decision::Fence => return end::fence_and_abort(step, &request.id, transaction, Asker::Init(token)),
        Decision::NewProducerId => {
            let Some(producer_id) = allocated else { return step.errand(Errand::Allocate(token, request)) };
            let previous_epoch = if request.expected.is_some() { current.1 } else { ProducerEpoch::NONE };
            (next(producer_id, ProducerEpoch(0)), current.0, previous_epoch)
        }
        Decision::NextEpoch { previous_epoch } => {
            // From none, which is -1, to 0.
            let epoch = ProducerEpoch(current.1.0.saturating_add(1));
            (next(current.0, epoch), current.0, previous_epoch)
        }
        Decision::Repeat => (next(current.0, current.1), transaction.previous_id, transaction.previous_epoch),
    };
    let purpose = Purpose::Init { reply: token, previous_id, previous_epoch };
    step.store(&request.id, transaction, value, purpose);
}

fn decide(transaction: &Transaction, expected: Option<(ProducerId, ProducerEpoch)>) -> Decision {
    if transaction.pending.is_some() {
        return Decision::Refuse(ErrorCode::ConcurrentTransactions);
    }
    if expected.is_some_and(|expected| !is_known(transaction, expected)) {
        return Decision::Refuse(ErrorCode::ProducerFenced);
    }
    match transaction.status() {
        Status::PrepareCommit | Status::PrepareAbort => Decision::Refuse(ErrorCode::ConcurrentTransactions),
        Status::Ongoing => Decision::Fence,
        Status::Empty | Status::CompleteCommit | Status::CompleteAbort => next_epoch(transaction, expected),
        Status::Dead | Status::PrepareEpochFence => Decision::Refuse(ErrorCode::UnknownServerError),
    }
}

/// Whether the id that a producer says it had can be right: the current one, or the one before if that was used up. Of an id that
/// expired nothing is known, and its producer may begin anew.
fn is_known(transaction: &Transaction, (id, epoch): (ProducerId, ProducerEpoch)) -> bool {
    !transaction.is_stored()
        || id == transaction.stored.producer_id
        || (id == transaction.previous_id && epoch >= LAST_EPOCH)
}

fn next_epoch(transaction: &Transaction, expected: Option<(ProducerId, ProducerEpoch)>) -> Decision {
    let current = transaction.stored.producer_epoch;
    let expected = expected.map(|(_, epoch)| epoch);
    if transaction.is_exhausted() && expected.is_none_or(|expected| expected == current) {
        return Decision::NewProducerId;
    }
    match expected {
        // Such a producer does not repeat with what it had.
        None => Decision::NextEpoch { previous_epoch: ProducerEpoch::NONE },
        Some(expected) if !transaction.is_stored() || expected == current => {
            Decision::NextEpoch { previous_epoch: current }
        }
        Some(expected) if expected == transaction.previous_epoch => Decision::Repeat,
        Some(_) => Decision::Refuse(ErrorCode::ProducerFenced),
    }
}
