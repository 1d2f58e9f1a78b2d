//! Transactions on a running broker: every version of every request, fencing, crashes, time-outs, and what readers see.

mod common;

use common::transactional::{Transactional, fetch_committed, insist, read_committed};
use common::{Broker, Client};
use ottla::wire::messages::describe_producers_request::TopicRequest;
use ottla::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla::wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla::wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use ottla::wire::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, FindCoordinatorRequest, GroupId, ListOffsetsRequest,
    ListTransactionsRequest, OffsetFetchRequest, TopicName, TransactionalId, WriteTxnMarkersRequest,
};
use ottla::wire::text;

const TOPIC: &str = "t";
const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const PRODUCER_FENCED: i16 = 90;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const TRANSACTION_ABORTABLE: i16 = 120;

fn broker(overrides: &[(&str, &str)]) -> (Broker, Client) {
    let broker = Broker::start(overrides);
    let mut client = broker.client();
    client.create_topic(TOPIC, 2, &[]).expect("topic");
    (broker, client)
}

/// A producer with an open transaction on partition 0 and `values` in it.
fn begin(client: &mut Client, id: &str, values: &[&str]) -> Transactional {
    let mut producer = Transactional::new(id);
    assert_eq!(producer.init(client).expect("InitProducerId"), 0);
    assert_eq!(producer.add(client, TOPIC, &[0]).expect("AddPartitionsToTxn"), 0);
    assert_eq!(producer.produce(client, TOPIC, 0, values).expect("Produce"), 0);
    producer
}

fn committed(client: &mut Client, partition: i32) -> Vec<String> {
    let (values, _) = read_committed(client, TOPIC, partition, 0).expect("Fetch");
    values.into_iter().map(|(_, value)| value).collect()
}

/// The offset before which a reader of committed records stops.
fn stable_end(client: &mut Client) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(TopicName(text(TOPIC))).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id((-1).into()).with_isolation_level(1).with_topics(vec![topic]);
    client.call(&request, 7).expect("ListOffsets").topics[0].partitions[0].offset
}

#[test]
fn every_version_carries_a_transaction() {
    let (_broker, mut client) = broker(&[]);
    let mut expected = Vec::new();
    // Version 0 knows groups only.
    for version in 1..=6 {
        let producer = Transactional::new("versions");
        insist(|| Ok(producer.find(&mut client, version)?.err().unwrap_or(0))).expect("FindCoordinator");
    }
    let find = FindCoordinatorRequest::default().with_key(text("g"));
    insist(|| Ok(client.call(&find, 3)?.error_code)).expect("FindCoordinator");
    for version in 0..=11 {
        let mut producer = Transactional::new("versions");
        let init = version.min(5);
        insist(|| producer.try_init(&mut client, init, None)).expect("InitProducerId");
        assert_eq!((producer.producer_id, producer.epoch), (producer.producer_id, version), "the next epoch each time");
        let add = version.min(5);
        let added = insist(|| {
            let codes = producer.try_add(&mut client, add, TOPIC, &[0, 1])?;
            assert_eq!(codes.len(), 2);
            Ok(codes[0])
        });
        assert_eq!(added.expect("AddPartitionsToTxn"), 0, "version {add}");
        let value = format!("v{version}");
        for partition in 0..2 {
            let (code, _) =
                producer.produce_version(&mut client, version.max(3), TOPIC, partition, &[&value]).expect("Produce");
            assert_eq!(code, 0);
        }
        let (offsets, commits) = (version.min(4), version.min(4));
        assert_eq!(producer.add_offsets(&mut client, offsets, "g").expect("AddOffsetsToTxn"), 0);
        let code =
            producer.commit_offset(&mut client, commits, "g", TOPIC, i64::from(version)).expect("TxnOffsetCommit");
        assert_eq!(code, 0, "TxnOffsetCommit {commits}");
        let commit = version % 2 == 0;
        let end = version.min(4);
        assert_eq!(insist(|| producer.try_end(&mut client, end, commit)).expect("EndTxn"), 0);
        if commit {
            expected.push(value);
        }
        assert_eq!(committed(&mut client, 0), expected);
        assert_eq!(committed(&mut client, 1), expected);
        let even = i64::from(version - version % 2);
        assert_eq!(committed_offset(&mut client, "g"), (0, even), "offsets count with the commit");
    }
}

