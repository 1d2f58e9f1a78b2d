//! Producer ids; the transaction coordinator.
