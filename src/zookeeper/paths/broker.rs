//! Brokers and the cluster: `/brokers/ids/N`, `/cluster/id`, `/controller`, `/feature`.

use super::ZnodeError;
use super::json::{Object, int};
use crate::base::{BrokerId, Millis};
use crate::config::Endpoint;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An endpoint as a broker advertises it: `LISTENER://host:port` and the listener's security protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisteredEndpoint {
    pub listener: String,
    pub host: String,
    /// As registered: what an old broker calls -1 is kept.
    pub port: i32,
    pub security_protocol: String,
}

impl From<&Endpoint> for RegisteredEndpoint {
    fn from(endpoint: &Endpoint) -> RegisteredEndpoint {
        RegisteredEndpoint {
            listener: endpoint.listener.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            security_protocol: endpoint.security_protocol.clone(),
        }
    }
}

/// `/brokers/ids/N`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerInfo {
    pub endpoints: Vec<RegisteredEndpoint>,
    pub rack: Option<String>,
    pub timestamp_ms: Millis,
    /// Supported features as (minimum, maximum) version; a broker in ZooKeeper mode supports none.
    pub features: BTreeMap<String, (i32, i32)>,
}

impl BrokerInfo {
    pub fn endpoint(&self, listener: &str) -> Option<&RegisteredEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }

    /// Whether the controller has to tell the cluster when `self` replaces `other`.
    pub fn same_as(&self, other: &BrokerInfo) -> bool {
        self.endpoints == other.endpoints && self.features == other.features && self.rack == other.rack
    }

    pub fn parse(data: &[u8]) -> Result<BrokerInfo, ZnodeError> {
        let object = Object::parse("a broker", data)?;
        let version = object.i32("version")?;
        let endpoints = match version {
            ..1 => return Err(object.wrong(format!("version {version} is not known"))),
            1 => vec![RegisteredEndpoint {
                listener: "PLAINTEXT".into(),
                host: object.string("host")?,
                port: object.i32("port")?,
                security_protocol: "PLAINTEXT".into(),
            }],
            _ => endpoints(&object)?,
        };
        Ok(BrokerInfo {
            endpoints,
            rack: object.get("rack").and_then(Value::as_str).map(str::to_owned),
            timestamp_ms: object.get("timestamp").and_then(millis).unwrap_or(-1),
            features: features(&object)?,
        })
    }

    /// The form of `inter.broker.protocol.version` 2.7 and later.
    pub fn to_json(&self) -> Vec<u8> {
        let plaintext = self.endpoints.iter().find(|endpoint| endpoint.security_protocol == "PLAINTEXT");
        let protocols: Map<String, Value> = self
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.listener.clone(), endpoint.security_protocol.clone().into()))
            .collect();
        let features: Map<String, Value> = self
            .features
            .iter()
            .map(|(name, (min, max))| (name.clone(), json!({"min_version": min, "max_version": max})))
            .collect();
        let mut object = json!({
            "version": 5,
            "host": plaintext.map(|endpoint| endpoint.host.as_str()),
            "port": plaintext.map_or(-1, |endpoint| endpoint.port),
            "endpoints": self.endpoints.iter().map(connection_string).collect::<Vec<_>>(),
            "jmx_port": -1,
            "timestamp": self.timestamp_ms.to_string(),
            "listener_security_protocol_map": protocols,
            "features": features,
        });
        if let (Some(rack), Some(fields)) = (&self.rack, object.as_object_mut()) {
            fields.insert("rack".into(), rack.as_str().into());
        }
        object.to_string().into_bytes()
    }
}

/// `LISTENER://host:port`, an IPv6 address in brackets.
fn connection_string(endpoint: &RegisteredEndpoint) -> String {
    let RegisteredEndpoint { listener, host, port, .. } = endpoint;
    if host.contains(':') { format!("{listener}://[{host}]:{port}") } else { format!("{listener}://{host}:{port}") }
}

