//! Producers with acks=all, and a consumer.

use super::clock::sleep_ms;
use super::mistake::Mistake;
use super::process::Process;
use super::world::{PARTITIONS, TOPIC, World};
use ottla::base::{BrokerEpoch, LeaderEpoch};
use ottla::log::{AppendOrigin, Log};
use ottla::record::{BatchBuilder, ValidatedRecords, batches};
use ottla::replica::fetch::{FetchLimits, Isolation};
use ottla::replica::fetch_session::FetchPartition;
use ottla::replica::{ReplicaManager, wait_committed};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(1500);

/// The leader, as some broker tells a client.
fn leader_of(world: &World, partition: i32) -> Option<Arc<Process>> {
    let asked = world.processes();
    let asked = asked.get(world.below(asked.len() as u64) as usize)?;
    let leader = asked.metadata.image().partition(TOPIC, partition)?.leader;
    world.process(leader.0)
}

pub async fn produce(world: Arc<World>, producer: usize) {
    for number in 0.. {
        sleep_ms(30 + world.below(150)).await;
        let partition = world.below(PARTITIONS as u64) as i32;
        let value = format!("{producer}-{number}");
        let Some(leader) = leader_of(&world, partition) else { continue };
        world.travel().await;
        let Some(replicas) = leader.replicas() else { continue };
        if let Some(offset) = append(&world, &replicas, partition, &value).await {
            // The acknowledgement is on its way when the record is committed: what is checked is that moment.
            world.observed.lock().acknowledge(&world.processes(), (partition, offset), value);
        }
        drop(replicas);
        world.look();
        world.travel().await;
    }
}

async fn append(world: &World, replicas: &ReplicaManager, partition: i32, value: &str) -> Option<i64> {
    let mut batch = BatchBuilder::new();
    batch.append(1_700_000_000_000, None, Some(value.as_bytes()), []);
    let records = ValidatedRecords::from_batch(batch.build().expect("a batch"));
    let partition = replicas.partition(TOPIC, partition).ok()?;
    let require_min_isr = !world.makes(Mistake::MinIsrIgnored);
    let offset = partition.append(records, AppendOrigin::Client, require_min_isr).ok()?.first_offset;
    if world.makes(Mistake::AcknowledgedBeforeReplicated) {
        return Some(offset);
    }
    let committed = wait_committed(vec![(partition, offset + 1)], PATIENCE).await.pop().flatten();
    match committed {
        Some(Ok(())) => Some(offset),
        Some(Err(_)) if world.makes(Mistake::MinIsrIgnored) => Some(offset),
        _ => None,
    }
}

pub async fn consume(world: Arc<World>) {
    let mut positions = BTreeMap::from_iter((0..PARTITIONS).map(|partition| (partition, 0)));
    loop {
        sleep_ms(40 + world.below(100)).await;
        for (partition, position) in &mut positions {
            let Some(leader) = leader_of(&world, *partition) else { continue };
            let Some(replicas) = leader.replicas() else { continue };
            for (offset, value) in fetch(&world, &replicas, *partition, *position) {
                world.observed.lock().consume((*partition, offset), value);
                *position = offset + 1;
            }
        }
    }
}

fn fetch(world: &World, replicas: &ReplicaManager, partition: i32, position: i64) -> Vec<(i64, String)> {
    if world.makes(Mistake::UncommittedIsRead) {
        let Some(hosted) = replicas.hosted(TOPIC, partition) else { return Vec::new() };
        return records_from(hosted.log(), position);
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
        isolation: Isolation::ReadUncommitted,
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
    let read = replicas.fetch_now(&limits, &[wanted]).and_then(|mut results| results.pop()?.ok());
    let slices = read.map(|data| data.slices).unwrap_or_default();
    let bytes = slices.iter().map(|slice| slice.read().expect("what was found can be read"));
    bytes.flat_map(|bytes| values(&bytes)).filter(|(offset, _)| *offset >= position).collect()
}

/// Everything in a log from an offset on.
pub fn records_from(log: &Log, position: i64) -> Vec<(i64, String)> {
    let (mut position, end) = (position.max(log.log_start_offset()), log.log_end_offset());
    let mut records = Vec::new();
    while position < end {
        let bytes = log.read_bytes(position, 1 << 16, end, true).expect("a log can be read");
        let some = values(&bytes).into_iter().filter(|(offset, _)| *offset >= position).collect::<Vec<_>>();
        let Some((last, _)) = some.last() else { break };
        position = last + 1;
        records.extend(some);
    }
    records
}

fn values(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.expect("a batch");
        batch.verify().expect("a checksum");
        let records = batch.records(1 << 16).expect("records");
        values.extend(records.iter().map(|record| {
            let record = record.expect("a record");
            (record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned())
        }));
    }
    values
}
