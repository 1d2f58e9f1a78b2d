//! The way of markers to other brokers: those of many transactions in one request (classes `TransactionMarkerChannelManager` and
//! `TxnMarkerQueue`).
//!
//! A marker leaves at once while few requests to its broker are under way, and waits for the next one otherwise, with all that
//! come meanwhile: so the more transactions end, the more of them share a request.
//!
//! Invariant: every marker is told exactly once what became of it. A request has one marker of a producer at most, since the answer
//! tells them apart by the producer's id.

use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::transaction::Delivery;
use crate::transaction::message::{Marker, MarkerOutcome};
use crate::wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use crate::wire::messages::write_txn_markers_response::WritableTxnMarkerResult;
use crate::wire::messages::{TopicName, WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use crate::wire::text;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Requests to one broker that are under way at the same time: enough to keep the way busy.
const REQUESTS_MAX: usize = 4;
/// Of one request, so that no frame is too large and nobody waits for too many appends.
const PARTITIONS_MAX: usize = 5_000;

pub type Answer = Pin<Box<dyn Future<Output = Option<WriteTxnMarkersResponse>> + Send>>;

/// How a request gets to a broker. No answer means that nothing is known of its markers.
pub trait MarkerWire: Send + Sync + 'static {
    fn send(&self, broker: BrokerId, request: WriteTxnMarkersRequest) -> Answer;
}

type Outcomes = Vec<(TopicPartition, MarkerOutcome)>;

struct Waiting {
    marker: Marker,
    partitions: Vec<TopicPartition>,
    tell: oneshot::Sender<Outcomes>,
}

#[derive(Default)]
struct Channel {
    waiting: VecDeque<Waiting>,
    requests: usize,
}

impl Channel {
    /// What goes into the next request.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut producers = HashSet::new();
        let mut partitions = 0;
        let mut later = VecDeque::new();
        while let Some(next) = self.waiting.pop_front() {
            if producers.contains(&next.marker.producer_id) {
                later.push_back(next);
                continue;
            }
            partitions += next.partitions.len();
            if !batch.is_empty() && partitions > PARTITIONS_MAX {
                self.waiting.push_front(next);
                break;
            }
            producers.insert(next.marker.producer_id);
            batch.push(next);
        }
        while let Some(next) = later.pop_back() {
            self.waiting.push_front(next);
        }
        batch
    }
}

pub struct MarkerChannels {
    wire: Box<dyn MarkerWire>,
    runtime: Handle,
    /// Only of brokers that something is on its way to.
    channels: Mutex<HashMap<BrokerId, Channel>>,
}

impl MarkerChannels {
    pub fn new(wire: impl MarkerWire, runtime: Handle) -> Arc<MarkerChannels> {
        Arc::new(MarkerChannels { wire: Box::new(wire), runtime, channels: Mutex::default() })
    }

    pub fn send(self: &Arc<Self>, broker: BrokerId, marker: Marker, partitions: Vec<TopicPartition>) -> Delivery {
        let (tell, told) = oneshot::channel();
        let waiting = Waiting { marker, partitions: partitions.clone(), tell };
        let batch = {
            let mut channels = self.channels.lock();
            let channel = channels.entry(broker).or_default();
            channel.waiting.push_back(waiting);
            if channel.requests < REQUESTS_MAX {
                channel.requests += 1;
                channel.next_batch()
            } else {
                Vec::new()
            }
        };
        if !batch.is_empty() {
            self.runtime.spawn(self.clone().send_all(broker, batch));
        }
        // Nobody tells only if the broker stops.
        Box::pin(async move { told.await.unwrap_or_else(|_| all(partitions, MarkerOutcome::Failed)) })
    }

    /// Sends one request after the other for as long as markers wait.
    async fn send_all(self: Arc<Self>, broker: BrokerId, mut batch: Vec<Waiting>) {
        while !batch.is_empty() {
            let markers = batch.iter().map(|waiting| to_wire(&waiting.marker, &waiting.partitions)).collect();
            let response = self.wire.send(broker, WriteTxnMarkersRequest::default().with_markers(markers)).await;
            let results = response.map(|response| response.markers);
            for Waiting { marker, partitions, tell } in batch {
                let outcomes = match &results {
                    Some(results) => of_wire(&marker, partitions, results),
                    None => all(partitions, MarkerOutcome::Failed),
                };
                // The coordinator may be gone.
                let _ = tell.send(outcomes);
            }
            batch = self.next_batch(broker);
        }
    }

    fn next_batch(&self, broker: BrokerId) -> Vec<Waiting> {
        let mut channels = self.channels.lock();
        let Some(channel) = channels.get_mut(&broker) else { return Vec::new() };
        let batch = channel.next_batch();
        if batch.is_empty() {
            channel.requests -= 1;
            if channel.requests == 0 {
                channels.remove(&broker);
            }
        }
        batch
    }
}

