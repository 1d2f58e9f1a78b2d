//! Configuration: the table of every property, properties files, and the typed values that other rooms read.
//!
//! Invariant: a property has one row in `definitions.rs`; its name, type, default and validator are nowhere else.

pub mod alter;
pub mod broker_config;
mod checks;
pub mod definitions;
pub mod describe;
mod ec_key;
pub mod error;
pub mod jaas;
pub mod keystore;
mod listeners;
pub mod load;
pub mod log_config;
pub mod properties;
mod replication;
pub mod topic_values;
pub mod valid;
pub mod value;
pub mod values;
pub mod versions;
pub mod zookeeper;

pub use broker_config::{BrokerConfig, ControlledShutdownConfig, Endpoint, LogCleanerConfig};
pub use error::ConfigError;
pub use load::{Loaded, load};
pub use log_config::{CleanupPolicy, CompressionType, LogConfig, TimestampType};
pub use properties::Properties;
pub use replication::{ReplicaSelector, ReplicationConfig, ThrottledReplicas};
pub use topic_values::validate_topic_config;
pub use versions::InterBrokerProtocol;
