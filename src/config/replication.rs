//! What the properties say of replication: `replica.*`, `num.replica.fetchers`, throttles.

use super::error::ConfigError;
use super::value::java_trim;
use super::values::Values;
use crate::base::Millis;

#[derive(Clone, PartialEq, Debug)]
pub struct ReplicationConfig {
    pub num_fetchers: usize,
    pub fetch_backoff_ms: Millis,
    pub fetch_max_bytes: i32,
    pub fetch_min_bytes: i32,
    pub fetch_response_max_bytes: i32,
    pub fetch_wait_max_ms: i32,
    pub lag_time_max_ms: Millis,
    pub socket_timeout_ms: i32,
    pub selector: ReplicaSelector,
    /// Bytes per second; dynamic.
    pub leader_throttled_rate: i64,
    pub follower_throttled_rate: i64,
    pub quota_window_num: usize,
    pub quota_window_size_seconds: i64,
}

/// `replica.selector.class`: the two classes that come with Apache Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplicaSelector {
    #[default]
    Leader,
    /// `org.apache.kafka.common.replica.RackAwareReplicaSelector` (KIP-392).
    RackAware,
    /// A class that cannot be loaded without a JVM: consumers read from leaders.
    Other,
}

impl ReplicationConfig {
    pub(super) fn of(values: &Values) -> Result<ReplicationConfig, ConfigError> {
        let count = |value: i32| usize::try_from(value).unwrap_or(0).max(1);
        Ok(ReplicationConfig {
            num_fetchers: count(values.int("num.replica.fetchers")?),
            fetch_backoff_ms: Millis::from(values.int("replica.fetch.backoff.ms")?),
            fetch_max_bytes: values.int("replica.fetch.max.bytes")?,
            fetch_min_bytes: values.int("replica.fetch.min.bytes")?,
            fetch_response_max_bytes: values.int("replica.fetch.response.max.bytes")?,
            fetch_wait_max_ms: values.int("replica.fetch.wait.max.ms")?,
            lag_time_max_ms: values.whole("replica.lag.time.max.ms")?,
            socket_timeout_ms: values.int("replica.socket.timeout.ms")?,
            selector: selector(values)?,
            leader_throttled_rate: throttled_rate(values, "leader.replication.throttled.rate"),
            follower_throttled_rate: throttled_rate(values, "follower.replication.throttled.rate"),
            quota_window_num: count(values.int("replication.quota.window.num")?),
            quota_window_size_seconds: i64::from(values.int("replication.quota.window.size.seconds")?),
        })
    }
}

/// These exist only as dynamic configs, checked when they were set.
fn throttled_rate(values: &Values, name: &str) -> i64 {
    values.settings.get(name).and_then(|text| java_trim(text).parse().ok()).unwrap_or(i64::MAX)
}

fn selector(values: &Values) -> Result<ReplicaSelector, ConfigError> {
    let class = values.optional_text("replica.selector.class")?;
    Ok(match class.as_deref().map(|class| class.rsplit('.').next().unwrap_or(class)) {
        None | Some("LeaderSelector") => ReplicaSelector::Leader,
        Some("RackAwareReplicaSelector") => ReplicaSelector::RackAware,
        Some(_) => ReplicaSelector::Other,
    })
}

/// `leader.` or `follower.replication.throttled.replicas` of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ThrottledReplicas {
    #[default]
    None,
    All,
    /// Partition and broker.
    Some(Vec<(i32, i32)>),
}

impl ThrottledReplicas {
    /// `partition:broker,...`, `*`, or nothing; what is neither was refused before.
    pub fn parse(text: &str) -> ThrottledReplicas {
        let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        if items.is_empty() || items == ["none"] {
            return ThrottledReplicas::None;
        }
        if items == ["*"] {
            return ThrottledReplicas::All;
        }
        let pair = |item: &&str| {
            let (partition, broker) = item.split_once(':')?;
            Some((partition.trim().parse().ok()?, broker.trim().parse().ok()?))
        };
        ThrottledReplicas::Some(items.iter().filter_map(pair).collect())
    }

    pub fn contains(&self, partition: i32, broker: i32) -> bool {
        match self {
            ThrottledReplicas::None => false,
            ThrottledReplicas::All => true,
            ThrottledReplicas::Some(pairs) => pairs.contains(&(partition, broker)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttled_replicas() {
        assert!(!ThrottledReplicas::parse("").contains(0, 1));
        assert!(ThrottledReplicas::parse("*").contains(7, 1));
        let some = ThrottledReplicas::parse("0:101, 1:102");
        assert!(some.contains(0, 101) && some.contains(1, 102));
        assert!(!some.contains(0, 102) && !some.contains(2, 101));
    }
}
