//! A transactional producer for tests, request by request.

use super::Client;
use bytes::Bytes;
use ottla::record::BatchBuilder;
use ottla::wire::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::fetch_response::PartitionData;
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use ottla::wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, ProduceRequest, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use ottla::wire::text;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

pub const NONE: i16 = 0;
pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub const NOT_COORDINATOR: i16 = 16;
pub const CONCURRENT_TRANSACTIONS: i16 = 51;

/// Codes after which a producer asks again.
pub fn is_retriable(code: i16) -> bool {
    [COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, CONCURRENT_TRANSACTIONS].contains(&code)
}

/// Asks until the answer is not "later". Long enough for a debug build on a machine that does other things too.
pub fn insist(mut ask: impl FnMut() -> io::Result<i16>) -> io::Result<i16> {
    for _ in 0..3000 {
        match ask()? {
            code if is_retriable(code) => std::thread::sleep(Duration::from_millis(10)),
            code => return Ok(code),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the coordinator never has time"))
}

pub struct Transactional {
    pub id: String,
    pub producer_id: i64,
    pub epoch: i16,
    pub timeout_ms: i32,
    /// Next sequence by partition.
    sequences: HashMap<(String, i32), i32>,
}

impl Transactional {
    pub fn new(id: &str) -> Transactional {
        Transactional { id: id.into(), producer_id: -1, epoch: -1, timeout_ms: 60_000, sequences: HashMap::new() }
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(text(&self.id))
    }

    /// Port of the coordinator, or why there is none.
    pub fn find(&self, client: &mut Client, version: i16) -> io::Result<Result<i32, i16>> {
        let request = FindCoordinatorRequest::default().with_key_type(1);
        if version < 4 {
            let found = client.call(&request.with_key(text(&self.id)), version)?;
            return Ok(if found.error_code == 0 { Ok(found.port) } else { Err(found.error_code) });
        }
        let found = client.call(&request.with_coordinator_keys(vec![text(&self.id)]), version)?;
        let one = found.coordinators.into_iter().next().ok_or_else(|| io::Error::other("no coordinator"))?;
        Ok(if one.error_code == 0 { Ok(one.port) } else { Err(one.error_code) })
    }

    /// One attempt to become the producer of the id.
    pub fn try_init(&mut self, client: &mut Client, version: i16, expected: Option<(i64, i16)>) -> io::Result<i16> {
        let (id, epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_transaction_timeout_ms(self.timeout_ms)
            .with_producer_id(id.into())
            .with_producer_epoch(epoch);
        let response = client.call(&request, version)?;
        if response.error_code == 0 {
            (self.producer_id, self.epoch) = (response.producer_id.0, response.producer_epoch);
            self.sequences.clear();
        }
        Ok(response.error_code)
    }

    pub fn init(&mut self, client: &mut Client) -> io::Result<i16> {
        insist(|| match self.find(client, 3)? {
            Ok(_) => self.try_init(client, 4, None),
            Err(code) => Ok(code),
        })
    }

    pub fn try_add(&self, client: &mut Client, version: i16, topic: &str, partitions: &[i32]) -> io::Result<Vec<i16>> {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions.to_vec());
        let request = match version {
            0..=3 => AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(self.id())
                .with_v3_and_below_producer_id(self.producer_id.into())
                .with_v3_and_below_producer_epoch(self.epoch)
                .with_v3_and_below_topics(vec![topic]),
            _ => AddPartitionsToTxnRequest::default().with_transactions(vec![self.transaction(topic, false)]),
        };
        self.added(client, &request, version)
    }

    fn transaction(&self, topic: AddPartitionsToTxnTopic, verify_only: bool) -> AddPartitionsToTxnTransaction {
        AddPartitionsToTxnTransaction::default()
            .with_transactional_id(self.id())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_verify_only(verify_only)
            .with_topics(vec![topic])
    }

    fn added(&self, client: &mut Client, request: &AddPartitionsToTxnRequest, version: i16) -> io::Result<Vec<i16>> {
        let response = client.call(request, version)?;
        let of_all = response.results_by_transaction.into_iter().flat_map(|result| result.topic_results);
        let topics = response.results_by_topic_v3_and_below.into_iter().chain(of_all);
        Ok(topics.flat_map(|topic| topic.results_by_partition).map(|result| result.partition_error_code).collect())
    }

    pub fn verify(&self, client: &mut Client, topic: &str, partitions: &[i32]) -> io::Result<Vec<i16>> {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![self.transaction(topic, true)]);
        self.added(client, &request, 4)
    }

    pub fn add(&self, client: &mut Client, topic: &str, partitions: &[i32]) -> io::Result<i16> {
        insist(|| Ok(self.try_add(client, 3, topic, partitions)?.into_iter().find(|code| *code != 0).unwrap_or(0)))
    }

    pub fn batch(&self, topic: &str, partition: i32, values: &[&str]) -> Bytes {
        let sequence = self.sequences.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new().producer(self.producer_id, self.epoch, sequence).transactional(true);
        for value in values {
            builder.append(ottla::base::time::wall_ms(), None, Some(value.as_bytes()), []);
        }
        builder.build().expect("batch").to_bytes()
    }

    /// Error code and base offset. The sequence goes on only if it was taken.
    pub fn produce_version(
        &mut self,
        client: &mut Client,
        version: i16,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> io::Result<(i16, i64)> {
        let records = self.batch(topic, partition, values);
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let of_topic = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![of_topic]);
        let response = client.call(&request, version)?;
        let topics = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
        let answer = topics.into_iter().next().ok_or_else(|| io::Error::other("no partition in the reply"))?;
        if answer.error_code == 0 {
            *self.sequences.entry((topic.to_owned(), partition)).or_default() += values.len() as i32;
        }
        Ok((answer.error_code, answer.base_offset))
    }

    pub fn produce(&mut self, client: &mut Client, topic: &str, partition: i32, values: &[&str]) -> io::Result<i16> {
        Ok(self.produce_version(client, 9, topic, partition, values)?.0)
    }

    pub fn try_end(&self, client: &mut Client, version: i16, commit: bool) -> io::Result<i16> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        Ok(client.call(&request, version)?.error_code)
    }

    pub fn end(&self, client: &mut Client, commit: bool) -> io::Result<i16> {
        insist(|| self.try_end(client, 3, commit))
    }

    pub fn try_add_offsets(&self, client: &mut Client, version: i16, group: &str) -> io::Result<i16> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_group_id(GroupId(text(group)));
        Ok(client.call(&request, version)?.error_code)
    }

    pub fn add_offsets(&self, client: &mut Client, version: i16, group: &str) -> io::Result<i16> {
        insist(|| self.try_add_offsets(client, version, group))
    }

    /// One attempt; the first code that is not 0.
    pub fn try_commit_offsets(
        &self,
        client: &mut Client,
        version: i16,
        group: &str,
        topic: &str,
        offsets: &[(i32, i64)],
    ) -> io::Result<i16> {
        let partition = |(partition, offset): &(i32, i64)| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text("")))
        };
        let of_topic = TxnOffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(offsets.iter().map(partition).collect());
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id())
            .with_group_id(GroupId(text(group)))
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_topics(vec![of_topic]);
        let response = client.call(&request, version)?;
        let mut codes =
            response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        let first = codes.next().unwrap_or(-1);
        Ok(if first == 0 { codes.find(|code| *code != 0).unwrap_or(0) } else { first })
    }

    pub fn commit_offset(
        &self,
        client: &mut Client,
        version: i16,
        group: &str,
        topic: &str,
        offset: i64,
    ) -> io::Result<i16> {
        insist(|| self.try_commit_offsets(client, version, group, topic, &[(0, offset)]))
    }
}