/// Error code and offset that OffsetFetch gives who requires stable offsets.
fn committed_offset(client: &mut Client, group: &str) -> (i16, i64) {
    let topic = OffsetFetchRequestTopics::default().with_name(TopicName(text(TOPIC))).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let response = client.call(&request, 8).expect("OffsetFetch");
    let group = &response.groups[0];
    if group.error_code != 0 {
        // A coordinator that is still loading names no topics.
        return (group.error_code, -1);
    }
    let partition = &group.topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

#[test]
fn readers_of_committed_records_see_transactions_whole_or_not_at_all() {
    let (_broker, mut client) = broker(&[]);
    let first = begin(&mut client, "first", &["a1", "a2"]);
    let second = begin(&mut client, "second", &["b1"]);
    let mut third = begin(&mut client, "third", &["c1"]);
    assert_eq!((committed(&mut client, 0), stable_end(&mut client)), (vec![], 0));
    assert_eq!(second.end(&mut client, true).expect("EndTxn"), 0);
    assert_eq!(committed(&mut client, 0), Vec::<String>::new(), "the first one is open before it");
    assert_eq!(first.end(&mut client, false).expect("EndTxn"), 0);
    assert_eq!((committed(&mut client, 0), stable_end(&mut client)), (vec!["b1".to_owned()], 3));
    let data = fetch_committed(&mut client, TOPIC, 0, 0).expect("Fetch");
    assert_eq!((data.high_watermark, data.last_stable_offset), (6, 3));
    let aborted = data.aborted_transactions.expect("a list");
    assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(first.producer_id, 0)]);
    assert_eq!(third.produce(&mut client, TOPIC, 0, &["c2"]).expect("Produce"), 0);
    assert_eq!(third.end(&mut client, true).expect("EndTxn"), 0);
    assert_eq!(committed(&mut client, 0), ["b1", "c1", "c2"]);
    // A reader that does not care sees it all.
    let data = client.fetch(TOPIC, 0, 0).expect("Fetch");
    assert!(data.aborted_transactions.is_none() && data.high_watermark == 8);
}

#[test]
fn a_new_producer_fences_the_old_one_in_every_version() {
    let (_broker, mut client) = broker(&[]);
    let mut old = begin(&mut client, "fenced", &["lost"]);
    let mut new = Transactional::new("fenced");
    assert_eq!(new.init(&mut client).expect("InitProducerId"), 0);
    assert_eq!((new.producer_id, new.epoch), (old.producer_id, old.epoch + 2));
    let code = |version: i16, since: i16| if version < since { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
    for version in 0..=4 {
        assert_eq!(old.try_end(&mut client, version, true).expect("EndTxn"), code(version, 2));
        assert_eq!(old.add_offsets(&mut client, version, "g").expect("AddOffsetsToTxn"), code(version, 2));
    }
    for version in 0..=5 {
        assert_eq!(old.try_add(&mut client, version, TOPIC, &[1]).expect("AddPartitionsToTxn"), [code(version, 2)]);
    }
    for version in 3..=5 {
        let had = Some((old.producer_id, old.epoch));
        assert_eq!(old.try_init(&mut client, version, had).expect("InitProducerId"), code(version, 4));
    }
    for partition in 0..2 {
        assert_eq!(old.produce(&mut client, TOPIC, partition, &["late"]).expect("Produce"), INVALID_PRODUCER_EPOCH);
    }
    assert_eq!(committed(&mut client, 0), Vec::<String>::new());
    // The new one writes, and its epoch can be raised by itself.
    assert_eq!(new.add(&mut client, TOPIC, &[0]).expect("AddPartitionsToTxn"), 0);
    assert_eq!(new.produce(&mut client, TOPIC, 0, &["kept"]).expect("Produce"), 0);
    assert_eq!(new.end(&mut client, true).expect("EndTxn"), 0);
    let had = Some((new.producer_id, new.epoch));
    for _ in 0..2 {
        assert_eq!(insist(|| new.try_init(&mut client, 4, had)).expect("InitProducerId"), 0);
        assert_eq!(Some((new.producer_id, new.epoch - 1)), had, "also when it is repeated");
    }
    assert_eq!(committed(&mut client, 0), ["kept"]);
}

#[test]
fn a_partition_takes_only_what_the_coordinator_knows_of() {
    let (_broker, mut client) = broker(&[]);
    let mut producer = begin(&mut client, "verified", &["a"]);
    assert_eq!(producer.verify(&mut client, TOPIC, &[0, 1]).expect("verify"), [0, TRANSACTION_ABORTABLE]);
    for version in 3..=11 {
        let expected = if version < 11 { INVALID_TXN_STATE } else { TRANSACTION_ABORTABLE };
        let (code, _) = producer.produce_version(&mut client, version, TOPIC, 1, &["x"]).expect("Produce");
        assert_eq!(code, expected, "Produce {version}");
    }
    // Nor offsets of a group whose partition was not added.
    for version in 0..=4 {
        let expected = if version < 4 { INVALID_TXN_STATE } else { TRANSACTION_ABORTABLE };
        let find = FindCoordinatorRequest::default().with_key(text("g"));
        insist(|| Ok(client.call(&find, 3)?.error_code)).expect("FindCoordinator");
        assert_eq!(producer.commit_offset(&mut client, version, "g", TOPIC, 1).expect("TxnOffsetCommit"), expected);
    }
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), 0);
    // What comes after the end opens no transaction that nobody ends.
    let late = producer.produce(&mut client, TOPIC, 0, &["late"]).expect("Produce");
    assert_eq!(late, INVALID_TXN_STATE);
    assert_eq!(committed(&mut client, 0), ["a"]);
    assert_eq!(stable_end(&mut client), 2);
    // An unknown partition spoils the whole request.
    let codes = producer.try_add(&mut client, 3, TOPIC, &[0, 7]).expect("AddPartitionsToTxn");
    assert_eq!(codes, [55, 3]);
}

