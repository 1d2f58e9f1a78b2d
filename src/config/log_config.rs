//! What a log is configured with: the topic's own settings over the broker's (class `LogConfig`).

use crate::base::Millis;

/// `compression.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CompressionType {
    /// Keep what the producer sent.
    #[default]
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// `cleanup.policy`: either or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub compact: bool,
    pub delete: bool,
}

/// Settings of one log, by the names of the topic-level properties.
#[derive(Clone, PartialEq, Debug)]
pub struct LogConfig {
    pub segment_bytes: i32,
    pub segment_ms: Millis,
    pub segment_jitter_ms: Millis,
    pub segment_index_bytes: i32,
    pub index_interval_bytes: i32,
    pub flush_messages: i64,
    pub flush_ms: Millis,
    pub retention_bytes: i64,
    pub retention_ms: Millis,
    pub file_delete_delay_ms: Millis,
    pub delete_retention_ms: Millis,
    pub min_compaction_lag_ms: Millis,
    pub max_compaction_lag_ms: Millis,
    pub min_cleanable_dirty_ratio: f64,
    pub max_message_bytes: i32,
    pub min_insync_replicas: i32,
    pub unclean_leader_election_enable: bool,
    pub message_timestamp_before_max_ms: Millis,
    pub message_timestamp_after_max_ms: Millis,
    pub message_downconversion_enable: bool,
    pub preallocate: bool,
    pub compression_type: CompressionType,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_zstd_level: i32,
    pub timestamp_type: TimestampType,
    pub cleanup_policy: CleanupPolicy,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            retention_bytes: -1,
            retention_ms: 7 * 24 * 3600 * 1000,
            file_delete_delay_ms: 60_000,
            delete_retention_ms: 24 * 3600 * 1000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
            max_message_bytes: 1_048_588,
            min_insync_replicas: 1,
            unclean_leader_election_enable: false,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: i64::MAX,
            message_downconversion_enable: true,
            preallocate: false,
            compression_type: CompressionType::Producer,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            timestamp_type: TimestampType::CreateTime,
            cleanup_policy: CleanupPolicy { compact: false, delete: true },
        }
    }
}
