//! Partitions as this broker has them - leadership, ISR, high watermark, waiting requests - and the metadata cache.
//!
//! What the controller says arrives as LeaderAndIsr, UpdateMetadata and StopReplica ([`ReplicaManager`]); what clients
//! may know of the cluster is a snapshot ([`MetadataCache`]).

pub mod control;
pub mod error;
pub mod fetch;
pub mod fetch_session;
pub mod manager;
pub mod metadata_cache;
pub mod partition;
pub mod waiters;

pub use error::ReplicaError;
pub use manager::{LeadershipListener, ReplicaManager, TopicConfigs, wait_committed};
pub use metadata_cache::{MetadataCache, MetadataImage};
pub use partition::{Leadership, Partition};
