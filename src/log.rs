//! One partition on disk, in Kafka's own files: segments, indexes, append, read, recovery, retention, producer state,
//! leader epochs; and the manager of all of them.
//!
//! Invariants: an acknowledged record is in the file before the acknowledgement; what recovery keeps is a prefix of what was
//! written; nothing is left in a directory that Apache Kafka would stumble over.
