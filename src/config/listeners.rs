//! `listeners`, `advertised.listeners` and what belongs to them: parsed and checked as Kafka does (`CoreUtils`, `KafkaConfig`).

use super::broker_config::Endpoint;
use super::error::ConfigError;
use super::value::java_trim;
use super::values::Values;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Where this broker listens, what it tells others, and which listener brokers use.
pub struct Listeners {
    pub listeners: Vec<Endpoint>,
    pub advertised: Vec<Endpoint>,
    pub inter_broker: String,
}

impl Listeners {
    pub fn of(values: &Values) -> Result<Listeners, ConfigError> {
        let map = values.checked("listener.security.protocol.map", protocol_map)?;
        let listeners = values.checked("listeners", |name, text| {
            let endpoints = endpoints(name, text, &map)?;
            check_listeners(name, text, &endpoints)?;
            Ok(endpoints)
        })?;
        let advertised = match values.optional_text("advertised.listeners")? {
            None => listeners.clone(),
            Some(_) => values.checked("advertised.listeners", |name, text| {
                let advertised = endpoints(name, text, &map)?;
                check_advertised(name, text, &advertised, &listeners)?;
                Ok(advertised)
            })?,
        };
        if let Some(meta) = advertised.iter().find(|endpoint| endpoint.host == "0.0.0.0") {
            return Err(ConfigError::Conflict(format!(
                "listener {} would be advertised as 0.0.0.0, which no client can connect to: leave the host empty or set advertised.listeners",
                meta.listener
            )));
        }
        let inter_broker = inter_broker(values, &map, &advertised)?;
        Ok(Listeners { listeners, advertised, inter_broker })
    }
}

fn csv(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(java_trim).filter(|item| !item.is_empty())
}

fn protocol_map(name: &str, text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let bad =
        || ConfigError::bad_value(name, text, "NAME:PROTOCOL,..., with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
    let mut map = BTreeMap::new();
    for entry in csv(text) {
        let (listener, protocol) = entry.rsplit_once(':').ok_or_else(bad)?;
        let protocol = java_trim(protocol).to_uppercase();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            return Err(bad());
        }
        if map.insert(java_trim(listener).to_uppercase(), protocol).is_some() {
            return Err(ConfigError::bad_value(name, text, "a map that names each listener once"));
        }
    }
    Ok(map)
}

/// One entry: `NAME://host:port`, where the host may be empty, a name, an IPv4 address or an IPv6 address in brackets.
fn endpoint(entry: &str) -> Option<(String, String, u16)> {
    let (listener, address) = entry.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    let clean = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-%._:".contains(&byte));
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if listener.is_empty() || !clean || !digits {
        return None;
    }
    Some((listener.to_uppercase(), host.to_owned(), port.parse().ok()?))
}

fn endpoints(name: &str, text: &str, map: &BTreeMap<String, String>) -> Result<Vec<Endpoint>, ConfigError> {
    let bad = || ConfigError::bad_value(name, text, "NAME://host:port,... with ports up to 65535");
    let mut found = Vec::new();
    for entry in csv(text) {
        let (listener, host, port) = endpoint(entry).ok_or_else(bad)?;
        let security_protocol = map.get(&listener).cloned().ok_or_else(|| {
            let allowed = format!("of listeners in listener.security.protocol.map, which does not name {listener}");
            ConfigError::bad_value(name, text, &allowed)
        })?;
        found.push(Endpoint { listener, host, port, security_protocol });
    }
    let names: BTreeSet<&str> = found.iter().map(|endpoint| endpoint.listener.as_str()).collect();
    match (found.is_empty(), names.len() == found.len()) {
        (true, _) => Err(bad()),
        (_, false) => Err(ConfigError::bad_value(name, text, "a list in which each listener has a name of its own")),
        _ => Ok(found),
    }
}

fn check_listeners(name: &str, text: &str, listeners: &[Endpoint]) -> Result<(), ConfigError> {
    let mut by_port: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for endpoint in listeners.iter().filter(|endpoint| endpoint.port != 0) {
        by_port.entry(endpoint.port).or_default().push(&endpoint.host);
    }
    if !by_port.values().all(|hosts| hosts.len() == 1 || is_one_of_each_family(hosts)) {
        let allowed =
            "a list in which each listener has a port of its own (or two share one on an IPv4 and an IPv6 address)";
        return Err(ConfigError::bad_value(name, text, allowed));
    }
    match listeners.iter().find(|endpoint| endpoint.security_protocol != "PLAINTEXT") {
        None => Ok(()),
        Some(endpoint) => {
            let advice = format!(
                "listener {} uses {}, and only PLAINTEXT is supported yet",
                endpoint.listener, endpoint.security_protocol
            );
            Err(ConfigError::unsupported(name, text, &advice))
        }
    }
}

fn is_one_of_each_family(hosts: &[&str]) -> bool {
    let v4 = |host: &str| host.parse::<Ipv4Addr>().is_ok();
    let v6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    matches!(hosts, [first, second] if (v4(first) && v6(second)) || (v6(first) && v4(second)))
}

fn check_advertised(
    name: &str,
    text: &str,
    advertised: &[Endpoint],
    listeners: &[Endpoint],
) -> Result<(), ConfigError> {
    let known = |endpoint: &Endpoint| listeners.iter().any(|listener| listener.listener == endpoint.listener);
    match advertised.iter().find(|endpoint| !known(endpoint)) {
        None => Ok(()),
        Some(endpoint) => {
            let allowed = format!("of listeners that are in listeners, which does not name {}", endpoint.listener);
            Err(ConfigError::bad_value(name, text, &allowed))
        }
    }
}

fn inter_broker(
    values: &Values,
    map: &BTreeMap<String, String>,
    advertised: &[Endpoint],
) -> Result<String, ConfigError> {
    let named = values.optional_text("inter.broker.listener.name")?;
    let (property, listener) = match named {
        Some(_) if values.is_set("security.inter.broker.protocol") => {
            let message =
                "inter.broker.listener.name and security.inter.broker.protocol are both set: keep one of them";
            return Err(ConfigError::Conflict(message.to_owned()));
        }
        Some(name) => ("inter.broker.listener.name", name.to_uppercase()),
        None => ("security.inter.broker.protocol", values.text("security.inter.broker.protocol")?),
    };
    let allowed = if !map.contains_key(&listener) {
        "a listener in listener.security.protocol.map"
    } else if !advertised.iter().any(|endpoint| endpoint.listener == listener) {
        "the name of an advertised listener"
    } else {
        return Ok(listener);
    };
    Err(values.settings.locate(property, ConfigError::bad_value(property, &listener, allowed)))
}
