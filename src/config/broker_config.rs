//! The broker's own settings, typed (class `KafkaConfig`). Built once from the properties; fields carry Kafka's names.

use super::describe::{self, Dynamic, Sources};
use super::error::ConfigError;
use super::listeners::Listeners;
use super::log_config::LogConfig;
use super::replication::ReplicationConfig;
use super::value::java_trim;
use super::values::{Settings, Values};
use super::versions::{InterBrokerProtocol, LATEST, OLDEST_SUPPORTED};
use super::zookeeper::ZookeeperSecurity;
use super::{checks, topic_values};
use crate::base::Millis;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// More do not help disks.
const ALTER_LOG_DIRS_THREADS_MAX: usize = 32;

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

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(out, "{}://{open}{}{close}:{}", self.listener, self.host, self.port)
    }
}

/// What `log.cleaner.*` says of the cleaner itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogCleanerConfig {
    pub enable: bool,
    pub backoff_ms: Millis,
    pub dedupe_buffer_size: i64,
    pub io_buffer_load_factor: f64,
    pub io_buffer_size: i32,
    pub io_max_bytes_per_second: f64,
}

/// `controlled.shutdown.*`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlledShutdownConfig {
    pub enable: bool,
    pub max_retries: i32,
    pub retry_backoff_ms: Millis,
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
    pub inter_broker_protocol: InterBrokerProtocol,
    pub log_dirs: Vec<PathBuf>,
    /// `None`: the embedded server.
    pub zookeeper_connect: Option<String>,
    pub zookeeper_session_timeout_ms: i32,
    pub zookeeper_connection_timeout_ms: i32,
    pub zookeeper_security: ZookeeperSecurity,
    pub controlled_shutdown: ControlledShutdownConfig,
    pub zookeeper_embedded_port: u16,
    pub zookeeper_embedded_address: String,
    pub zookeeper_embedded_data_dir: PathBuf,
    pub num_network_threads: i32,
    pub num_io_threads: i32,
    pub num_recovery_threads_per_data_dir: i32,
    /// As many as there are directories, unless set.
    pub num_replica_alter_log_dirs_threads: usize,
    pub log_recovery_io_max_bytes_per_second: f64,
    /// `None`: there is no console.
    pub console_port: Option<u16>,
    pub console_address: String,
    pub request_timeout_ms: i32,
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
    pub auto_leader_rebalance_enable: bool,
    pub leader_imbalance_check_interval_seconds: i64,
    pub leader_imbalance_per_broker_percentage: i32,
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
    pub offsets_topic_compression_codec: i32,
    pub offsets_retention_minutes: i32,
    pub offsets_retention_check_interval_ms: Millis,
    pub offsets_commit_timeout_ms: i32,
    pub transaction_state_log_num_partitions: i32,
    pub transaction_state_log_replication_factor: i16,
    pub transaction_state_log_segment_bytes: i32,
    pub transaction_state_log_min_isr: i32,
    pub transaction_max_timeout_ms: i32,
    pub transactional_id_expiration_ms: i32,
    pub transaction_abort_interval_ms: i32,
    pub transaction_remove_expired_interval_ms: i32,
    pub transaction_partition_verification_enable: bool,
    pub producer_id_expiration_ms: Millis,
    pub producer_id_expiration_check_interval_ms: Millis,
    pub replica_high_watermark_checkpoint_interval_ms: Millis,
    pub log_flush_offset_checkpoint_interval_ms: Millis,
    pub log_flush_start_offset_checkpoint_interval_ms: Millis,
    pub log_retention_check_interval_ms: Millis,
    pub log_flush_scheduler_interval_ms: Millis,
    pub log_cleaner: LogCleanerConfig,
    pub replication: ReplicationConfig,
    /// Defaults of every topic's settings: what `log.*` says.
    pub log: LogConfig,
    /// Whether the coordinators' topics are created at the start and not when the first client looks for a coordinator: without a
    /// properties file, for one machine.
    pub internal_topics_at_start: bool,
    /// What files and flags set, as it stands there: for DescribeConfigs.
    pub settings: Settings,
    /// The same with dynamic configs over it: what all the values above come from.
    pub effective: Settings,
}

