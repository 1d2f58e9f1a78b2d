//! What the topic APIs share: candidates for replicas, waiting for the metadata.

use super::Services;
use crate::controller::placement::{Candidate, Start};
use crate::controller::topic_plan::{Cluster, TopicError, TopicPlan, TopicWish, plan};
use crate::replica::{MetadataCache, MetadataImage};
use std::time::Duration;

/// Live brokers, in the order of their ids.
pub fn candidates(image: &MetadataImage) -> Vec<Candidate> {
    image.brokers.values().map(|broker| Candidate { id: broker.id, rack: broker.rack.clone() }).collect()
}

/// Plans a topic among the live brokers. `names` are those that ZooKeeper knows, as far as they matter.
pub fn plan_topic(services: &Services, wish: &TopicWish, names: &[String]) -> Result<TopicPlan, TopicError> {
    let image = services.metadata.image();
    let brokers = candidates(&image);
    let count = brokers.len().max(1);
    let start = Start { broker: rand::random_range(0..count), shift: rand::random_range(0..count) };
    let cluster = Cluster {
        brokers: &brokers,
        default_partitions: services.config.num_partitions,
        default_replication_factor: services.config.default_replication_factor,
        start,
    };
    let known = image.topics.contains_key(wish.name).then_some(wish.name);
    plan(wish, &cluster, names.iter().map(String::as_str).chain(known))
}

/// Waits until `done`, or until the time is over.
pub async fn wait_for(metadata: &MetadataCache, timeout_ms: i32, done: impl Fn(&MetadataImage) -> bool) -> bool {
    let Ok(timeout_ms @ 1..) = u64::try_from(timeout_ms) else { return false };
    let mut updates = metadata.subscribe();
    let waiting = async {
        while !done(&metadata.image()) {
            if updates.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_millis(timeout_ms), waiting).await.is_ok() && done(&metadata.image())
}

/// Whether all partitions of a topic, `count` of them, have a leader.
pub fn is_led(image: &MetadataImage, topic: &str, count: usize) -> bool {
    image.topics.get(topic).is_some_and(|topic| {
        topic.partitions.len() >= count && topic.partitions.values().all(|partition| partition.leader.0 >= 0)
    })
}