fn endpoints(object: &Object) -> Result<Vec<RegisteredEndpoint>, ZnodeError> {
    let protocols = object.object("listener_security_protocol_map")?;
    let mut endpoints = Vec::new();
    for value in object.array("endpoints")? {
        let parsed = value.as_str().and_then(parse_connection_string);
        let (listener, host, port) = parsed.ok_or_else(|| object.wrong(format!("{value} is not an endpoint")))?;
        let protocol = match protocols {
            None => listener.as_str(),
            Some(map) => map
                .get(&listener)
                .and_then(Value::as_str)
                .ok_or_else(|| object.wrong(format!("listener {listener} has no security protocol")))?,
        };
        let security_protocol = protocol.to_owned();
        endpoints.push(RegisteredEndpoint { listener, host, port, security_protocol });
    }
    Ok(endpoints)
}

fn parse_connection_string(text: &str) -> Option<(String, String, i32)> {
    let (listener, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((listener.to_ascii_uppercase(), host.to_owned(), port.parse().ok()?))
}

fn features(object: &Object) -> Result<BTreeMap<String, (i32, i32)>, ZnodeError> {
    let mut features = BTreeMap::new();
    for (name, range) in object.object("features")?.into_iter().flatten() {
        // Brokers of Kafka 2.6 wrote first_active_version.
        let min = range.get("min_version").or_else(|| range.get("first_active_version")).and_then(int);
        let max = range.get("max_version").and_then(int);
        let (Some(min), Some(max)) = (min, max) else {
            return Err(object.wrong(format!("feature {name} has no version range")));
        };
        features.insert(name.clone(), (min, max));
    }
    Ok(features)
}

fn millis(value: &Value) -> Option<Millis> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// `/cluster/id`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterId(pub String);

impl ClusterId {
    pub fn parse(data: &[u8]) -> Result<ClusterId, ZnodeError> {
        Ok(ClusterId(Object::parse("the cluster id", data)?.string("id")?))
    }

    /// The version is a string here, unlike everywhere else.
    pub fn to_json(&self) -> Vec<u8> {
        json!({"version": "1", "id": self.0}).to_string().into_bytes()
    }
}

/// `/controller`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControllerInfo {
    pub broker: BrokerId,
    /// Above 0: a KRaft controller has taken over, and brokers in ZooKeeper mode must not write configurations.
    pub kraft_epoch: i32,
}

impl ControllerInfo {
    pub fn parse(data: &[u8]) -> Result<ControllerInfo, ZnodeError> {
        let object = Object::parse("the controller", data)?;
        Ok(ControllerInfo {
            broker: BrokerId(object.i32("brokerid")?),
            kraft_epoch: object.i32_or("kraftControllerEpoch", -1)?,
        })
    }

    pub fn to_json(self, timestamp_ms: Millis) -> Vec<u8> {
        json!({
            "version": 2,
            "brokerid": self.broker.0,
            "timestamp": timestamp_ms.to_string(),
            "kraftControllerEpoch": self.kraft_epoch,
        })
        .to_string()
        .into_bytes()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureStatus {
    Disabled,
    Enabled,
}

/// `/feature`. Its zkVersion is the epoch of the finalized features.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureZnode {
    pub status: FeatureStatus,
    /// Finalized maximum version levels.
    pub features: BTreeMap<String, i32>,
}

impl FeatureZnode {
    /// What a controller in ZooKeeper mode writes: it supports no feature.
    pub fn enabled() -> FeatureZnode {
        FeatureZnode { status: FeatureStatus::Enabled, features: BTreeMap::new() }
    }

    pub fn parse(data: &[u8]) -> Result<FeatureZnode, ZnodeError> {
        let object = Object::parse("the features", data)?;
        let version = object.i32("version")?;
        if version < 1 {
            return Err(object.wrong(format!("version {version} is not known")));
        }
        let status = match object.i32("status")? {
            0 => FeatureStatus::Disabled,
            1 => FeatureStatus::Enabled,
            other => return Err(object.wrong(format!("status {other} is not known"))),
        };
        let mut features = BTreeMap::new();
        for (name, level) in object.object("features")?.into_iter().flatten() {
            let max = int(level).or_else(|| level.get("max_version_level").and_then(int));
            let max = max.ok_or_else(|| object.wrong(format!("feature {name} has no maximum version")))?;
            features.insert(name.clone(), max);
        }
        Ok(FeatureZnode { status, features })
    }

    pub fn to_json(&self) -> Vec<u8> {
        let status = i32::from(self.status == FeatureStatus::Enabled);
        json!({"version": 2, "status": status, "features": self.features}).to_string().into_bytes()
    }
}
