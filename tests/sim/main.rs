//! Clusters of four brokers in one thread, under faults: the real controllers, replica managers, fetchers and logs over a simulated
//! network, clock and ZooKeeper (the embedded server's own machine). Everything that happens follows from a seed: one that fails
//! fails again.
//!
//! `check` says what must hold; `mistake` shows that it would be noticed if it did not. `OTTLA_SIM_SEED=N` runs one seed and prints
//! what happened, `OTTLA_SIM_SEEDS=N` sets how many are run, and `OTTLA_SIM_FROM=N` the first of them.

mod check;
mod clients;
mod clock;
mod dice;
mod disk;
mod keeper;
mod links;
mod mistake;
mod nemesis;
mod process;
mod producers;
mod promises;
mod world;

use mistake::Mistake;
use ottla::replica::fetch::Isolation;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::task::JoinHandle;
use world::World;

const SEEDS: u64 = 1000;
/// Each mistake must be noticed within so many seeds.
const SEEDS_PER_MISTAKE: u64 = 60;
const PRODUCERS: usize = 1;
/// Producer ids: one for each partition, and one for both.
const IDEMPOTENT: i64 = 1000;
const TRANSACTIONAL: i64 = 2000;

struct Outcome {
    violation: Option<String>,
    trace: Vec<String>,
    acknowledged: usize,
    elections: usize,
}

fn run(seed: u64, mistake: Option<Mistake>) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let world = runtime.block_on(async {
        clock::start();
        let world = World::new(seed, mistake);
        let keeper = world.clone();
        tokio::spawn(async move {
            loop {
                clock::sleep_ms(250).await;
                keeper.keeper.lock().tick();
                keeper.look();
            }
        });
        for broker in process::all_brokers() {
            world.start(broker).await;
        }
        let clients = clients(&world);
        let transactions = tokio::spawn(producers::transact(world.clone(), TRANSACTIONAL));
        clock::sleep_ms(1000).await;
        nemesis::trouble(&world).await;
        nemesis::recover(&world).await;
        world.close();
        nemesis::end(&world, transactions).await;
        clients.iter().for_each(|client| client.abort());
        if !world.is_over() {
            nemesis::settle(&world).await;
        }
        for broker in process::all_brokers() {
            world.kill(broker).await;
        }
        world
    });
    let mut observed = world.observed.lock();
    Outcome {
        violation: observed.violation.take(),
        trace: std::mem::take(&mut observed.trace),
        acknowledged: observed.promises.acknowledged(),
        elections: observed.elections,
    }
}

fn clients(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let mut clients = vec![
        tokio::spawn(clients::consume(world.clone(), Isolation::ReadUncommitted)),
        tokio::spawn(clients::consume(world.clone(), Isolation::ReadCommitted)),
    ];
    clients.extend((0..PRODUCERS).map(|producer| tokio::spawn(clients::produce(world.clone(), producer))));
    clients.extend((0..world::PARTITIONS).map(|partition| {
        tokio::spawn(producers::produce_in_order(world.clone(), IDEMPOTENT + i64::from(partition), partition))
    }));
    clients
}

fn show(outcome: &Outcome) -> String {
    let from = outcome.trace.len().saturating_sub(120);
    outcome.trace[from..].join("\n")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `work` for each of the numbers, on all cores.
fn on_all_cores(numbers: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

#[test]
fn clusters_keep_their_promises_under_faults() {
    if let Some(seed) = number("OTTLA_SIM_SEED") {
        let outcome = run(seed, None);
        println!("{}", outcome.trace.join("\n"));
        assert_eq!(outcome.violation, None, "seed {seed}");
        return;
    }
    let seeds = number("OTTLA_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("OTTLA_SIM_FROM").unwrap_or(0);
    let (acknowledged, elections, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    on_all_cores(seeds, |at| {
        let seed = first + at;
        let outcome = run(seed, None);
        if let Some(violation) = &outcome.violation {
            panic!("seed {seed}: {violation}\n{}\nOTTLA_SIM_SEED={seed} repeats it", show(&outcome));
        }
        acknowledged.fetch_add(outcome.acknowledged, Ordering::Relaxed);
        elections.fetch_add(outcome.elections, Ordering::Relaxed);
        done.fetch_add(1, Ordering::Relaxed);
    });
    let (acknowledged, elections) = (acknowledged.into_inner(), elections.into_inner());
    let said = format!("{} seeds: {acknowledged} records acknowledged, {elections} elections\n", done.into_inner());
    // Past the harness, which keeps to itself what a test that passes prints.
    std::io::stdout().write_all(said.as_bytes()).expect("output");
    assert!(acknowledged as u64 > seeds * 20 && elections as u64 > seeds, "too little has happened");
}

#[test]
fn a_seed_is_repeated_exactly() {
    for seed in [3, 58, 78, 1_000_003] {
        let (first, second) = (run(seed, None), run(seed, None));
        for (one, other) in first.trace.iter().zip(&second.trace) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
}

#[test]
fn every_mistake_is_noticed() {
    let missed = parking_lot::Mutex::new(Vec::new());
    on_all_cores(mistake::ALL.len() as u64, |at| {
        let mistake = mistake::ALL[at as usize];
        let noticed = (0..SEEDS_PER_MISTAKE).find_map(|seed| Some((seed, run(seed, Some(mistake)).violation?)));
        match noticed {
            Some((seed, violation)) => println!("{mistake:?}: seed {seed}: {violation}"),
            None => missed.lock().push(mistake),
        }
    });
    assert!(missed.lock().is_empty(), "not noticed: {:?}", missed.lock());
}
