//! The way of markers to the leaders of partitions (class `TransactionMarkerChannelManager`).

use super::message::{Marker, MarkerOutcome};
use crate::base::TopicPartition;
use std::future::Future;
use std::pin::Pin;

/// Resolves with what became of some of the partitions.
pub type Delivery = Pin<Box<dyn Future<Output = Vec<(TopicPartition, MarkerOutcome)>> + Send>>;

/// Sends markers once. Whoever asks repeats what failed, since only the coordinator knows whether that still makes sense.
pub trait MarkerSender: Send + Sync + 'static {
    /// One delivery for each leader, so that a slow one delays nobody else; together they tell of every partition exactly once.
    fn send(&self, marker: Marker, partitions: Vec<TopicPartition>) -> Vec<Delivery>;
}
