//! Typed look-ups in what somebody set, with the defaults of the table behind.

use super::definitions::broker_property;
use super::error::ConfigError;
use super::value::{self, Value};
use crate::base::Millis;
use std::collections::BTreeMap;
use std::fmt;

/// What is set, and where.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    entries: BTreeMap<String, Setting>,
}

#[derive(Clone, PartialEq, Eq)]
struct Setting {
    value: String,
    origin: String,
}

/// Names only: values may be secret.
impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Settings {
    /// A later value of the same name wins.
    pub fn set(&mut self, name: &str, value: &str, origin: &str) {
        self.entries.insert(name.to_owned(), Setting { value: value.to_owned(), origin: origin.to_owned() });
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|setting| setting.value.as_str())
    }

    pub fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, setting)| (name.as_str(), setting.value.as_str()))
    }

    /// The file or flag that set it; the empty string if nothing did.
    pub fn origin(&self, name: &str) -> &str {
        self.entries.get(name).map_or("", |setting| setting.origin.as_str())
    }

    /// Puts the origin of `name` in front of an error about it.
    pub fn locate(&self, name: &str, error: ConfigError) -> ConfigError {
        match self.origin(name) {
            "" => error,
            origin => error.located(origin),
        }
    }
}

/// Values of broker properties by type.
pub struct Values<'a> {
    pub settings: &'a Settings,
}

impl Values<'_> {
    pub fn is_set(&self, name: &str) -> bool {
        self.settings.get(name).is_some()
    }

    /// The value that is set, else the default; `None` is Kafka's null.
    pub fn value(&self, name: &str) -> Result<Option<Value>, ConfigError> {
        let property = broker_property(name).ok_or_else(|| absent(name))?;
        match self.settings.get(name) {
            Some(raw) => value::parse(property, raw).map(Some).map_err(|error| self.settings.locate(name, error)),
            None => Ok(value::default_of(property)),
        }
    }

    pub fn optional_whole(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        Ok(self.value(name)?.and_then(|value| value.whole_number()))
    }

    pub fn whole(&self, name: &str) -> Result<Millis, ConfigError> {
        self.optional_whole(name)?.ok_or_else(|| absent(name))
    }

    pub fn double(&self, name: &str) -> Result<f64, ConfigError> {
        match self.value(name)? {
            Some(Value::Double(number)) => Ok(number),
            _ => Err(absent(name)),
        }
    }

    pub fn int(&self, name: &str) -> Result<i32, ConfigError> {
        i32::try_from(self.whole(name)?).map_err(|_| absent(name))
    }

    pub fn short(&self, name: &str) -> Result<i16, ConfigError> {
        i16::try_from(self.whole(name)?).map_err(|_| absent(name))
    }

    pub fn port(&self, name: &str) -> Result<u16, ConfigError> {
        u16::try_from(self.whole(name)?).map_err(|_| absent(name))
    }

    pub fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        match self.value(name)? {
            Some(Value::Boolean(flag)) => Ok(flag),
            _ => Err(absent(name)),
        }
    }

    pub fn optional_text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.value(name)?.map(|value| value.text()))
    }

    pub fn text(&self, name: &str) -> Result<String, ConfigError> {
        self.optional_text(name)?.ok_or_else(|| absent(name))
    }

    /// Parses a text further; an error gets the origin of the property.
    pub fn checked<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str, &str) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let text = self.text(name)?;
        parse(name, &text).map_err(|error| self.settings.locate(name, error))
    }
}

/// A look-up under the wrong type, which the tests of the table exclude.
fn absent(name: &str) -> ConfigError {
    ConfigError::Conflict(format!("{name} has no value of the type that is asked for"))
}
