//! What the controller knows of the cluster (class `ControllerContext`).
//!
//! Invariant: pure memory. It is filled at failover from ZooKeeper and forgotten at resignation.

use crate::base::{BrokerEpoch, BrokerId, PartitionEpoch, TopicId, TopicPartition};
use crate::zookeeper::paths::{BrokerInfo, PartitionState, ReplicaAssignment};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// State of a partition (class `PartitionState`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PartitionPhase {
    #[default]
    NonExistent,
    /// Has replicas but never had a leader.
    New,
    Online,
    /// Its leader is gone.
    Offline,
}

/// State of a replica (class `ReplicaState`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplicaPhase {
    #[default]
    NonExistent,
    New,
    Online,
    Offline,
    DeletionStarted,
    DeletionSuccessful,
    /// Cannot be deleted for now: its broker is away or refused.
    DeletionIneligible,
}

/// A partition's `state` znode as last read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leadership {
    pub state: PartitionState,
    pub epoch: PartitionEpoch,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionContext {
    pub assignment: ReplicaAssignment,
    pub phase: PartitionPhase,
    pub replicas: BTreeMap<BrokerId, ReplicaPhase>,
    pub leadership: Option<Leadership>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicContext {
    /// Zero until the controller has given the topic one.
    pub id: TopicId,
    /// zkVersion of the topic's znode.
    pub version: i32,
    pub partitions: BTreeMap<i32, PartitionContext>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveBroker {
    pub info: BrokerInfo,
    pub epoch: BrokerEpoch,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Registered brokers, those shutting down included.
    pub brokers: BTreeMap<BrokerId, LiveBroker>,
    pub shutting_down: BTreeSet<BrokerId>,
    /// Replicas that answered that their log directory is gone.
    pub offline_dirs: BTreeMap<BrokerId, BTreeSet<TopicPartition>>,
    pub topics: BTreeMap<Arc<str>, TopicContext>,
    /// Topics with a delete marker.
    pub deleting: BTreeSet<Arc<str>>,
    /// Of those, the ones whose deletion has begun and those parked until something changes.
    pub deletion_started: BTreeSet<Arc<str>>,
    pub deletion_parked: BTreeSet<Arc<str>>,
    /// Partitions that move to other replicas.
    pub reassigning: BTreeSet<TopicPartition>,
    /// czxid of `/admin/reassign_partitions` as it was last acted on.
    pub reassign_znode: Option<i64>,
}

impl Context {
    pub fn partition(&self, tp: &TopicPartition) -> Option<&PartitionContext> {
        self.topics.get(&tp.topic)?.partitions.get(&tp.partition)
    }

    pub fn partition_mut(&mut self, tp: &TopicPartition) -> Option<&mut PartitionContext> {
        self.topics.get_mut(&tp.topic)?.partitions.get_mut(&tp.partition)
    }

    pub fn is_live(&self, broker: BrokerId) -> bool {
        self.brokers.contains_key(&broker) && !self.shutting_down.contains(&broker)
    }

    pub fn is_online(&self, broker: BrokerId, tp: &TopicPartition) -> bool {
        self.is_live(broker) && !self.offline_dirs.get(&broker).is_some_and(|offline| offline.contains(tp))
    }

    /// Assigned replicas that are online.
    pub fn online_replicas(&self, tp: &TopicPartition) -> BTreeSet<BrokerId> {
        let assigned = self.partition(tp).into_iter().flat_map(|partition| &partition.assignment.replicas);
        assigned.copied().filter(|broker| self.is_online(*broker, tp)).collect()
    }

    pub fn is_deleting(&self, topic: &str) -> bool {
        self.deleting.contains(topic)
    }

    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionContext)> {
        self.topics.iter().flat_map(|(topic, context)| {
            let named = |(number, partition): (&i32, _)| (TopicPartition::new(topic.clone(), *number), partition);
            context.partitions.iter().map(named)
        })
    }

    pub fn partitions_of(&self, topic: &str) -> Vec<TopicPartition> {
        let Some((name, context)) = self.topics.get_key_value(topic) else { return Vec::new() };
        context.partitions.keys().map(|number| TopicPartition::new(name.clone(), *number)).collect()
    }

    /// Every replica of `partitions`.
    pub fn replicas_of(&self, partitions: &[TopicPartition]) -> Vec<Replica> {
        let replicas = |tp: &TopicPartition| {
            let assigned =
                self.partition(tp).map(|partition| partition.assignment.replicas.clone()).unwrap_or_default();
            let tp = tp.clone();
            assigned.into_iter().map(move |broker| Replica { tp: tp.clone(), broker })
        };
        partitions.iter().flat_map(replicas).collect()
    }

    pub fn replicas_on(&self, brokers: &BTreeSet<BrokerId>) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for (tp, partition) in self.partitions() {
            for broker in partition.assignment.replicas.iter().filter(|broker| brokers.contains(broker)) {
                replicas.push(Replica { tp: tp.clone(), broker: *broker });
            }
        }
        replicas
    }
}

/// One replica of a partition.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Replica {
    pub tp: TopicPartition,
    pub broker: BrokerId,
}
