//! The values of a topic's properties: its own over the broker's (`LogConfig.fromProps`, `KafkaConfig.extractLogConfigMap`).

use super::definitions::{Kind, Property, broker_property, topic_properties, topic_property};
use super::error::ConfigError;
use super::value::{self, Value, parse_kind};
use super::values::Values;
use std::collections::BTreeMap;

/// A value for every topic property, by its name.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicValues {
    values: BTreeMap<&'static str, Value>,
}

impl TopicValues {
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A number, flag or text of a property by its own type; the tests of the table show that none is ever missing.
    pub fn whole(&self, name: &str) -> i64 {
        self.get(name).and_then(Value::whole_number).unwrap_or_default()
    }

    pub fn int(&self, name: &str) -> i32 {
        i32::try_from(self.whole(name)).unwrap_or(i32::MAX)
    }

    pub fn boolean(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Boolean(true))
    }

    pub fn double(&self, name: &str) -> f64 {
        if let Some(Value::Double(number)) = self.get(name) { *number } else { 0.0 }
    }

    pub fn text(&self, name: &str) -> String {
        self.get(name).map(Value::text).unwrap_or_default()
    }
}

/// All values of a topic with `overrides` on a broker with `broker` settings.
pub fn of(broker: &Values, overrides: &BTreeMap<String, String>) -> Result<TopicValues, ConfigError> {
    if let Some(unknown) = overrides.keys().find(|name| topic_property(name).is_none()) {
        return Err(ConfigError::UnknownTopicConfig(unknown.clone()));
    }
    let mut values = BTreeMap::new();
    for property in topic_properties() {
        let value = match overrides.get(property.name) {
            Some(raw) => parse_override(property, raw)?,
            None => default_on(broker, property)?,
        };
        values.insert(property.name, value);
    }
    let values = TopicValues { values };
    // What the broker's file says is not a topic's fault.
    if overrides.keys().any(|name| name.ends_with(".compaction.lag.ms")) {
        check_together(&values)?;
    }
    Ok(values)
}

/// As [`of`], for showing: a value that is not valid gives way to the default.
pub fn lenient(broker: &Values, overrides: &BTreeMap<String, String>) -> TopicValues {
    let value = |property: &Property| {
        let own = overrides.get(property.name).and_then(|raw| parse_override(property, raw).ok());
        own.or_else(|| default_on(broker, property).ok()).unwrap_or_else(|| default_without_broker(property))
    };
    TopicValues { values: topic_properties().map(|property| (property.name, value(property))).collect() }
}

/// Whether `value` can be a topic's `name`, taken alone.
pub fn validate_topic_config(name: &str, value: &str) -> Result<(), ConfigError> {
    let property = topic_property(name).ok_or_else(|| ConfigError::UnknownTopicConfig(name.to_owned()))?;
    parse_override(property, value).map(|_| ())
}

fn parse_override(property: &Property, raw: &str) -> Result<Value, ConfigError> {
    let value = value::parse(property, raw)?;
    if property.name == "remote.storage.enable" && value == Value::Boolean(true) {
        return Err(ConfigError::bad_value(
            property.name,
            raw,
            "false: tiered storage is not available on this broker",
        ));
    }
    Ok(value)
}

/// The first of the broker's properties that has a value, in the topic property's unit; else the topic's own default.
fn default_on(broker: &Values, property: &Property) -> Result<Value, ConfigError> {
    let topic_default = || default_without_broker(property);
    for name in property.broker_names {
        if let Some(value) = broker.value(name)? {
            if is_timestamp_limit(property.name) && value == Value::Long(i64::MAX) {
                // The older common limit holds where a side has none of its own.
                return Ok(Value::Long(broker.whole("log.message.timestamp.difference.max.ms")?));
            }
            return Ok(in_unit_of_topic(name, property.kind, value).unwrap_or_else(topic_default));
        }
    }
    Ok(topic_default())
}

fn default_without_broker(property: &Property) -> Value {
    value::default_of(property).unwrap_or(Value::Text(String::new()))
}

fn is_timestamp_limit(name: &str) -> bool {
    name == "message.timestamp.before.max.ms" || name == "message.timestamp.after.max.ms"
}

fn in_unit_of_topic(broker_name: &str, kind: Kind, value: Value) -> Option<Value> {
    let Some(number) = value.whole_number() else { return Some(value) };
    let milliseconds = match broker_name.rsplit('.').next() {
        Some("minutes") => 60_000,
        Some("hours") => 3_600_000,
        _ => 1,
    };
    // Any negative time means for ever, which is -1; a negative size is kept as it is.
    let is_time = broker_name.starts_with("log.retention.") && broker_name != "log.retention.bytes";
    let number = if is_time && number < 0 { -1 } else { number.saturating_mul(milliseconds) };
    parse_kind(kind, &number.to_string())
}

/// What two properties must not say of each other (`LogConfig.validateValues`).
fn check_together(values: &TopicValues) -> Result<(), ConfigError> {
    let (low, high) = (values.whole("min.compaction.lag.ms"), values.whole("max.compaction.lag.ms"));
    if low > high {
        return Err(ConfigError::Conflict(format!(
            "min.compaction.lag.ms={low} is larger than max.compaction.lag.ms={high}: make it at most that"
        )));
    }
    Ok(())
}

/// The broker property that a topic property's default is named after.
pub fn broker_synonym(topic_name: &str) -> Option<&'static Property> {
    topic_property(topic_name)?.broker_names.first().and_then(|name| broker_property(name))
}
