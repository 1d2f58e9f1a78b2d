//! Every znode path that Kafka uses, and what the znodes hold (classes `ZkData` and friends).
//!
//! Invariant: this is the only place that spells a path or a JSON key. Reading is lenient as Kafka's is - unknown keys are
//! ignored, keys that old versions lack have their defaults - but a znode of the wrong shape is a [`ZnodeError`], never a
//! panic, and a topic name that is not legal never becomes part of a path.

mod admin;
mod broker;
mod entity;
#[cfg(test)]
mod fixtures;
mod json;
mod topic;

pub use admin::{LogDirEvent, PartitionList, ReassignmentList};
pub use broker::{BrokerInfo, ClusterId, ControllerInfo, FeatureStatus, FeatureZnode, RegisteredEndpoint};
pub use entity::{ConfigEntity, EntityConfig, ProducerIdBlock, change_entity_path, change_json, desanitize, sanitize};
pub use topic::{LeaderRecoveryState, PartitionState, ReplicaAssignment, TopicZnode};

use crate::base::{BrokerId, topic_name};

/// A znode whose data is not what Kafka writes there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("znode of {what} is malformed: {reason}")]
pub struct ZnodeError {
    pub what: &'static str,
    pub reason: String,
}

pub const BROKER_IDS: &str = "/brokers/ids";
pub const BROKER_TOPICS: &str = "/brokers/topics";
pub const BROKER_SEQUENCE: &str = "/brokers/seqid";
pub const CLUSTER: &str = "/cluster";
pub const CLUSTER_ID: &str = "/cluster/id";
pub const CONTROLLER: &str = "/controller";
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
pub const FEATURE: &str = "/feature";
pub const DELETE_TOPICS: &str = "/admin/delete_topics";
pub const REASSIGN_PARTITIONS: &str = "/admin/reassign_partitions";
pub const PREFERRED_REPLICA_ELECTION: &str = "/admin/preferred_replica_election";
pub const ISR_CHANGES: &str = "/isr_change_notification";
pub const LOG_DIR_EVENTS: &str = "/log_dir_event_notification";
pub const PRODUCER_ID_BLOCK: &str = "/latest_producer_id_block";
pub const CONSUMERS: &str = "/consumers";
/// Below these are secrets.
pub const SENSITIVE: &[&str] = &["/config/users", "/config/brokers", "/delegation_token/tokens"];
pub const CONFIG_CHANGES: &str = "/config/changes";
/// `config_change_<seq>` below [`CONFIG_CHANGES`].
pub const CONFIG_CHANGE_PREFIX: &str = "config_change_";

/// What a broker creates at start when it is not there yet, parents before children, in the order of a 3.9 broker.
pub const PERSISTENT: &[&str] = &[
    "/consumers",
    "/brokers",
    BROKER_IDS,
    BROKER_TOPICS,
    "/config",
    CONFIG_CHANGES,
    "/admin",
    DELETE_TOPICS,
    BROKER_SEQUENCE,
    ISR_CHANGES,
    PRODUCER_ID_BLOCK,
    LOG_DIR_EVENTS,
    "/config/topics",
    "/config/clients",
    "/config/users",
    "/config/brokers",
    "/config/ips",
];

pub fn broker_id(id: BrokerId) -> String {
    format!("{BROKER_IDS}/{id}")
}

/// Reads the name of a child of [`BROKER_IDS`]; `None` for what no broker would create.
pub fn parse_broker_id(child: &str) -> Option<BrokerId> {
    child.parse::<i32>().ok().filter(|id| *id >= 0).map(BrokerId)
}

fn legal(topic: &str) -> &str {
    // Names are checked where they come in; this is the second of the pair, so that no slip there leaves the subtree.
    if topic_name::is_legal(topic) { topic } else { "illegal-topic-name" }
}

pub fn topic(topic: &str) -> String {
    format!("{BROKER_TOPICS}/{}", legal(topic))
}

pub fn partitions(topic: &str) -> String {
    format!("{BROKER_TOPICS}/{}/partitions", legal(topic))
}

pub fn partition(topic: &str, partition: i32) -> String {
    format!("{BROKER_TOPICS}/{}/partitions/{partition}", legal(topic))
}

pub fn partition_state(topic: &str, partition: i32) -> String {
    format!("{BROKER_TOPICS}/{}/partitions/{partition}/state", legal(topic))
}

/// The topic whose znode `path` is, if it is one.
pub fn topic_of_path(path: &str) -> Option<&str> {
    let name = path.strip_prefix(BROKER_TOPICS)?.strip_prefix('/')?;
    topic_name::is_legal(name).then_some(name)
}

/// The broker whose registration `path` is, if it is one.
pub fn broker_of_path(path: &str) -> Option<BrokerId> {
    parse_broker_id(path.strip_prefix(BROKER_IDS)?.strip_prefix('/')?)
}

pub fn delete_topic(topic: &str) -> String {
    format!("{DELETE_TOPICS}/{}", legal(topic))
}

/// The number of a sequential znode such as `config_change_0000000007`: decimal, sorted as numbers, gaps allowed.
pub fn sequence_number(child: &str, prefix: &str) -> Option<i64> {
    child.strip_prefix(prefix)?.parse::<i64>().ok()
}

/// `/controller_epoch` holds decimal text.
pub fn parse_controller_epoch(data: &[u8]) -> Result<i32, ZnodeError> {
    std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .filter(|epoch| *epoch >= 0)
        .ok_or(ZnodeError { what: "the controller epoch", reason: "not a decimal number".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_out_of_paths() {
        for name in ["../../controller", "a/b", "", "..", "a\u{0}b"] {
            assert_eq!(topic(name), "/brokers/topics/illegal-topic-name");
            assert_eq!(topic_of_path(&format!("/brokers/topics/{name}")), None);
        }
        assert_eq!(partition_state("t", 3), "/brokers/topics/t/partitions/3/state");
    }

    #[test]
    fn names_of_children() {
        assert_eq!(parse_broker_id("12"), Some(BrokerId(12)));
        for child in ["-1", "x", "", "99999999999"] {
            assert_eq!(parse_broker_id(child), None);
        }
        assert_eq!(sequence_number("config_change_0000000012", CONFIG_CHANGE_PREFIX), Some(12));
        assert_eq!(sequence_number("config_change_x", CONFIG_CHANGE_PREFIX), None);
        assert_eq!(parse_controller_epoch(b"7"), Ok(7));
        assert!(parse_controller_epoch(b"").is_err());
    }
}
