//! The group coordinator: members of consumer groups, their rebalances, and committed offsets (class `GroupCoordinator`).
//!
//! Each partition of `__consumer_offsets` holds the groups whose id hashes to it; the leader of the partition coordinates
//! them. [`GroupShard`] is that coordinator as a pure machine, [`GroupCoordinator`] the shards of this broker as requests see them.
//!
//! Invariant: committed offsets and finished rebalances live in the log and are only read back from records, so that any
//! broker that becomes leader of the partition, of this kind or the JVM's, goes on from the same state.

mod answer;
mod commit;
pub mod consumer_protocol;
mod coordinator;
mod digest;
mod join;
mod log;
pub mod member;
mod membership;
pub mod message;
pub mod offsets;
mod rebalance;
pub mod records;
pub mod shard;
pub mod state;
mod transactions;
mod view;
mod writes;

pub use answer::Answer;
pub use commit::is_too_long;
pub use coordinator::{GroupCoordinator, partition_of};
pub use message::{Effect, Event, Now};
pub use shard::{GroupConfig, GroupShard};
