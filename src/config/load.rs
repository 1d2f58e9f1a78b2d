//! From a properties file and `--override` flags to a [`BrokerConfig`], with warnings for what is not acted on.

use super::broker_config::BrokerConfig;
use super::definitions::{Property, Support, broker_property, is_of_embedded_zookeeper};
use super::error::{ConfigError, shown};
use super::properties::Properties;
use super::value::{self, Value};
use super::values::Settings;
use std::path::Path;

/// What a machine of one developer has set when there is no properties file: nobody outside gets in, and the internal topics
/// work with one broker. With a file Kafka's defaults hold.
const ONE_MACHINE: &[(&str, &str)] = &[
    ("broker.id", "0"),
    ("listeners", "PLAINTEXT://localhost:9092"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
];

/// A configuration, and what somebody should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: BrokerConfig,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Reads `file`, or takes the defaults for one machine, and applies `overrides` (`key=value`) in order.
pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Loaded, ConfigError> {
    let properties = file.map(Properties::load).transpose()?;
    let origin = file.map(|path| path.display().to_string());
    from_properties(properties.as_ref().zip(origin.as_deref()), overrides)
}

/// The same for a file that is read already; `origin` is its name.
pub fn from_properties(file: Option<(&Properties, &str)>, overrides: &[String]) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::default();
    match file {
        Some((properties, origin)) => {
            properties.iter().for_each(|(name, value)| settings.set(name, value, origin));
        }
        None => ONE_MACHINE.iter().for_each(|(name, value)| settings.set(name, value, "the defaults")),
    }
    for argument in overrides {
        let (name, value) = argument
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| ConfigError::BadOverride { argument: shown(argument) })?;
        settings.set(name, value, "--override");
    }
    let warnings = look_at_each(&settings)?;
    let conflict = |error| match (error, file) {
        (error @ ConfigError::Conflict(_), Some((_, origin))) => ConfigError::located(error, origin),
        (error, _) => error,
    };
    let mut config = BrokerConfig::from_settings(&settings).map_err(conflict)?;
    config.internal_topics_at_start = file.is_none() && config.zookeeper_connect.is_none();
    Ok(Loaded { config, warnings })
}

/// Parses everything that is set, acted on or not, and says what will not be acted on.
fn look_at_each(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, raw) in settings.iter() {
        let warning = look_at(settings, name, raw).map_err(|error| settings.locate(name, error))?;
        warnings.extend(warning.map(|text| format!("{}: {}={text}", settings.origin(name), shown(name))));
    }
    Ok(warnings)
}

/// A warning says the value (unless it is secret) and what becomes of it.
fn look_at(settings: &Settings, name: &str, raw: &str) -> Result<Option<String>, ConfigError> {
    let Some(property) = broker_property(name) else {
        return look_at_unknown(name, raw);
    };
    let value = value::parse(property, raw)?;
    if is_of_embedded_zookeeper(name) && settings.get("zookeeper.connect").is_some() {
        return Ok(Some(format!("{}: has no effect, since zookeeper.connect is set", shown(raw))));
    }
    if is_like_default(property, &value) {
        return Ok(None);
    }
    let text = if property.is_sensitive() { "[hidden]".to_owned() } else { shown(raw) };
    match property.support {
        Support::Acts | Support::Moot => Ok(None),
        Support::Ignored => Ok(Some(format!("{text}: not supported yet, and ignored. {}", property.doc))),
        Support::Unsafe => Err(ConfigError::unsupported(name, &text, &advice(property))),
    }
}

fn look_at_unknown(name: &str, raw: &str) -> Result<Option<String>, ConfigError> {
    if name == "config.providers" {
        return Err(ConfigError::unsupported(name, raw, "write the values into the file"));
    }
    // The value may be a secret of something we do not know.
    let what = if name.starts_with("listener.name.") {
        "settings of single listeners are not supported yet, and ignored"
    } else {
        "unknown property, ignored"
    };
    Ok(Some(format!("...: {what}")))
}

/// Nothing else than without the property: its default, or nothing where the default is nothing.
fn is_like_default(property: &Property, value: &Value) -> bool {
    match value::default_of(property) {
        Some(default) => *value == default,
        None => value.text().is_empty(),
    }
}

