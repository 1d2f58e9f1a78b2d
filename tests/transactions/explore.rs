//! Every order of events in small configurations: a committed transaction is all or nothing for readers of committed records, no
//! aborted data is ever seen, a fenced producer never writes, and nothing hangs, at a crash of the coordinator at every point.

use super::mistake;
use super::world::{Budget, Stage, World};
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

struct Explored {
    states: usize,
    /// The first fault, with the actions that led to it.
    fault: Option<String>,
    /// Ends in which both producers are done, and in which the first one was fenced.
    both_done: usize,
    first_fenced: usize,
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.digest().hash(&mut hasher);
    hasher.finish()
}

/// Depth first, since the frontier of a search in breadth would hold most of the worlds.
fn explore(start: World, states_max: usize) -> Explored {
    let mut seen = HashSet::from([hash(&start)]);
    let mut open = vec![(start, Vec::new())];
    let mut explored = Explored { states: 0, fault: None, both_done: 0, first_fenced: 0 };
    while let Some((world, path)) = open.pop() {
        explored.states += 1;
        assert!(explored.states <= states_max, "more than {states_max} states");
        let [first, second] = &world.producers;
        explored.both_done += usize::from(first.stage == Stage::Done && second.stage == Stage::Done);
        explored.first_fenced += usize::from(first.stage == Stage::Dead && second.stage == Stage::Done);
        for action in world.actions() {
            let mut next = world.clone();
            next.act(action);
            let mut path = path.clone();
            path.push(action);
            if let Some(fault) = next.fault {
                explored.fault = Some(format!("{fault}\nafter {path:#?}"));
                return explored;
            }
            if seen.insert(hash(&next)) {
                open.push((next, path));
            }
        }
    }
    explored
}

fn check(transactions: u8, budget: Budget, states_max: usize) {
    let explored = explore(World::new(transactions, budget), states_max);
    if let Some(fault) = explored.fault {
        panic!("{fault}");
    }
    println!("{transactions} transactions, {budget:?}: {} states", explored.states);
    assert!(explored.both_done > 0 && explored.first_fenced > 0, "the exploration saw too little");
}

#[test]
fn without_faults() {
    check(2, Budget::default(), 1_000_000);
}

#[test]
fn with_a_crash_of_the_coordinator_at_every_point() {
    check(1, Budget { crashes: 1, ..Budget::default() }, 1_000_000);
}

#[test]
fn with_a_failed_append_and_a_time_out() {
    check(1, Budget { failed_appends: 1, time_outs: 1, ..Budget::default() }, 1_000_000);
}

#[test]
fn with_lost_answers_to_markers_and_a_crash() {
    check(1, Budget { crashes: 1, lost_answers: 1, ..Budget::default() }, 1_000_000);
}

/// What the protocol of 3.9 itself allows, since all transactions of a producer have one epoch (KIP-890 part 2 raises it): a marker
/// that arrives after the coordinator has given it up and sent it again ends the next transaction.
#[test]
fn a_marker_that_is_late_may_end_the_next_transaction() {
    let budget = Budget { late_markers: 1, ..Budget::default() };
    let fault = explore(World::new(2, budget), 1_000_000).fault.expect("a known weakness");
    assert!(fault.contains("transaction: 1"), "{fault}");
    // With the coordinator's crash in between the epoch of the coordinator keeps the late one out, and one transaction is safe.
    check(1, budget, 1_000_000);
}

#[test]
fn every_mistake_is_noticed() {
    let configurations = [
        (2, Budget::default()),
        (1, Budget { crashes: 1, ..Budget::default() }),
        (1, Budget { failed_appends: 1, time_outs: 1, ..Budget::default() }),
        (1, Budget { crashes: 1, failed_appends: 1, ..Budget::default() }),
    ];
    for mistake in mistake::ALL {
        let noticed = configurations.iter().find_map(|(transactions, budget)| {
            explore(World::new(*transactions, *budget).with(mistake), 1_000_000).fault
        });
        let noticed = noticed.unwrap_or_else(|| panic!("{mistake:?} is not noticed"));
        println!("{mistake:?}: {}", noticed.lines().next().unwrap_or_default());
    }
}
