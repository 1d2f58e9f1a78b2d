//! What a log is configured with: the topic's own settings over the broker's (class `LogConfig`).

use super::broker_config::BrokerConfig;
use super::error::ConfigError;
use super::replication::ThrottledReplicas;
use super::topic_values::{self, TopicValues};
use super::values::{Settings, Values};
use crate::base::Millis;
use std::collections::BTreeMap;

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
    pub leader_throttled_replicas: ThrottledReplicas,
    pub follower_throttled_replicas: ThrottledReplicas,
}

impl LogConfig {
    /// The settings of a topic with `overrides`, over what `broker` says.
    pub fn with_overrides(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> Result<LogConfig, ConfigError> {
        let values = topic_values::of(&Values { settings: &broker.effective }, overrides)?;
        Ok(LogConfig::from_values(&values))
    }

    /// The same for overrides that somebody else has accepted: each one that is not valid here is passed over and reported,
    /// and does not keep the others from being used.
    pub fn with_stored_overrides(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> (LogConfig, Vec<ConfigError>) {
        let check = |(name, raw): (&String, &String)| topic_values::validate_topic_config(name, raw).err();
        let errors = overrides.iter().filter_map(check).collect();
        let values = topic_values::lenient(&Values { settings: &broker.effective }, overrides);
        (LogConfig::from_values(&values), errors)
    }

    pub fn from_values(values: &TopicValues) -> LogConfig {
        let throttled = |name: &str| ThrottledReplicas::parse(&values.text(name));
        LogConfig {
            segment_bytes: values.int("segment.bytes"),
            segment_ms: values.whole("segment.ms"),
            segment_jitter_ms: values.whole("segment.jitter.ms"),
            segment_index_bytes: values.int("segment.index.bytes"),
            index_interval_bytes: values.int("index.interval.bytes"),
            flush_messages: values.whole("flush.messages"),
            flush_ms: values.whole("flush.ms"),
            retention_bytes: values.whole("retention.bytes"),
            retention_ms: values.whole("retention.ms"),
            file_delete_delay_ms: values.whole("file.delete.delay.ms"),
            delete_retention_ms: values.whole("delete.retention.ms"),
            min_compaction_lag_ms: values.whole("min.compaction.lag.ms"),
            max_compaction_lag_ms: values.whole("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio"),
            max_message_bytes: values.int("max.message.bytes"),
            min_insync_replicas: values.int("min.insync.replicas"),
            unclean_leader_election_enable: values.boolean("unclean.leader.election.enable"),
            message_timestamp_before_max_ms: timestamp_limit(values, "message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: timestamp_limit(values, "message.timestamp.after.max.ms"),
            message_downconversion_enable: values.boolean("message.downconversion.enable"),
            preallocate: values.boolean("preallocate"),
            compression_type: compression_type(&values.text("compression.type")),
            compression_gzip_level: values.int("compression.gzip.level"),
            compression_lz4_level: values.int("compression.lz4.level"),
            compression_zstd_level: values.int("compression.zstd.level"),
            timestamp_type: timestamp_type(&values.text("message.timestamp.type")),
            cleanup_policy: cleanup_policy(&values.text("cleanup.policy")),
            leader_throttled_replicas: throttled("leader.replication.throttled.replicas"),
            follower_throttled_replicas: throttled("follower.replication.throttled.replicas"),
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        let settings = Settings::default();
        let values = topic_values::of(&Values { settings: &settings }, &BTreeMap::new());
        LogConfig::from_values(&values.expect("the defaults are valid"))
    }
}

fn compression_type(text: &str) -> CompressionType {
    match text {
        "uncompressed" => CompressionType::Uncompressed,
        "gzip" => CompressionType::Gzip,
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => CompressionType::Producer,
    }
}

fn timestamp_type(text: &str) -> TimestampType {
    if text == "LogAppendTime" { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
}

fn cleanup_policy(text: &str) -> CleanupPolicy {
    let has = |policy: &str| text.split(',').any(|item| item == policy);
    CleanupPolicy { compact: has("compact"), delete: has("delete") }
}

/// One side's limit, else the older common one.
fn timestamp_limit(values: &TopicValues, name: &str) -> Millis {
    match values.whole(name) {
        i64::MAX => values.whole("message.timestamp.difference.max.ms"),
        limit => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(overrides: &[(&str, &str)]) -> Result<LogConfig, ConfigError> {
        let overrides = overrides.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        LogConfig::with_overrides(&BrokerConfig::default(), &overrides)
    }

    #[test]
    fn a_topics_own_values_stand_over_the_brokers() {
        let config = of(&[("retention.ms", "5"), ("cleanup.policy", "compact,delete"), ("compression.type", "zstd")]);
        let config = config.expect("valid");
        assert_eq!((config.retention_ms, config.compression_type), (5, CompressionType::Zstd));
        assert_eq!(config.cleanup_policy, CleanupPolicy { compact: true, delete: true });
        let rest = LogConfig {
            retention_ms: LogConfig::default().retention_ms,
            cleanup_policy: CleanupPolicy { compact: false, delete: true },
            compression_type: CompressionType::Producer,
            ..config
        };
        assert_eq!(rest, LogConfig::default());
        let config = of(&[("message.timestamp.difference.max.ms", "3"), ("message.timestamp.after.max.ms", "4")]);
        let config = config.expect("valid");
        assert_eq!((config.message_timestamp_before_max_ms, config.message_timestamp_after_max_ms), (3, 4));
    }

    #[test]
    fn a_stored_value_that_is_wrong_spoils_no_other() {
        let overrides = [("retention.ms", "5"), ("segment.bytes", "x"), ("a.b", "1")];
        let overrides = overrides.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (config, errors) = LogConfig::with_stored_overrides(&BrokerConfig::default(), &overrides);
        assert_eq!(config, LogConfig { retention_ms: 5, ..LogConfig::default() });
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn a_wrong_topic_config_says_what_is_wrong() {
        for (overrides, message) in [
            (&[("a.b", "1")][..], "Unknown topic config name: a.b"),
            (&[("retention.ms", "-2")], "retention.ms=-2: must be a whole number (64 bits), -1 or more"),
            (
                &[("cleanup.policy", "keep")],
                "cleanup.policy=keep: must be a list, separated by commas, of compact, delete",
            ),
            (
                &[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")],
                "min.compaction.lag.ms=9 is larger than max.compaction.lag.ms=8: make it at most that",
            ),
            (
                &[("remote.storage.enable", "true")],
                "remote.storage.enable=true: must be false: tiered storage is not available on this broker",
            ),
        ] {
            assert_eq!(of(overrides).expect_err(message).to_string(), message);
        }
    }
}
