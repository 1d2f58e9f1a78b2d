//! JSON objects with their fields in a given order, as Kafka's tools print them.

use std::fmt::Write;

/// An object that is being written.
pub struct Object {
    text: String,
}

impl Object {
    pub fn new() -> Object {
        Object { text: String::from("{") }
    }

    /// A field whose value is JSON already.
    pub fn raw(mut self, name: &str, value: &str) -> Object {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(self.text, "\"{name}\":{value}");
        self
    }

    pub fn number(self, name: &str, value: impl std::fmt::Display) -> Object {
        self.raw(name, &value.to_string())
    }

    pub fn text(self, name: &str, value: Option<&str>) -> Object {
        self.raw(name, &quoted(value))
    }

    pub fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

pub fn quoted(value: Option<&str>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| serde_json::Value::from(value).to_string())
}

pub fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}
