//! What the controller said of a partition, and what it answered when asked to change it.

use crate::base::{BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};

/// What the controller last said of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub controller_epoch: ControllerEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<BrokerId>,
    pub replicas: Vec<BrokerId>,
    pub adding_replicas: Vec<BrokerId>,
    pub removing_replicas: Vec<BrokerId>,
    /// The leader was elected uncleanly and has not yet said that its log is whole.
    pub is_recovering: bool,
}

/// Before the first LeaderAndIsr.
impl Default for Leadership {
    fn default() -> Leadership {
        Leadership {
            leader: BrokerId::NONE,
            leader_epoch: LeaderEpoch::NONE,
            controller_epoch: ControllerEpoch(0),
            partition_epoch: PartitionEpoch(-1),
            isr: Vec::new(),
            replicas: Vec::new(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            is_recovering: false,
        }
    }
}

/// A change of ISR that a leader asks the controller for. The partition is RECOVERED with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrChange {
    /// Of this proposal: an answer to another one is ignored.
    pub token: u64,
    pub isr: Vec<BrokerId>,
    /// The registrations in which the members were heard, in their order; unknown is said as such.
    pub member_epochs: Vec<BrokerEpoch>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

/// The same with the name of its partition: one entry of AlterPartition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterPartition {
    pub partition: TopicPartition,
    /// Zero if the topic has none.
    pub topic_id: TopicId,
    pub change: IsrChange,
}

/// What the controller made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlteredPartition {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    pub is_recovering: bool,
    pub partition_epoch: PartitionEpoch,
}
