//! ZooKeeper: every znode path and its JSON, the session with the ensemble, and the server inside.

pub mod embedded;
