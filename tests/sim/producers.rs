//! Producers that send again what got no reply: idempotent ones, with several batches on their way at once, and transactional ones,
//! which are their own coordinator: what is decided is told to every partition until it is in the log there.
//!
//! Nothing of an attempt arrives after the attempt is over, so a marker ends the transaction that it was sent for.

use super::clients::{Batch, PATIENCE, append, batch_time, leader_of};
use super::clock::{now_ms, sleep_ms};
use super::mistake::Mistake;
use super::process::Process;
use super::world::{PARTITIONS, TOPIC, World};
use ottla::log::AppendOrigin;
use ottla::record::{EndTxnMarker, ValidatedRecords};
use ottla::replica::{ReplicaManager, wait_committed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Of one producer in one partition: as many as a leader remembers.
const ON_THEIR_WAY: usize = 5;
/// Longer than the end of a session and an election.
const GIVEN_UP_AFTER_MS: i64 = 8000;
/// One in so many requests, and one in so many replies.
const LOST: u64 = 12;

/// Writes to one partition, in order.
pub async fn produce_in_order(world: Arc<World>, producer: i64, partition: i32) {
    for epoch in 0.. {
        let (mut sequence, mut is_known, mut is_given_up) = (0, false, false);
        let mut sending = JoinSet::new();
        while !is_given_up {
            sleep_ms(50 + world.below(500)).await;
            loop {
                // A leader that does not know the producer takes any sequence for the first, so the first batch goes alone.
                let room = if is_known { ON_THEIR_WAY } else { 1 };
                let done = match sending.len() < room {
                    true => sending.try_join_next(),
                    false => sending.join_next().await,
                };
                match done.map(|is_sent| is_sent.expect("sending ends")) {
                    Some(true) => is_known = true,
                    Some(false) => is_given_up = true,
                    None => break,
                }
            }
            let count = 1 + world.below(2) as i32;
            let values = (sequence..sequence + count).map(|number| format!("i{producer}.{epoch}-{number}")).collect();
            let batch = Batch { producer: Some((producer, epoch, sequence)), transactional: false, values };
            sequence += count;
            let world = world.clone();
            sending.spawn(async move { send(&world, partition, &batch).await });
        }
        // The others are given up with it. What of them is in the log comes before the next epoch.
        sending.shutdown().await;
    }
}

/// Sends a batch until it is acknowledged. `false`: it was given up, and may be in the log.
async fn send(world: &World, partition: i32, batch: &Batch) -> bool {
    let deadline = now_ms() + GIVEN_UP_AFTER_MS;
    while now_ms() < deadline && !world.is_over() {
        if let Some(leader) = leader_of(world, partition)
            && try_send(world, &leader, partition, batch).await
        {
            return true;
        }
        sleep_ms(20 + world.below(100)).await;
    }
    false
}

async fn try_send(world: &World, leader: &Process, partition: i32, batch: &Batch) -> bool {
    if !arrives(world).await {
        return false;
    }
    let Some(replicas) = leader.replicas() else { return false };
    let Some(offset) = append(world, &replicas, partition, batch).await else { return false };
    drop(replicas);
    world.acknowledge(partition, offset, &batch.values);
    arrives(world).await
}

/// A message between a client and a broker.
async fn arrives(world: &World) -> bool {
    world.travel().await;
    let is_lost = world.dice.lock().one_in(LOST);
    if is_lost {
        sleep_ms(300).await;
    }
    !is_lost
}

/// Transactions over both partitions, until the world closes; what was begun is ended.
pub async fn transact(world: Arc<World>, producer: i64) {
    let (mut epoch, mut sequences) = (0, BTreeMap::new());
    let mut transaction = 0;
    while !world.is_closing() {
        sleep_ms(50 + world.below(300)).await;
        transaction += 1;
        let name = format!("t{producer}.{transaction}");
        let mut involved = BTreeSet::new();
        let mut is_sent = true;
        for number in 0..1 + world.below(4) {
            let partition = world.below(PARTITIONS as u64) as i32;
            let sequence: &mut i32 = sequences.entry(partition).or_default();
            let values = vec![format!("{name}-{number}")];
            let batch = Batch { producer: Some((producer, epoch, *sequence)), transactional: true, values };
            *sequence += 1;
            involved.insert(partition);
            is_sent = is_sent && send(&world, partition, &batch).await;
        }
        let commit = is_sent && world.below(3) > 0;
        world.observed.lock().decide(name, commit);
        let marker = EndTxnMarker { commit, coordinator_epoch: 0 };
        for partition in involved {
            end(&world, partition, (producer, epoch), marker).await;
        }
        if !is_sent {
            // What is known of the sequences is too little to go on with.
            epoch += 1;
            sequences.clear();
        }
    }
}

/// Sends a marker until it is in the log.
async fn end(world: &World, partition: i32, producer: (i64, i16), marker: EndTxnMarker) {
    while !world.is_over() {
        if let Some(leader) = leader_of(world, partition)
            && arrives(world).await
            && let Some(replicas) = leader.replicas()
            && mark(world, &replicas, partition, producer, marker).await
        {
            drop(replicas);
            world.look();
            if arrives(world).await {
                return;
            }
        }
        sleep_ms(20 + world.below(100)).await;
    }
}

async fn mark(
    world: &World,
    replicas: &ReplicaManager,
    partition: i32,
    (id, epoch): (i64, i16),
    marker: EndTxnMarker,
) -> bool {
    let Ok(partition) = replicas.partition(TOPIC, partition) else { return false };
    let batch = marker.batch(id, epoch, batch_time()).expect("a marker");
    let appended = partition.append(ValidatedRecords::from_batch(batch), AppendOrigin::Coordinator, true);
    let Ok(info) = appended else { return false };
    if world.makes(Mistake::MarkerNotReplicated) {
        return true;
    }
    let committed = wait_committed(vec![(partition, info.last_offset + 1)], PATIENCE).await.pop().flatten();
    matches!(committed, Some(Ok(())))
}
