//! Reading of JSON objects with Kafka's leniency.

use super::ZnodeError;
use serde_json::{Map, Value};

/// Larger than any znode ZooKeeper would hand out (`jute.maxbuffer` of Kafka's client is 4 MiB).
const SIZE_BYTES_MAX: usize = 16 << 20;

/// The object in a znode, with the words for an error message.
pub struct Object {
    what: &'static str,
    fields: Map<String, Value>,
}

impl Object {
    pub fn parse(what: &'static str, data: &[u8]) -> Result<Object, ZnodeError> {
        let fail = |reason: String| ZnodeError { what, reason };
        if data.len() > SIZE_BYTES_MAX {
            return Err(fail(format!("{} bytes are too many", data.len())));
        }
        match serde_json::from_slice::<Value>(data) {
            Ok(Value::Object(fields)) => Ok(Object { what, fields }),
            Ok(_) => Err(fail("not a JSON object".into())),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    pub fn wrong(&self, reason: impl Into<String>) -> ZnodeError {
        ZnodeError { what: self.what, reason: reason.into() }
    }

    /// `None` when the key is absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    pub fn required(&self, key: &str) -> Result<&Value, ZnodeError> {
        self.get(key).ok_or_else(|| self.wrong(format!("{key} is missing")))
    }

    pub fn i32(&self, key: &str) -> Result<i32, ZnodeError> {
        let value = self.required(key)?;
        int(value).ok_or_else(|| self.wrong(format!("{key} is not a 32-bit number")))
    }

    pub fn i32_or(&self, key: &str, default: i32) -> Result<i32, ZnodeError> {
        if self.get(key).is_some() { self.i32(key) } else { Ok(default) }
    }

    pub fn string(&self, key: &str) -> Result<String, ZnodeError> {
        let text = self.required(key)?.as_str();
        text.map(str::to_owned).ok_or_else(|| self.wrong(format!("{key} is not a string")))
    }

    pub fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>, ZnodeError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(format!("{key} is not an object"))),
        }
    }

    pub fn array(&self, key: &str) -> Result<&[Value], ZnodeError> {
        let array = self.required(key)?.as_array();
        array.map(Vec::as_slice).ok_or_else(|| self.wrong(format!("{key} is not an array")))
    }

    pub fn i32_array(&self, key: &str) -> Result<Vec<i32>, ZnodeError> {
        ints(self.required(key)?).ok_or_else(|| self.wrong(format!("{key} is not an array of 32-bit numbers")))
    }
}

pub fn int(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}

pub fn ints(value: &Value) -> Option<Vec<i32>> {
    value.as_array()?.iter().map(int).collect()
}
