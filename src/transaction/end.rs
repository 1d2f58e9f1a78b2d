//! The end of a transaction: the decision is written, then a marker to every partition, then that all is done (KIP-98).
//!
//! Invariant: once the decision is in the log it never changes, and markers are sent until every partition has one; whoever
//! coordinates after a crash goes on from the decision.

use super::add::check_producer;
use super::message::{EndRequest, MarkerOutcome, MarkersToken, ReplyToken};
use super::records::TransactionValue;
use super::shard::{Asker, Purpose, Step, note_outcome};
use super::state::{Markers, Pending, Status, Transaction};
use crate::base::{ErrorCode, ProducerEpoch, TopicPartition};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn end(step: &mut Step<'_>, transaction: Option<&mut Transaction>, token: ReplyToken, request: &EndRequest) {
    if request.id.is_empty() {
        return step.done(token, ErrorCode::InvalidRequest);
    }
    let Some(transaction) = transaction else { return step.done(token, ErrorCode::InvalidProducerIdMapping) };
    let judged = check_producer(transaction, request.producer_id, request.producer_epoch);
    match judged.and_then(|()| judge(transaction, request.commit)) {
        Err(error) => step.done(token, error),
        Ok(false) => step.done(token, ErrorCode::None),
        Ok(true) => decide(step, &request.id, transaction, request.commit, Asker::Client(token)),
    }
}

/// Whether there is something to decide: `false` if it was decided before in the same way.
fn judge(transaction: &Transaction, commit: bool) -> Result<bool, ErrorCode> {
    if transaction.pending.is_some() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match transaction.status() {
        Status::Ongoing => Ok(true),
        status if status == Status::complete(commit) => Ok(false),
        status if status == Status::prepare(commit) => Err(ErrorCode::ConcurrentTransactions),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

fn decide(step: &mut Step<'_>, id: &Arc<str>, transaction: &mut Transaction, commit: bool, asker: Asker) {
    let value = TransactionValue {
        status: Status::prepare(commit),
        last_update_ms: step.now.wall_ms,
        ..transaction.stored.clone()
    };
    step.store(id, transaction, value, Purpose::Decide { asker });
}

/// Ends a transaction whose producer is gone or too slow: from now on its epoch is refused. Nobody is given the epoch that fences.
pub(super) fn fence_and_abort(step: &mut Step<'_>, id: &Arc<str>, transaction: &mut Transaction, asker: Asker) {
    if !transaction.fence_failed {
        let epoch = transaction.stored.producer_epoch;
        transaction.stored.producer_epoch = ProducerEpoch(epoch.0.saturating_add(1));
    }
    transaction.previous_epoch = ProducerEpoch::NONE;
    decide(step, id, transaction, false, asker);
}

pub(super) fn markers_answered(
    step: &mut Step<'_>,
    id: &Arc<str>,
    transaction: &mut Transaction,
    token: MarkersToken,
    outcomes: &[(TopicPartition, MarkerOutcome)],
) {
    let Some(commit) = transaction.status().decision() else { return };
    let Some(Pending::Markers(markers)) = &mut transaction.pending else { return };
    if markers.token != token {
        return;
    }
    let mut has_failed = false;
    for (partition, outcome) in outcomes {
        has_failed |= note_outcome(markers, partition, *outcome);
    }
    if markers.is_fenced {
        // There is a newer coordinator, or the state here is not what the partitions have seen. Either way this is not the one
        // to go on: the next load of the partition decides.
        return;
    }
    if markers.missing.is_empty() {
        complete(step, id, transaction, commit);
    } else if has_failed {
        step.retry_markers(id);
    }
}

/// Sends what failed once more, or writes once more that all is done.
pub(super) fn try_again(step: &mut Step<'_>, id: &Arc<str>, transaction: &mut Transaction) {
    let Some(commit) = transaction.status().decision() else { return };
    let Some(Pending::Markers(markers)) = &mut transaction.pending else { return };
    if markers.is_fenced {
        return;
    }
    if markers.missing.is_empty() {
        return complete(step, id, transaction, commit);
    }
    let token = markers.token;
    let failed: Vec<TopicPartition> = std::mem::take(&mut markers.failed).into_iter().collect();
    if !failed.is_empty() {
        step.send(id, transaction, token, failed);
    }
}

pub(super) fn complete(step: &mut Step<'_>, id: &Arc<str>, transaction: &mut Transaction, commit: bool) {
    let value = TransactionValue {
        status: Status::complete(commit),
        partitions: BTreeSet::new(),
        last_update_ms: step.now.wall_ms,
        ..transaction.stored.clone()
    };
    step.store(id, transaction, value, Purpose::Complete);
}

/// The markers are written, only the record of it is missing.
pub(super) fn complete_later(step: &mut Step<'_>, id: &Arc<str>, transaction: &mut Transaction) {
    let (missing, failed) = (BTreeSet::new(), BTreeSet::new());
    let markers = Markers { token: MarkersToken(0), missing, failed, is_fenced: false };
    transaction.pending = Some(Pending::Markers(markers));
    step.retry_markers(id);
}
