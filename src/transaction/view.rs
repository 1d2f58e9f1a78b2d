//! What administrators see of transactions (KIP-664).

use super::shard::TransactionShard;
use super::state::{Status, Transaction};
use crate::base::{Millis, ProducerEpoch, ProducerId, TopicPartition};
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    pub status: Status,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub timeout_ms: i32,
    /// -1 before the first transaction.
    pub start_ms: Millis,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    pub id: Arc<str>,
    pub producer_id: ProducerId,
    pub status: Status,
}

/// Which transactions are to be listed; an empty set lets all pass.
#[derive(Clone, Default, Debug)]
pub struct ListFilter {
    /// Names that are no states match nothing, but they do not let everything pass either.
    pub statuses: Option<HashSet<Status>>,
    pub producer_ids: HashSet<ProducerId>,
    /// Only those that began longer ago; negative lets all pass.
    pub older_than_ms: Millis,
}

impl ListFilter {
    fn admits(&self, transaction: &Transaction, wall_ms: Millis) -> bool {
        let stored = &transaction.stored;
        let has_status = self.statuses.as_ref().is_none_or(|statuses| statuses.contains(&stored.status));
        let has_producer = self.producer_ids.is_empty() || self.producer_ids.contains(&stored.producer_id);
        let is_old = self.older_than_ms < 0 || wall_ms.saturating_sub(stored.start_ms) > self.older_than_ms;
        has_status && has_producer && is_old && stored.status != Status::Dead
    }
}

impl TransactionShard {
    pub fn describe(&self, id: &str) -> Option<Description> {
        let stored = &self.transaction(id).filter(|transaction| transaction.status() != Status::Dead)?.stored;
        Some(Description {
            status: stored.status,
            producer_id: stored.producer_id,
            producer_epoch: stored.producer_epoch,
            timeout_ms: stored.timeout_ms,
            start_ms: stored.start_ms,
            partitions: stored.partitions.iter().cloned().collect(),
        })
    }

    pub fn list(&self, filter: &ListFilter, wall_ms: Millis) -> Vec<Listing> {
        let admitted = self.transactions().filter(|(_, transaction)| filter.admits(transaction, wall_ms));
        let listing = |(id, transaction): (&Arc<str>, &Transaction)| Listing {
            id: id.clone(),
            producer_id: transaction.stored.producer_id,
            status: transaction.status(),
        };
        admitted.map(listing).collect()
    }
}
