//! What befalls a cluster, and that it gets over it.

use super::clients::{fetch, records_from};
use super::clock::{now_ms, sleep_ms};
use super::keeper::SESSION_TIMEOUT_MS;
use super::process::{Process, all_brokers};
use super::world::{BROKERS, PARTITIONS, REPLICAS, TOPIC, World, ZOOKEEPER, partitions};
use ottla::base::{BrokerId, TopicPartition};
use ottla::controller::commands::Command;
use ottla::replica::fetch::Isolation;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const FAULTS: usize = 12;
/// A session's end, an election, and a follower's way back are all well within it.
const RECOVERY_MS: i64 = 60_000;

pub async fn trouble(world: &Arc<World>) {
    for _ in 0..FAULTS {
        sleep_ms(200 + world.below(1800)).await;
        if world.is_over() {
            return;
        }
        strike(world).await;
    }
}

async fn strike(world: &Arc<World>) {
    let up = world.up();
    let down: Vec<i32> = all_brokers().into_iter().filter(|broker| !up.contains(broker)).collect();
    let some = |from: &[i32]| world.dice.lock().pick(from);
    match world.below(17) {
        0..=2 => {
            if let Some(broker) = some(&up) {
                world.note(format!("kill {broker}"));
                world.kill(broker).await;
            }
        }
        3..=5 => {
            if let Some(broker) = some(&down) {
                world.note(format!("start {broker}"));
                world.start(broker).await;
            }
        }
        6 => {
            let one = 1 + world.below(BROKERS as u64) as i32;
            let other = one % BROKERS + 1;
            world.note(format!("cut {one} from {other}"));
            world.cut(one, other);
        }
        7 | 8 => {
            let one = 1 + world.below(BROKERS as u64) as i32;
            world.note(format!("cut {one} from ZooKeeper"));
            world.cut(one, ZOOKEEPER);
        }
        9 => {
            world.note("heal".into());
            world.heal();
        }
        10 => {
            world.note("preferred election".into());
            tell_controller(world, Command::ElectLeaders { partitions: Some(partitions().collect()), unclean: false });
        }
        11 | 12 => move_partition(world),
        13 => {
            if let Some(broker) = some(&up) {
                world.note(format!("controlled shutdown of {broker}"));
                if let Some(replicas) = world.process(broker).and_then(|process| process.replicas()) {
                    let epoch = replicas.broker_epoch();
                    tell_controller(world, Command::ControlledShutdown { broker: BrokerId(broker), epoch });
                }
                sleep_ms(world.below(100)).await;
                world.kill(broker).await;
            }
        }
        14 => {
            if let Some(broker) = some(&up) {
                lose_power(world, broker).await;
            }
        }
        15 => move_from_isolated(world).await,
        _ => {
            world.note("kill all".into());
            for broker in up {
                world.kill(broker).await;
            }
        }
    }
}

/// Asks whoever thinks that he is the controller.
fn tell_controller(world: &World, command: Command) {
    for controller in world.processes().into_iter().filter(|process| process.active_epoch().is_some()) {
        let command = command.clone();
        tokio::spawn(async move { controller.command(command).await });
    }
}

fn move_partition(world: &World) {
    let Some(partition) = partitions().nth(world.below(PARTITIONS as u64) as usize) else { return };
    if world.below(4) == 0 {
        world.note(format!("no more moving of {partition}"));
        return tell_controller(world, Command::AlterReassignments([(partition, None)].into()));
    }
    let mut target: Vec<BrokerId> = all_brokers().into_iter().map(BrokerId).collect();
    while target.len() > REPLICAS {
        target.remove(world.below(target.len() as u64) as usize);
    }
    let by = world.below(REPLICAS as u64) as usize;
    target.rotate_left(by);
    world.note(format!("move {partition} to {target:?}"));
    tell_controller(world, Command::AlterReassignments([(partition, Some(target))].into()));
}

/// Moves a partition away from a leader whose session has ended, and that nobody can tell so.
async fn move_from_isolated(world: &World) {
    let Some(partition) = partitions().nth(world.below(PARTITIONS as u64) as usize) else { return };
    let leader = world.observed.lock().leader(partition.partition);
    let Some(leader) = leader.filter(|leader| world.process(leader.0).is_some()) else { return };
    world.note(format!("cut {leader} from ZooKeeper, to move {partition} away from it"));
    world.cut(leader.0, ZOOKEEPER);
    sleep_ms(SESSION_TIMEOUT_MS as u64 + world.below(1500)).await;
    let mut target: Vec<BrokerId> = all_brokers().into_iter().map(BrokerId).filter(|id| *id != leader).collect();
    target.rotate_left(world.below(REPLICAS as u64) as usize);
    world.note(format!("move {partition} to {target:?}"));
    tell_controller(world, Command::AlterReassignments([(partition, Some(target))].into()));
}

/// Longer than a session, an election and the way back into the ISR take.
const QUIET_MS: u64 = 5000;

/// Replication guards against the loss of one disk's memory at a time, while another member of the ISR lives: what befell others before
/// must be known to the controller, and until it knows of this no second one may fail (what KIP-966 set out to mend).
async fn lose_power(world: &Arc<World>, broker: i32) {
    world.heal();
    sleep_ms(QUIET_MS).await;
    let up = world.up();
    let is_member = |partition: &i32| world.observed.lock().isr(*partition).contains(&BrokerId(broker));
    let others_live = |partition: i32| {
        let isr = world.observed.lock().isr(partition);
        isr.iter().any(|member| member.0 != broker && up.contains(&member.0))
    };
    if !(0..PARTITIONS).filter(is_member).all(others_live) {
        return;
    }
    world.note(format!("{broker} loses power"));
    world.lose_power(broker).await;
    for _ in 0..100 {
        if !(0..PARTITIONS).any(|partition| is_member(&partition)) {
            return;
        }
        sleep_ms(100).await;
        world.look();
    }
    world.fail(format!("{broker} has been away for long, and is in an ISR"));
}