impl BrokerConfig {
    /// Builds the values from what is set, with Kafka's defaults behind, and checks them as Kafka does.
    pub fn from_settings(settings: &Settings) -> Result<BrokerConfig, ConfigError> {
        let values = Values { settings };
        let listeners = Listeners::of(&values)?;
        checks::check(&values)?;
        Ok(BrokerConfig {
            broker_id: broker_id(&values)?,
            broker_id_generation_enable: values.boolean("broker.id.generation.enable")?,
            reserved_broker_max_id: values.int("reserved.broker.max.id")?,
            broker_rack: values.optional_text("broker.rack")?,
            listeners: listeners.listeners,
            advertised_listeners: listeners.advertised,
            inter_broker_listener_name: listeners.inter_broker,
            inter_broker_protocol: inter_broker_protocol(&values)?,
            log_dirs: log_dirs(&values)?,
            zookeeper_connect: zookeeper_connect(&values)?,
            zookeeper_session_timeout_ms: values.int("zookeeper.session.timeout.ms")?,
            zookeeper_connection_timeout_ms: zookeeper_connection_timeout_ms(&values)?,
            zookeeper_security: ZookeeperSecurity::of(&values, &std::env::var("KAFKA_OPTS").unwrap_or_default())?,
            controlled_shutdown: ControlledShutdownConfig {
                enable: values.boolean("controlled.shutdown.enable")?,
                max_retries: values.int("controlled.shutdown.max.retries")?,
                retry_backoff_ms: values.whole("controlled.shutdown.retry.backoff.ms")?,
            },
            zookeeper_embedded_port: values.port("zookeeper.embedded.port")?,
            zookeeper_embedded_address: values.text("zookeeper.embedded.address")?,
            zookeeper_embedded_data_dir: values.text("zookeeper.embedded.data.dir")?.into(),
            num_network_threads: values.int("num.network.threads")?,
            num_io_threads: values.int("num.io.threads")?,
            num_recovery_threads_per_data_dir: values.int("num.recovery.threads.per.data.dir")?,
            num_replica_alter_log_dirs_threads: alter_log_dirs_threads(&values)?,
            log_recovery_io_max_bytes_per_second: values.double("log.recovery.io.max.bytes.per.second")?,
            console_port: values.is_set("console.port").then(|| values.port("console.port")).transpose()?,
            console_address: values.text("console.address")?,
            request_timeout_ms: values.int("request.timeout.ms")?,
            socket_request_max_bytes: values.int("socket.request.max.bytes")?,
            socket_send_buffer_bytes: values.int("socket.send.buffer.bytes")?,
            socket_receive_buffer_bytes: values.int("socket.receive.buffer.bytes")?,
            socket_listen_backlog_size: values.int("socket.listen.backlog.size")?,
            max_connections: values.int("max.connections")?,
            max_connections_per_ip: values.int("max.connections.per.ip")?,
            connections_max_idle_ms: values.whole("connections.max.idle.ms")?,
            num_partitions: values.int("num.partitions")?,
            default_replication_factor: values.int("default.replication.factor")?,
            auto_create_topics_enable: values.boolean("auto.create.topics.enable")?,
            delete_topic_enable: values.boolean("delete.topic.enable")?,
            auto_leader_rebalance_enable: values.boolean("auto.leader.rebalance.enable")?,
            leader_imbalance_check_interval_seconds: values.whole("leader.imbalance.check.interval.seconds")?,
            leader_imbalance_per_broker_percentage: values.int("leader.imbalance.per.broker.percentage")?,
            fetch_max_bytes: values.int("fetch.max.bytes")?,
            max_incremental_fetch_session_cache_slots: values.int("max.incremental.fetch.session.cache.slots")?,
            group_min_session_timeout_ms: values.int("group.min.session.timeout.ms")?,
            group_max_session_timeout_ms: values.int("group.max.session.timeout.ms")?,
            group_initial_rebalance_delay_ms: values.int("group.initial.rebalance.delay.ms")?,
            group_max_size: values.int("group.max.size")?,
            offset_metadata_max_bytes: values.int("offset.metadata.max.bytes")?,
            offsets_topic_num_partitions: values.int("offsets.topic.num.partitions")?,
            offsets_topic_replication_factor: values.short("offsets.topic.replication.factor")?,
            offsets_topic_segment_bytes: values.int("offsets.topic.segment.bytes")?,
            offsets_topic_compression_codec: values.int("offsets.topic.compression.codec")?,
            offsets_retention_minutes: values.int("offsets.retention.minutes")?,
            offsets_retention_check_interval_ms: values.whole("offsets.retention.check.interval.ms")?,
            offsets_commit_timeout_ms: values.int("offsets.commit.timeout.ms")?,
            transaction_state_log_num_partitions: values.int("transaction.state.log.num.partitions")?,
            transaction_state_log_replication_factor: values.short("transaction.state.log.replication.factor")?,
            transaction_state_log_segment_bytes: values.int("transaction.state.log.segment.bytes")?,
            transaction_state_log_min_isr: values.int("transaction.state.log.min.isr")?,
            transaction_max_timeout_ms: values.int("transaction.max.timeout.ms")?,
            transactional_id_expiration_ms: values.int("transactional.id.expiration.ms")?,
            transaction_abort_interval_ms: values.int("transaction.abort.timed.out.transaction.cleanup.interval.ms")?,
            transaction_remove_expired_interval_ms: values
                .int("transaction.remove.expired.transaction.cleanup.interval.ms")?,
            transaction_partition_verification_enable: values.boolean("transaction.partition.verification.enable")?,
            producer_id_expiration_ms: values.whole("producer.id.expiration.ms")?,
            producer_id_expiration_check_interval_ms: values.whole("producer.id.expiration.check.interval.ms")?,
            replica_high_watermark_checkpoint_interval_ms: values
                .whole("replica.high.watermark.checkpoint.interval.ms")?,
            log_flush_offset_checkpoint_interval_ms: values.whole("log.flush.offset.checkpoint.interval.ms")?,
            log_flush_start_offset_checkpoint_interval_ms: values
                .whole("log.flush.start.offset.checkpoint.interval.ms")?,
            log_retention_check_interval_ms: values.whole("log.retention.check.interval.ms")?,
            log_flush_scheduler_interval_ms: values.whole("log.flush.scheduler.interval.ms")?,
            log_cleaner: log_cleaner(&values)?,
            replication: ReplicationConfig::of(&values)?,
            log: LogConfig::from_values(&topic_values::of(&values, &BTreeMap::new())?),
            internal_topics_at_start: false,
            settings: settings.clone(),
            effective: settings.clone(),
        })
    }
}

