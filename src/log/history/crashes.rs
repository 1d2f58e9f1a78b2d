//! Every kind of step, with a crash at each call that changes a file: what is there afterwards is what was before the step, or after
//! it, or part of the way, and the log goes on.

use super::check;
use super::model::Model;
use super::steps::{self, Append, End, Op, Step};
use super::world::World;

fn append(producer: u8, keys: &[u8]) -> Op {
    Op::Append(Append {
        producer,
        keys: keys.to_vec(),
        codec: producer % 5,
        later_ms: 40,
        bytes: 40,
        is_new_epoch: false,
        is_committed: true,
    })
}

fn take(world: &mut World, op: &Op) {
    let step = Step { op: op.clone(), dies_at: None };
    steps::take(world, &step).unwrap_or_else(|reason| panic!("{op:?}: {reason}"));
}

/// Several segments with all kinds of records: keys again and again, tombstones, transactions that end in both ways, one that is open.
fn world() -> World {
    let mut world = World::new(Model::new(steps::config(), super::START_MS), false);
    for n in 0..40u8 {
        take(&mut world, &append(n % 4, &[n % 12, 12 + n % 12, (n + 5) % 12]));
        if n % 3 == 0 {
            take(&mut world, &append(4 + n % 2, &[n % 12, (n + 1) % 12]));
            take(&mut world, &Op::End(End { producer: 4 + n % 2, commit: n % 2 == 0 && n != 33, is_fenced: n == 33 }));
        }
        if n % 9 == 8 {
            take(&mut world, &Op::NewLeader);
        }
        if n == 12 {
            take(&mut world, &Op::Checkpoint { what: 3 });
            take(&mut world, &Op::Flush);
        }
    }
    take(&mut world, &append(6, &[3, 4]));
    assert!(world.log().segment_count() > 6);
    world
}

/// After these steps, a crash at each call of the last one.
fn crash_at_each_call(before: &[Op], op: &Op) -> usize {
    let mut world = world();
    before.iter().for_each(|op| take(&mut world, op));
    let model = world.model.clone();
    let mut outcome = Ok(());
    let pictures = world.pictures_of(|world| outcome = steps::apply(world, op));
    outcome.unwrap_or_else(|reason| panic!("{op:?}: {reason}"));
    let after = world.model.clone();
    for (at, picture) in pictures.iter().enumerate() {
        let case = format!("{op:?}, call {at} of {}", pictures.len());
        let crash = steps::die_at(&mut world, picture, &model, &after, op);
        crash.unwrap_or_else(|reason| panic!("{case}: {reason}"));
        // It goes on.
        for op in [append(1, &[1, 2]), Op::HighWatermark { part: 255 }, Op::Clean { hours: 1 }, Op::StopAndStart] {
            let step = Step { op, dies_at: None };
            steps::take(&mut world, &step).unwrap_or_else(|reason| panic!("{case}: afterwards, {step:?}: {reason}"));
        }
        check::check(&world.log(), &world.model).unwrap_or_else(|reason| panic!("{case}: {reason}"));
    }
    println!("{op:?} after {before:?}: {} crashes", pictures.len());
    pictures.len()
}

#[test]
fn a_crash_at_any_call_of_a_roll_a_flush_or_a_stop() {
    assert!(crash_at_each_call(&[], &Op::Roll) > 2);
    assert!(crash_at_each_call(&[], &Op::Flush) > 5);
    assert!(crash_at_each_call(&[], &Op::StopAndStart) > 10);
    assert!(crash_at_each_call(&[], &Op::Crash) > 5, "in the middle of recovery");
    assert!(crash_at_each_call(&[Op::NewLeader], &append(2, &[1])) > 0);
}

#[test]
fn a_crash_at_any_call_of_a_compaction() {
    assert!(crash_at_each_call(&[], &Op::Clean { hours: 1 }) > 30);
    // Segments become one; what was deleted goes.
    let larger = Op::Configure { what: 16 };
    assert!(crash_at_each_call(std::slice::from_ref(&larger), &Op::Clean { hours: 1 }) > 20);
    let end = Op::End(End { producer: 6, commit: false, is_fenced: false });
    let again = [Op::Clean { hours: 1 }, end, Op::HighWatermark { part: 255 }, Op::Roll, append(1, &[1, 2]), larger];
    assert!(crash_at_each_call(&again, &Op::Clean { hours: 30 }) > 20);
}

#[test]
fn a_crash_at_any_call_of_a_truncation() {
    assert!(crash_at_each_call(&[Op::Checkpoint { what: 3 }], &Op::Truncate { keep: 60 }) > 10);
    assert!(crash_at_each_call(&[], &Op::Truncate { keep: 250 }) > 1);
    let trimmed = [Op::DeleteRecords { part: 150 }, Op::Checkpoint { what: 3 }];
    assert!(crash_at_each_call(&trimmed, &Op::StartAnew { by: -100 }) > 10);
    assert!(crash_at_each_call(&trimmed, &Op::StartAnew { by: 100 }) > 10);
}

#[test]
fn a_crash_at_any_call_of_a_deletion() {
    let deleted = Op::DeleteRecords { part: 200 };
    assert!(crash_at_each_call(&[], &deleted) > 0);
    assert!(crash_at_each_call(&[deleted.clone(), Op::Checkpoint { what: 3 }], &Op::Retention { hours: 1 }) > 5);
    assert!(crash_at_each_call(&[Op::Configure { what: 15 }], &Op::Retention { hours: 100 }) > 5);
    assert!(crash_at_each_call(&[deleted, Op::Checkpoint { what: 3 }], &Op::Delete) > 1);
}
