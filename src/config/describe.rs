//! What is configured, where each value comes from, and what stands behind it (`ConfigHelper`, `DynamicBrokerConfig`): the
//! content of DescribeConfigs, without the wire.
//!
//! Invariant: the value of a secret, or of something whose nature is unknown, is never in an entry.

use super::definitions::{self, Kind, Property, Update};
use super::topic_values;
use super::value;
use super::values::{Settings, Values};
use std::collections::{BTreeMap, BTreeSet};

/// A dynamic configuration, as it stands in ZooKeeper.
pub type Dynamic = BTreeMap<String, String>;

/// Where a value comes from, by Kafka's numbers on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Source {
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

/// One of the places that a value could come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: String,
    /// `None`: secret.
    pub value: Option<String>,
    pub source: Source,
}

/// One config.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub name: String,
    /// `None`: null, or secret.
    pub value: Option<String>,
    pub source: Source,
    pub sensitive: bool,
    pub read_only: bool,
    /// `None`: not known to this broker.
    pub kind: Option<Kind>,
    /// The one in force first.
    pub synonyms: Vec<Synonym>,
    pub doc: Option<&'static str>,
}

/// What a broker is configured with.
pub struct Sources<'a> {
    pub file: &'a Settings,
    /// Of all brokers.
    pub defaults: &'a Dynamic,
    /// Of this broker.
    pub broker: &'a Dynamic,
}

/// All configs of a topic with `overrides`. Overrides that are not valid are left out, as they are when logs are configured.
pub fn topic(sources: &Sources, overrides: &Dynamic) -> Vec<Entry> {
    let effective = effective(sources);
    let valid = |(name, raw): &(&String, &String)| topic_values::validate_topic_config(name, raw).is_ok();
    let overrides: Dynamic = overrides.iter().filter(valid).map(|(name, raw)| (name.clone(), raw.clone())).collect();
    let values = topic_values::lenient(&Values { settings: &effective }, &overrides);
    let entry = |property: &'static Property| {
        let value = values.get(property.name).map(|value| value.text());
        let own = overrides.get(property.name).map(|_| Synonym {
            name: property.name.to_owned(),
            value: value.clone(),
            source: Source::DynamicTopic,
        });
        let behind = match property.broker_names {
            [] => Vec::new(),
            [first, ..] => synonyms(sources, first, property.broker_names, false),
        };
        let synonyms: Vec<Synonym> = own.into_iter().chain(behind).collect();
        Entry {
            name: property.name.to_owned(),
            value,
            source: source_of(&synonyms),
            sensitive: false,
            read_only: false,
            kind: Some(property.kind),
            synonyms,
            doc: Some(property.doc),
        }
    };
    definitions::topic_properties().map(entry).collect()
}

/// All configs of this broker.
pub fn broker(sources: &Sources) -> Vec<Entry> {
    let effective = effective(sources);
    let shown = definitions::broker_properties().filter(|property| !definitions::is_internal(property.name));
    let mut names: BTreeSet<&str> = shown.map(|property| property.name).collect();
    names.extend(effective.iter().map(|(name, _)| name));
    names.into_iter().map(|name| broker_entry(sources, name, value_of(&effective, name))).collect()
}

/// The dynamic configs that all brokers share.
pub fn broker_defaults(sources: &Sources) -> Vec<Entry> {
    let only_defaults = Sources { file: &Settings::default(), defaults: sources.defaults, broker: &Dynamic::new() };
    let entry = |(name, raw): (&String, &String)| {
        let mut entry = broker_entry(&only_defaults, name, Some(raw.clone()));
        entry.synonyms.retain(|synonym| synonym.source == Source::DynamicDefaultBroker);
        entry
    };
    sources.defaults.iter().map(entry).collect()
}

fn broker_entry(sources: &Sources, name: &str, value: Option<String>) -> Entry {
    let property = property_of(name);
    let sensitive = property.is_none_or(Property::is_sensitive);
    let synonyms = synonyms(sources, name, &broker_synonyms(name), sensitive);
    let exact = definitions::broker_property(name);
    Entry {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: source_of(&synonyms),
        sensitive,
        read_only: exact.is_none_or(|property| property.update == Update::ReadOnly),
        kind: property.map(|property| property.kind),
        synonyms,
        doc: property.map(|property| property.doc),
    }
}

