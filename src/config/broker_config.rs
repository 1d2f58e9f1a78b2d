//! The broker's own settings, typed (class `KafkaConfig`). Built once from the properties; fields carry Kafka's names.

use super::log_config::LogConfig;
use crate::base::Millis;
use std::path::PathBuf;

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Listener name, upper case.
    pub listener: String,
    /// Empty means all interfaces (`listeners`) or the canonical host name (`advertised.listeners`).
    pub host: String,
    pub port: u16,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub security_protocol: String,
}

/// The values that other rooms read. `Default` is Kafka's own defaults, with PLAINTEXT on localhost:9092.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerConfig {
    /// -1: from meta.properties, else generated.
    pub broker_id: i32,
    pub broker_id_generation_enable: bool,
    pub reserved_broker_max_id: i32,
    pub broker_rack: Option<String>,
    pub listeners: Vec<Endpoint>,
    pub advertised_listeners: Vec<Endpoint>,
    pub inter_broker_listener_name: String,
    pub log_dirs: Vec<PathBuf>,
    /// `None`: the embedded server.
    pub zookeeper_connect: Option<String>,
    pub zookeeper_session_timeout_ms: i32,
    pub zookeeper_connection_timeout_ms: i32,
    pub zookeeper_embedded_port: u16,
    pub zookeeper_embedded_address: String,
    pub zookeeper_embedded_data_dir: PathBuf,
    pub num_network_threads: i32,
    pub num_io_threads: i32,
    pub num_recovery_threads_per_data_dir: i32,
    pub socket_request_max_bytes: i32,
    pub socket_send_buffer_bytes: i32,
    pub socket_receive_buffer_bytes: i32,
    pub socket_listen_backlog_size: i32,
    pub max_connections: i32,
    pub max_connections_per_ip: i32,
    pub connections_max_idle_ms: Millis,
    pub num_partitions: i32,
    pub default_replication_factor: i32,
    pub auto_create_topics_enable: bool,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: i32,
    pub max_incremental_fetch_session_cache_slots: i32,
    pub group_min_session_timeout_ms: i32,
    pub group_max_session_timeout_ms: i32,
    pub group_initial_rebalance_delay_ms: i32,
    pub group_max_size: i32,
    pub offset_metadata_max_bytes: i32,
    pub offsets_topic_num_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: i32,
    pub offsets_retention_minutes: i32,
    pub offsets_retention_check_interval_ms: Millis,
    pub offsets_commit_timeout_ms: i32,
    pub transaction_state_log_num_partitions: i32,
    pub transaction_state_log_replication_factor: i16,
    pub transaction_state_log_segment_bytes: i32,
    pub transaction_state_log_min_isr: i32,
    pub producer_id_expiration_ms: Millis,
    pub replica_high_watermark_checkpoint_interval_ms: Millis,
    pub log_flush_offset_checkpoint_interval_ms: Millis,
    pub log_flush_start_offset_checkpoint_interval_ms: Millis,
    pub log_retention_check_interval_ms: Millis,
    pub log_flush_scheduler_interval_ms: Millis,
    /// Defaults of every topic's settings: what `log.*` says.
    pub log: LogConfig,
}

fn localhost(port: u16) -> Endpoint {
    Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port, security_protocol: "PLAINTEXT".into() }
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig {
            broker_id: -1,
            broker_id_generation_enable: true,
            reserved_broker_max_id: 1000,
            broker_rack: None,
            listeners: vec![localhost(9092)],
            advertised_listeners: vec![localhost(9092)],
            inter_broker_listener_name: "PLAINTEXT".into(),
            log_dirs: vec!["/tmp/kafka-logs".into()],
            zookeeper_connect: None,
            zookeeper_session_timeout_ms: 18_000,
            zookeeper_connection_timeout_ms: 18_000,
            zookeeper_embedded_port: 2181,
            zookeeper_embedded_address: "127.0.0.1".into(),
            zookeeper_embedded_data_dir: "/tmp/zookeeper".into(),
            num_network_threads: 3,
            num_io_threads: 8,
            num_recovery_threads_per_data_dir: 1,
            socket_request_max_bytes: 100 << 20,
            socket_send_buffer_bytes: 100 << 10,
            socket_receive_buffer_bytes: 100 << 10,
            socket_listen_backlog_size: 50,
            max_connections: i32::MAX,
            max_connections_per_ip: i32::MAX,
            connections_max_idle_ms: 600_000,
            num_partitions: 1,
            default_replication_factor: 1,
            auto_create_topics_enable: true,
            delete_topic_enable: true,
            fetch_max_bytes: 55 << 20,
            max_incremental_fetch_session_cache_slots: 1000,
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: i32::MAX,
            offset_metadata_max_bytes: 4096,
            offsets_topic_num_partitions: 50,
            offsets_topic_replication_factor: 3,
            offsets_topic_segment_bytes: 100 << 20,
            offsets_retention_minutes: 7 * 24 * 60,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            transaction_state_log_num_partitions: 50,
            transaction_state_log_replication_factor: 3,
            transaction_state_log_segment_bytes: 100 << 20,
            transaction_state_log_min_isr: 2,
            producer_id_expiration_ms: 24 * 3600 * 1000,
            replica_high_watermark_checkpoint_interval_ms: 5_000,
            log_flush_offset_checkpoint_interval_ms: 60_000,
            log_flush_start_offset_checkpoint_interval_ms: 60_000,
            log_retention_check_interval_ms: 300_000,
            log_flush_scheduler_interval_ms: i64::MAX,
            log: LogConfig::default(),
        }
    }
}