#[test]
fn without_verification_partitions_take_what_comes() {
    let (_broker, mut client) = broker(&[("transaction.partition.verification.enable", "false")]);
    let mut producer = begin(&mut client, "trusted", &["a"]);
    assert_eq!(producer.produce(&mut client, TOPIC, 1, &["b"]).expect("Produce"), 0);
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), 0);
    assert_eq!(committed(&mut client, 0), ["a"]);
}

#[test]
fn transactions_survive_a_crash_of_the_broker_at_every_stage() {
    let (mut broker, mut client) = broker(&[]);
    let again = |client: &mut Client, broker: &mut Broker| {
        broker.kill();
        broker.restart();
        *client = broker.client();
    };
    let mut producer = Transactional::new("crash");
    assert_eq!(producer.init(&mut client).expect("InitProducerId"), 0);
    again(&mut client, &mut broker);
    assert_eq!(producer.add(&mut client, TOPIC, &[0, 1]).expect("AddPartitionsToTxn"), 0);
    again(&mut client, &mut broker);
    // Until the coordinator has loaded its log nobody knows of the transaction, and the producer is told to repeat the batch.
    common::cluster::eventually("the batch is taken", || {
        let code = producer.produce(&mut client, TOPIC, 0, &["a"]).expect("Produce");
        assert!(code == 0 || code == NOT_ENOUGH_REPLICAS, "Produce: {code}");
        (code == 0).then_some(())
    });
    assert_eq!(producer.produce(&mut client, TOPIC, 1, &["b"]).expect("Produce"), 0);
    again(&mut client, &mut broker);
    assert_eq!(committed(&mut client, 0), Vec::<String>::new());
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), 0);
    // The answer says that the decision is safe, whatever became of the markers.
    again(&mut client, &mut broker);
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), 0, "the same again");
    assert_eq!((committed(&mut client, 0), committed(&mut client, 1)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert_eq!(producer.add(&mut client, TOPIC, &[0]).expect("AddPartitionsToTxn"), 0);
    assert_eq!(producer.produce(&mut client, TOPIC, 0, &["c"]).expect("Produce"), 0);
    again(&mut client, &mut broker);
    assert_eq!(producer.end(&mut client, false).expect("EndTxn"), 0);
    again(&mut client, &mut broker);
    assert_eq!(committed(&mut client, 0), ["a"]);
    // And a clean stop leaves the same.
    broker.stop();
    broker.restart();
    client = broker.client();
    assert_eq!(committed(&mut client, 0), ["a"]);
    assert_eq!(insist(|| producer.try_init(&mut client, 4, None)).expect("InitProducerId"), 0);
    assert_eq!(producer.epoch, 1);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let (_broker, mut client) = broker(&[("transaction.abort.timed.out.transaction.cleanup.interval.ms", "20")]);
    let mut producer = Transactional::new("slow");
    producer.timeout_ms = 50;
    assert_eq!(producer.init(&mut client).expect("InitProducerId"), 0);
    assert_eq!(producer.add(&mut client, TOPIC, &[0]).expect("AddPartitionsToTxn"), 0);
    // It may be over already, on a machine that does other things too.
    producer.produce(&mut client, TOPIC, 0, &["late"]).expect("Produce");
    common::cluster::eventually("the time-out", || (describe(&mut client, "slow").1 == "CompleteAbort").then_some(()));
    assert_eq!(producer.try_end(&mut client, 3, true).expect("EndTxn"), PRODUCER_FENCED);
    assert!(stable_end(&mut client) >= 1, "its marker");
    assert_eq!(committed(&mut client, 0), Vec::<String>::new());
    assert_eq!(producer.init(&mut client).expect("InitProducerId"), 0);
    assert_eq!(producer.epoch, 2);
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let (_broker, mut client) = broker(&[
        ("transactional.id.expiration.ms", "50"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "20"),
    ]);
    let mut producer = Transactional::new("idle");
    assert_eq!(producer.init(&mut client).expect("InitProducerId"), 0);
    let first = producer.producer_id;
    common::cluster::eventually("the expiry", || (describe(&mut client, "idle").0 == 105).then_some(()));
    assert_eq!(producer.init(&mut client).expect("InitProducerId"), 0);
    assert!(producer.producer_id != first && producer.epoch == 0);
}

/// Error code, state, partitions.
fn describe(client: &mut Client, id: &str) -> (i16, String, Vec<i32>) {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text(id))]);
    let response = client.call(&request, 0).expect("DescribeTransactions");
    let state = &response.transaction_states[0];
    let partitions = state.topics.iter().flat_map(|topic| topic.partitions.clone()).collect();
    (state.error_code, state.transaction_state.to_string(), partitions)
}

