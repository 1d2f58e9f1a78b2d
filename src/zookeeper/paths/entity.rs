//! Dynamic configurations below `/config`, their change notifications, and producer id blocks.

use super::json::Object;
use super::{ZnodeError, legal};
use crate::base::BrokerId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Something that has dynamic configurations. `None` is Kafka's `<default>`.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum ConfigEntity {
    Topic(String),
    Broker(Option<BrokerId>),
    Client(Option<String>),
    User(Option<String>),
    UserClient(Option<String>, Option<String>),
    Ip(Option<String>),
}

const DEFAULT: &str = "<default>";

fn name_or_default(name: &Option<String>) -> String {
    name.as_deref().map_or_else(|| DEFAULT.to_owned(), sanitize)
}

fn parse_name(text: &str) -> Option<Option<String>> {
    if text == DEFAULT { Some(None) } else { desanitize(text).map(Some) }
}

impl ConfigEntity {
    /// `topics/t`, `users/u/clients/c`...: the path below `/config`, and what a change notification carries.
    pub fn entity_path(&self) -> String {
        self.to_string()
    }

    pub fn path(&self) -> String {
        format!("/config/{self}")
    }

    /// `None` for anything that is not an entity, a hostile name included.
    pub fn parse(entity_path: &str) -> Option<ConfigEntity> {
        let parts: Vec<&str> = entity_path.split('/').collect();
        match parts.as_slice() {
            ["topics", topic] if crate::base::topic_name::is_legal(topic) => {
                Some(ConfigEntity::Topic((*topic).to_owned()))
            }
            ["brokers", DEFAULT] => Some(ConfigEntity::Broker(None)),
            ["brokers", id] => super::parse_broker_id(id).map(|id| ConfigEntity::Broker(Some(id))),
            ["clients", client] => parse_name(client).map(ConfigEntity::Client),
            ["users", user] => parse_name(user).map(ConfigEntity::User),
            ["users", user, "clients", client] => {
                Some(ConfigEntity::UserClient(parse_name(user)?, parse_name(client)?))
            }
            ["ips", DEFAULT] => Some(ConfigEntity::Ip(None)),
            ["ips", ip] if !ip.is_empty() => Some(ConfigEntity::Ip(Some((*ip).to_owned()))),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigEntity::Topic(topic) => write!(f, "topics/{}", legal(topic)),
            ConfigEntity::Broker(None) => write!(f, "brokers/{DEFAULT}"),
            ConfigEntity::Broker(Some(id)) => write!(f, "brokers/{id}"),
            ConfigEntity::Client(client) => write!(f, "clients/{}", name_or_default(client)),
            ConfigEntity::User(user) => write!(f, "users/{}", name_or_default(user)),
            ConfigEntity::UserClient(user, client) => {
                write!(f, "users/{}/clients/{}", name_or_default(user), name_or_default(client))
            }
            ConfigEntity::Ip(ip) => write!(f, "ips/{}", ip.as_deref().map(sanitize).as_deref().unwrap_or(DEFAULT)),
        }
    }
}

/// Percent-encoding as Kafka's `Sanitizer` does it: Java's form encoding, but a space is `%20` and `*` is `%2A`.
pub fn sanitize(name: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The opposite of [`sanitize`]; `None` when it is no such encoding of UTF-8 text.
pub fn desanitize(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Data of an entity's znode: `{"version":1,"config":{...}}`. No data is an empty map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntityConfig(pub BTreeMap<String, String>);

impl EntityConfig {
    pub fn parse(data: &[u8]) -> Result<EntityConfig, ZnodeError> {
        if data.is_empty() {
            return Ok(EntityConfig::default());
        }
        let object = Object::parse("a configuration", data)?;
        let mut config = BTreeMap::new();
        for (key, value) in object.object("config")?.into_iter().flatten() {
            let value = value.as_str().ok_or_else(|| object.wrong(format!("the value of {key} is not a string")))?;
            config.insert(key.clone(), value.to_owned());
        }
        Ok(EntityConfig(config))
    }

    pub fn to_json(&self) -> Vec<u8> {
        json!({"version": 1, "config": self.0}).to_string().into_bytes()
    }
}

/// What goes into a new `config_change_` znode.
pub fn change_json(entity: &ConfigEntity) -> Vec<u8> {
    json!({"version": 2, "entity_path": entity.entity_path()}).to_string().into_bytes()
}

/// The entity a notification names: version 2, or version 1 of brokers before Kafka 0.10.1.
pub fn change_entity_path(data: &[u8]) -> Result<ConfigEntity, ZnodeError> {
    let object = Object::parse("a configuration change", data)?;
    let path = match object.i32("version")? {
        2 => object.string("entity_path")?,
        1 => {
            let entity_type = object.string("entity_type")?;
            if entity_type != "topics" && entity_type != "clients" {
                return Err(object.wrong(format!("entity_type {entity_type:?} is not known")));
            }
            format!("{entity_type}/{}", object.string("entity_name")?)
        }
        other => return Err(object.wrong(format!("version {other} is not known"))),
    };
    ConfigEntity::parse(&path).ok_or_else(|| object.wrong(format!("{path:?} is no configurable entity")))
}

/// `/latest_producer_id_block`: numbers as strings. No data means that no block was handed out yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    pub broker: BrokerId,
    pub first: i64,
    /// Inclusive.
    pub last: i64,
}

impl ProducerIdBlock {
    /// Ids are handed out to brokers in blocks of this many.
    pub const SIZE: i64 = 1000;

    pub fn parse(data: &[u8]) -> Result<Option<ProducerIdBlock>, ZnodeError> {
        if data.is_empty() {
            return Ok(None);
        }
        let object = Object::parse("the producer id block", data)?;
        let number = |key: &str| -> Result<i64, ZnodeError> {
            let value = object.required(key)?;
            let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            number.filter(|n| *n >= 0).ok_or_else(|| object.wrong(format!("{key} is not a producer id")))
        };
        Ok(Some(ProducerIdBlock {
            broker: BrokerId(
                object.get("broker").and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok()).unwrap_or(-1),
            ),
            first: number("block_start")?,
            last: number("block_end")?,
        }))
    }

    /// The block after `latest`, for `broker`. `None` when 2^63 ids are used up.
    pub fn after(latest: Option<ProducerIdBlock>, broker: BrokerId) -> Option<ProducerIdBlock> {
        let first = match latest {
            None => 0,
            Some(block) => block.last.checked_add(1)?,
        };
        Some(ProducerIdBlock { broker, first, last: first.checked_add(ProducerIdBlock::SIZE - 1)? })
    }

    pub fn to_json(&self) -> Vec<u8> {
        json!({
            "version": 1,
            "broker": self.broker.0,
            "block_start": self.first.to_string(),
            "block_end": self.last.to_string(),
        })
        .to_string()
        .into_bytes()
    }
}
