//! Which partition of a coordinator's topic an id belongs to (classes `GroupMetadataManager`, `TransactionStateManager`).

/// Java's `String.hashCode` brought into `0..count`: which partition coordinates a group or a transactional id.
pub fn coordinator_partition(id: &str, count: i32) -> i32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    // Kafka's `Utils.abs`: the one number without an absolute value becomes 0.
    hash.checked_abs().unwrap_or(0) % count.max(1)
}
