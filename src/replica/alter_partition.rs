//! The way of ISR changes to the controller (class `AlterPartitionManager`).
//!
//! Invariants: one request is on its way at a time, with all that has been proposed until then; a partition has at most one entry, its
//! newest; what the controller did not see at all is sent again, for as long as the partition still proposes it.

use super::leadership::{AlterPartition, AlteredPartition};
use super::manager::ReplicaManager;
use super::partition::IsrChanges;
use crate::base::{BrokerEpoch, ErrorCode, TopicPartition};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Pause after a request that the controller did not see, or refused as a whole; doubled with each, up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// An answer for each entry in its order, or why there is none.
pub type AlterAnswer = Result<Vec<Result<AlteredPartition, ErrorCode>>, ErrorCode>;

/// The controller, wherever it is.
pub trait PartitionAlterer: Send + Sync {
    fn alter(
        &self,
        broker_epoch: BrokerEpoch,
        changes: Vec<AlterPartition>,
    ) -> Pin<Box<dyn Future<Output = AlterAnswer> + Send + '_>>;
}

/// Changes that wait for the next request.
#[derive(Default)]
pub struct IsrQueue {
    waiting: Mutex<BTreeMap<TopicPartition, AlterPartition>>,
    added: Notify,
}

impl IsrChanges for IsrQueue {
    fn propose(&self, change: AlterPartition) {
        self.waiting.lock().insert(change.partition.clone(), change);
        self.added.notify_one();
    }
}

impl IsrQueue {
    fn take(&self) -> Vec<AlterPartition> {
        std::mem::take(&mut *self.waiting.lock()).into_values().collect()
    }

    /// Puts changes back, except where there is a newer one.
    fn put_back(&self, changes: Vec<AlterPartition>) {
        let mut waiting = self.waiting.lock();
        for change in changes {
            waiting.entry(change.partition.clone()).or_insert(change);
        }
    }

    /// Sends what is proposed, until the manager is gone.
    pub(super) async fn run(self: Arc<Self>, alterer: Arc<dyn PartitionAlterer>, replicas: Weak<ReplicaManager>) {
        let mut pause = RETRY_FIRST;
        loop {
            let changes = self.take();
            if changes.is_empty() {
                self.added.notified().await;
                continue;
            }
            let Some(epoch) = replicas.upgrade().map(|replicas| replicas.broker_epoch()) else { return };
            let answer = alterer.alter(epoch, changes.clone()).await;
            let Some(replicas) = replicas.upgrade() else { return };
            match answer {
                Ok(answers) => {
                    pause = RETRY_FIRST;
                    for (change, answer) in changes.into_iter().zip(answers) {
                        if let Some(partition) = replicas.hosted(&change.partition.topic, change.partition.partition) {
                            partition.altered(change.change.token, answer);
                        }
                    }
                }
                Err(code) => {
                    tracing::info!(
                        ?code,
                        partitions = changes.len(),
                        "the controller did not take ISR changes; trying again"
                    );
                    self.put_back(changes);
                    drop(replicas);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BrokerId, LeaderEpoch, PartitionEpoch, TopicId};
    use crate::replica::leadership::IsrChange;

    fn change(partition: i32, token: u64) -> AlterPartition {
        AlterPartition {
            partition: TopicPartition::new("t", partition),
            topic_id: TopicId::ZERO,
            change: IsrChange {
                token,
                isr: vec![BrokerId(1)],
                member_epochs: vec![BrokerEpoch::UNKNOWN],
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
            },
        }
    }

    #[test]
    fn a_partition_has_one_entry_and_a_newer_one_wins() {
        let queue = IsrQueue::default();
        queue.propose(change(0, 1));
        queue.propose(change(1, 1));
        let sent = queue.take();
        assert_eq!(sent.len(), 2);
        queue.propose(change(0, 2));
        queue.put_back(sent);
        assert_eq!(queue.take(), [change(0, 2), change(1, 1)]);
        assert!(queue.take().is_empty());
    }
}
