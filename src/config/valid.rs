//! Which values a property takes (the validators of `ConfigDef`).
//!
//! `Display` writes a validator as Kafka's tables do, for the comparison with them; [`Valid::in_words`] says it to a person.

use super::value::Value;
use super::versions;
use std::fmt;

/// A validator.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Valid {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    Ratio(f64, f64),
    /// -1, or 1 to 9.
    GzipLevel,
    /// At least 1, or this one value.
    PositiveOr(i64),
    OneOf(&'static [&'static str]),
    AnyCaseOf(&'static [&'static str]),
    /// A list of these.
    ListOf(&'static [&'static str]),
    NonNull,
    NonEmpty,
    /// A list that should not be empty; Kafka accepts an empty one all the same.
    NonEmptyList,
    /// A version of the inter-broker protocol.
    Version,
    /// `partition:broker,...` or `*`.
    Replicas,
}

impl Valid {
    pub fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Valid::Any | Valid::NonNull | Valid::NonEmptyList, _) => true,
            (Valid::Ratio(low, high), Value::Double(number)) => (low..=high).contains(number),
            (Valid::ListOf(names), Value::List(items)) => items.iter().all(|item| names.contains(&item.as_str())),
            (Valid::Replicas, Value::List(items)) => items[..] == ["*"] || items.iter().all(|item| is_replica(item)),
            (_, Value::Text(text)) => self.accepts_text(text),
            _ => value.whole_number().is_some_and(|number| self.accepts_number(number)),
        }
    }

    fn accepts_number(self, number: i64) -> bool {
        match self {
            Valid::AtLeast(low) => number >= low,
            Valid::Between(low, high) => (low..=high).contains(&number),
            Valid::GzipLevel => number == -1 || (1..=9).contains(&number),
            Valid::PositiveOr(other) => number >= 1 || number == other,
            _ => false,
        }
    }

    fn accepts_text(self, text: &str) -> bool {
        match self {
            Valid::OneOf(names) => names.contains(&text),
            Valid::AnyCaseOf(names) => names.iter().any(|name| name.eq_ignore_ascii_case(text)),
            Valid::NonEmpty => !text.is_empty(),
            Valid::Version => versions::is_known(text),
            _ => false,
        }
    }

    /// What comes after "must be a whole number" and the like; empty when everything of the type is accepted.
    pub fn in_words(self) -> String {
        match self {
            Valid::Any | Valid::NonNull | Valid::NonEmptyList => String::new(),
            Valid::AtLeast(low) => format!("{low} or more"),
            Valid::Between(low, high) => format!("{low} to {high}"),
            Valid::Ratio(low, high) => format!("{low} to {high}"),
            Valid::GzipLevel => "-1 or 1 to 9".to_owned(),
            Valid::PositiveOr(other) => format!("{other} or at least 1"),
            Valid::OneOf(names) | Valid::AnyCaseOf(names) | Valid::ListOf(names) => names.join(", "),
            Valid::NonEmpty => "not empty".to_owned(),
            Valid::Version => format!("a version up to {}, for example 3.9", versions::LATEST),
            Valid::Replicas => "partition:broker,... or *".to_owned(),
        }
    }
}

fn is_replica(item: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    item.is_empty() || item.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
}

impl fmt::Display for Valid {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Valid::Any => Ok(()),
            Valid::AtLeast(low) => write!(out, "[{low},...]"),
            Valid::Between(low, high) => write!(out, "[{low},...,{high}]"),
            Valid::Ratio(low, high) => write!(out, "[{low},...,{high}]"),
            Valid::GzipLevel => write!(out, "[1,...,9] or -1"),
            Valid::PositiveOr(other) => write!(out, "[1,...] or {other}"),
            Valid::OneOf(names) | Valid::ListOf(names) => write!(out, "[{}]", names.join(", ")),
            Valid::AnyCaseOf(names) => write!(out, "(case insensitive) [{}]", names.join(", ")),
            Valid::NonNull => write!(out, "non-null string"),
            Valid::NonEmpty => write!(out, "non-empty string"),
            Valid::NonEmptyList => write!(out, "non-empty list"),
            Valid::Version => write!(out, "[{}]", versions::ALL.join(", ")),
            Valid::Replicas => write!(out, "[partitionId]:[brokerId],[partitionId]:[brokerId],..."),
        }
    }
}
