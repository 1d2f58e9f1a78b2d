//! The transaction coordinator (class `TransactionCoordinator`, KIP-98), and the producer ids that idempotent and transactional
//! producers number their batches under.
//!
//! Each partition of `__transaction_state` holds the transactional ids that hash to it; the leader of the partition coordinates
//! them. [`TransactionShard`] is that coordinator as a pure machine, [`TransactionCoordinator`] the shards of this broker as
//! requests see them.
//!
//! Invariants: no two producers of a cluster ever get the same id, whatever fails: a block of ids belongs to the broker that wrote it
//! into ZooKeeper, and what a broker did not use of it is lost when it stops. A decision to commit or abort is in the log before
//! any partition hears of it, and whoever coordinates next, of this kind or the JVM's, goes on from it.

mod add;
mod answer;
mod coordinator;
mod end;
mod expiry;
mod init;
mod log;
mod markers;
pub mod message;
pub mod producer_ids;
pub mod records;
pub mod shard;
pub mod state;
pub mod verifier;
pub mod view;

pub use answer::Answer;
pub use coordinator::TransactionCoordinator;
pub use markers::{Delivery, MarkerSender};
pub use producer_ids::{ControllerProducerIdBlocks, ProducerIdBlocks, ProducerIdManager, ZkProducerIdBlocks};
pub use shard::{TransactionConfig, TransactionShard};
pub use verifier::Verifier;
