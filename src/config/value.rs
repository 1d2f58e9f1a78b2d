//! A property's value, parsed by its type (`ConfigDef.parseType`), and written back as Kafka shows it.

use super::definitions::{Kind, Property};
use super::error::ConfigError;

/// A parsed value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Boolean(bool),
    /// Also class names and passwords.
    Text(String),
    Int(i32),
    Short(i16),
    Long(i64),
    Double(f64),
    List(Vec<String>),
}

impl Value {
    /// The number of an integer type.
    pub fn whole_number(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(i64::from(*number)),
            Value::Short(number) => Some(i64::from(*number)),
            Value::Long(number) => Some(*number),
            _ => None,
        }
    }

    /// As Kafka writes it in DescribeConfigs.
    pub fn text(&self) -> String {
        match self {
            Value::Boolean(flag) => flag.to_string(),
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Short(number) => number.to_string(),
            Value::Long(number) => number.to_string(),
            Value::Double(number) => double_text(*number),
            Value::List(items) => items.join(","),
        }
    }
}

/// A double as Java's `Double.toString`: plain from 0.001 up to ten million, else with an exponent.
fn double_text(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else if size == 0.0 || (1e-3..1e7).contains(&size) {
        format!("{number:?}")
    } else {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        format!("{digits}{point}E{exponent}")
    }
}

/// Java's `String.trim`.
pub fn java_trim(text: &str) -> &str {
    text.trim_matches(|letter| letter <= ' ')
}

fn parse_double(text: &str) -> Option<f64> {
    match text {
        "NaN" | "+NaN" | "-NaN" => return Some(f64::NAN),
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if plain { number.parse().ok() } else { None }
}

fn parse_list(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(|item| java_trim(item).to_owned()).collect() }
}

/// Parses `raw` as `kind` says; blanks around it and around the items of a list do not count.
pub fn parse_kind(kind: Kind, raw: &str) -> Option<Value> {
    let trimmed = java_trim(raw);
    match kind {
        Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Some(Value::Boolean(true)),
        Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Some(Value::Boolean(false)),
        Kind::Boolean => None,
        Kind::Text | Kind::Password | Kind::Class => Some(Value::Text(trimmed.to_owned())),
        Kind::Int => trimmed.parse().ok().map(Value::Int),
        Kind::Short => trimmed.parse().ok().map(Value::Short),
        Kind::Long => trimmed.parse().ok().map(Value::Long),
        Kind::Double => parse_double(trimmed).map(Value::Double),
        Kind::List => Some(Value::List(parse_list(trimmed))),
    }
}

/// Parses and validates a value that somebody set.
pub fn parse(property: &Property, raw: &str) -> Result<Value, ConfigError> {
    match parse_kind(property.kind, raw) {
        Some(value) if property.valid.accepts(&value) => Ok(value),
        _ => {
            let shown = if property.is_sensitive() { "[hidden]" } else { raw };
            Err(ConfigError::bad_value(property.name, shown, &allowed(property)))
        }
    }
}

/// The default, parsed; `None` is Kafka's null.
pub fn default_of(property: &Property) -> Option<Value> {
    property.default.and_then(|text| parse_kind(property.kind, text))
}

/// What a property takes, in words that follow "must be".
fn allowed(property: &Property) -> String {
    let kind = match property.kind {
        Kind::Boolean => "true or false",
        Kind::Int => "a whole number (32 bits)",
        Kind::Short => "a whole number (16 bits)",
        Kind::Long => "a whole number (64 bits)",
        Kind::Double => "a number",
        Kind::List => "a list, separated by commas",
        Kind::Text | Kind::Class | Kind::Password => "",
    };
    let valid = property.valid.in_words();
    match (kind.is_empty(), valid.is_empty()) {
        (false, false) if property.kind == Kind::List => format!("{kind}, of {valid}"),
        (false, false) => format!("{kind}, {valid}"),
        (false, true) => kind.to_owned(),
        _ if valid.contains(", ") => format!("one of {valid}"),
        _ => valid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_parse_as_in_java() {
        for (kind, raw, expected) in [
            (Kind::Boolean, " TRUE ", Some("true")),
            (Kind::Boolean, "yes", None),
            (Kind::Int, " +5 ", Some("5")),
            (Kind::Int, "5.0", None),
            (Kind::Int, "", None),
            (Kind::Int, "2147483648", None),
            (Kind::Short, "32768", None),
            (Kind::Long, "-9223372036854775808", Some("-9223372036854775808")),
            (Kind::Double, "1.7976931348623157E308", Some("1.7976931348623157E308")),
            (Kind::Double, "10000000", Some("1.0E7")),
            (Kind::Double, "0.5f", Some("0.5")),
            (Kind::Double, "1", Some("1.0")),
            (Kind::Double, "inf", None),
            (Kind::List, " a , b,,c ", Some("a,b,,c")),
            (Kind::List, "  ", Some("")),
            (Kind::Text, " a b ", Some("a b")),
        ] {
            assert_eq!(parse_kind(kind, raw).map(|value| value.text()).as_deref(), expected, "{kind:?} {raw:?}");
        }
    }

    #[test]
    fn every_default_parses_and_is_valid() {
        use super::super::definitions::{broker_properties, topic_properties};
        for property in broker_properties().chain(topic_properties()) {
            let Some(text) = property.default else { continue };
            let value = parse_kind(property.kind, text).unwrap_or_else(|| panic!("{}: {text}", property.name));
            assert!(property.valid.accepts(&value), "{}: {text}", property.name);
            assert_eq!(value.text(), text, "{}", property.name);
        }
    }
}
