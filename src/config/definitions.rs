//! The one table of every property that a 3.9 broker in ZooKeeper mode knows (`KafkaConfig`, `LogConfig`, `DynamicConfig`),
//! and Ottla's own: `zookeeper.embedded.*`, `console.*`, and a few more.
//!
//! Invariant: names, types, defaults, validators, importance and update modes are those of Apache Kafka 3.9.2;
//! `tests/config_reference.rs` asks its jars. What is said of each property and what Ottla does with it is ours.

mod coordinators;
mod general;
mod internal;
mod kraft;
mod log;
mod own;
mod remote;
mod replication;
mod security;
mod table;
mod throttle;
mod topic;
mod zookeeper;

use super::valid::Valid;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Type of a property's value (`ConfigDef.Type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Boolean,
    Text,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::Text => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// How a property of a running broker changes (`DynamicBrokerConfig`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Not at all: it takes a restart.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// What Ottla does with a property that is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// Acts on it.
    Acts,
    /// Nothing, and nobody can tell: it tunes something that Ottla does not have, or that ZooKeeper mode does not use.
    Moot,
    /// Nothing yet: a value other than the default is a warning.
    Ignored,
    /// Nothing, and a value other than the default would be a promise broken: the broker does not start.
    Unsafe,
}

/// One row.
#[derive(Debug)]
pub struct Property {
    pub name: &'static str,
    pub kind: Kind,
    /// As one writes it in a file; `None` is Kafka's null.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub importance: Importance,
    pub update: Update,
    pub support: Support,
    pub doc: &'static str,
    /// Of a topic property: the broker properties that give its default, the one that wins first.
    pub broker_names: &'static [&'static str],
}

impl Property {
    /// Its value is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }
}

fn by_name(tables: &[&'static [Property]]) -> BTreeMap<&'static str, &'static Property> {
    tables.iter().copied().flatten().map(|property| (property.name, property)).collect()
}

static BROKER: LazyLock<BTreeMap<&str, &Property>> = LazyLock::new(|| {
    by_name(&[
        general::GENERAL,
        log::LOG,
        remote::REMOTE,
        replication::REPLICATION,
        coordinators::COORDINATORS,
        security::SECURITY,
        zookeeper::ZOOKEEPER,
        zookeeper::EMBEDDED,
        own::OWN,
        kraft::KRAFT,
        internal::INTERNAL,
    ])
});

static TOPIC: LazyLock<BTreeMap<&str, &Property>> = LazyLock::new(|| by_name(&[topic::TOPIC]));

/// Every property that a broker's file may hold, by name.
pub fn broker_properties() -> impl Iterator<Item = &'static Property> {
    BROKER.values().copied()
}

pub fn broker_property(name: &str) -> Option<&'static Property> {
    BROKER.get(name).copied()
}

/// Every topic property, by name.
pub fn topic_properties() -> impl Iterator<Item = &'static Property> {
    TOPIC.values().copied()
}

pub fn topic_property(name: &str) -> Option<&'static Property> {
    TOPIC.get(name).copied()
}

/// The replication throttles, which exist only as dynamic configs of brokers.
pub fn throttle_properties() -> &'static [Property] {
    throttle::THROTTLE
}

/// Whether Kafka keeps the property to itself: clients are not told of it unless it is set.
pub fn is_internal(name: &str) -> bool {
    internal::INTERNAL.iter().any(|property| property.name == name)
}

/// Whether the property is Ottla's own.
pub fn is_own(name: &str) -> bool {
    is_of_embedded_zookeeper(name) || own::OWN.iter().any(|property| property.name == name)
}

/// Whether it is about the ZooKeeper server inside.
pub fn is_of_embedded_zookeeper(name: &str) -> bool {
    zookeeper::EMBEDDED.iter().any(|property| property.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Acts" is a promise: the code that builds the values names the property, or a topic property takes its default from it.
    #[test]
    fn properties_that_ottla_acts_on_are_read() {
        let code = [
            include_str!("broker_config.rs"),
            include_str!("listeners.rs"),
            include_str!("replication.rs"),
            include_str!("zookeeper.rs"),
        ];
        let code = code.concat();
        for property in broker_properties().filter(|property| property.support == Support::Acts) {
            let read = code.contains(&format!("\"{}\"", property.name));
            let by_topics = topic_properties().any(|topic| topic.broker_names.contains(&property.name));
            assert!(read || by_topics, "{} is not read", property.name);
        }
    }

    #[test]
    fn a_topic_property_takes_its_default_from_properties_that_exist() {
        for property in topic_properties() {
            for name in property.broker_names {
                assert!(broker_property(name).is_some(), "{name}");
            }
        }
    }
}
