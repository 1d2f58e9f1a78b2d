//! Configs of a running broker: described, altered, in force at once and after a restart.

mod common;

use common::{Broker, Client};
use ottla::record::BatchBuilder;
use ottla::wire::messages::alter_configs_request as replace;
use ottla::wire::messages::describe_configs_request::DescribeConfigsResource;
use ottla::wire::messages::describe_configs_response::DescribeConfigsResult;
use ottla::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla::wire::messages::metadata_request::MetadataRequestTopic;
use ottla::wire::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest, TopicName,
};
use ottla::wire::text;
use std::time::{Duration, Instant};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn describe(client: &mut Client, kind: i8, name: &str, version: i16) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(version >= 1)
        .with_include_documentation(version >= 3);
    let response = client.call(&request, version).expect("an answer");
    response.results.into_iter().next().expect("one result")
}

fn value(result: &DescribeConfigsResult, name: &str) -> (Option<String>, i8) {
    let config = result.configs.iter().find(|config| config.name.as_str() == name).unwrap_or_else(|| panic!("{name}"));
    (config.value.as_ref().map(|value| value.to_string()), config.config_source)
}

/// Operation 0 sets, 1 deletes, 2 appends.
fn alter(client: &mut Client, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> i16 {
    let change = |(name, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*operation).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(change).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(&request, 1).expect("an answer").responses[0].error_code
}

/// By asking for it.
fn create(client: &mut Client) {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text("t"))));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
    client.call(&request, 9).expect("an answer");
    eventually("the topic has a leader", || client.leaders("t").is_ok_and(|leaders| leaders == [0]));
}

fn produce(client: &mut Client, size: usize) -> i16 {
    let mut batch = BatchBuilder::new();
    batch.append(1, None, Some(&vec![7; size]), []);
    let batch = batch.build().expect("one record");
    client.produce("t", 0, batch.to_bytes()).expect("an answer").error_code
}

/// A change is in force once its notification has come round.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn configs_are_described_and_altered() {
    let mut broker = Broker::start(&[("log.segment.bytes", "500000000")]);
    let mut client = broker.client();
    create(&mut client);
    assert_eq!(alter(&mut client, TOPIC, "t", &[("retention.ms", 0, Some("1000"))]), 0);

    for version in 0..=4 {
        let result = describe(&mut client, TOPIC, "t", version);
        assert_eq!((result.error_code, result.configs.len()), (0, 36), "version {version}");
        let documented =
            result.configs.iter().all(|config| config.documentation.as_ref().is_some_and(|doc| !doc.is_empty()));
        assert_eq!(documented, version >= 3, "version {version}");
        assert!(describe(&mut client, BROKER, "0", version).configs.len() > 300);
    }
    let topic = describe(&mut client, TOPIC, "t", 4);
    assert_eq!(value(&topic, "retention.ms"), (Some("1000".into()), 1));
    assert_eq!(value(&topic, "segment.bytes"), (Some("500000000".into()), 4));
    assert_eq!(value(&topic, "cleanup.policy"), (Some("delete".into()), 5));
    for (kind, name, code) in
        [(TOPIC, "absent", 3), (TOPIC, "a/b", 17), (BROKER, "7", 42), (BROKER, "x", 42), (9, "t", 42)]
    {
        assert_eq!(describe(&mut client, kind, name, 4).error_code, code, "{kind} {name}");
    }

    // A topic's own limit.
    assert_eq!(produce(&mut client, 5000), 0);
    let changes =
        [("max.message.bytes", 0, Some("1000")), ("cleanup.policy", 2, Some("compact")), ("retention.ms", 1, None)];
    assert_eq!(alter(&mut client, TOPIC, "t", &changes), 0);
    let topic = describe(&mut client, TOPIC, "t", 4);
    assert_eq!(value(&topic, "cleanup.policy"), (Some("delete,compact".into()), 1));
    assert_eq!(value(&topic, "retention.ms"), (Some("604800000".into()), 5));
    eventually("the topic's limit is in force", || produce(&mut client, 5000) == 10);
    assert_eq!(alter(&mut client, TOPIC, "t", &[("cleanup.policy", 0, Some("delete"))]), 0);

    // A limit of all brokers, for topics without their own.
    assert_eq!(alter(&mut client, BROKER, "", &[("message.max.bytes", 0, Some("2000"))]), 0);
    assert_eq!(value(&describe(&mut client, BROKER, "0", 4), "message.max.bytes"), (Some("2000".into()), 3));
    assert_eq!(value(&describe(&mut client, TOPIC, "t", 4), "max.message.bytes"), (Some("1000".into()), 1));
    assert_eq!(alter(&mut client, TOPIC, "t", &[("max.message.bytes", 1, None)]), 0);
    eventually("the brokers' limit is in force", || produce(&mut client, 1500) == 0);
    assert_eq!(produce(&mut client, 5000), 10);

    for (kind, name, change, code) in [
        (TOPIC, "t", ("retention.ms", 0, Some("x")), 40),
        (TOPIC, "t", ("a.b", 0, Some("x")), 40),
        (TOPIC, "t", ("retention.ms", 0, None), 42),
        (TOPIC, "t", ("retention.ms", 9, Some("5")), 42),
        (TOPIC, "absent", ("retention.ms", 0, Some("5")), 3),
        (TOPIC, "", ("retention.ms", 0, Some("5")), 42),
        (BROKER, "0", ("broker.id", 0, Some("5")), 42),
        (BROKER, "7", ("message.max.bytes", 0, Some("5")), 42),
    ] {
        assert_eq!(alter(&mut client, kind, name, &[change]), code, "{kind} {name} {change:?}");
    }

    // All of it is still there after a restart.
    assert!(broker.stop().success());
    broker.restart();
    let mut client = broker.client();
    eventually("the partition has a leader again", || client.leaders("t").is_ok_and(|leaders| leaders == [0]));
    eventually("the brokers' limit is in force again", || produce(&mut client, 5000) == 10);
    assert_eq!(value(&describe(&mut client, TOPIC, "t", 4), "cleanup.policy"), (Some("delete".into()), 1));

    // The older API replaces everything.
    let config = replace::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("9")));
    let resource = replace::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(&request, 2).expect("an answer").responses[0].error_code, 0);
    let topic = describe(&mut client, TOPIC, "t", 4);
    assert_eq!(value(&topic, "retention.ms"), (Some("9".into()), 1));
    assert_eq!(value(&topic, "cleanup.policy"), (Some("delete".into()), 5));
}
