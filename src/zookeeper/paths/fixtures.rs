//! Comparison with what Apache Kafka 3.9.2 wrote.

use super::*;
use crate::base::{ControllerEpoch, LeaderEpoch, TopicId};
use serde_json::Value;
use std::collections::BTreeMap;

const ZNODES: &str = include_str!("../../../tests/fixtures/znodes-3.9.2.txt");

fn znodes() -> BTreeMap<&'static str, &'static str> {
    let lines = ZNODES.lines().filter(|line| line.starts_with('/'));
    lines
        .map(|line| {
            let mut fields = line.splitn(4, ' ');
            let path = fields.next().unwrap_or_default();
            (path, fields.nth(2).unwrap_or_default())
        })
        .collect()
}

/// Same keys, same values, in any order.
fn same(ours: &[u8], theirs: &str) {
    let ours: Value = serde_json::from_slice(ours).unwrap();
    let theirs: Value = serde_json::from_str(theirs).unwrap();
    assert_eq!(ours, theirs);
}

#[test]
fn every_znode_reads_and_writes_as_kafka_wrote_it() {
    let mut json = 0;
    for (path, data) in znodes() {
        let bytes = data.as_bytes();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["brokers", "ids", _] => same(&BrokerInfo::parse(bytes).unwrap().to_json(), data),
            ["brokers", "topics", _] => same(&TopicZnode::parse(bytes).unwrap().to_json(), data),
            [.., "state"] => same(&PartitionState::parse(bytes).unwrap().to_json(), data),
            ["cluster", "id"] => same(&ClusterId::parse(bytes).unwrap().to_json(), data),
            ["controller"] => same(&ControllerInfo::parse(bytes).unwrap().to_json(1795301378457), data),
            ["feature"] => same(&FeatureZnode::parse(bytes).unwrap().to_json(), data),
            ["config", "changes", child] => {
                assert!(sequence_number(child, CONFIG_CHANGE_PREFIX).is_some());
                same(&change_json(&change_entity_path(bytes).unwrap()), data);
            }
            ["config", entity @ ..] if entity.len() > 1 => {
                let entity = ConfigEntity::parse(&entity.join("/")).unwrap();
                assert_eq!(entity.path(), path);
                same(&EntityConfig::parse(bytes).unwrap().to_json(), data);
            }
            ["controller_epoch"] => assert_eq!(parse_controller_epoch(bytes), Ok(1)),
            _ => {
                assert_eq!(data, "", "{path}");
                continue;
            }
        }
        json += 1;
    }
    assert_eq!(json, 21);
}

#[test]
fn every_persistent_path_of_kafka_is_made() {
    let made: Vec<&str> = PERSISTENT.iter().copied().chain(["/", CLUSTER]).collect();
    for (path, data) in znodes() {
        if data.is_empty() && !path.starts_with("/brokers/topics/") {
            assert!(made.contains(&path), "{path}");
        }
    }
}

#[test]
fn values_are_understood() {
    let znodes = znodes();
    let broker = BrokerInfo::parse(znodes["/brokers/ids/3"].as_bytes()).unwrap();
    assert_eq!(broker.rack.as_deref(), Some("r1"));
    assert_eq!(broker.endpoint("CLIENT").map(|endpoint| endpoint.port), Some(23093));
    let topic = TopicZnode::parse(znodes["/brokers/topics/plain"].as_bytes()).unwrap();
    assert_eq!(topic.topic_id, TopicId::parse("FT3bQiYRTGG_OGE-s7jRYg"));
    assert_eq!(topic.partitions.len(), 4);
    let state = PartitionState::parse(znodes["/brokers/topics/orders/partitions/2/state"].as_bytes()).unwrap();
    assert_eq!(
        (state.leader, state.leader_epoch, state.controller_epoch),
        (BrokerId(3), LeaderEpoch(0), ControllerEpoch(1))
    );
    let user = change_entity_path(znodes["/config/changes/config_change_0000000001"].as_bytes()).unwrap();
    assert_eq!(user, ConfigEntity::User(Some("al ice*".into())));
    assert_eq!(user.entity_path(), "users/al%20ice%2A");
}

