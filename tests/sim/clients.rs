//! What clients do: a producer with acks=all, consumers of everything and of what is committed.

use super::clock::{now_ms, sleep_ms};
use super::mistake::{self, Mistake};
use super::process::Process;
use super::world::{PARTITIONS, TOPIC, World};
use ottla::base::{BrokerEpoch, LeaderEpoch, ProducerEpoch, ProducerId};
use ottla::log::{AbortedTransaction, AppendOrigin, Log, LogError};
use ottla::record::{
    BatchBuilder, BatchHeader, EndTxnMarker, RawBatch, Record, ValidatedBatch, ValidatedRecords, batches,
};
use ottla::replica::fetch::{FetchLimits, Isolation};
use ottla::replica::fetch_session::FetchPartition;
use ottla::replica::{Partition, ReplicaError, ReplicaManager, wait_committed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_millis(1500);

/// What a producer sends to one partition.
pub struct Batch {
    /// Id, epoch and first sequence.
    pub producer: Option<(i64, i16, i32)>,
    pub transactional: bool,
    pub values: Vec<String>,
}

/// So late that no producer is forgotten for its silence, whatever the clock says.
pub fn batch_time() -> i64 {
    4_000_000_000_000
}

impl Batch {
    fn build(&self) -> ValidatedBatch {
        let mut batch = BatchBuilder::new().transactional(self.transactional);
        if let Some((id, epoch, sequence)) = self.producer {
            batch = batch.producer(id, epoch, sequence);
        }
        for value in &self.values {
            batch.append(batch_time(), None, Some(value.as_bytes()), []);
        }
        batch.build().expect("a batch")
    }
}

/// The leader, as some broker tells a client.
pub fn leader_of(world: &World, partition: i32) -> Option<Arc<Process>> {
    let asked = world.processes();
    let asked = asked.get(world.below(asked.len() as u64) as usize)?;
    let leader = asked.metadata.image().partition(TOPIC, partition)?.leader;
    world.process(leader.0)
}

/// Sends each record once.
pub async fn produce(world: Arc<World>, producer: usize) {
    for number in 0.. {
        sleep_ms(30 + world.below(150)).await;
        let partition = world.below(PARTITIONS as u64) as i32;
        let batch = Batch { producer: None, transactional: false, values: vec![format!("a{producer}-{number}")] };
        let Some(leader) = leader_of(&world, partition) else { continue };
        world.travel().await;
        let Some(replicas) = leader.replicas() else { continue };
        let appended = append(&world, &replicas, partition, &batch).await;
        drop(replicas);
        match appended {
            // The acknowledgement is on its way when the record is committed: what is checked is that moment.
            Some(offset) => world.acknowledge(partition, offset, &batch.values),
            None => world.look(),
        }
        world.travel().await;
    }
}

/// What a leader does with a Produce request: the offset of the first record, when all in-sync replicas have them.
pub async fn append(world: &World, replicas: &ReplicaManager, partition: i32, batch: &Batch) -> Option<i64> {
    let partition = replicas.partition(TOPIC, partition).ok()?;
    let batch = mistake::in_produce(world, batch.build());
    if batch.header.is_transactional() {
        verify(world, &partition, &batch.header).await;
    }
    let require_min_isr = !world.makes(Mistake::MinIsrIgnored);
    let append = |origin| partition.append(ValidatedRecords::from_batch(batch.clone()), origin, require_min_isr);
    let appended = match append(AppendOrigin::Client) {
        Err(ReplicaError::Log(LogError::OutOfOrderSequence { .. })) if world.makes(Mistake::GapsTaken) => {
            append(AppendOrigin::Coordinator)
        }
        appended => appended,
    };
    let info = appended.ok()?;
    if world.makes(Mistake::AcknowledgedBeforeReplicated) {
        return Some(info.first_offset);
    }
    let committed = wait_committed(vec![(partition, info.last_offset + 1)], PATIENCE).await.pop().flatten();
    match committed {
        Some(Ok(())) => Some(info.first_offset),
        Some(Err(_)) if world.makes(Mistake::MinIsrIgnored) => Some(info.first_offset),
        _ => None,
    }
}

/// The leader asks the coordinator whether it knows of the partition. It does: the producer is its own coordinator.
async fn verify(world: &World, partition: &Partition, header: &BatchHeader) {
    let (id, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
    let question = partition.log().begin_verification(id, epoch, Some(header.base_sequence()), now_ms());
    if let Some(guard) = question {
        world.travel().await;
        world.travel().await;
        partition.log().confirm_verification(id, guard);
    }
}

/// Reads along all partitions.
pub async fn consume(world: Arc<World>, isolation: Isolation) {
    let mut positions = BTreeMap::from_iter((0..PARTITIONS).map(|partition| (partition, 0)));
    loop {
        sleep_ms(60 + world.below(200)).await;
        for (partition, position) in &mut positions {
            let Some(leader) = leader_of(&world, *partition) else { continue };
            let Some(replicas) = leader.replicas() else { continue };
            let got = fetch(&world, &replicas, *partition, *position, isolation);
            for (offset, value) in got.records {
                world.observed.lock().consume((*partition, offset), value, isolation == Isolation::ReadCommitted);
            }
            *position = got.next;
        }
    }
}

/// What a fetch from `position` gave, and where the next one begins.
pub struct Got {
    pub records: Vec<(i64, String)>,
    pub next: i64,
}

pub fn fetch(world: &World, replicas: &ReplicaManager, partition: i32, position: i64, isolation: Isolation) -> Got {
    let nothing = Got { records: Vec::new(), next: position };
    if world.makes(Mistake::UncommittedIsRead) {
        let Some(hosted) = replicas.hosted(TOPIC, partition) else { return nothing };
        let records = records_from(hosted.log(), position);
        let next = records.last().map_or(position, |(last, _)| last + 1);
        return Got { records, next };
    }
    let wanted = FetchPartition {
        topic: TOPIC.into(),
        topic_id: Default::default(),
        partition,
        current_leader_epoch: LeaderEpoch::NONE,
        fetch_offset: position,
        last_fetched_epoch: LeaderEpoch::NONE,
        log_start_offset: -1,
        max_bytes: 1 << 16,
    };
    let limits = FetchLimits {
        isolation: mistake::in_isolation(world, isolation),
        replica_id: -1,
        replica_epoch: BrokerEpoch::UNKNOWN,
        rack: None,
        listener: "PLAINTEXT".into(),
        from_follower_allowed: true,
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 1 << 16,
        hard_limit: false,
    };
    let Some(Ok(read)) = replicas.fetch_now(&limits, &[wanted]).and_then(|mut results| results.pop()) else {
        return nothing;
    };
    let aborted = mistake::in_aborted(world, read.aborted.unwrap_or_default());
    let slices = read.slices.iter().map(|slice| slice.read().expect("what was found can be read"));
    let bytes: Vec<u8> = slices.flat_map(|slice| slice.to_vec()).collect();
    match isolation {
        Isolation::ReadUncommitted => got(&bytes, position, |_| true),
        Isolation::ReadCommitted => {
            let mut aborted = Aborted { listed: aborted, now: BTreeSet::new() };
            got(&bytes, position, |batch| aborted.lets_pass(batch))
        }
    }
}

/// Of one fetch: whose records are to be left out, as consumers find out.
struct Aborted {
    listed: Vec<AbortedTransaction>,
    now: BTreeSet<i64>,
}

impl Aborted {
    fn lets_pass(&mut self, batch: &RawBatch<'_>) -> bool {
        let Some(header) = batch.header() else { return true };
        let has_begun = |one: &AbortedTransaction| one.first_offset <= header.last_offset();
        self.now.extend(self.listed.extract_if(.., |one| has_begun(one)).map(|one| one.producer_id.0));
        if batch.is_control() {
            self.now.remove(&header.producer_id());
            return false;
        }
        !(header.is_transactional() && self.now.contains(&header.producer_id()))
    }
}

fn got(bytes: &[u8], position: i64, mut lets_pass: impl FnMut(&RawBatch<'_>) -> bool) -> Got {
    let mut got = Got { records: Vec::new(), next: position };
    for batch in batches(bytes) {
        let batch = batch.expect("a batch");
        got.next = batch.next_offset();
        if lets_pass(&batch) {
            got.records.extend(values(&batch).into_iter().filter(|(offset, _)| *offset >= position));
        }
    }
    got
}

/// Everything in a log from an offset on.
pub fn records_from(log: &Log, position: i64) -> Vec<(i64, String)> {
    let (mut position, end) = (position.max(log.log_start_offset()), log.log_end_offset());
    let mut records = Vec::new();
    while position < end {
        let bytes = log.read_bytes(position, 1 << 16, end, true).expect("a log can be read");
        let some = got(&bytes, position, |_| true).records;
        let Some((last, _)) = some.last() else { break };
        position = last + 1;
        records.extend(some);
    }
    records
}

fn values(batch: &RawBatch<'_>) -> Vec<(i64, String)> {
    batch.verify().expect("a checksum");
    let records = batch.records(1 << 16).expect("records");
    let value = |record: Record<'_>| match batch.is_control() {
        true => match EndTxnMarker::decode(&record).expect("a marker").map(|marker| marker.commit) {
            Some(true) => "~commit".into(),
            _ => "~abort".into(),
        },
        false => String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned(),
    };
    let records = records.iter().map(|record| record.expect("a record"));
    records.map(|record| (record.offset, value(record))).collect()
}
