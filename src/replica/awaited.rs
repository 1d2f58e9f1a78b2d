//! Partitions whose logs are still being recovered: what the controller says of them is kept, and taken when the log is there.
//! (Apache Kafka does not register before it has recovered every log.)
//!
//! Until then this broker answers for such a partition as one that does not lead it: clients and followers try again. To the
//! controller it is a replica in good order that has not caught up: an error would make the controller take the replica for one on
//! a failed disk, and only a restart would make that good again.
//!
//! Invariant: nothing is appended, read or fetched before the log is there: its end is not known, so this broker is no leader that
//! could answer for it, and no follower that could join an ISR.

use super::control::{Outcome, judge};
use super::manager::ReplicaManager;
use crate::base::{ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use crate::log::Unready;
use crate::wire::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Recoveries that are taken note of together.
const BATCH_MAX: usize = 1000;

/// The controller's last word on a partition.
pub(super) struct Awaited {
    id: TopicId,
    state: LeaderAndIsrPartitionState,
}

impl Awaited {
    fn judge(&self, state: &LeaderAndIsrPartitionState) -> Option<Outcome> {
        let Awaited { state: known, .. } = self;
        judge(LeaderEpoch(known.leader_epoch), PartitionEpoch(known.partition_epoch), state)
    }
}

impl ReplicaManager {
    /// What LeaderAndIsr is to become of a partition whose log is not there, or has become ready this moment; `None`: it is taken as
    /// any other.
    pub(super) fn take_unready(
        &self,
        partition: &TopicPartition,
        id: TopicId,
        state: &LeaderAndIsrPartitionState,
    ) -> Option<Outcome> {
        let mut awaited = self.awaited.lock();
        let unready = self.logs.unready(partition);
        if unready == Some(Unready::Refused) {
            awaited.remove(partition);
            tracing::error!(%partition, "the log could not be recovered");
            return Some(Outcome::Refused(ErrorCode::KafkaStorageError));
        }
        if let Some(outcome) = awaited.get(partition).and_then(|known| known.judge(state)) {
            return Some(outcome);
        }
        let Some(Unready::Recovering { topic_id }) = unready else {
            awaited.remove(partition);
            return None;
        };
        if let Some(ours) = topic_id.filter(|ours| !id.is_zero() && *ours != id) {
            tracing::error!(%partition, %ours, theirs = %id, "topic id differs");
            return Some(Outcome::Refused(ErrorCode::InconsistentTopicId));
        }
        if !state.replicas.iter().any(|replica| replica.0 == self.local.0) {
            return Some(Outcome::Refused(ErrorCode::UnknownTopicOrPartition));
        }
        awaited.insert(partition.clone(), Awaited { id, state: state.clone() });
        Some(Outcome::Awaited)
    }

    /// StopReplica: whether the controller's word is new enough, and then the partition is not awaited any more.
    pub(super) fn forget_awaited(&self, partition: &TopicPartition, is_fresh: impl Fn(i32) -> bool) -> bool {
        let mut awaited = self.awaited.lock();
        if awaited.get(partition).is_some_and(|known| !is_fresh(known.state.leader_epoch)) {
            return false;
        }
        awaited.remove(partition);
        true
    }

    /// The controller has spoken of the partition, and its log is still being recovered.
    pub fn is_awaited(&self, topic: &str, partition: i32) -> bool {
        self.awaited.lock().contains_key(&TopicPartition::new(topic, partition))
    }

    pub fn awaited_count(&self) -> usize {
        self.awaited.lock().len()
    }

    /// Takes partitions into service as their logs become ready. `on_failure` hears of those that never will, so that the controller
    /// asks again and learns it.
    pub(super) fn follow_recovery(self: &Arc<ReplicaManager>, on_failure: Arc<dyn Fn() + Send + Sync>) {
        let (recovered, mut recoveries) = tokio::sync::mpsc::unbounded_channel();
        let sender = recovered.clone();
        self.logs.on_recovered(move |partition| {
            let _ = sender.send(partition.clone());
        });
        // What was ready before anybody listened.
        for partition in self.awaited.lock().keys() {
            let _ = recovered.send(partition.clone());
        }
        drop(recovered);
        let replicas = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut ready = Vec::new();
            while recoveries.recv_many(&mut ready, BATCH_MAX).await > 0 {
                let Some(replicas) = replicas.upgrade() else { return };
                if !replicas.recovered(std::mem::take(&mut ready)).await {
                    on_failure();
                }
            }
        });
    }

    /// Does what the controller said of partitions whose logs are ready now. `false`: some cannot be used.
    async fn recovered(&self, ready: Vec<TopicPartition>) -> bool {
        let _control = self.control.lock().await;
        let awaited: HashMap<TopicPartition, Awaited> = {
            let mut awaited = self.awaited.lock();
            ready.into_iter().filter_map(|partition| awaited.remove_entry(&partition)).collect()
        };
        let topics: BTreeSet<Arc<str>> = awaited.keys().map(|partition| partition.topic.clone()).collect();
        if topics.is_empty() {
            return true;
        }
        // They may have changed while the log was not there to be told.
        let configs = self.topic_configs.log_configs(topics.into_iter().collect()).await;
        let (mut added, mut told, mut is_whole) = (Vec::new(), Vec::new(), true);
        for (partition, Awaited { id, state }) in awaited {
            let config = configs.get(&partition.topic);
            if let (Some(log), Some(config)) = (self.logs.log(&partition), config) {
                log.set_config(config.clone());
            }
            match self.take(&partition.topic, id, &state, config, &mut added) {
                Outcome::Taken(taken, role) => told.push((taken, role)),
                Outcome::Skipped | Outcome::Awaited => {}
                Outcome::Refused(code) => {
                    tracing::error!(%partition, ?code, "recovered, and yet of no use");
                    is_whole = false;
                }
            }
        }
        self.settle(added, told);
        is_whole
    }
}
