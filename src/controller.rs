//! The controller: context, partition and replica states, elections, topic creation and deletion, reassignment, ISR changes.
//!
//! [`machine::Controller`] is pure; every broker has one, and the one that wins the election acts.

pub mod alter_partition;
pub mod auto_creation;
mod brokers;
mod candidacy;
pub mod channel;
pub mod client;
pub mod commands;
pub mod context;
mod deletion;
mod driver;
pub mod elections;
pub mod event;
pub mod handle;
mod load;
pub mod machine;
mod partitions;
pub mod placement;
mod reassign_znode;
pub mod reassignment;
mod replicas;
pub mod requests;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulated;
mod states;
pub mod topic_plan;
mod topics;

pub use alter_partition::{Alteration, Altered, TopicKey};
pub use auto_creation::AutoTopicCreation;
pub use channel::{ChannelError, Channels, ControlChannel};
pub use client::{ControllerClient, IsrWish};
pub use driver::ControllerState;
pub use handle::ControllerHandle;
pub use machine::Settings;
pub use requests::{ControlRequest, ControlResponse};
