//! What the group coordinator and the transaction coordinator have in common (module `coordinator-common`, class
//! `CoordinatorRuntime`): the driver of a pure machine whose state is a partition of a compacted topic.
//!
//! A [`Shard`] is all that one partition coordinates, as a pure machine. [`Partition`] is a shard with its log and its clients: it
//! loads the log into the shard, hands requests to it, appends what it decides, and holds replies back until that is replicated.
//! [`Partitions`] is all of them on this broker, as leadership comes and goes.
//!
//! Invariant: a shard hears of its appends in the order in which it decided on them, so that memory goes through the same states
//! as the log.

mod answer;
mod log;
mod partition;
mod partitions;
mod shard;
#[cfg(test)]
mod tests;
mod writes;

pub use answer::{Answer, Held, Kind};
pub use log::{Append, Committed, CoordinatorLog, LoadError, build};
pub use partition::Partition;
pub use partitions::Partitions;
pub use shard::{Done, Effect, EffectOf, Now, ReplyToken, Shard, StoredRecord, Underway, WriteToken};
pub use writes::Writes;

pub(crate) use answer::kinds;