fn advice(property: &Property) -> String {
    match property.name {
        "process.roles" => {
            "this file is for KRaft mode and Ottla runs in ZooKeeper mode, so remove process.roles and set broker.id"
                .into()
        }
        _ => format!("remove it, or run Apache Kafka. {}", property.doc),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn load_text(text: &str, overrides: &[&str]) -> Result<Loaded, ConfigError> {
        let properties = Properties::parse(text.as_bytes())?;
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        from_properties(Some((&properties, "f")), &overrides)
    }

    fn config(text: &str) -> BrokerConfig {
        load_text(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}")).config
    }

    #[test]
    fn no_file_suits_one_developer() {
        let config = from_properties(None, &[]).expect("valid").config;
        assert_eq!((config.broker_id, config.zookeeper_connect), (0, None));
        assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://localhost:9092");
        assert_eq!(config.advertised_listeners, config.listeners);
        assert_eq!((config.offsets_topic_replication_factor, config.group_initial_rebalance_delay_ms), (1, 0));
        assert_eq!((config.transaction_state_log_replication_factor, config.transaction_state_log_min_isr), (1, 1));
        assert_eq!(config.log_dirs, [PathBuf::from("/tmp/kafka-logs")]);
        assert!(config.internal_topics_at_start);
        let overrides = ["listeners=PLAINTEXT://:9092".to_owned(), "broker.id=7".to_owned()];
        let config = from_properties(None, &overrides).expect("valid").config;
        assert_eq!((config.listeners[0].host.as_str(), config.broker_id), ("", 7));
    }

    #[test]
    fn with_a_file_kafkas_defaults_hold() {
        let config = config("");
        assert_eq!((config.broker_id, config.group_initial_rebalance_delay_ms), (-1, 3000));
        assert!(!config.internal_topics_at_start);
        assert_eq!((config.offsets_topic_replication_factor, config.transaction_state_log_min_isr), (3, 2));
        assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://:9092");
        assert_eq!((config.zookeeper_session_timeout_ms, config.zookeeper_connection_timeout_ms), (18_000, 18_000));
    }

    #[test]
    fn finer_units_win_over_coarser_ones() {
        assert_eq!(config("log.retention.hours=2").log.retention_ms, 7_200_000);
        assert_eq!(config("log.retention.hours=2\nlog.retention.minutes=3").log.retention_ms, 180_000);
        assert_eq!(config("log.retention.minutes=3\nlog.retention.ms=5").log.retention_ms, 5);
        assert_eq!(config("log.retention.hours=-1").log.retention_ms, -1);
        assert_eq!(config("log.roll.hours=1").log.segment_ms, 3_600_000);
        assert_eq!(config("log.roll.hours=1\nlog.roll.ms=9").log.segment_ms, 9);
        assert_eq!(config("log.flush.scheduler.interval.ms=8").log.flush_ms, 8);
        assert_eq!(config("log.flush.scheduler.interval.ms=8\nlog.flush.interval.ms=6").log.flush_ms, 6);
        assert_eq!(config("log.message.timestamp.difference.max.ms=4").log.message_timestamp_after_max_ms, 4);
        assert_eq!(config("log.dir=/a\nlog.dirs=/b, /c").log_dirs, [PathBuf::from("/b"), PathBuf::from("/c")]);
        assert_eq!(config("log.dir=/a").log_dirs, [PathBuf::from("/a")]);
        assert_eq!(config("node.id=4").broker_id, 4);
        assert_eq!(config("zookeeper.session.timeout.ms=7").zookeeper_connection_timeout_ms, 7);
    }

    #[test]
    fn listeners_are_read_as_kafka_reads_them() {
        let config = config(concat!(
            "listeners=internal://[::1]:9093,EXTERNAL://0.0.0.0:9094\n",
            "advertised.listeners=EXTERNAL://broker.example:9094,INTERNAL://host-1:1\n",
            "listener.security.protocol.map=internal:plaintext, EXTERNAL:PLAINTEXT\n",
            "inter.broker.listener.name=internal",
        ));
        assert_eq!(config.listeners[0].to_string(), "INTERNAL://[::1]:9093");
        assert_eq!(config.listeners[1].security_protocol, "PLAINTEXT");
        assert_eq!(config.advertised_listeners[0].host, "broker.example");
        assert_eq!(config.inter_broker_listener_name, "INTERNAL");
    }

    #[test]
    fn an_error_is_one_line_that_says_where_what_and_what_is_allowed() {
        for (text, parts) in [
            ("num.io.threads=0", &["f: num.io.threads=0: must be a whole number", "1 or more"][..]),
            ("num.io.threads=a\\nb", &["num.io.threads=a\\nb: must be"]),
            ("compression.type=brotli", &["compression.type=brotli: must be one of uncompressed, zstd"]),
            ("listeners=PLAINTEXT://:70000", &["f: listeners=PLAINTEXT://:70000: must be NAME://host:port"]),
            ("listeners=", &["f: listeners=: must be NAME://host:port"]),
            ("listeners=FOO://:1", &["listener.security.protocol.map, which does not name FOO"]),
            ("listeners=SSL://:9093", &["listener SSL uses SSL", "only PLAINTEXT"]),
            ("listeners=PLAINTEXT://:1,PLAINTEXT://:2", &["a name of its own"]),
            ("listeners=A://:1,B://:1\nlistener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT", &["a port of its own"]),
            ("listeners=PLAINTEXT://0.0.0.0:1", &["f: listener PLAINTEXT", "advertised.listeners"]),
            ("advertised.listeners=SSL://a:1", &["f: advertised.listeners=SSL://a:1", "does not name SSL"]),
            ("inter.broker.listener.name=X", &["f: ", "=X: must be a listener in"]),
            ("security.inter.broker.protocol=SSL", &["=SSL: must be the name of an advertised listener"]),
            (
                "security.inter.broker.protocol=PLAINTEXT\ninter.broker.listener.name=PLAINTEXT",
                &["f: inter.broker.listener.name and security.inter.broker.protocol are both set"],
            ),
            ("broker.id=1001", &["f: broker.id=1001: must be -1 (generated) or up to reserved.broker.max.id=1000"]),
            ("broker.id=-1\nbroker.id.generation.enable=false", &["broker.id=-1: must be 0 or more"]),
            ("broker.id=1\nnode.id=2", &["f: broker.id=1 and node.id=2 differ"]),
            ("log.retention.ms=0", &["log.retention.ms=0: must be -1"]),
            ("log.roll.ms=0", &["log.roll.ms=0: must be 1 or more"]),
            ("log.dirs=,", &["f: log.dirs=,: must be one or more directories"]),
            ("zookeeper.connect=", &["f: zookeeper.connect=: must be host:port"]),
            ("process.roles=broker,controller", &["process.roles=broker,controller: not supported", "KRaft"]),
            ("authorizer.class.name=kafka.Acl", &["f: authorizer.class.name=kafka.Acl: not supported", "unsafe"]),
            ("password.encoder.secret=hunter2", &["password.encoder.secret=[hidden]: not supported"]),
            ("remote.log.storage.system.enable=true", &["not supported"]),
            ("config.providers=file", &["not supported"]),
            ("a=\\u00", &["line 1: "]),
        ] {
            let error = load_text(text, &[]).expect_err(text).to_string();
            assert!(!error.contains('\n'), "{error}");
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = load_text("num.io.threads=4", &["num.io.threads=x"]).expect_err("bad").to_string();
        assert!(error.starts_with("--override: num.io.threads=x: must be a whole number"), "{error}");
        assert!(load_text("", &["=x"]).is_err() && load_text("", &["x"]).is_err());
    }

    #[test]
    fn what_is_not_acted_on_is_a_warning() {
        for (text, expected) in [
            ("controller.socket.timeout.ms=4", Some("=4: not supported yet")),
            ("num.replica.alter.log.dirs.threads=4", None),
            ("num.replica.fetchers=4", None),
            ("foo.bar=secret", Some("f: foo.bar=...: unknown property")),
            ("listener.name.a.max.connections=1", Some("single listeners are not supported yet")),
            ("queued.max.requests=400", None),
            ("authorizer.class.name=", None),
            ("zookeeper.embedded.port=1\nzookeeper.connect=a:1", Some("has no effect")),
            ("zookeeper.embedded.port=1", None),
            ("ssl.keystore.password=secret", Some("ssl.keystore.password=[hidden]")),
        ] {
            let warnings = load_text(text, &[]).expect(text).warnings;
            assert_eq!(warnings.len(), usize::from(expected.is_some()), "{text}: {warnings:?}");
            assert!(expected.is_none_or(|expected| warnings[0].contains(expected)), "{warnings:?}");
            assert!(!warnings.concat().contains("secret"), "{warnings:?}");
        }
    }

    /// The values of the file that comes with Apache Kafka 3.9.
    #[test]
    fn the_stock_file_gives_no_warning() {
        let loaded = load_text(include_str!("../../tests/fixtures/server.properties"), &[]).expect("valid");
        assert_eq!(loaded.warnings, Vec::<String>::new());
        let config = loaded.config;
        assert_eq!((config.broker_id, config.zookeeper_connect.as_deref()), (0, Some("localhost:2181")));
        assert_eq!((config.offsets_topic_replication_factor, config.group_initial_rebalance_delay_ms), (1, 0));
        assert_eq!(config.log.retention_ms, 168 * 3_600_000);
    }
}
