//! The log against a model, by random histories of all that can happen to it: appends of every kind, rolls, truncation, compaction,
//! DeleteRecords and retention, deletion, clean stops, crashes at any call that changes a file, and power cuts.
//!
//! A history follows from its seed: `OTTLA_SEED=N` runs one, `OTTLA_SEEDS=N` says how many are run, `OTTLA_TRACE=1` tells of every step;
//! one that fails is made shorter, in `OTTLA_SHRINKS` attempts. `model` is what the log should be, `check` what has to hold after each
//! step, `world` the log and its disk, `steps` what can happen, and `crashes` dies at every single call of each kind of step.

mod check;
mod crashes;
mod model;
mod reader;
mod steps;
mod world;

use model::Model;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use std::sync::atomic::{AtomicUsize, Ordering};
use steps::Step;
use world::World;

const SEEDS: u64 = 60;
/// Those that found something: all segments of a log retired, and what their snapshot told of producers gone with the power; a log
/// that begins with a gap of more than a segment may span, and started elsewhere when it was opened again.
const FOUND: [u64; 5] = [286, 334, 464, 657, 812];
const START_MS: i64 = 1_700_000_000_000;

fn run(history: &[Step], is_short_of_memory: bool, counts: &[AtomicUsize; 3]) -> Result<(), String> {
    let mut world = World::new(Model::new(steps::config(), START_MS), is_short_of_memory);
    let is_told = std::env::var_os("OTTLA_TRACE").is_some();
    for (at, step) in history.iter().enumerate() {
        let taken = steps::take(&mut world, step).map_err(|reason| format!("step {at}, {step:?}: {reason}"));
        if is_told {
            tell(at, step, &world);
        }
        taken?;
        counts[0].fetch_add(1, Ordering::Relaxed);
    }
    counts[1].fetch_add(world.crashes, Ordering::Relaxed);
    counts[2].fetch_add(world.passes, Ordering::Relaxed);
    Ok(())
}

fn tell(at: usize, step: &Step, world: &World) {
    let (log, model) = (world.log(), &world.model);
    println!("{at}: {step:?}");
    println!(
        "   {} to {}, high watermark {}, stable {} of {:?}; judged to {}, cut into: {}, forgotten {:?}, untold {:?}; snapshots {:?}, segments {:?}",
        log.log_start_offset(),
        log.log_end_offset(),
        log.high_watermark(),
        log.last_stable_offset(),
        model.stable_ends(),
        model.judged_to,
        model.is_cut_into_clean,
        model.forgotten,
        model.untold,
        super::producer_snapshot::list(&log.dir()),
        log.segments.load().iter().map(|segment| segment.base_offset()).collect::<Vec<_>>(),
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_the_log_is_what_the_model_says() {
    let seeds: Vec<u64> = match (number("OTTLA_SEED"), number("OTTLA_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (0..count).collect(),
        (None, None) => (0..SEEDS).chain(FOUND).collect(),
    };
    let counts = [0; 3].map(AtomicUsize::new);
    for &seed in &seeds {
        let max_shrink_iters = number("OTTLA_SHRINKS").unwrap_or(200) as u32;
        let config =
            ProptestConfig { cases: 1, max_shrink_iters, failure_persistence: None, ..ProptestConfig::default() };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let histories = (prop::collection::vec(steps::steps(), 80..160), any::<bool>());
        let outcome = runner.run(&histories, |(history, is_short_of_memory)| {
            run(&history, is_short_of_memory, &counts).map_err(TestCaseError::fail)
        });
        if let Err(TestError::Fail(reason, (history, is_short_of_memory))) = outcome {
            let history: Vec<String> = history.iter().map(|step| format!("{step:?}")).collect();
            panic!("OTTLA_SEED={seed}, short of memory: {is_short_of_memory}: {reason}\n{}", history.join("\n"));
        }
    }
    let [steps, crashes, passes] = counts.map(|count| count.into_inner());
    println!("{} histories, {steps} steps, {crashes} crashes, {passes} passes of the cleaner", seeds.len());
}
