//! Anomalies that the protocol of 3.9 itself allows: all transactions of a producer have one epoch, so a request that is late by one
//! transaction is taken for one of the next (KIP-890 part 2 gives each transaction an epoch, with transaction.version 2 of 4.0;
//! KAFKA-17754 has the story of the late EndTxn). Clients guard themselves: they do not go on with an epoch after a request whose
//! end they do not know. Each is shown here, and `scripts/transactions-history --broker kafka` shows the same on Apache Kafka.
//!
//! | what is late | what is seen | who is judged |
//! |---|---|---|
//! | Produce | an aborted transaction's record is committed with the next one | aborted read |
//! | EndTxn | the next transaction is committed before its producer says so | aborted read |
//! | EndTxn | and what it writes after that is aborted | aborted read, torn |
//! | WriteTxnMarkers | the same in one partition, behind the coordinator's back | aborted read |

use crate::common::cluster::eventually;
use crate::common::transactional::{Transactional, read_committed};
use crate::common::{Broker, Client};
use crate::history::{End, Key, Kind, Op, Step, Value};
use crate::judge::{Anomaly, judge};
use crate::run::{bootstrap, op};
use ottla::wire::messages::metadata_request::MetadataRequestTopic;
use ottla::wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use ottla::wire::messages::{MetadataRequest, TopicName, WriteTxnMarkersRequest};
use ottla::wire::text;
use std::sync::atomic::{AtomicU64, Ordering};

const INVALID_TXN_STATE: i16 = 48;

/// One broker, which is Apache Kafka's if there is one.
struct Subject {
    _broker: Option<Broker>,
    client: Client,
    topic: String,
    producer: Transactional,
    ops: Vec<Op>,
}

impl Subject {
    fn new(name: &str) -> Subject {
        let (broker, port) = match bootstrap() {
            Some(ports) => (None, ports[0]),
            None => {
                let broker = Broker::start(&[("transaction.state.log.num.partitions", "5")]);
                let port = broker.port;
                (Some(broker), port)
            }
        };
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let topic = format!("{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut client = Client::connect(port).expect("the broker");
        // Apache Kafka answers before it has heard of itself as a broker.
        eventually("a topic", || client.create_topic(&topic, 2, &[]).ok());
        let mut producer = Transactional::new(&topic);
        assert_eq!(producer.init(&mut client).expect("a producer id"), 0);
        Subject { _broker: broker, client, topic, producer, ops: Vec::new() }
    }

    /// A whole transaction: record 1 in partition 0.
    fn commit_first(&mut self) {
        self.begin();
        let first = self.send(0, 1);
        assert_eq!(self.end(true), 0);
        self.ops.push(op(1, Kind::Txn, End::Ok, vec![first]));
    }

    fn begin(&mut self) {
        assert_eq!(self.producer.add(&mut self.client, &self.topic, &[0, 1]).expect("partitions"), 0);
    }

    fn send(&mut self, key: Key, value: Value) -> Step {
        let text = value.to_string();
        let sent = self.producer.produce_version(&mut self.client, 9, &self.topic, key, &[&text]).expect("Produce");
        assert_eq!(sent.0, 0);
        Step::Send { key, value, offset: Some(sent.1) }
    }

    fn end(&mut self, commit: bool) -> i16 {
        self.producer.end(&mut self.client, commit).expect("EndTxn")
    }

    /// The epoch of the leader of the partition of `__transaction_state` that has the producer's id.
    fn coordinator_epoch(&mut self) -> i32 {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text("__transaction_state"))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let found = self.client.call(&request, 9).expect("Metadata");
        let partitions = &found.topics[0].partitions;
        let hash = self.topic.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let own = hash.wrapping_abs() % partitions.len() as i32;
        let partition = partitions.iter().find(|partition| partition.partition_index == own).expect("the partition");
        partition.leader_epoch
    }

    /// What is there, judged.
    fn shows(mut self, expected: &[Anomaly]) {
        // Another life of the producer ends what is open.
        assert_eq!(Transactional::new(&self.topic).init(&mut self.client).expect("a new epoch"), 0);
        for key in [0, 1] {
            let (values, _) = read_committed(&mut self.client, &self.topic, key, 0).expect("a read");
            let values = values.into_iter().map(|(offset, value)| (offset, value.parse().expect("a number"))).collect();
            self.ops.push(op(9, Kind::Poll, End::Ok, vec![Step::Poll { key, values }]));
        }
        let report = judge(&self.ops);
        assert_eq!(report.bad(), expected, "{report}");
    }
}

#[test]
fn a_late_record_is_taken_for_one_of_the_next_transaction() {
    let mut subject = Subject::new("late-produce");
    subject.begin();
    let first = subject.send(0, 1);
    // Sent, and on its way for a long time.
    let late = Step::Send { key: 0, value: 2, offset: None };
    assert_eq!(subject.end(false), 0);
    subject.ops.push(op(1, Kind::Txn, End::Fail, vec![first, late]));
    subject.begin();
    subject.send(0, 2);
    assert_eq!(subject.end(true), 0);
    subject.ops.push(op(1, Kind::Txn, End::Ok, vec![]));
    subject.shows(&[Anomaly::AbortedRead, Anomaly::Torn]);
}

#[test]
fn a_late_end_ends_the_next_transaction() {
    let mut subject = Subject::new("late-end");
    subject.commit_first();
    subject.begin();
    let second = subject.send(0, 2);
    // The one of the first transaction, which was sent twice.
    assert_eq!(subject.end(true), 0);
    assert_eq!(subject.end(false), INVALID_TXN_STATE, "the abort comes too late");
    subject.ops.push(op(1, Kind::Txn, End::Fail, vec![second]));
    subject.shows(&[Anomaly::AbortedRead]);
}

#[test]
fn a_late_end_tears_the_next_transaction() {
    let mut subject = Subject::new("late-end");
    subject.commit_first();
    subject.begin();
    let second = subject.send(0, 2);
    assert_eq!(subject.end(true), 0);
    // The producer knows nothing of that, and adds the partition of its next record.
    subject.begin();
    let third = subject.send(1, 3);
    assert_eq!(subject.end(false), 0);
    subject.ops.push(op(1, Kind::Txn, End::Fail, vec![second, third]));
    // Half of what it has aborted is there.
    subject.shows(&[Anomaly::AbortedRead, Anomaly::Torn]);
}

#[test]
fn a_late_marker_ends_the_next_transaction_in_its_partition() {
    let mut subject = Subject::new("late-marker");
    subject.commit_first();
    subject.begin();
    let second = subject.send(0, 2);
    let topic =
        WritableTxnMarkerTopic::default().with_name(TopicName(text(&subject.topic))).with_partition_indexes(vec![0]);
    // As the coordinator has sent it before.
    let marker = WritableTxnMarker::default()
        .with_producer_id(subject.producer.producer_id.into())
        .with_producer_epoch(subject.producer.epoch)
        .with_transaction_result(true)
        .with_topics(vec![topic])
        .with_coordinator_epoch(subject.coordinator_epoch());
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let answer = subject.client.call(&request, 1).expect("WriteTxnMarkers");
    assert_eq!(answer.markers[0].topics[0].partitions[0].error_code, 0);
    subject.ops.push(op(1, Kind::Txn, End::Fail, vec![second]));
    subject.shows(&[Anomaly::AbortedRead]);
}
