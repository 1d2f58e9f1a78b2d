//! Producer ids, which idempotent and transactional producers number their batches under (KIP-98).
//!
//! Invariant: no two producers of a cluster ever get the same id, whatever fails: a block of ids belongs to the broker that
//! wrote it into ZooKeeper, and what a broker did not use of it is lost when it stops.

pub mod producer_ids;

pub use producer_ids::{ProducerIdBlocks, ProducerIdManager, ZkProducerIdBlocks};