pub fn all(partitions: Vec<TopicPartition>, outcome: MarkerOutcome) -> Outcomes {
    partitions.into_iter().map(|partition| (partition, outcome)).collect()
}

fn to_wire(marker: &Marker, partitions: &[TopicPartition]) -> WritableTxnMarker {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topic = |(name, indexes): (&str, Vec<i32>)| {
        WritableTxnMarkerTopic::default().with_name(TopicName(text(name))).with_partition_indexes(indexes)
    };
    WritableTxnMarker::default()
        .with_producer_id(marker.producer_id.0.into())
        .with_producer_epoch(marker.producer_epoch.0)
        .with_transaction_result(marker.commit)
        .with_coordinator_epoch(marker.coordinator_epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}

/// What the leader said of each partition; one of which it said nothing is tried again.
fn of_wire(marker: &Marker, partitions: Vec<TopicPartition>, results: &[WritableTxnMarkerResult]) -> Outcomes {
    let results = results.iter().filter(|result| result.producer_id.0 == marker.producer_id.0);
    let codes = results.flat_map(|result| &result.topics).flat_map(|topic| {
        let name: &str = &topic.name;
        topic.partitions.iter().map(move |partition| ((name, partition.partition_index), partition.error_code))
    });
    let codes: HashMap<(&str, i32), i16> = codes.collect();
    let outcome_of = |partition: &TopicPartition| {
        let code = codes.get(&(&*partition.topic, partition.partition));
        code.map_or(MarkerOutcome::Failed, |code| outcome(*code))
    };
    partitions.into_iter().map(|partition| (partition.clone(), outcome_of(&partition))).collect()
}

pub fn outcome(code: i16) -> MarkerOutcome {
    const NONE: i16 = ErrorCode::None as i16;
    const OLD_PRODUCER: i16 = ErrorCode::InvalidProducerEpoch as i16;
    const OLD_COORDINATOR: i16 = ErrorCode::TransactionCoordinatorFenced as i16;
    const OLD_FORMAT: i16 = ErrorCode::UnsupportedForMessageFormat as i16;
    const OLD_BROKER: i16 = ErrorCode::UnsupportedVersion as i16;
    match code {
        NONE => MarkerOutcome::Written,
        OLD_PRODUCER | OLD_COORDINATOR => MarkerOutcome::Fenced,
        // Nothing transactional can be there.
        OLD_FORMAT | OLD_BROKER => MarkerOutcome::Gone,
        _ => MarkerOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ProducerEpoch, ProducerId};
    use crate::wire::messages::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerTopicResult,
    };
    use tokio::sync::mpsc;

    type Asked = (BrokerId, WriteTxnMarkersRequest, oneshot::Sender<WriteTxnMarkersResponse>);

    /// A way whose other end is the test.
    struct Wire(mpsc::UnboundedSender<Asked>);

    impl MarkerWire for Wire {
        fn send(&self, broker: BrokerId, request: WriteTxnMarkersRequest) -> Answer {
            let (sender, receiver) = oneshot::channel();
            self.0.send((broker, request, sender)).expect("the test listens");
            Box::pin(async move { receiver.await.ok() })
        }
    }

    fn channels() -> (Arc<MarkerChannels>, mpsc::UnboundedReceiver<Asked>) {
        let (sender, asked) = mpsc::unbounded_channel();
        (MarkerChannels::new(Wire(sender), Handle::current()), asked)
    }

    fn marker(producer: i64) -> Marker {
        let (producer_id, producer_epoch) = (ProducerId(producer), ProducerEpoch(0));
        Marker { producer_id, producer_epoch, commit: true, coordinator_epoch: 0 }
    }

    fn partitions(count: i32) -> Vec<TopicPartition> {
        (0..count).map(|index| TopicPartition::new("t", index)).collect()
    }

    fn producers(request: &WriteTxnMarkersRequest) -> Vec<i64> {
        request.markers.iter().map(|marker| marker.producer_id.0).collect()
    }

    /// All that was asked for, with one code for each producer.
    fn answer(request: &WriteTxnMarkersRequest, code_of: impl Fn(i64) -> ErrorCode) -> WriteTxnMarkersResponse {
        let result = |marker: &WritableTxnMarker| {
            let code = code_of(marker.producer_id.0).code();
            let topics = marker.topics.iter().map(|topic| {
                let partition = |index: &i32| {
                    WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code)
                };
                WritableTxnMarkerTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partition_indexes.iter().map(partition).collect())
            });
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
        };
        WriteTxnMarkersResponse::default().with_markers(request.markers.iter().map(result).collect())
    }

    #[tokio::test]
    async fn markers_that_wait_for_a_way_go_together() {
        let (channels, mut asked) = channels();
        let busy: Vec<_> =
            (0..REQUESTS_MAX as i64).map(|id| channels.send(BrokerId(1), marker(id), partitions(1))).collect();
        let mut under_way = Vec::new();
        for id in 0..REQUESTS_MAX as i64 {
            let request = asked.recv().await.expect("at once");
            assert_eq!(producers(&request.1), [id]);
            under_way.push(request);
        }
        let waiting: Vec<_> = (10..20).map(|id| channels.send(BrokerId(1), marker(id), partitions(2))).collect();
        // Another broker is another way.
        let other = channels.send(BrokerId(2), marker(30), partitions(1));
        let (broker, request, reply) = asked.recv().await.expect("at once");
        assert_eq!((broker, producers(&request)), (BrokerId(2), vec![30]));
        reply.send(answer(&request, |_| ErrorCode::None)).expect("heard");
        assert_eq!(other.await, all(partitions(1), MarkerOutcome::Written));

        for (_, request, reply) in under_way {
            reply.send(answer(&request, |_| ErrorCode::None)).expect("heard");
        }
        for delivery in busy {
            assert_eq!(delivery.await, all(partitions(1), MarkerOutcome::Written));
        }
        let (broker, request, reply) = asked.recv().await.expect("the next one");
        assert_eq!((broker, producers(&request)), (BrokerId(1), (10..20).collect()));
        let code_of = |id| if id == 13 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::None };
        reply.send(answer(&request, code_of)).expect("heard");
        for (id, delivery) in (10..).zip(waiting) {
            let expected = if id == 13 { MarkerOutcome::Fenced } else { MarkerOutcome::Written };
            assert_eq!(delivery.await, all(partitions(2), expected), "producer {id}");
        }
        tokio::task::yield_now().await;
        assert!(asked.try_recv().is_err() && channels.channels.lock().is_empty(), "nothing is left");
    }

    #[tokio::test]
    async fn a_broken_way_fails_its_own_markers_only() {
        let (channels, mut asked) = channels();
        let one = channels.send(BrokerId(1), marker(1), partitions(1));
        let two = channels.send(BrokerId(1), marker(2), partitions(1));
        let (_, _, lost) = asked.recv().await.expect("a request");
        let (_, request, reply) = asked.recv().await.expect("a request");
        drop(lost);
        reply.send(answer(&request, |_| ErrorCode::None)).expect("heard");
        assert_eq!(one.await, all(partitions(1), MarkerOutcome::Failed));
        assert_eq!(two.await, all(partitions(1), MarkerOutcome::Written));
    }

    #[test]
    fn a_request_is_bounded_and_has_one_marker_of_a_producer() {
        let mut channel = Channel::default();
        let mut put = |producer, count| {
            let tell = oneshot::channel().0;
            channel.waiting.push_back(Waiting { marker: marker(producer), partitions: partitions(count), tell });
        };
        let most = PARTITIONS_MAX as i32;
        for (producer, count) in [(1, 1), (2, 1), (1, 1), (3, 1), (1, 1), (4, most), (5, most + 1), (6, 1)] {
            put(producer, count);
        }
        let mut batches = Vec::new();
        while !channel.waiting.is_empty() {
            let batch = channel.next_batch();
            batches.push(batch.iter().map(|waiting| waiting.marker.producer_id.0).collect::<Vec<_>>());
        }
        assert_eq!(batches, [vec![1, 2, 3], vec![1], vec![1], vec![4], vec![5], vec![6]]);
    }

    #[test]
    fn every_partition_has_one_outcome() {
        let codes = [(0, ErrorCode::None), (1, ErrorCode::NotLeaderOrFollower), (3, ErrorCode::InvalidProducerEpoch)];
        let results = codes.map(|(index, code)| {
            WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code.code())
        });
        let topic =
            WritableTxnMarkerTopicResult::default().with_name(TopicName(text("t"))).with_partitions(results.to_vec());
        let of = |producer: i64| {
            WritableTxnMarkerResult::default().with_producer_id(producer.into()).with_topics(vec![topic.clone()])
        };
        let outcomes = of_wire(&marker(7), partitions(4), &[of(7)]);
        let outcomes: Vec<_> =
            outcomes.into_iter().map(|(partition, outcome)| (partition.partition, outcome)).collect();
        let expected = [
            (0, MarkerOutcome::Written),
            (1, MarkerOutcome::Failed),
            (2, MarkerOutcome::Failed),
            (3, MarkerOutcome::Fenced),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(of_wire(&marker(7), partitions(1), &[of(8)]), all(partitions(1), MarkerOutcome::Failed));
    }
}