/// One fetch of a reader of committed records.
pub fn fetch_committed(client: &mut Client, topic: &str, partition: i32, offset: i64) -> io::Result<PartitionData> {
    let partition =
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_max_bytes(50 << 20)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let response = client.call(&request, 12)?;
    let first = response.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    first.ok_or_else(|| io::Error::other(format!("no partition in the reply, error {}", response.error_code)))
}

/// What a consumer of committed records does with the list of aborted transactions: offsets and values from `offset` to where it
/// may read, and that end.
pub fn read_committed(
    client: &mut Client,
    topic: &str,
    partition: i32,
    mut offset: i64,
) -> io::Result<(Vec<(i64, String)>, i64)> {
    let mut values = Vec::new();
    loop {
        let (more, next) = read_committed_once(client, topic, partition, offset)?;
        values.extend(more);
        if next == offset {
            return Ok((values, offset));
        }
        offset = next;
    }
}

/// The same with one fetch; where the next one begins.
pub fn read_committed_once(
    client: &mut Client,
    topic: &str,
    partition: i32,
    from: i64,
) -> io::Result<(Vec<(i64, String)>, i64)> {
    let data = fetch_committed(client, topic, partition, from)?;
    if data.error_code != 0 {
        return Err(io::Error::other(format!("Fetch: error {}", data.error_code)));
    }
    let aborted = data.aborted_transactions.unwrap_or_default();
    let mut aborted: Vec<(i64, i64)> =
        aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer_id.0)).collect();
    aborted.sort_unstable();
    aborted.reverse();
    let records = data.records.unwrap_or_default();
    let (mut values, mut offset) = (Vec::new(), from);
    let mut skipped = std::collections::HashSet::new();
    for batch in ottla::record::batches(&records) {
        let batch = batch.map_err(io::Error::other)?;
        let header = batch.header().ok_or_else(|| io::Error::other("an old batch"))?;
        let producer = header.producer_id();
        while aborted.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
            skipped.extend(aborted.pop().map(|(_, id)| id));
        }
        offset = offset.max(batch.next_offset());
        if batch.is_control() {
            skipped.remove(&producer);
        } else if !(header.is_transactional() && skipped.contains(&producer)) {
            let records = batch.records(64 << 20).map_err(io::Error::other)?;
            for record in records.iter() {
                let record = record.map_err(io::Error::other)?;
                if record.offset >= from {
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                    values.push((record.offset, value));
                }
            }
        }
    }
    Ok((values, offset))
}