#[test]
fn old_forms_are_read() {
    let v1 = br#"{"version":1,"host":"h","port":9092,"jmx_port":9999,"timestamp":"2233345666"}"#;
    assert_eq!(BrokerInfo::parse(v1).unwrap().endpoints[0].port, 9092);
    let v2 =
        br#"{"version":2,"host":"h","port":9092,"endpoints":["PLAINTEXT://h:9092","SSL://[::1]:9093"],"timestamp":1}"#;
    let broker = BrokerInfo::parse(v2).unwrap();
    assert_eq!((broker.endpoints[1].host.as_str(), broker.endpoints[1].security_protocol.as_str()), ("::1", "SSL"));
    assert!(String::from_utf8(broker.to_json()).unwrap().contains("SSL://[::1]:9093"));
    let topic = TopicZnode::parse(br#"{"version":1,"partitions":{"0":[1,2]}}"#).unwrap();
    assert_eq!(topic.topic_id, None);
    assert!(!String::from_utf8(topic.to_json()).unwrap().contains("topic_id"));
    let feature = FeatureZnode::parse(
        br#"{"version":1,"status":1,"features":{"f":{"min_version_level":1,"max_version_level":4}}}"#,
    );
    assert_eq!(feature.unwrap().features["f"], 4);
    assert_eq!(ControllerInfo::parse(br#"{"version":1,"brokerid":1,"timestamp":"5"}"#).unwrap().kraft_epoch, -1);
    let change = change_entity_path(br#"{"version":1,"entity_type":"topics","entity_name":"t"}"#);
    assert_eq!(change, Ok(ConfigEntity::Topic("t".into())));
}

#[test]
fn malformed_znodes_are_errors() {
    let hostile: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"\xff\xfe".to_vec(),
        "[".repeat(100_000).into_bytes(),
        br#"{"version":"x"}"#.to_vec(),
        br#"{"version":99999999999,"partitions":{"0":["a"]},"isr":1,"leader":"x"}"#.to_vec(),
        br#"{"version":2,"endpoints":["nonsense"],"entity_path":"topics/../../controller","partitions":[{"topic":1}]}"#
            .to_vec(),
    ];
    for data in &hostile {
        assert!(BrokerInfo::parse(data).is_err());
        assert!(PartitionState::parse(data).is_err());
        assert!(ControllerInfo::parse(data).is_err());
        assert!(change_entity_path(data).is_err());
        assert!(PartitionList::parse(data).is_err());
        assert!(ReassignmentList::parse(data).is_err());
        assert!(ClusterId::parse(data).is_err());
        let _ = TopicZnode::parse(data);
    }
    for bad in [r#"{"partitions":{"-1":[1]}}"#, r#"{"partitions":{"x":[1]}}"#, r#"{"partitions":[1]}"#] {
        assert!(TopicZnode::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    for entity in ["topics/..", "topics/a/b", "brokers/x", "users", "users/%zz", "users/a/clients", ""] {
        assert_eq!(ConfigEntity::parse(entity), None, "{entity}");
    }
}

#[test]
fn producer_id_blocks_follow_each_other() {
    assert_eq!(ProducerIdBlock::parse(b""), Ok(None));
    let first = ProducerIdBlock::after(None, BrokerId(1)).unwrap();
    assert_eq!((first.first, first.last), (0, 999));
    same(&first.to_json(), r#"{"version":1,"broker":1,"block_start":"0","block_end":"999"}"#);
    let read = ProducerIdBlock::parse(&first.to_json()).unwrap();
    assert_eq!(ProducerIdBlock::after(read, BrokerId(2)).map(|block| block.first), Some(1000));
    let end = ProducerIdBlock { broker: BrokerId(1), first: 0, last: i64::MAX };
    assert_eq!(ProducerIdBlock::after(Some(end), BrokerId(1)), None);
}