impl BrokerConfig {
    /// The same broker with dynamic configs, those of all brokers and its own, over its file. Dynamic values that are not
    /// valid are passed over; values that do not go together with others are an error.
    pub fn with_dynamic(&self, defaults: &Dynamic, broker: &Dynamic) -> Result<BrokerConfig, ConfigError> {
        let effective = describe::effective(&Sources { file: &self.settings, defaults, broker });
        // An id that was generated is in no file.
        let (broker_id, settings) = (self.broker_id, self.settings.clone());
        let internal_topics_at_start = self.internal_topics_at_start;
        let config = BrokerConfig::from_settings(&effective)?;
        Ok(BrokerConfig { broker_id, settings, internal_topics_at_start, ..config })
    }
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        let mut settings = Settings::default();
        settings.set("listeners", "PLAINTEXT://localhost:9092", "the defaults");
        BrokerConfig::from_settings(&settings).expect("the defaults are valid")
    }
}

/// `broker.id`, which may also be called `node.id`.
fn broker_id(values: &Values) -> Result<i32, ConfigError> {
    let (broker_id, node_id) = (values.int("broker.id")?, values.int("node.id")?);
    match (values.is_set("broker.id"), values.is_set("node.id")) {
        (true, true) if broker_id != node_id => {
            Err(ConfigError::Conflict(format!("broker.id={broker_id} and node.id={node_id} differ: keep one of them")))
        }
        (false, true) => Ok(node_id),
        _ => Ok(broker_id),
    }
}

