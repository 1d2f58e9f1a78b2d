//! Partitions as this broker has them - leadership, ISR, high watermark, waiting requests - and the metadata cache.
//!
//! What the controller says arrives as LeaderAndIsr, UpdateMetadata and StopReplica ([`ReplicaManager`]); what clients
//! may know of the cluster is a snapshot ([`MetadataCache`]). A partition is led (`isr`, `follower`: who has what, and what is
//! committed; `alter_partition`: the controller agrees to it) or followed (`fetcher`, `partition/following`).

pub mod alter_partition;
mod awaited;
pub mod control;
pub mod error;
pub mod fetch;
pub mod fetch_session;
pub mod fetcher;
pub mod follower;
mod isr;
pub mod leadership;
pub mod manager;
pub mod metadata_cache;
pub mod partition;
mod selector;
pub mod throttle;
pub mod waiters;
mod waiting;

pub use alter_partition::{AlterAnswer, PartitionAlterer};
pub use error::ReplicaError;
pub use leadership::{AlterPartition, AlteredPartition, IsrChange, Leadership};
pub use manager::{LeadershipListener, ReplicaManager, ReplicaParts, TopicConfigs};
pub use metadata_cache::{MetadataCache, MetadataImage};
pub use partition::Partition;
pub use waiting::{wait_committed, wait_deleted};
