//! The fine print of both coordinators that clients seldom reach: answers to requests of the past, request by request.
//!
//! Each test runs against a broker of its own, or against the one that `OTTLA_REFERENCE_BOOTSTRAP` names: `compat/coordinators` runs
//! them all against Apache Kafka too, which proves them.

mod common;

use common::transactional::{Transactional, insist, is_retriable};
use common::{Broker, Client};
use ottla::wire::messages::describe_producers_request::TopicRequest;
use ottla::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla::wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use ottla::wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla::wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, DescribeProducersRequest, FindCoordinatorRequest, GroupId,
    IncrementalAlterConfigsRequest, OffsetDeleteRequest, OffsetFetchRequest, TopicName,
};
use ottla::wire::text;
use std::time::Duration;

const NONE: i16 = 0;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;

/// The broker, if it is one of our own, and a connection. Names are new in every run.
fn subject() -> (Option<Broker>, Client) {
    match std::env::var("OTTLA_REFERENCE_BOOTSTRAP") {
        Ok(address) => {
            let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
            (None, Client::connect(port).expect("the broker answers"))
        }
        Err(_) => {
            let broker = Broker::start(&[("producer.id.expiration.check.interval.ms", "100")]);
            let client = broker.client();
            (Some(broker), client)
        }
    }
}

fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4())
}

fn topic(client: &mut Client, partitions: i32) -> String {
    let name = unique("topic");
    client.create_topic(&name, partitions, &[]).expect("topic");
    name
}

/// One attempt of InitProducerId by a producer that says that it had `epoch`; `id` of `None`: its own.
fn init_as(
    client: &mut Client,
    producer: &Transactional,
    version: i16,
    id: Option<i64>,
    epoch: i16,
) -> (i16, i64, i16) {
    let mut other = Transactional::new(&producer.id);
    let had = Some((id.unwrap_or(producer.producer_id), epoch));
    let code = other.try_init(client, version, had).expect("InitProducerId");
    (code, other.producer_id, other.epoch)
}

#[test]
fn a_producer_of_an_old_epoch_gets_no_new_one() {
    let (_broker, mut client) = subject();
    let mut producer = Transactional::new(&unique("id"));
    for epoch in 0..=2 {
        assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
        assert_eq!(producer.epoch, epoch);
    }
    let id = producer.producer_id;
    let refused = |code| (code, -1, -1);
    for epoch in [0, 1, 3, 100] {
        assert_eq!(init_as(&mut client, &producer, 3, None, epoch), refused(INVALID_PRODUCER_EPOCH), "epoch {epoch}");
        for version in [4, 5] {
            assert_eq!(
                init_as(&mut client, &producer, version, None, epoch),
                refused(PRODUCER_FENCED),
                "epoch {epoch}"
            );
        }
    }
    assert_eq!(init_as(&mut client, &producer, 4, Some(id + 1_000_000), 2), refused(PRODUCER_FENCED), "another id");
    // None of them has changed anything; the true one goes on, and may repeat itself.
    assert_eq!(init_as(&mut client, &producer, 4, None, 2), (NONE, id, 3));
    for _ in 0..2 {
        assert_eq!(init_as(&mut client, &producer, 4, None, 2), (NONE, id, 3), "repeated");
    }
    assert_eq!(init_as(&mut client, &producer, 4, None, 1), refused(PRODUCER_FENCED));
    assert_eq!(init_as(&mut client, &producer, 4, None, 3), (NONE, id, 4));
    // One without a past takes over, and then nobody can repeat.
    assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
    assert_eq!((producer.producer_id, producer.epoch), (id, 5));
    assert_eq!(init_as(&mut client, &producer, 4, None, 3), refused(PRODUCER_FENCED));
    assert_eq!(init_as(&mut client, &producer, 4, None, 4), refused(PRODUCER_FENCED));
}

/// The first answer that is not "later", and whether there was a "later".
fn insist_as(client: &mut Client, producer: &Transactional, epoch: i16) -> ((i16, i64, i16), bool) {
    let mut had_to_wait = false;
    let mut last = (-1, -1, -1);
    insist(|| {
        last = init_as(client, producer, 4, None, epoch);
        had_to_wait |= last.0 == CONCURRENT_TRANSACTIONS;
        Ok(last.0)
    })
    .expect("InitProducerId");
    (last, had_to_wait)
}

