//! Changes of dynamic configurations, checked as Kafka checks them (`ZkAdminManager`, `DynamicBrokerConfig`), without ZooKeeper.

use super::broker_config::BrokerConfig;
use super::definitions::{self, Kind, Property, Update};
use super::describe::{Dynamic, listener_base, property_of};
use super::error::{ConfigError, shown};
use super::log_config::LogConfig;
use super::value;

/// What to do with one config, by Kafka's numbers on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Set,
    Delete,
    /// Adds to a list what is not in it.
    Append,
    /// Takes out of a list.
    Subtract,
}

impl Operation {
    pub fn from_id(id: i8) -> Option<Operation> {
        match id {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// One change that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub name: &'a str,
    pub operation: Operation,
    pub value: Option<&'a str>,
}

/// Why a change is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AlterError {
    /// The value: INVALID_CONFIG.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The request: INVALID_REQUEST.
    #[error("{0}")]
    Request(String),
}

fn refused<T>(message: impl Into<String>) -> Result<T, AlterError> {
    Err(AlterError::Request(message.into()))
}

/// Whose configs change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Topic,
    Broker,
    /// All brokers.
    BrokerDefaults,
}

/// `current` with `changes`, not yet checked as a whole.
pub fn apply(subject: Subject, current: &Dynamic, changes: &[Change]) -> Result<Dynamic, AlterError> {
    check_request(changes)?;
    let mut altered = current.clone();
    for change in changes {
        let value = change.value.unwrap_or_default();
        match change.operation {
            Operation::Set => {
                altered.insert(change.name.to_owned(), value.to_owned());
            }
            Operation::Delete => {
                altered.remove(change.name);
            }
            Operation::Append | Operation::Subtract => {
                let list = changed_list(subject, current, change)?;
                altered.insert(change.name.to_owned(), list);
            }
        }
    }
    Ok(altered)
}

/// What replaces everything that was there: the older API.
pub fn replacement<'a>(entries: &[(&'a str, Option<&'a str>)]) -> Result<Dynamic, AlterError> {
    let set = |(name, value): &(&'a str, Option<&'a str>)| Change { name, operation: Operation::Set, value: *value };
    let changes: Vec<Change> = entries.iter().map(set).collect();
    apply(Subject::Topic, &Dynamic::new(), &changes)
}

fn check_request(changes: &[Change]) -> Result<(), AlterError> {
    let mut names: Vec<&str> = changes.iter().map(|change| change.name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return refused(format!("{} is changed twice in one request", shown(twice[0])));
    }
    match changes.iter().find(|change| change.operation != Operation::Delete && change.value.is_none()) {
        Some(change) => refused(format!("{} has no value: delete it instead", shown(change.name))),
        None => Ok(()),
    }
}

fn definition(subject: Subject, name: &str) -> Option<&'static Property> {
    match subject {
        Subject::Topic => definitions::topic_property(name),
        Subject::Broker | Subject::BrokerDefaults => property_of(name),
    }
}

