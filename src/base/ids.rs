//! Ids and epochs as newtypes, so that one cannot be passed for another.

use std::fmt;
use std::sync::Arc;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/// `broker.id`.
    BrokerId(i32));
number!(/// czxid of `/brokers/ids/N`: changes at every registration. -1 is unknown.
    BrokerEpoch(i64));
number!(/// Number in `/controller_epoch`. 0 before the first election.
    ControllerEpoch(i32));
number!(/// Leader epoch of a partition. The first leader has 0; -1 is none.
    LeaderEpoch(i32));
number!(/// zkVersion of a partition's `state` znode.
    PartitionEpoch(i32));
number!(/// Producer id; -1 is none.
    ProducerId(i64));
number!(/// Producer epoch; -1 is none.
    ProducerEpoch(i16));

impl BrokerId {
    pub const NONE: BrokerId = BrokerId(-1);
}

impl BrokerEpoch {
    pub const UNKNOWN: BrokerEpoch = BrokerEpoch(-1);
}

impl LeaderEpoch {
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

/// Topic id: a UUID, printed as Kafka prints it (22 characters of URL-safe base64 without padding). Zero means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub uuid::Uuid);

impl TopicId {
    pub const ZERO: TopicId = TopicId(uuid::Uuid::nil());

    /// A random id that Kafka would also hand out: not zero, not one of its reserved ids, and not starting with `-`,
    /// which its command line tools would take for an option (class `Uuid`).
    pub fn random() -> TopicId {
        loop {
            let id = TopicId(uuid::Uuid::new_v4());
            if id != TopicId::ZERO && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    pub fn is_zero(self) -> bool {
        self == TopicId::ZERO
    }

    /// Reads the 22-character form.
    pub fn parse(text: &str) -> Option<TopicId> {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(TopicId(uuid::Uuid::from_slice(&bytes).ok()?))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::Engine;
        f.write_str(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A topic's name and a partition number, printed `topic-0` as Kafka prints it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_reads_what_it_prints() {
        let id = TopicId::random();
        assert_eq!(id.to_string().len(), 22);
        assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId::parse("short"), None);
    }
}