#[test]
fn a_transaction_under_way_is_aborted_whoever_of_its_producers_asks() {
    let (_broker, mut client) = subject();
    let topic = topic(&mut client, 1);
    let mut producer = Transactional::new(&unique("id"));
    for _ in 0..3 {
        assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
    }
    let id = producer.producer_id;
    // Behind the present epoch by any number, in it, ahead.
    for asks in [-2, -1, 0, 100] {
        let epoch = producer.epoch;
        let asks = epoch + asks;
        assert_eq!(producer.add(&mut client, &topic, &[0]).expect("AddPartitionsToTxn"), NONE);
        assert_eq!(producer.produce(&mut client, &topic, 0, &["lost"]).expect("Produce"), NONE);
        // Another producer id changes nothing.
        assert_eq!(init_as(&mut client, &producer, 4, Some(id + 1_000_000), epoch).0, PRODUCER_FENCED);
        let (answer, had_to_wait) = insist_as(&mut client, &producer, asks);
        assert!(had_to_wait, "the transaction is ended first");
        assert_eq!(answer, (PRODUCER_FENCED, -1, -1), "epoch {asks} asks in epoch {epoch}");
        assert_eq!(producer.try_end(&mut client, 3, true).expect("EndTxn"), PRODUCER_FENCED);
        assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
        assert_eq!((producer.producer_id, producer.epoch), (id, epoch + 2), "one epoch has fenced");
    }
}

fn found(client: &mut Client, group: &str) {
    let find = FindCoordinatorRequest::default().with_key(text(group));
    assert_eq!(insist(|| Ok(client.call(&find, 3)?.error_code)).expect("FindCoordinator"), NONE);
}

/// Code and offset, as somebody sees it who wants stable offsets.
fn fetch(client: &mut Client, group: &str, topic: &str) -> (i16, i64) {
    let wanted = OffsetFetchRequestTopics::default().with_name(TopicName(text(topic))).with_partition_indexes(vec![0]);
    let of_group =
        OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![wanted]));
    let request = OffsetFetchRequest::default().with_groups(vec![of_group]).with_require_stable(true);
    let response = client.call(&request, 8).expect("OffsetFetch");
    assert_eq!(response.groups[0].error_code, NONE);
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

fn state(client: &mut Client, group: &str) -> String {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    client.call(&request, 5).expect("DescribeGroups").groups[0].group_state.to_string()
}

fn delete_group(client: &mut Client, group: &str) -> i16 {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
    client.call(&request, 2).expect("DeleteGroups").results[0].error_code
}

fn delete_offset(client: &mut Client, group: &str, topic: &str) -> i16 {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let of_topic =
        OffsetDeleteRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(vec![of_topic]);
    let response = client.call(&request, 0).expect("OffsetDelete");
    assert_eq!(response.error_code, NONE);
    response.topics[0].partitions[0].error_code
}

/// A producer with an open transaction and an offset of `group` in it.
fn pending(client: &mut Client, group: &str, topic: &str, offset: i64) -> Transactional {
    let mut producer = Transactional::new(&unique("id"));
    assert_eq!(insist(|| producer.init(client)).expect("InitProducerId"), NONE);
    assert_eq!(producer.add_offsets(client, 3, group).expect("AddOffsetsToTxn"), NONE);
    assert_eq!(producer.commit_offset(client, 3, group, topic, offset).expect("TxnOffsetCommit"), NONE);
    assert_eq!(fetch(client, group, topic).0, UNSTABLE_OFFSET_COMMIT);
    producer
}

/// What a committed transaction left, once its marker has acted.
fn settled(client: &mut Client, group: &str, topic: &str) -> (i16, i64) {
    for _ in 0..1000 {
        match fetch(client, group, topic) {
            (UNSTABLE_OFFSET_COMMIT, _) => std::thread::sleep(Duration::from_millis(10)),
            settled => return settled,
        }
    }
    panic!("the marker never comes");
}

#[test]
fn offsets_of_an_open_transaction_go_with_their_group() {
    let (_broker, mut client) = subject();
    let topic = topic(&mut client, 1);
    for had_committed in [false, true] {
        let group = unique("group");
        found(&mut client, &group);
        if had_committed {
            let producer = pending(&mut client, &group, &topic, 3);
            assert_eq!(producer.end(&mut client, true).expect("EndTxn"), NONE);
            assert_eq!(settled(&mut client, &group, &topic), (NONE, 3));
        }
        let producer = pending(&mut client, &group, &topic, 7);
        assert_eq!(state(&mut client, &group), "Empty");
        assert_eq!(delete_group(&mut client, &group), NONE);
        assert_eq!(state(&mut client, &group), "Dead");
        assert_eq!(fetch(&mut client, &group, &topic), (NONE, -1));
        assert_eq!(producer.end(&mut client, true).expect("EndTxn"), NONE);
        // An id goes on when all its markers are written.
        let mut producer = producer;
        assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
        assert_eq!(fetch(&mut client, &group, &topic), (NONE, -1), "had committed: {had_committed}");
        assert_eq!(state(&mut client, &group), "Dead");
    }
}

