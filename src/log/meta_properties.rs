//! `meta.properties`: which broker and cluster a log directory belongs to (class `MetaProperties`).
//!
//! Invariant: written as version 0, the only one that a ZooKeeper-mode broker of Apache Kafka 3.9 accepts; keys that we do
//! not know, such as `directory.id`, are kept.

use super::checkpoint::{Durability, replace_file};
use super::error::{AtPath, LogError};
use super::names;
use crate::base::BrokerId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

const VERSION: &str = "version";
const BROKER_ID: &str = "broker.id";
const CLUSTER_ID: &str = "cluster.id";

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaProperties {
    pub broker_id: Option<BrokerId>,
    pub cluster_id: Option<String>,
    /// Everything else, as found.
    pub other: BTreeMap<String, String>,
}

/// `None` if the directory has no such file.
pub fn read_meta_properties(dir: &Path) -> Result<Option<MetaProperties>, LogError> {
    let path = dir.join(names::META_PROPERTIES);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(&path),
    };
    parse(&text).map(Some).map_err(|reason| LogError::MetaProperties { path, reason })
}

/// Writes the ids, keeping unknown keys that are there already.
pub fn write_meta_properties(dir: &Path, broker_id: BrokerId, cluster_id: &str) -> Result<(), LogError> {
    let known = read_meta_properties(dir)?.unwrap_or_default();
    let meta = MetaProperties { broker_id: Some(broker_id), cluster_id: Some(cluster_id.to_string()), ..known };
    let path = dir.join(names::META_PROPERTIES);
    replace_file(&path, render(&meta).as_bytes(), Durability::Synced).at(&path)
}

fn parse(text: &str) -> Result<MetaProperties, String> {
    let mut meta = MetaProperties::default();
    let mut version = None;
    if let Some(last) = text.lines().last().filter(|_| !text.ends_with('\n'))
        && [BROKER_ID, CLUSTER_ID].iter().any(|key| last.trim().starts_with(key))
    {
        // Both brokers end every line: this may be half of an id.
        return Err(format!("is cut off in its last line, `{last}`; end the line if it is right"));
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
        let (key, value) = line.split_once(['=', ':']).ok_or_else(|| format!("bad line `{line}`"))?;
        let value = unescape(value.trim());
        match key.trim() {
            VERSION => version = Some(value),
            BROKER_ID => {
                let id = value.parse().map_err(|_| format!("broker.id `{value}` is not a number"))?;
                meta.broker_id = Some(BrokerId(id));
            }
            CLUSTER_ID => meta.cluster_id = Some(value),
            other => {
                meta.other.insert(other.to_string(), value);
            }
        }
    }
    match version.as_deref() {
        Some("0") => Ok(meta),
        Some("1") => Err("has version 1: this directory was formatted for, or migrated to, KRaft; \
                          a broker in ZooKeeper mode needs version 0"
            .to_string()),
        Some(other) => Err(format!("has unknown version `{other}`")),
        None => Err("has no version".to_string()),
    }
}

/// Java writes `\:` and `\=`; no value of this file has line breaks or unicode escapes.
fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ':' | '=' | '#' | '!') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn render(meta: &MetaProperties) -> String {
    let mut pairs: BTreeMap<&str, String> = meta.other.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    pairs.insert(VERSION, "0".to_string());
    if let Some(id) = meta.broker_id {
        pairs.insert(BROKER_ID, id.to_string());
    }
    if let Some(cluster) = &meta.cluster_id {
        pairs.insert(CLUSTER_ID, cluster.clone());
    }
    let mut text = String::from("#\n");
    for (key, value) in pairs {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}={}", escape(&value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_unknown_keys() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_meta_properties(dir.path()).unwrap(), None);
        let path = dir.path().join(names::META_PROPERTIES);
        fs::write(&path, "#\n#Sat Nov 21 22:00:00 UTC 2026\ncluster.id=abc\ndirectory.id=x\\:y\nversion=0\n").unwrap();
        write_meta_properties(dir.path(), BrokerId(7), "5nZ-q").unwrap();
        let meta = read_meta_properties(dir.path()).unwrap().unwrap();
        assert_eq!((meta.broker_id, meta.cluster_id.as_deref()), (Some(BrokerId(7)), Some("5nZ-q")));
        assert_eq!(meta.other.get("directory.id").map(String::as_str), Some("x:y"));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "#\nbroker.id=7\ncluster.id=5nZ-q\ndirectory.id=x\\:y\nversion=0\n");
    }

    #[test]
    fn refuses_what_zookeeper_mode_cannot_use() {
        for (text, says) in [
            ("version=1\nnode.id=1\ncluster.id=a\n", "KRaft"),
            ("version=2\n", "unknown version"),
            ("broker.id=1\n", "no version"),
            ("version=0\nbroker.id=x\n", "not a number"),
            ("garbage\n", "bad line"),
            ("version=0\nbroker.id=10", "cut off"),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
