//! The embedded ZooKeeper server beside Apache ZooKeeper 3.8.4: the same operations, the same bytes, the same files.
//!
//! Needs the jars of Apache Kafka 3.9.2, which `scripts/test` fetches; without them these tests fail.

mod chroots;
mod compare;
mod jvm;
mod kafka;
mod operations;
mod shell;
mod takeover;

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/zookeeper_raw.rs"]
mod raw;