fn list(client: &mut Client, states: &[&str]) -> (Vec<String>, Vec<String>) {
    let request =
        ListTransactionsRequest::default().with_state_filters(states.iter().map(|state| text(state)).collect());
    let response = client.call(&request, 1).expect("ListTransactions");
    assert_eq!(response.error_code, 0);
    let mut ids: Vec<_> = response.transaction_states.iter().map(|state| state.transactional_id.to_string()).collect();
    ids.sort();
    (ids, response.unknown_state_filters.iter().map(|name| name.to_string()).collect())
}

/// First offset of the open transaction of a producer, or -1; `None` if the partition does not know it.
fn open_since(client: &mut Client, producer: &Transactional) -> Option<i64> {
    let topic = TopicRequest::default().with_name(TopicName(text(TOPIC))).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let response = client.call(&request, 0).expect("DescribeProducers");
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let found = partition.active_producers.iter().find(|state| state.producer_id.0 == producer.producer_id);
    found.map(|state| state.current_txn_start_offset)
}

#[test]
fn administrators_see_transactions_and_end_them() {
    let (_broker, mut client) = broker(&[]);
    let producer = begin(&mut client, "seen", &["a"]);
    begin(&mut client, "other", &["b"]).end(&mut client, true).expect("EndTxn");
    assert_eq!(describe(&mut client, "seen"), (0, "Ongoing".into(), vec![0]));
    assert_eq!(describe(&mut client, "other"), (0, "CompleteCommit".into(), vec![]));
    assert_eq!(describe(&mut client, "nobody").0, 105);
    assert_eq!(list(&mut client, &[]).0, ["other", "seen"]);
    assert_eq!(list(&mut client, &["Ongoing", "Sleeping"]), (vec!["seen".into()], vec!["Sleeping".into()]));
    assert_eq!(open_since(&mut client, &producer), Some(0));
    // kafka-transactions abort: a marker from no coordinator.
    let abort = |epoch| {
        let topic =
            WritableTxnMarkerTopic::default().with_name(TopicName(text(TOPIC))).with_partition_indexes(vec![0, 9]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(producer.producer_id.into())
            .with_producer_epoch(epoch)
            .with_coordinator_epoch(0)
            .with_topics(vec![topic]);
        WriteTxnMarkersRequest::default().with_markers(vec![marker])
    };
    for version in 0..=1 {
        let response = client.call(&abort(-1), version).expect("WriteTxnMarkers");
        let codes: Vec<i16> = response.markers[0].topics[0].partitions.iter().map(|p| p.error_code).collect();
        assert_eq!(codes, [INVALID_PRODUCER_EPOCH, 3]);
    }
    let response = client.call(&abort(producer.epoch), 1).expect("WriteTxnMarkers");
    assert_eq!(response.markers[0].topics[0].partitions[0].error_code, 0);
    assert_eq!(open_since(&mut client, &producer), Some(-1));
    assert_eq!(committed(&mut client, 0), ["b"]);
}

#[test]
fn offsets_of_an_open_transaction_are_unstable() {
    let (mut broker, mut client) = broker(&[]);
    let find = FindCoordinatorRequest::default().with_key(text("g"));
    insist(|| Ok(client.call(&find, 3)?.error_code)).expect("FindCoordinator");
    let producer = begin(&mut client, "offsets", &["a"]);
    assert_eq!(producer.add_offsets(&mut client, 3, "g").expect("AddOffsetsToTxn"), 0);
    assert_eq!(producer.commit_offset(&mut client, 3, "g", TOPIC, 5).expect("TxnOffsetCommit"), 0);
    assert_eq!(committed_offset(&mut client, "g"), (UNSTABLE_OFFSET_COMMIT, -1));
    broker.kill();
    broker.restart();
    client = broker.client();
    common::cluster::eventually("the group is loaded", || {
        (committed_offset(&mut client, "g") == (UNSTABLE_OFFSET_COMMIT, -1)).then_some(())
    });
    assert_eq!(producer.end(&mut client, true).expect("EndTxn"), 0);
    common::cluster::eventually("the offset counts", || (committed_offset(&mut client, "g") == (0, 5)).then_some(()));
}
