//! Moves between log directories with the official tools: `kafka-log-dirs` and `kafka-reassign-partitions`.

mod common;

use common::Broker;
use ottla::record::BatchBuilder;
use ottla::wire::messages::create_topics_request::CreatableTopic;
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::{CreateTopicsRequest, ProduceRequest, TopicName};
use ottla::wire::text;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// What an official tool prints.
fn tool(broker: &Broker, name: &str, arguments: &[&str]) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let address = format!("127.0.0.1:{}", broker.port);
    let output = Command::new(script).arg(name).args(["--bootstrap-server", &address]).args(arguments).output();
    let output = output.expect("scripts/kafka runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
    said
}

#[test]
fn a_replica_is_moved_and_found_where_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| folder.path().join(name).display().to_string());
    let broker = Broker::start(&[("log.dirs", &dirs.join(","))]);
    let mut client = broker.client();
    let name = TopicName(text("sent"));
    let topic = CreatableTopic::default().with_name(name.clone()).with_num_partitions(1).with_replication_factor(1);
    client
        .call(&CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000), 7)
        .expect("CreateTopics");
    let mut batch = BatchBuilder::new();
    batch.append(1_700_000_000_000, None, Some(&[b'x'; 5000]), []);
    let records = batch.build().expect("batch").to_bytes();
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    assert_eq!(client.call(&request, 9).expect("Produce").responses[0].partition_responses[0].error_code, 0);

    let described = || tool(&broker, "kafka-log-dirs", &["--describe", "--topic-list", "sent"]);
    let is_in = |dir: &str, described: &str| {
        let part = described.split("\"partitions\":").find(|part| part.contains(&format!("\"{dir}\"")));
        part.is_some_and(|part| part.contains("\"partition\":\"sent-0\"") && part.contains("\"isFuture\":false"))
    };
    let before = described();
    let from = usize::from(!is_in(&dirs[0], &before));
    assert!(is_in(&dirs[from], &before), "{before}");
    let to = &dirs[1 - from];
    let plan = folder.path().join("plan.json");
    let json = format!(
        r#"{{"version":1,"partitions":[{{"topic":"sent","partition":0,"replicas":[0],"log_dirs":["{to}"]}}]}}"#
    );
    fs::write(&plan, json).unwrap();
    let plan = plan.to_str().unwrap();
    let started = tool(&broker, "kafka-reassign-partitions", &["--reassignment-json-file", plan, "--execute"]);
    assert!(started.contains("Successfully started"), "{started}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let verified = tool(&broker, "kafka-reassign-partitions", &["--reassignment-json-file", plan, "--verify"]);
        if verified.contains("Reassignment of replica sent-0-0 completed successfully") {
            break;
        }
        assert!(Instant::now() < deadline, "{verified}\n{}", broker.log());
    }
    let after = described();
    assert!(is_in(to, &after) && !is_in(&dirs[from], &after), "{after}");
}
