//! Quota bookkeeping: which paths have a quota and the text in their stats node.
//!
//! Limits are reported, not enforced, as in ZooKeeper with `enforceQuota` unset. Classes `Quotas`, `StatsTrack`, `PathTrie`.

use std::collections::BTreeSet;

use super::path;

pub const LIMIT_NODE: &str = "zookeeper_limits";
pub const STATS_NODE: &str = "zookeeper_stats";

/// The paths that have a limits node.
#[derive(Clone, Default, Debug)]
pub struct QuotaPaths {
    paths: BTreeSet<String>,
}

impl QuotaPaths {
    pub fn add(&mut self, quota_node: &str) {
        self.paths.insert(governed(quota_node).to_owned());
    }

    pub fn remove(&mut self, quota_node: &str) {
        self.paths.remove(governed(quota_node));
    }

    /// The longest path with a quota at or above this one.
    pub fn covering(&self, node: &str) -> Option<&str> {
        if self.paths.is_empty() {
            return None;
        }
        let mut at = node;
        loop {
            if let Some(found) = self.paths.get(at) {
                return Some(found.as_str()).filter(|found| !found.is_empty() && *found != path::ZOOKEEPER);
            }
            at = path::split(at)?.0;
        }
    }
}

/// `/zookeeper/quota/a/b` governs `/a/b`.
pub fn governed(quota_node: &str) -> &str {
    quota_node.strip_prefix(path::QUOTA).unwrap_or(quota_node)
}

pub fn stats_path(governed: &str) -> String {
    format!("{}{governed}/{STATS_NODE}", path::QUOTA)
}

/// Usage as the stats node's data tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub count: i64,
    pub bytes: i64,
}

impl Usage {
    pub fn parse(data: &[u8]) -> Self {
        let text = String::from_utf8_lossy(data);
        let field = |name: &str| {
            let pairs = text.split([',', ';']).filter_map(|pair| pair.split_once('='));
            let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_end_matches('=')).next();
            value.and_then(|value| value.parse().ok()).unwrap_or(-1)
        };
        Self { count: field("count"), bytes: field("bytes") }
    }

    pub fn text(self) -> String {
        format!("count={},bytes={}", self.count, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_governs() {
        let mut quotas = QuotaPaths::default();
        quotas.add("/zookeeper/quota/a");
        quotas.add("/zookeeper/quota/a/b");
        assert_eq!(quotas.covering("/a/b/c"), Some("/a/b"));
        assert_eq!(quotas.covering("/a/bc"), Some("/a"));
        assert_eq!(quotas.covering("/x"), None);
        quotas.remove("/zookeeper/quota/a/b");
        assert_eq!(quotas.covering("/a/b/c"), Some("/a"));
    }

    #[test]
    fn usage_is_read_from_both_forms() {
        assert_eq!(
            Usage::parse(b"count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=-1"),
            Usage { count: 5, bytes: -1 }
        );
        assert_eq!(Usage::parse(Usage { count: 1, bytes: 2 }.text().as_bytes()), Usage { count: 1, bytes: 2 });
        assert_eq!(Usage::parse(b""), Usage { count: -1, bytes: -1 });
    }
}
