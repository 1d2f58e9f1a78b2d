//! Ottla: a native Kafka broker for ZooKeeper-mode clusters.
//!
//! # Code map
//!
//! A room is a concept that a Kafka operator knows, under Kafka's own noun. Arrows point down this list only; `tests/tidy.rs`
//! reads the `use` lines and says so.

pub mod broker;
pub mod net;

pub mod api;

pub mod group;
pub mod transaction;

pub mod controller;
pub mod replica;

pub mod zookeeper;

pub mod log;

pub mod config;
pub mod record;
pub mod wire;

pub mod base;