#[test]
fn a_deleted_offset_takes_the_pending_one_with_it() {
    let (_broker, mut client) = subject();
    let topic = topic(&mut client, 1);
    let group = unique("group");
    found(&mut client, &group);
    let producer = pending(&mut client, &group, &topic, 3);
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), NONE);
    assert_eq!(settled(&mut client, &group, &topic), (NONE, 3));
    let mut producer = pending(&mut client, &group, &topic, 7);
    assert_eq!(delete_offset(&mut client, &group, &topic), NONE);
    assert_eq!(fetch(&mut client, &group, &topic), (NONE, -1));
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), NONE);
    assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
    assert_eq!(fetch(&mut client, &group, &topic), (NONE, -1));
}

/// A dynamic config of all brokers; `None` takes it away.
fn set_config(client: &mut Client, name: &str, value: Option<&str>) {
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(if value.is_some() { 0 } else { 1 })
        .with_value(value.map(text));
    let resource =
        AlterConfigsResource::default().with_resource_type(4).with_resource_name(text("")).with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(&request, 1).expect("IncrementalAlterConfigs");
    assert_eq!(response.responses[0].error_code, NONE);
}

const VERIFICATION: &str = "transaction.partition.verification.enable";

#[test]
fn verification_is_switched_while_the_broker_runs() {
    let (_broker, mut client) = subject();
    let topic = topic(&mut client, 1);
    // A producer that does not say to the coordinator where it writes.
    let write = |client: &mut Client| {
        let mut producer = Transactional::new(&unique("id"));
        assert_eq!(insist(|| producer.init(client)).expect("InitProducerId"), NONE);
        producer.produce(client, &topic, 0, &["unannounced"]).expect("Produce")
    };
    assert_eq!(write(&mut client), INVALID_TXN_STATE);
    // Brokers hear of it a moment later.
    let until = |client: &mut Client, wanted: i16| {
        for _ in 0..1000 {
            let code = write(client);
            if code == wanted {
                return;
            }
            assert!(code == NONE || code == INVALID_TXN_STATE || is_retriable(code), "Produce: {code}");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the broker does not follow");
    };
    set_config(&mut client, VERIFICATION, Some("false"));
    until(&mut client, NONE);
    set_config(&mut client, VERIFICATION, None);
    until(&mut client, INVALID_TXN_STATE);
}

/// The producers that partition 0 knows.
fn known_producers(client: &mut Client, topic: &str) -> Vec<i64> {
    let topic = TopicRequest::default().with_name(TopicName(text(topic))).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let response = client.call(&request, 0).expect("DescribeProducers");
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, NONE);
    partition.active_producers.iter().map(|producer| producer.producer_id.0).collect()
}

#[test]
fn silent_producers_are_forgotten_after_what_is_configured_while_the_broker_runs() {
    const EXPIRATION: &str = "producer.id.expiration.ms";
    let (_broker, mut client) = subject();
    let topic = topic(&mut client, 1);
    let [done, open] = [true, false].map(|ends| {
        let mut producer = Transactional::new(&unique("id"));
        assert_eq!(insist(|| producer.init(&mut client)).expect("InitProducerId"), NONE);
        assert_eq!(insist(|| producer.add(&mut client, &topic, &[0])).expect("AddPartitionsToTxn"), NONE);
        assert_eq!(producer.produce(&mut client, &topic, 0, &["one"]).expect("Produce"), NONE);
        if ends {
            assert_eq!(producer.end(&mut client, true).expect("EndTxn"), NONE);
        }
        producer
    });
    let both = [done.producer_id, open.producer_id];
    // Some rounds pass with what is configured otherwise, a day.
    std::thread::sleep(Duration::from_millis(300));
    let mut known = known_producers(&mut client, &topic);
    known.sort_unstable();
    assert_eq!(known, both);
    set_config(&mut client, EXPIRATION, Some("1"));
    for round in 0.. {
        if known_producers(&mut client, &topic) == [open.producer_id] {
            break;
        }
        assert!(round < 1000, "the broker does not forget");
        std::thread::sleep(Duration::from_millis(10));
    }
    set_config(&mut client, EXPIRATION, None);
    assert_eq!(open.end(&mut client, true).expect("EndTxn"), NONE);
}
