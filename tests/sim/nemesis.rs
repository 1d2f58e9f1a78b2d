//! What befalls a cluster, and that it gets over it.

use super::clients::records_from;
use super::clock::{now_ms, sleep_ms};
use super::process::all_brokers;
use super::world::{PARTITIONS, World, ZOOKEEPER, partitions};
use ottla::controller::commands::Command;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    match world.below(12) {
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
            let one = 1 + world.below(3) as i32;
            world.note(format!("cut {one} from {}", one % 3 + 1));
            world.cut(one, one % 3 + 1);
        }
        7 | 8 => {
            let one = 1 + world.below(3) as i32;
            world.note(format!("cut {one} from ZooKeeper"));
            world.cut(one, ZOOKEEPER);
        }
        9 => {
            world.note("heal".into());
            world.heal();
        }
        10 => {
            world.note("preferred election".into());
            let controllers = world.processes().into_iter().filter(|process| process.active_epoch().is_some());
            for controller in controllers.collect::<Vec<_>>() {
                let command = Command::ElectLeaders { partitions: Some(partitions().collect()), unclean: false };
                tokio::spawn(async move { controller.command(command).await });
            }
        }
        _ => {
            world.note("kill all".into());
            for broker in up {
                world.kill(broker).await;
            }
        }
    }
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
        let hosted =
            world.process(state.leader.0).and_then(|leader| leader.replicas()?.hosted(super::world::TOPIC, partition));
        hosted.is_some_and(|led| led.is_leader() && led.leader_epoch() == state.leader_epoch)
    })
}

/// Compares what all replicas have in the end.
pub async fn settle(world: &Arc<World>) {
    let deadline = now_ms() + RECOVERY_MS;
    let ends = |world: &World| world.processes().iter().map(|process| process.log_ends()).collect::<Vec<_>>();
    while now_ms() < deadline && ends(world).windows(2).any(|pair| pair[0] != pair[1]) {
        sleep_ms(100).await;
    }
    world.look();
    for partition in partitions() {
        let logs = world.processes().into_iter().filter_map(|process| {
            let log = process.replicas()?.logs().log(&partition)?;
            let records = records_from(&log, 0);
            let in_place = records.iter().enumerate().all(|(at, (offset, _))| at as i64 == *offset);
            assert!(in_place, "a log has a gap");
            Some((process.id, records.into_iter().map(|(_, value)| value).collect()))
        });
        let logs: BTreeMap<i32, Vec<String>> = logs.collect();
        world.observed.lock().settle(partition.partition, &logs);
    }
}