/// Starts from the current list, or the default of the property.
fn changed_list(subject: Subject, current: &Dynamic, change: &Change) -> Result<String, AlterError> {
    let property = definition(subject, change.name).filter(|property| property.kind == Kind::List);
    let Some(property) = property else {
        let allowed = "set or deleted as a whole, since it is not a list";
        return Err(ConfigError::bad_value(change.name, change.value.unwrap_or_default(), allowed).into());
    };
    let items = |text: &'_ str| -> Vec<String> {
        text.split(',').map(value::java_trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let old = current.get(change.name).map(String::as_str).or(property.default).unwrap_or_default();
    let (mut list, given) = (items(old), items(change.value.unwrap_or_default()));
    if change.operation == Operation::Append {
        let new: Vec<String> = given.into_iter().filter(|item| !list.contains(item)).collect();
        list.extend(new);
    } else {
        list.retain(|item| !given.contains(item));
    }
    Ok(list.join(","))
}

/// Whether a topic of `broker` may have these.
pub fn check_topic(broker: &BrokerConfig, altered: &Dynamic) -> Result<(), AlterError> {
    LogConfig::with_overrides(broker, altered)?;
    Ok(())
}

/// Whether a broker, or all brokers, may have these as dynamic configs.
pub fn check_broker(subject: Subject, altered: &Dynamic) -> Result<(), AlterError> {
    altered.iter().try_for_each(|(name, raw)| check_broker_config(subject, name, raw))
}

fn check_broker_config(subject: Subject, name: &str, raw: &str) -> Result<(), AlterError> {
    // What nobody here knows may belong to a plug-in of another broker.
    let Some(property) = property_of(name) else { return Ok(()) };
    let name = shown(name);
    let of_listener = listener_base(&name).is_some();
    match property.update {
        Update::ReadOnly => return refused(format!("{name} cannot change while a broker runs: set it in the file")),
        Update::PerBroker if subject == Subject::BrokerDefaults && !is_throttle(property) => {
            return refused(format!("{name} can change for one broker at a time only: name the broker"));
        }
        Update::PerBroker if property.name.starts_with("ssl.") && !of_listener => {
            return refused(format!(
                "{name} can change for one listener at a time only: use listener.name.LISTENER.{name}"
            ));
        }
        _ => {}
    }
    if property.is_sensitive() {
        return Err(ConfigError::unsupported(&name, "[hidden]", "password.encoder.secret is not set").into());
    }
    value::parse(property, raw).map(|_| ()).or_else(|error| refused(error.to_string()))
}

/// Throttles are for one broker by nature, and yet Kafka takes them for all.
fn is_throttle(property: &Property) -> bool {
    definitions::throttle_properties().iter().any(|throttle| throttle.name == property.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixture is what a 3.9.2 broker answers to `tests/reference/AlterConfigs.java`.
    #[test]
    fn changes_end_as_with_apache_kafka() {
        let broker = BrokerConfig::default();
        let mut topic = Dynamic::new();
        for line in include_str!("../../tests/fixtures/alter-configs-3.9.2.txt").lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [resource, operation, rest @ ..] = &fields[..] else { panic!("{line}") };
            let (rest, expected) = rest.split_at(rest.len() - 1);
            let subject = match *resource {
                "broker:" => Subject::BrokerDefaults,
                "broker:0" => Subject::Broker,
                _ => Subject::Topic,
            };
            let value = |text: &'static str| (text != "<null>").then_some(text);
            let pairs: Vec<(&str, Option<&str>)> = rest.chunks_exact(2).map(|pair| (pair[0], value(pair[1]))).collect();
            let operation = match *operation {
                "SET" => Some(Operation::Set),
                "DELETE" => Some(Operation::Delete),
                "APPEND" => Some(Operation::Append),
                "SUBTRACT" => Some(Operation::Subtract),
                _ => None,
            };
            let changes = |operation| {
                let change =
                    |(name, value): &(&'static str, Option<&'static str>)| Change { name, operation, value: *value };
                pairs.iter().map(change).collect::<Vec<Change>>()
            };
            let current = if subject == Subject::Topic { topic.clone() } else { Dynamic::new() };
            let altered = match operation {
                Some(operation) => apply(subject, &current, &changes(operation)),
                None => replacement(&pairs),
            };
            let checked = altered.and_then(|altered| match subject {
                Subject::Topic => check_topic(&broker, &altered).map(|()| altered),
                _ => check_broker(subject, &altered).map(|()| altered),
            });
            let ours = match &checked {
                Ok(_) => "ok",
                Err(AlterError::Config(_)) => "InvalidConfigurationException",
                Err(AlterError::Request(_)) => "InvalidRequestException",
            };
            assert_eq!(ours, expected[0], "{line}: {checked:?}");
            if let (Subject::Topic, Ok(altered)) = (subject, checked) {
                topic = altered;
            }
        }
    }

    #[test]
    fn lists_grow_and_shrink() {
        let current = Dynamic::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        for (current, operation, value, expected) in [
            (&Dynamic::new(), Operation::Append, "compact", "delete,compact"),
            (&current, Operation::Append, "compact,delete", "compact,delete"),
            (&current, Operation::Subtract, "compact", ""),
            (&Dynamic::new(), Operation::Subtract, "compact", "delete"),
        ] {
            let change = Change { name: "cleanup.policy", operation, value: Some(value) };
            let altered = apply(Subject::Topic, current, &[change]).expect("a list");
            assert_eq!(altered["cleanup.policy"], expected, "{operation:?} {value}");
        }
    }
}