fn source_of(synonyms: &[Synonym]) -> Source {
    synonyms.first().map_or(Source::Default, |first| first.source)
}

/// The property that says what `name` is: itself, a throttle, or what is left after `listener.name.LISTENER.`.
pub fn property_of(name: &str) -> Option<&'static Property> {
    let exact = |name: &str| {
        let throttle = || definitions::throttle_properties().iter().find(|property| property.name == name);
        definitions::broker_property(name).or_else(throttle)
    };
    exact(name).or_else(|| exact(listener_base(name)?))
}

/// `listener.name.LISTENER.BASE`: the base.
pub fn listener_base(name: &str) -> Option<&str> {
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(base)
}

/// Broker properties that say the same thing, the one that wins first.
fn broker_synonyms(name: &str) -> Vec<&str> {
    const FAMILIES: [&[&str]; 4] = [
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    ];
    let family = FAMILIES.iter().find(|family| family.contains(&name) && name != "log.flush.scheduler.interval.ms");
    match (family, listener_base(name)) {
        (Some(family), _) => family.to_vec(),
        (None, Some(base)) => vec![name, base],
        (None, None) => vec![name],
    }
}

/// Everything that is said under `names`, from the nearest place to the farthest, beginning with what is said under `name`.
fn synonyms(sources: &Sources, name: &str, names: &[&str], sensitive: bool) -> Vec<Synonym> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Option<&str>, source: Source| {
        if let Some(value) = value {
            let value = (!sensitive).then(|| value.to_owned());
            found.push(Synonym { name: name.to_owned(), value, source });
        }
    };
    for (dynamic, source) in [(sources.broker, Source::DynamicBroker), (sources.defaults, Source::DynamicDefaultBroker)]
    {
        names.iter().for_each(|name| add(name, dynamic.get(*name).map(String::as_str), source));
    }
    names.iter().for_each(|name| add(name, in_file(sources.file, name), Source::StaticBroker));
    let default = |name: &str| definitions::broker_property(name).and_then(|property| property.default);
    names.iter().for_each(|name| add(name, default(name), Source::Default));
    found.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

/// What the file says; `broker.id` and `node.id` speak for each other.
fn in_file<'a>(file: &'a Settings, name: &str) -> Option<&'a str> {
    let other = match name {
        "broker.id" => Some("node.id"),
        "node.id" => Some("broker.id"),
        _ => None,
    };
    file.get(name).or_else(|| file.get(other?))
}

/// The value in force.
fn value_of(effective: &Settings, name: &str) -> Option<String> {
    let property = property_of(name)?;
    match in_file(effective, name) {
        Some(raw) => value::parse_kind(property.kind, raw).map(|value| value.text()),
        None => property.default.map(str::to_owned),
    }
}

/// The file's settings with the dynamic ones over them. A dynamic value also takes the place of its coarser or finer
/// relatives; one that is not valid, or cannot be dynamic, is passed over.
pub fn effective(sources: &Sources) -> Settings {
    let mut effective = sources.file.clone();
    for (dynamic, is_default) in [(sources.defaults, true), (sources.broker, false)] {
        for (name, raw) in dynamic.iter().filter(|(name, raw)| can_be_dynamic(name, raw, is_default)) {
            if listener_base(name).is_none() {
                broker_synonyms(name).into_iter().for_each(|relative| effective.remove(relative));
            }
            effective.set(name, raw, "ZooKeeper");
        }
    }
    effective
}

