//! One partition on disk, in Kafka's own files: segments, indexes, append, read, recovery, retention, producer state,
//! leader epochs; and the manager of all of them.
//!
//! Invariants: an acknowledged record is in the file before the acknowledgement; what recovery keeps is a prefix of what was
//! written; nothing is left in a directory that Apache Kafka would stumble over.
//!
//! Where things are: one file a file kind (`segment`, `offset_index`, `time_index`, `transaction_index`, `producer_snapshot`,
//! `checkpoint`, `partition_metadata`, `meta_properties`, `dir_lock`); pure decisions (`roll`, `retention`, `leftovers`,
//! `producer_state`, `verification`, `epoch_cache`); what a log does (`append`, `read`, `times`, `flush`, `truncate`, `load`, `partition_dir`, `recovery`,
//! `close`); compaction (`cleaner`); moves between directories (`moves`, `copy`); the broker's view of all logs (`manager`, `open`,
//! `recoveries`, `housekeeping`); and what the files hold, as text (`dump`), or what a
//! start would make of them (`inspect`).

mod append;
mod append_legacy;
mod background;
mod checkpoint;
mod cleaner;
mod close;
mod copy;
mod dir_lock;
mod disk;
pub mod dump;
mod epoch_cache;
mod error;
mod flush;
#[cfg(test)]
mod history;
mod housekeeping;
mod index_file;
mod inspect;
mod leftovers;
mod load;
mod log_dir;
mod manager;
mod marker;
mod meta_properties;
mod moves;
mod names;
mod offset_index;
mod open;
mod opened_dir;
mod partition;
mod partition_dir;
mod partition_metadata;
mod producer_snapshot;
mod producer_state;
mod progress;
mod read;
mod recoveries;
mod recovery;
mod retention;
mod roll;
mod scan;
mod segment;
mod split;
mod time_index;
mod times;
mod transaction_index;
mod truncate;
mod verification;

pub use append::LogAppendInfo;
pub use error::LogError;
pub use inspect::{DirInspection, Finding, InspectedPartition, Severity, inspect_dir};
pub use log_dir::LogDir;
pub use manager::{LogDirDescription, LogManager, UnreadyLog};
pub use meta_properties::{MetaProperties, read_meta_properties, write_meta_properties};
pub use partition::Log;
pub use producer_state::{AppendOrigin, BatchMetadata, ProducerEntry};
pub use progress::RecoveryLeft;
pub use read::{FileSlice, LogRead};
pub use recoveries::Unready;
pub use times::OffsetForTimestamp;
pub use transaction_index::AbortedTransaction;
pub use verification::VerificationGuard;
