//! Words that every room uses: ids and epochs as newtypes, Kafka's error codes, time, timers.
//!
//! Invariant: nothing here does I/O, and nothing here knows another room.

pub mod coordinator;
pub mod error_code;
pub mod ids;
pub mod time;
pub mod timer;
pub mod topic_name;

pub use coordinator::coordinator_partition;
pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, PartitionEpoch, ProducerEpoch, ProducerId, TopicId,
    TopicPartition,
};
pub use time::Millis;
pub use timer::TimerQueue;
