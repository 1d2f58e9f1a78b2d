//! ZooKeeper: every znode path and its JSON, the session with the ensemble, registration of the broker, dynamic
//! configurations, and the server inside.

pub mod configs;
pub mod embedded;
mod keeper;
pub mod operation;
pub mod paths;
pub mod registration;
pub mod session;
mod submit;
pub mod watches;

pub use operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
pub use session::{SessionEvent, Zk, ZkConfig};
pub use watches::{Changed, Watches};
