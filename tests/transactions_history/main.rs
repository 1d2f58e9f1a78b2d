//! Histories of many transactions while brokers and clients are killed, and what is wrong with them.
//!
//! `judge` is Jepsen's checker of Kafka histories, written anew; `proofs` shows that it catches what it is for. `clients` are processes
//! that read, write and commit offsets in transactions until somebody kills them; `run` starts and kills them and the brokers.
//! `weaknesses` are the anomalies that the protocol of 3.9 itself allows.
//!
//! A run is short unless `OTTLA_HISTORY_OPERATIONS` says how many requests are to be answered. With `OTTLA_HISTORY_BOOTSTRAP` (addresses,
//! separated by commas) it uses those brokers, which somebody else kills: `scripts/transactions-history`, also for Apache Kafka.
//! `OTTLA_HISTORY_FOLDER` keeps the history.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod cycles;
mod history;
mod judge;
mod net;
mod proofs;
mod run;
mod weaknesses;
