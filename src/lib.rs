//! Ottla: a native Kafka broker for ZooKeeper-mode clusters.
//!
//! # Code map
//!
//! A room is a concept that a Kafka operator knows, under Kafka's own noun; inside it the pure core and its driver stand side by
//! side. Arrows point down this list only, and `tests/tidy.rs` reads the `use` lines and says so.
//!
//! | room | what it owns |
//! |---|---|
//! | [`broker`] | start-up and shutdown, in Kafka's order |
//! | [`net`] | listeners, connections, the order of replies, writev and sendfile |
//! | [`console`] | /metrics and /healthz |
//! | [`api`] | one file an API; `table.rs` lists them all, `error.rs` maps every error to Kafka's codes |
//! | [`group`] | the group coordinator: classic groups, committed offsets |
//! | [`transaction`] | the transaction coordinator: transactional ids, markers, verification; producer ids |
//! | [`coordinator`] | what both coordinators have in common: a pure machine over a partition of a topic, its log and its clients |
//! | [`controller`] | election, partition and replica states, topic creation and deletion |
//! | [`replica`] | partitions as this broker has them, waiting requests, fetch sessions, the metadata cache |
//! | [`peer`] | connections to other brokers: requests out, answers in |
//! | [`zookeeper`] | every znode path and its JSON, the session, registration; `embedded` is the server inside |
//! | [`log`] | one partition on disk, in Kafka's files; the manager of all of them |
//! | [`config`] | one table of every property; properties files; what other rooms read |
//! | [`record`] | record batches as views over bytes, compression, old formats |
//! | [`wire`] | frames, headers, the bounds guard, codecs; the only room that names the message crate |
//! | [`base`] | ids and epochs as newtypes, error codes, time |
//!
//! # The way of a request
//!
//! *Produce.* `net` reads one frame and freezes it; `wire` takes the header off and makes views into the frame; `api::produce`
//! has `record::validate` check the batches where they lie; `replica::Partition` judges leader, epoch and in-sync replicas; `log`
//! assigns offsets and writes the patched headers and the client's own bytes with one `pwritev`. With acks=all the reply waits for
//! the high watermark as a registered waiter: no thread, no poll.
//!
//! *Fetch.* The session is expanded, `replica` bounds each partition (high watermark, last stable offset), `log` maps offsets to
//! ranges of files, and `net` sends the ranges with sendfile. A long poll is a waiter that the next append wakes.
//!
//! # Invariants
//!
//! - An acknowledged record is in the log; what a start recovers is a prefix of what was written.
//! - Nobody sees a record above the high watermark, or an answer of the ZooKeeper inside before it is on disk.
//! - Bytes from outside are measured before they are decoded: no panic, no hang, and no memory that the sender chose.
//! - Pure cores (groups, controller, znode tree, fetch sessions, recovery plans) have no clock, no files, no randomness inside.
//! - The control runtime (ZooKeeper, controller) never waits for a disk that serves records.

pub mod broker;
pub mod net;

pub mod console;

pub mod api;

pub mod group;
pub mod transaction;

pub mod coordinator;

pub mod controller;
pub mod replica;

pub mod peer;
pub mod zookeeper;

pub mod log;

pub mod config;
pub mod record;
pub mod wire;

pub mod base;
