//! One file an API; `table.rs` is the list of all of them, `error.rs` the one mapping to Kafka's error codes.