/// All faults end: every replica comes back into sync.
pub async fn recover(world: &Arc<World>) {
    world.note("all faults end".into());
    world.heal();
    let up = world.up();
    for broker in all_brokers().into_iter().filter(|broker| !up.contains(broker)) {
        world.start(broker).await;
    }
    let deadline = now_ms() + RECOVERY_MS;
    while now_ms() < deadline && !world.is_over() {
        sleep_ms(100).await;
        world.look();
        if (0..PARTITIONS).all(|partition| is_whole(world, partition)) {
            return;
        }
    }
    world.fail("the cluster does not come back: a partition has no leader, or its ISR is not whole".into());
}

fn is_whole(world: &World, partition: i32) -> bool {
    let state = world.observed.lock().whole(partition).cloned();
    state.is_some_and(|state| {
        let hosted = world.process(state.leader.0).and_then(|leader| leader.replicas()?.hosted(TOPIC, partition));
        hosted.is_some_and(|led| led.is_leader() && led.leader_epoch() == state.leader_epoch)
    })
}

/// Waits until the clients have ended what they had begun.
pub async fn end(world: &Arc<World>, mut transactions: JoinHandle<()>) {
    let patience = Duration::from_millis(RECOVERY_MS as u64);
    if tokio::time::timeout(patience, &mut transactions).await.is_err() {
        transactions.abort();
        world.fail("a transaction cannot be ended".into());
    }
}

/// Compares what all replicas have in the end.
pub async fn settle(world: &Arc<World>) {
    let deadline = now_ms() + RECOVERY_MS;
    let is_level = |partition: i32| {
        let replicas = world.observed.lock().replicas(partition);
        let holders = world.processes().into_iter().filter(|process| replicas.contains(&BrokerId(process.id)));
        // Everybody knows the leader, has all records, and knows that they are committed.
        let marks = holders.map(|process| {
            let hosted = process.replicas()?.hosted(TOPIC, partition)?;
            let (end, committed) = (hosted.log().log_end_offset(), hosted.log().high_watermark());
            (end == committed).then_some((end, hosted.leader_epoch()))
        });
        let marks: Vec<_> = marks.collect();
        marks.windows(2).all(|pair| pair[0] == pair[1] && pair[0].is_some())
    };
    while now_ms() < deadline && !(0..PARTITIONS).all(is_level) {
        sleep_ms(100).await;
    }
    if !(0..PARTITIONS).all(is_level) {
        world.fail("the replicas do not come to know that all is committed".into());
    }
    world.look();
    no_other_leads(world).await;
    for partition in partitions() {
        let replicas = world.observed.lock().replicas(partition.partition);
        let holders = world.processes().into_iter().filter(|process| replicas.contains(&BrokerId(process.id)));
        let logs = holders.filter_map(|process| {
            let log = process.replicas()?.logs().log(&partition)?;
            let records = records_from(&log, 0);
            let in_place = records.iter().enumerate().all(|(at, (offset, _))| at as i64 == *offset);
            assert!(in_place, "a log has a gap");
            Some((process.id, records.into_iter().map(|(_, value)| value).collect()))
        });
        let logs: BTreeMap<i32, Vec<String>> = logs.collect();
        world.observed.lock().settle(partition.partition, &logs);
        read_committed(world, partition.partition);
    }
}

/// Whoever led a partition before has come to know that another one does.
async fn no_other_leads(world: &World) {
    let deadline = now_ms() + RECOVERY_MS;
    let other = || {
        (0..PARTITIONS).find_map(|partition| {
            let leader = world.observed.lock().leader(partition)?;
            let leads = |process: &Process| Some(process.replicas()?.hosted(TOPIC, partition)?.is_leader());
            let processes = world.processes().into_iter();
            let mut others = processes.filter(|process| process.id != leader.0 && leads(process) == Some(true));
            Some((others.next()?.id, partition, leader))
        })
    };
    while now_ms() < deadline && other().is_some() {
        sleep_ms(100).await;
    }
    if let Some((broker, partition, leader)) = other() {
        world.fail(format!("{broker} goes on to lead {partition}, whose leader is {leader}"));
    }
}

/// Nothing is open any more: a reader of committed data gets to the log's end.
fn read_committed(world: &World, partition: i32) {
    let leader = world.observed.lock().leader(partition);
    let leader = leader.and_then(|leader| world.process(leader.0));
    let Some(replicas) = leader.and_then(|leader| leader.replicas()) else { return };
    let Some(log) = replicas.logs().log(&TopicPartition::new(TOPIC, partition)) else { return };
    let (mut seen, mut position) = (Vec::new(), 0);
    loop {
        let got = fetch(world, &replicas, partition, position, Isolation::ReadCommitted);
        seen.extend(got.records);
        if got.next == position {
            break;
        }
        position = got.next;
    }
    let end = log.log_end_offset();
    if position != end {
        return world
            .fail(format!("committed data of {partition} can be read up to {position}, and the log ends at {end}"));
    }
    world.observed.lock().settle_committed(partition, &seen);
}
