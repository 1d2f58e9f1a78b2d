//! ZooKeeper: every znode path and its JSON, the session with the ensemble, registration of the broker, dynamic
//! configurations, and the server inside.

pub mod client;
pub mod configs;
pub mod embedded;
mod keeper;
pub mod operation;
pub mod paths;
pub mod registration;
pub mod session;
pub mod watches;

pub use keeper::{Ended, end_session};
pub use operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
pub use session::{SessionEvent, Zk, ZkConfig, ZkSecurity};
pub use watches::{Changed, Watches};
