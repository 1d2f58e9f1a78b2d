//! Names of files and directories under `log.dirs` (class `LogFileUtils`, `LocalLog.parseTopicPartitionName`).
//!
//! Invariant: a name that a client chose never leaves its log directory: topics pass `base::topic_name` before they become a path.

use crate::base::TopicPartition;

pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub const LOCK: &str = ".lock";
pub const META_PROPERTIES: &str = "meta.properties";
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Directories that Apache Kafka itself puts beside partitions.
const KNOWN_DIRECTORIES: [&str; 2] = ["remote-log-index-cache", "__cluster_metadata-0"];
pub const FILE_NAME_LENGTH_MAX: usize = 255;

/// Kinds of file whose name begins with an offset of 20 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    TransactionIndex,
    ProducerSnapshot,
}

/// What a trailing suffix says about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transit {
    None,
    /// Waits for removal.
    Deleted,
    /// The compaction that wrote it did not finish.
    Cleaned,
    /// The compaction finished; the file is to replace others.
    Swap,
}

impl Transit {
    pub fn suffix(self) -> &'static str {
        match self {
            Transit::None => "",
            Transit::Deleted => ".deleted",
            Transit::Cleaned => ".cleaned",
            Transit::Swap => ".swap",
        }
    }
}

impl FileKind {
    pub fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::OffsetIndex => "index",
            FileKind::TimeIndex => "timeindex",
            FileKind::TransactionIndex => "txnindex",
            FileKind::ProducerSnapshot => "snapshot",
        }
    }

    fn parse(suffix: &str) -> Option<FileKind> {
        use FileKind::*;
        [Log, OffsetIndex, TimeIndex, TransactionIndex, ProducerSnapshot].into_iter().find(|k| k.suffix() == suffix)
    }

    pub fn file_name(self, offset: i64) -> String {
        format!("{offset:020}.{}", self.suffix())
    }
}

/// Reads `00000000000000000042.log.swap` and the like. `None` for any other file.
pub fn parse_file_name(name: &str) -> Option<(i64, FileKind, Transit)> {
    let (name, transit) = if let Some(rest) = name.strip_suffix(".deleted") {
        (rest, Transit::Deleted)
    } else if let Some(rest) = name.strip_suffix(".cleaned") {
        (rest, Transit::Cleaned)
    } else if let Some(rest) = name.strip_suffix(".swap") {
        (rest, Transit::Swap)
    } else {
        (name, Transit::None)
    };
    let (digits, suffix) = name.split_once('.')?;
    if digits.len() < 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, FileKind::parse(suffix)?, transit))
}

/// What a directory in a log directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryKind {
    Partition(TopicPartition),
    /// Replica on its way between two log directories.
    Future(TopicPartition),
    /// Waits for removal. The topic part may be cut, so it names no partition.
    Delete,
    /// Set aside by Apache Kafka because the cluster did not know it.
    Stray,
    /// Apache Kafka's, but no partition.
    Known,
}

/// `None`: a foreign directory, at which Apache Kafka would refuse to start.
pub fn parse_directory_name(name: &str) -> Option<DirectoryKind> {
    if KNOWN_DIRECTORIES.contains(&name) {
        return Some(DirectoryKind::Known);
    }
    for (suffix, kind) in [("-delete", DirectoryKind::Delete), ("-stray", DirectoryKind::Stray)] {
        if let Some(rest) = name.strip_suffix(suffix)
            && split_unique(rest).is_some()
        {
            return Some(kind);
        }
    }
    if let Some(rest) = name.strip_suffix("-future")
        && let Some(partition) = split_unique(rest)
    {
        return Some(DirectoryKind::Future(parse_partition(partition)?));
    }
    Some(DirectoryKind::Partition(parse_partition(name)?))
}

/// Splits `topic-0.<32 hex>` and gives `topic-0`.
fn split_unique(name: &str) -> Option<&str> {
    let (partition, unique) = name.rsplit_once('.')?;
    let is_hex = unique.len() == 32 && unique.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex && partition.contains('-')).then_some(partition)
}

fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if topic.is_empty() || partition.is_empty() || !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// Name under which a partition directory waits for removal, at most 255 bytes long.
pub fn delete_directory_name(log: &TopicPartition, unique: uuid::Uuid) -> String {
    let suffix = format!("-{}.{}-delete", log.partition, unique.simple());
    let topic_len = log.topic.len().min(FILE_NAME_LENGTH_MAX - suffix.len());
    format!("{}{suffix}", log.topic.get(..topic_len).unwrap_or_default())
}

/// Name under which a replica is copied into another log directory.
pub fn future_directory_name(log: &TopicPartition, unique: uuid::Uuid) -> String {
    format!("{log}.{}-future", unique.simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let cases = [
            ("00000000000000000000.log", Some((0, FileKind::Log, Transit::None))),
            ("00000000000000000042.index.deleted", Some((42, FileKind::OffsetIndex, Transit::Deleted))),
            ("00000000000000000042.timeindex.swap", Some((42, FileKind::TimeIndex, Transit::Swap))),
            ("00000000000000000042.txnindex.cleaned", Some((42, FileKind::TransactionIndex, Transit::Cleaned))),
            ("00000000000000000007.snapshot", Some((7, FileKind::ProducerSnapshot, Transit::None))),
            ("99999999999999999999.log", None),
            ("-0000000000000000001.log", None),
            ("42.log", None),
            ("00000000000000000042.txt", None),
            ("leader-epoch-checkpoint", None),
        ];
        for (name, expected) in cases {
            assert_eq!(parse_file_name(name), expected, "{name}");
        }
        assert_eq!(FileKind::Log.file_name(42), "00000000000000000042.log");
    }

    #[test]
    fn directory_names() {
        let hex = "0123456789abcdef0123456789abcdef";
        let partition = |topic: &str, p| Some(DirectoryKind::Partition(TopicPartition::new(topic, p)));
        let cases = [
            ("a-0".to_string(), partition("a", 0)),
            ("a-b-12".to_string(), partition("a-b", 12)),
            ("a-delete-3".to_string(), partition("a-delete", 3)),
            (format!("a-0.{hex}-delete"), Some(DirectoryKind::Delete)),
            (format!("a-0.{hex}-stray"), Some(DirectoryKind::Stray)),
            (format!("a.b-0.{hex}-future"), Some(DirectoryKind::Future(TopicPartition::new("a.b", 0)))),
            ("remote-log-index-cache".to_string(), Some(DirectoryKind::Known)),
            ("lost+found".to_string(), None),
            ("a".to_string(), None),
            ("a-".to_string(), None),
            ("a--1x".to_string(), None),
            ("-0".to_string(), None),
            ("a-99999999999".to_string(), None),
        ];
        for (name, expected) in cases {
            assert_eq!(parse_directory_name(&name), expected, "{name}");
        }
    }

    #[test]
    fn delete_name_fits_a_file_name_and_is_recognised() {
        let log = TopicPartition::new("t".repeat(249), 1234);
        let name = delete_directory_name(&log, uuid::Uuid::nil());
        assert_eq!(name.len(), 255);
        assert_eq!(parse_directory_name(&name), Some(DirectoryKind::Delete));
    }
}
