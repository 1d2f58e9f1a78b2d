//! What old tools and brokers leave for the controller: reassignments, preferred elections, ISR and log directory events.

use super::ZnodeError;
use super::json::{Object, int, ints};
use crate::base::{BrokerId, TopicPartition, topic_name};
use serde_json::{Value, json};

/// `{"version":1,"partitions":[{"topic":"t","partition":0}]}`: `/admin/preferred_replica_election` and the children of
/// `/isr_change_notification`. Entries with an illegal topic name are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionList(pub Vec<TopicPartition>);

impl PartitionList {
    pub fn parse(data: &[u8]) -> Result<PartitionList, ZnodeError> {
        let object = Object::parse("a partition list", data)?;
        let mut list = Vec::new();
        for entry in object.array("partitions")? {
            let partition = partition_of(entry).ok_or_else(|| object.wrong("an entry names no topic and partition"))?;
            list.push(partition);
        }
        list.retain(|partition| topic_name::is_legal(&partition.topic));
        Ok(PartitionList(list))
    }

    pub fn to_json(&self) -> Vec<u8> {
        let entry = |tp: &TopicPartition| json!({"topic": &*tp.topic, "partition": tp.partition});
        json!({"version": 1, "partitions": self.0.iter().map(entry).collect::<Vec<_>>()}).to_string().into_bytes()
    }
}

/// `/admin/reassign_partitions`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReassignmentList(pub Vec<(TopicPartition, Vec<BrokerId>)>);

impl ReassignmentList {
    pub fn parse(data: &[u8]) -> Result<ReassignmentList, ZnodeError> {
        let object = Object::parse("a reassignment", data)?;
        let mut list = Vec::new();
        for entry in object.array("partitions")? {
            let wrong = || object.wrong("an entry names no topic, partition and replicas");
            let partition = partition_of(entry).ok_or_else(wrong)?;
            let replicas = entry.get("replicas").and_then(ints).ok_or_else(wrong)?;
            list.push((partition, replicas.into_iter().map(BrokerId).collect()));
        }
        list.retain(|(partition, _)| topic_name::is_legal(&partition.topic));
        Ok(ReassignmentList(list))
    }

    pub fn to_json(&self) -> Vec<u8> {
        let entry = |(tp, replicas): &(TopicPartition, Vec<BrokerId>)| {
            let replicas = replicas.iter().map(|broker| broker.0).collect::<Vec<_>>();
            json!({"topic": &*tp.topic, "partition": tp.partition, "replicas": replicas})
        };
        json!({"version": 1, "partitions": self.0.iter().map(entry).collect::<Vec<_>>()}).to_string().into_bytes()
    }
}

fn partition_of(entry: &Value) -> Option<TopicPartition> {
    Some(TopicPartition::new(entry.get("topic")?.as_str()?, entry.get("partition").and_then(int)?))
}

/// A child of `/log_dir_event_notification`: `broker` has lost a log directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogDirEvent {
    pub broker: BrokerId,
}

impl LogDirEvent {
    pub fn parse(data: &[u8]) -> Result<LogDirEvent, ZnodeError> {
        let object = Object::parse("a log directory event", data)?;
        Ok(LogDirEvent { broker: BrokerId(object.i32("broker")?) })
    }

    pub fn to_json(self) -> Vec<u8> {
        json!({"version": 1, "broker": self.broker.0, "event": 1}).to_string().into_bytes()
    }
}
