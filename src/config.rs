//! Configuration: the table of every property, properties files, and the typed values that other rooms read.
//!
//! Invariant: a property has one row in `definitions.rs`; its name, type, default and validator are nowhere else.

pub mod broker_config;
pub mod log_config;

pub use broker_config::{BrokerConfig, Endpoint};
pub use log_config::{CleanupPolicy, CompressionType, LogConfig, TimestampType};
