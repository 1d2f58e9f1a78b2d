//! Partitions as this broker has them - leadership, ISR, high watermark, waiting requests - and the metadata cache.
//!
//! What the controller says arrives as LeaderAndIsr, UpdateMetadata and StopReplica (the replica manager); what clients
//! may know of the cluster is a snapshot ([`MetadataCache`]).

pub mod fetch_session;
pub mod metadata_cache;
pub mod waiters;

pub use metadata_cache::{MetadataCache, MetadataImage};