fn can_be_dynamic(name: &str, raw: &str, is_default: bool) -> bool {
    property_of(name).is_some_and(|property| {
        let may = match property.update {
            Update::ReadOnly => false,
            Update::PerBroker => !is_default,
            Update::ClusterWide => true,
        };
        may && value::parse(property, raw).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `tests/reference/DescribeConfigs.java` writes it.
    fn line(entry: &Entry) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or("null".to_owned());
        let source = |source: Source| match source {
            Source::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
            Source::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Source::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Source::StaticBroker => "STATIC_BROKER_CONFIG",
            Source::Default => "DEFAULT_CONFIG",
        };
        let kind = entry.kind.map_or("UNKNOWN", Kind::name);
        let head = [&entry.name, &text(&entry.value), source(entry.source), &entry.sensitive.to_string()].join("\t");
        let synonym =
            |synonym: &Synonym| format!("\t{}={}@{}", synonym.name, text(&synonym.value), source(synonym.source));
        format!("{head}\t{}\t{kind}{}", entry.read_only, entry.synonyms.iter().map(synonym).collect::<String>())
    }

    fn dynamic(pairs: &[(&str, &str)]) -> Dynamic {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// The fixture is what a 3.9.2 broker with these files and dynamic configs answers.
    #[test]
    fn a_broker_and_its_topics_are_described_as_by_apache_kafka() {
        let fixture = include_str!("../../tests/fixtures/describe-configs-3.9.2.txt");
        let file = include_str!("../../tests/fixtures/describe-configs-server.properties");
        let mut settings = Settings::default();
        let properties = super::super::Properties::parse(file.as_bytes()).expect("well formed");
        properties.iter().for_each(|(name, value)| settings.set(name, value, "file"));
        let defaults =
            dynamic(&[("log.retention.ms", "777000"), ("message.max.bytes", "2000000"), ("log.cleaner.threads", "2")]);
        let broker_own = dynamic(&[
            ("log.cleaner.backoff.ms", "16000"),
            ("message.max.bytes", "3000000"),
            ("leader.replication.throttled.rate", "500"),
            ("listener.name.plaintext.max.connections", "77"),
        ]);
        let topic_own = dynamic(&[
            ("retention.ms", "1000"),
            ("cleanup.policy", "compact,delete"),
            ("segment.ms", "7"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("leader.replication.throttled.replicas", "0:0"),
        ]);
        let sources = Sources { file: &settings, defaults: &defaults, broker: &broker_own };
        for (resource, entries) in [
            ("topic\tplain", topic(&sources, &Dynamic::new())),
            ("topic\town", topic(&sources, &topic_own)),
            ("broker\t0", broker(&sources)),
            ("broker\t", broker_defaults(&sources)),
        ] {
            let start = format!("resource\t{resource}\n");
            let (_, rest) = fixture.split_once(&start).expect(resource);
            let expected: Vec<&str> = rest.lines().take_while(|line| !line.starts_with("resource\t")).collect();
            let ours = entries.iter().filter(|entry| !definitions::is_own(&entry.name));
            let ours: Vec<String> = ours.map(line).collect();
            for (ours, expected) in ours.iter().zip(&expected) {
                assert_eq!(ours, expected);
            }
            assert_eq!(ours.len(), expected.len(), "{resource}");
        }
    }

    #[test]
    fn secrets_and_unknown_things_are_not_shown() {
        let mut file = Settings::default();
        file.set("ssl.key.password", "hunter2", "f");
        file.set("some.unknown", "hunter2", "f");
        let secret = dynamic(&[("listener.name.a.ssl.key.password", "hunter2"), ("what.is.this", "hunter2")]);
        let sources = Sources { file: &file, defaults: &secret, broker: &secret };
        let shown = [broker(&sources), broker_defaults(&sources), topic(&sources, &secret)];
        assert!(!format!("{shown:?}").contains("hunter2"));
    }

    #[test]
    fn dynamic_values_that_cannot_be_are_passed_over() {
        let file = Settings::default();
        let defaults = dynamic(&[("num.io.threads", "x"), ("broker.id", "5"), ("listeners", "PLAINTEXT://:1")]);
        let sources = Sources { file: &file, defaults: &defaults, broker: &defaults };
        let names: Vec<String> = effective(&sources).iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["listeners"], "a broker's own listeners may change, those of all brokers may not");
        let sources = Sources { file: &file, defaults: &defaults, broker: &Dynamic::new() };
        assert_eq!(effective(&sources).iter().count(), 0);
    }
}