fn log_cleaner(values: &Values) -> Result<LogCleanerConfig, ConfigError> {
    Ok(LogCleanerConfig {
        enable: values.boolean("log.cleaner.enable")?,
        backoff_ms: values.whole("log.cleaner.backoff.ms")?,
        dedupe_buffer_size: values.whole("log.cleaner.dedupe.buffer.size")?,
        io_buffer_load_factor: values.double("log.cleaner.io.buffer.load.factor")?,
        io_buffer_size: values.int("log.cleaner.io.buffer.size")?,
        io_max_bytes_per_second: values.double("log.cleaner.io.max.bytes.per.second")?,
    })
}

fn inter_broker_protocol(values: &Values) -> Result<InterBrokerProtocol, ConfigError> {
    values.checked("inter.broker.protocol.version", |name, text| {
        let allowed = format!("{} to {}, which is what Ottla speaks to other brokers", OLDEST_SUPPORTED, LATEST);
        InterBrokerProtocol::parse(text).ok_or_else(|| ConfigError::bad_value(name, text, &allowed))
    })
}

/// `log.dirs`, else `log.dir`: separated by commas.
fn log_dirs(values: &Values) -> Result<Vec<PathBuf>, ConfigError> {
    let name = if values.optional_text("log.dirs")?.is_some() { "log.dirs" } else { "log.dir" };
    values.checked(name, |name, text| {
        let dirs = text.split(',').map(java_trim).filter(|dir| !dir.is_empty());
        let dirs: Vec<PathBuf> = dirs.map(PathBuf::from).collect();
        if dirs.is_empty() { Err(ConfigError::bad_value(name, text, "one or more directories")) } else { Ok(dirs) }
    })
}

fn alter_log_dirs_threads(values: &Values) -> Result<usize, ConfigError> {
    let set = values.optional_whole("num.replica.alter.log.dirs.threads")?;
    let of_dirs = log_dirs(values)?.len();
    Ok(set.map_or(of_dirs, |threads| usize::try_from(threads).unwrap_or(1)).clamp(1, ALTER_LOG_DIRS_THREADS_MAX))
}

fn zookeeper_connect(values: &Values) -> Result<Option<String>, ConfigError> {
    if !values.is_set("zookeeper.connect") {
        return Ok(None);
    }
    values.checked("zookeeper.connect", |name, text| {
        let servers = java_trim(text);
        let allowed = "host:port,.../chroot (remove the property to use the ZooKeeper inside)";
        let missing = servers.is_empty() || servers.starts_with('/');
        if missing { Err(ConfigError::bad_value(name, text, allowed)) } else { Ok(Some(servers.to_owned())) }
    })
}

fn zookeeper_connection_timeout_ms(values: &Values) -> Result<i32, ConfigError> {
    match values.value("zookeeper.connection.timeout.ms")? {
        Some(_) => values.int("zookeeper.connection.timeout.ms"),
        None => values.int("zookeeper.session.timeout.ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_configs_stand_over_the_file() {
        let mut settings = Settings::default();
        settings.set("log.retention.hours", "2", "f");
        settings.set("num.io.threads", "4", "f");
        let file = BrokerConfig::from_settings(&settings).expect("valid");
        let dynamic =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let defaults: Dynamic =
            dynamic(&[("log.retention.ms", "5"), ("num.io.threads", "x"), ("message.max.bytes", "7")]);
        let own: Dynamic = dynamic(&[("message.max.bytes", "8"), ("leader.replication.throttled.rate", "9")]);
        let config = file.with_dynamic(&defaults, &own).expect("valid");
        assert_eq!((config.log.retention_ms, config.log.max_message_bytes, config.num_io_threads), (5, 8, 4));
        let rates = |config: &BrokerConfig| {
            (config.replication.leader_throttled_rate, config.replication.follower_throttled_rate)
        };
        assert_eq!((rates(&config), rates(&file)), ((9, i64::MAX), (i64::MAX, i64::MAX)));
        assert_eq!(LogConfig::with_overrides(&config, &Dynamic::new()).expect("valid"), config.log);
        assert_eq!(config.settings, file.settings, "the file is still what it was");
        assert_eq!(config.with_dynamic(&Dynamic::new(), &Dynamic::new()).expect("valid"), file);
    }
}
