//! What ends by itself: transactions that take too long, and ids that nobody uses any more (KIP-98, KIP-447).

use super::end;
use super::records::TransactionRecord;
use super::shard::{Asker, Purpose, Step};
use super::state::{Pending, Status, Transaction};
use std::collections::HashMap;
use std::sync::Arc;

/// Tombstones are written in batches of about this many bytes, far below any `max.message.bytes`.
const TOMBSTONE_BATCH_BYTES: usize = 64 << 10;
/// How long tombstones wait for the replicas.
const TOMBSTONE_TIMEOUT_MS: i32 = 30_000;

/// Aborts what began too long ago and fences its producer.
pub(super) fn abort_timed_out(step: &mut Step<'_>, transactions: &mut HashMap<Arc<str>, Transaction>) {
    for (id, transaction) in transactions {
        let is_over = transaction.deadline.is_some_and(|deadline| deadline < step.now.monotonic_ms);
        if is_over && transaction.status() == Status::Ongoing && transaction.pending.is_none() {
            end::fence_and_abort(step, id, transaction, Asker::TimeOut);
        }
    }
}

/// Removes ids without a transaction that were silent for `transactional.id.expiration.ms`.
pub(super) fn expire_ids(step: &mut Step<'_>, transactions: &mut HashMap<Arc<str>, Transaction>) {
    let before = step.now.wall_ms.saturating_sub(step.config.id_expiration_ms);
    let is_expired = |transaction: &Transaction| {
        transaction.status().is_idle() && transaction.pending.is_none() && transaction.stored.last_update_ms <= before
    };
    let expired = transactions.iter().filter(|(_, transaction)| is_expired(transaction)).map(|(id, _)| id.clone());
    let expired: Vec<Arc<str>> = expired.collect();
    let mut bytes = 0;
    let mut batch = Vec::new();
    for id in expired {
        bytes += id.len() + 32;
        batch.push(TransactionRecord { id, value: None });
        if bytes > TOMBSTONE_BATCH_BYTES {
            bury(step, transactions, std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        bury(step, transactions, batch);
    }
}

fn bury(step: &mut Step<'_>, transactions: &mut HashMap<Arc<str>, Transaction>, batch: Vec<TransactionRecord>) {
    let ids: Vec<Arc<str>> = batch.iter().map(|record| record.id.clone()).collect();
    let token = step.append(batch, TOMBSTONE_TIMEOUT_MS, Purpose::Expire);
    for id in ids {
        if let Some(transaction) = transactions.get_mut(&id) {
            transaction.pending = Some(Pending::Write(token));
        }
    }
}
