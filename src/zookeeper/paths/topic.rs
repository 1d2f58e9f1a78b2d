//! Topics and partitions: `/brokers/topics/T` and `.../partitions/P/state`.

use super::ZnodeError;
use super::json::{Object, int, ints};
use crate::base::{BrokerId, ControllerEpoch, LeaderEpoch, TopicId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Replicas of one partition. While a reassignment runs, `replicas` holds both the old and the new ones, `adding` and
/// `removing` the differences.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplicaAssignment {
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

impl ReplicaAssignment {
    pub fn new(replicas: Vec<BrokerId>) -> ReplicaAssignment {
        ReplicaAssignment { replicas, adding: Vec::new(), removing: Vec::new() }
    }

    pub fn is_being_reassigned(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

/// `/brokers/topics/T`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicZnode {
    /// Absent in topics that were created before Kafka 2.8; the controller gives those one.
    pub topic_id: Option<TopicId>,
    pub partitions: BTreeMap<i32, ReplicaAssignment>,
}

impl TopicZnode {
    pub fn parse(data: &[u8]) -> Result<TopicZnode, ZnodeError> {
        let object = Object::parse("a topic", data)?;
        let topic_id = match object.get("topic_id") {
            None => None,
            Some(value) => {
                let id = value.as_str().and_then(TopicId::parse);
                Some(id.ok_or_else(|| object.wrong("topic_id is not a topic id"))?)
            }
        };
        let adding = replica_lists(&object, "adding_replicas")?;
        let removing = replica_lists(&object, "removing_replicas")?;
        let mut partitions = BTreeMap::new();
        for (partition, replicas) in replica_lists(&object, "partitions")? {
            let assignment = ReplicaAssignment {
                replicas,
                adding: adding.get(&partition).cloned().unwrap_or_default(),
                removing: removing.get(&partition).cloned().unwrap_or_default(),
            };
            partitions.insert(partition, assignment);
        }
        Ok(TopicZnode { topic_id, partitions })
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut partitions = Map::new();
        let mut adding = Map::new();
        let mut removing = Map::new();
        for (partition, assignment) in &self.partitions {
            partitions.insert(partition.to_string(), broker_array(&assignment.replicas));
            if !assignment.adding.is_empty() {
                adding.insert(partition.to_string(), broker_array(&assignment.adding));
            }
            if !assignment.removing.is_empty() {
                removing.insert(partition.to_string(), broker_array(&assignment.removing));
            }
        }
        let mut object = json!({
            "version": 3,
            "partitions": partitions,
            "adding_replicas": adding,
            "removing_replicas": removing,
        });
        if let (Some(id), Some(fields)) = (self.topic_id, object.as_object_mut()) {
            fields.insert("topic_id".into(), id.to_string().into());
        }
        object.to_string().into_bytes()
    }
}

fn broker_array(brokers: &[BrokerId]) -> Value {
    brokers.iter().map(|broker| broker.0).collect::<Vec<i32>>().into()
}

fn replica_lists(object: &Object, key: &str) -> Result<BTreeMap<i32, Vec<BrokerId>>, ZnodeError> {
    let mut lists = BTreeMap::new();
    for (partition, replicas) in object.object(key)?.into_iter().flatten() {
        let number = partition.parse::<i32>().ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(|| object.wrong(format!("{partition:?} in {key} is not a partition number")))?;
        let replicas = ints(replicas).ok_or_else(|| object.wrong(format!("{key} holds no list of broker ids")))?;
        lists.insert(number, replicas.into_iter().map(BrokerId).collect());
    }
    Ok(lists)
}

/// Whether a leader was elected out of order and may lack records (KIP-704).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeaderRecoveryState {
    #[default]
    Recovered,
    Recovering,
}

impl LeaderRecoveryState {
    pub fn code(self) -> i8 {
        match self {
            LeaderRecoveryState::Recovered => 0,
            LeaderRecoveryState::Recovering => 1,
        }
    }

    pub fn from_code(code: i8) -> LeaderRecoveryState {
        if code == 1 { LeaderRecoveryState::Recovering } else { LeaderRecoveryState::Recovered }
    }
}

/// `/brokers/topics/T/partitions/P/state`. Its zkVersion is the partition epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    /// [`BrokerId::NONE`] when there is no leader.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    /// Of the controller that wrote the znode.
    pub controller_epoch: ControllerEpoch,
    pub isr: Vec<BrokerId>,
    pub recovery: LeaderRecoveryState,
}

impl PartitionState {
    pub fn parse(data: &[u8]) -> Result<PartitionState, ZnodeError> {
        let object = Object::parse("a partition state", data)?;
        let recovery = match object.get("leader_recovery_state").map(int) {
            None | Some(Some(0)) => LeaderRecoveryState::Recovered,
            Some(Some(1)) => LeaderRecoveryState::Recovering,
            Some(_) => return Err(object.wrong("leader_recovery_state is neither 0 nor 1")),
        };
        Ok(PartitionState {
            leader: BrokerId(object.i32("leader")?),
            leader_epoch: LeaderEpoch(object.i32("leader_epoch")?),
            controller_epoch: ControllerEpoch(object.i32("controller_epoch")?),
            isr: object.i32_array("isr")?.into_iter().map(BrokerId).collect(),
            recovery,
        })
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut object = json!({
            "version": 1,
            "leader": self.leader.0,
            "leader_epoch": self.leader_epoch.0,
            "controller_epoch": self.controller_epoch.0,
            "isr": broker_array(&self.isr),
        });
        if let (LeaderRecoveryState::Recovering, Some(fields)) = (self.recovery, object.as_object_mut()) {
            fields.insert("leader_recovery_state".into(), 1.into());
        }
        object.to_string().into_bytes()
    }
}
