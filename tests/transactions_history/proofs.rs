//! Histories made by hand: each check catches what it is for, and finds nothing in what is right.

use crate::history::{End, Key, Kind, Op, Recorder, Step, Value, operations, parse};
use crate::judge::{Anomaly, Report, judge};

/// Operations one after another.
#[derive(Default)]
struct Story(Vec<Op>);

impl Story {
    fn add(mut self, process: u32, kind: Kind, end: End, steps: &[Step]) -> Story {
        let begun = self.0.len() as u64 * 10;
        self.0.push(Op { process, kind, end, begun, ended: begun + 5, steps: steps.to_vec() });
        self
    }

    fn txn(self, process: u32, end: End, steps: &[Step]) -> Story {
        self.add(process, Kind::Txn, end, steps)
    }

    fn ok(self, process: u32, steps: &[Step]) -> Story {
        self.txn(process, End::Ok, steps)
    }

    fn poll(self, process: u32, steps: &[Step]) -> Story {
        self.add(process, Kind::Poll, End::Ok, steps)
    }

    fn assign(self, process: u32, steps: &[Step]) -> Story {
        self.add(process, Kind::Assign, End::Ok, steps)
    }

    fn report(&self) -> Report {
        judge(&self.0)
    }

    /// Nothing that must not be.
    fn is_good(&self) {
        assert!(self.report().bad().is_empty(), "{}", self.report());
    }

    fn shows(&self, expected: &[Anomaly]) {
        assert_eq!(self.report().bad(), expected, "{}", self.report());
    }

    fn shows_allowed(&self, anomaly: Anomaly) {
        self.is_good();
        assert!(anomaly.is_allowed() && self.report().found.contains_key(&anomaly), "{anomaly:?}: {}", self.report());
    }
}

fn story() -> Story {
    Story::default()
}

/// Two values, in partitions 0 and 1.
fn two() -> Story {
    story().ok(1, &[send(0, 10, 5), send(1, 11, 7)])
}

fn send(key: Key, value: Value, offset: i64) -> Step {
    Step::Send { key, value, offset: Some(offset) }
}

fn lost_answer(key: Key, value: Value) -> Step {
    Step::Send { key, value, offset: None }
}

fn read(key: Key, values: &[(i64, Value)]) -> Step {
    Step::Poll { key, values: values.to_vec() }
}

fn commit(key: Key, offset: i64) -> Step {
    Step::Commit { key, offset }
}

fn committed(key: Key, offset: i64) -> Step {
    Step::Committed { key, offset }
}

#[test]
fn good_histories_are_good() {
    two().poll(9, &[read(0, &[(5, 10)]), read(1, &[(7, 11)])]).is_good();
    // What failed is not seen; what nobody knows of is there, or not.
    let failed = || two().txn(2, End::Fail, &[send(0, 20, 6)]);
    failed().poll(9, &[read(0, &[(5, 10)]), read(1, &[(7, 11)])]).is_good();
    let unknown = || story().txn(1, End::Info, &[send(0, 10, 5), send(1, 11, 7)]);
    unknown().is_good();
    unknown().poll(9, &[read(0, &[(5, 10)]), read(1, &[(7, 11)])]).is_good();
    // Markers and aborted records leave gaps between offsets, not between values.
    let gaps = story().ok(1, &[send(0, 10, 5)]).ok(1, &[send(0, 12, 9)]);
    gaps.poll(9, &[read(0, &[(5, 10)])]).poll(9, &[read(0, &[(9, 12)])]).is_good();
}

#[test]
fn offsets_and_values() {
    let read_two = |story: Story| story.poll(9, &[read(0, &[(5, 10)]), read(1, &[(7, 11)])]);
    read_two(two()).poll(8, &[read(0, &[(5, 12)])]).shows(&[Anomaly::InconsistentOffsets, Anomaly::NeverWritten]);
    // An offset that a producer was told and a reader sees something else at.
    story()
        .ok(1, &[send(0, 10, 5)])
        .ok(2, &[lost_answer(0, 20)])
        .poll(9, &[read(0, &[(5, 20)])])
        .shows(&[Anomaly::InconsistentOffsets, Anomaly::LostWrite]);
    story()
        .ok(1, &[send(0, 10, 5)])
        .poll(9, &[read(0, &[(5, 10)])])
        .poll(8, &[read(0, &[(6, 10)])])
        .shows(&[Anomaly::Duplicate]);
    story().ok(1, &[send(0, 10, 5)]).poll(9, &[read(1, &[(5, 10)])]).shows(&[Anomaly::Astray]);
    two().poll(9, &[read(0, &[(5, 10)]), read(1, &[(7, 11), (8, 99)])]).shows(&[Anomaly::NeverWritten]);
}

#[test]
fn aborted_reads() {
    let aborted = || story().txn(1, End::Fail, &[send(0, 10, 5)]);
    aborted().is_good();
    aborted().poll(9, &[read(0, &[(5, 10)])]).shows(&[Anomaly::AbortedRead]);
    // Whoever reads it, and whatever becomes of that one.
    aborted().txn(2, End::Fail, &[read(0, &[(5, 10)])]).shows(&[Anomaly::AbortedRead]);
}

#[test]
fn lost_and_unseen_writes() {
    let three = || story().ok(1, &[send(0, 10, 1)]).ok(1, &[send(0, 11, 2)]).ok(1, &[send(0, 12, 3)]);
    three().poll(9, &[read(0, &[(1, 10), (2, 11), (3, 12)])]).is_good();
    three().poll(9, &[read(0, &[(1, 10), (3, 12)])]).shows(&[Anomaly::LostWrite, Anomaly::IntPollSkip]);
    three().poll(9, &[read(0, &[(1, 10), (2, 11)])]).shows(&[Anomaly::Unseen]);
    // An unknown one of which something was read has happened.
    let half = || story().txn(1, End::Info, &[send(0, 10, 1), send(1, 11, 2)]).ok(2, &[send(1, 12, 3)]);
    half().poll(9, &[read(0, &[(1, 10)])]).poll(8, &[read(1, &[(3, 12)])]).shows(&[Anomaly::LostWrite, Anomaly::Torn]);
    // One of which nothing was read may be lost.
    half().poll(9, &[read(1, &[(3, 12)])]).is_good();
}

#[test]
fn torn_transactions() {
    two().poll(9, &[read(0, &[(5, 10)])]).shows(&[Anomaly::Unseen, Anomaly::Torn]);
    let aborted = story().txn(1, End::Fail, &[send(0, 10, 5), send(1, 11, 7)]);
    aborted.poll(9, &[read(0, &[(5, 10)])]).shows(&[Anomaly::AbortedRead, Anomaly::Torn]);
}

#[test]
fn reads_that_skip_or_go_back() {
    let three = || story().ok(1, &[send(0, 10, 1), send(0, 11, 2), send(0, 12, 4)]);
    let all = || read(0, &[(1, 10), (2, 11), (4, 12)]);
    three().poll(9, &[all()]).poll(8, &[read(0, &[(1, 10), (4, 12)])]).shows(&[Anomaly::IntPollSkip]);
    three().poll(9, &[all()]).poll(8, &[read(0, &[(2, 11), (1, 10)])]).shows(&[Anomaly::IntNonmonotonicPoll]);
    three()
        .poll(9, &[all()])
        .poll(8, &[read(0, &[(2, 11)]), read(0, &[(2, 11)])])
        .shows(&[Anomaly::IntNonmonotonicPoll]);
    let first = || three().poll(9, &[all()]).poll(8, &[read(0, &[(1, 10)])]);
    first().poll(8, &[read(0, &[(4, 12)])]).shows(&[Anomaly::PollSkip]);
    first().poll(8, &[read(0, &[(1, 10)])]).shows(&[Anomaly::NonmonotonicPoll]);
    first().poll(7, &[read(0, &[(4, 12)])]).is_good();
    // After an assignment it begins where its group is; a transaction that fails has its process go back.
    first().assign(8, &[committed(0, -1)]).poll(8, &[read(0, &[(1, 10)])]).is_good();
    let known = || first().poll(8, &[read(0, &[(2, 11)]), commit(0, 3)]).assign(8, &[committed(0, 3)]);
    known().poll(8, &[read(0, &[(4, 12)])]).is_good();
    known().poll(8, &[read(0, &[(2, 11)])]).shows(&[Anomaly::NonmonotonicPoll]);
    first().txn(8, End::Fail, &[read(0, &[(2, 11)])]).ok(8, &[read(0, &[(2, 11)])]).is_good();
    first().txn(8, End::Fail, &[read(0, &[(2, 11)])]).ok(8, &[read(0, &[(4, 12)])]).shows(&[Anomaly::PollSkip]);
}

#[test]
fn writes_in_another_order() {
    let read_all = |story: Story| story.poll(9, &[read(0, &[(1, 10), (2, 11), (3, 12)])]);
    let others = || story().ok(2, &[send(0, 12, 3)]);
    read_all(others().ok(1, &[send(0, 10, 1), send(0, 11, 2)])).is_good();
    read_all(others().ok(1, &[send(0, 11, 2), send(0, 10, 1)])).shows(&[Anomaly::IntNonmonotonicSend]);
    read_all(others().ok(1, &[send(0, 11, 2)]).ok(1, &[send(0, 10, 1)])).shows(&[Anomaly::NonmonotonicSend]);
    let between = story().ok(2, &[send(0, 11, 2)]).ok(1, &[send(0, 10, 1), send(0, 12, 3)]);
    read_all(between).shows_allowed(Anomaly::IntSendSkip);
}

#[test]
fn a_transaction_does_not_see_itself() {
    story().ok(1, &[send(0, 10, 1), read(0, &[(1, 10)])]).shows(&[Anomaly::PrecommittedRead]);
    story().ok(1, &[send(0, 10, 1)]).ok(1, &[read(0, &[(1, 10)])]).is_good();
}

#[test]
fn circles() {
    // Each reads what the other has written.
    story()
        .ok(1, &[send(0, 10, 1), read(1, &[(1, 20)])])
        .ok(2, &[send(1, 20, 1), read(0, &[(1, 10)])])
        .shows(&[Anomaly::G1c]);
    // A longer one, over three.
    let long = |last| {
        story()
            .ok(1, &[send(0, 10, 1), read(2, &[(1, 30)])])
            .ok(2, &[send(1, 20, 1), read(0, &[(1, 10)])])
            .ok(3, &[send(2, 30, 1), read(1, last)])
            .poll(9, &[read(1, &[(1, 20)])])
    };
    long(&[(1, 20)]).shows(&[Anomaly::G1c]);
    long(&[]).is_good();
    // Two that write in turns, and one that does and reads.
    let reads = |story: Story| story.poll(9, &[read(0, &[(1, 10), (2, 20)]), read(1, &[(1, 21), (2, 11)])]);
    let in_turns = story().ok(1, &[send(0, 10, 1), send(1, 11, 2)]).ok(2, &[send(0, 20, 2), send(1, 21, 1)]);
    reads(in_turns).shows_allowed(Anomaly::G0);
    story()
        .ok(1, &[send(0, 10, 1), read(1, &[(1, 21)])])
        .ok(2, &[send(0, 20, 2), send(1, 21, 1)])
        .poll(9, &[read(0, &[(1, 10), (2, 20)])])
        .shows_allowed(Anomaly::G1cWithWrites);
    // Each misses what the other writes.
    story()
        .ok(3, &[send(0, 1, 1), send(1, 2, 1)])
        .ok(1, &[read(0, &[(1, 1)]), send(1, 11, 2)])
        .ok(2, &[read(1, &[(1, 2)]), send(0, 20, 2)])
        .poll(9, &[read(0, &[(1, 1), (2, 20)]), read(1, &[(1, 2), (2, 11)])])
        .shows_allowed(Anomaly::GSingle);
}

#[test]
fn committed_offsets() {
    let end =
        |end| story().assign(1, &[committed(0, -1)]).txn(1, End::Ok, &[commit(0, 5)]).txn(1, end, &[commit(0, 9)]);
    end(End::Ok).assign(1, &[committed(0, 9)]).is_good();
    end(End::Ok).assign(1, &[committed(0, 5)]).shows(&[Anomaly::CommittedOffset]);
    end(End::Fail).assign(1, &[committed(0, 5)]).is_good();
    end(End::Fail).assign(1, &[committed(0, 9)]).shows(&[Anomaly::CommittedOffset]);
    for found in [5, 9] {
        end(End::Info).assign(1, &[committed(0, found)]).is_good();
    }
    end(End::Info).assign(1, &[committed(0, -1)]).shows(&[Anomaly::CommittedOffset]);
    end(End::Info).assign(1, &[committed(0, 5)]).assign(1, &[committed(0, 9)]).shows(&[Anomaly::CommittedOffset]);
    // Offsets and records count together.
    let both = || story().assign(1, &[committed(0, -1)]).txn(1, End::Info, &[send(1, 10, 1), commit(0, 9)]);
    both().assign(1, &[committed(0, -1)]).is_good();
    both().assign(1, &[committed(0, 9)]).shows(&[Anomaly::CommittedOffset]);
    let seen = |story: Story| story.poll(9, &[read(1, &[(1, 10)])]);
    seen(both().assign(1, &[committed(0, 9)])).is_good();
    seen(both().assign(1, &[committed(0, -1)])).shows(&[Anomaly::CommittedOffset]);
}

#[test]
fn how_far_readers_are_behind() {
    // 10 is committed at 5; who asks at 30 does not see it.
    let late = story()
        .ok(1, &[send(0, 10, 1)])
        .assign(9, &[committed(0, -1)])
        .poll(9, &[read(0, &[])])
        .poll(9, &[read(0, &[])]);
    let late = late.poll(9, &[read(0, &[(1, 10)])]);
    late.is_good();
    assert_eq!(late.report().lag_ns, 25);
}

type Event = Box<dyn FnMut(&mut Recorder)>;

/// What is written down is read back, also if its process was killed in the middle.
#[test]
fn histories_are_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, last: usize| {
        let path = folder.path().join(name);
        let mut recorder = Recorder::create(&path);
        recorder.begin(Kind::Assign);
        recorder.committed(0, 4);
        recorder.end(End::Ok);
        let mut events: Vec<Event> = vec![
            Box::new(|r| r.begin(Kind::Txn)),
            Box::new(|r| r.polled(0, &[(4, 1), (6, 2)])),
            Box::new(|r| r.sends(1, 77)),
            Box::new(|r| r.sent(9)),
            Box::new(|r| r.commits(0, 7)),
            Box::new(|r| r.asks()),
            Box::new(|r| r.end(End::Ok)),
        ];
        events.iter_mut().take(last).for_each(|event| event(&mut recorder));
        std::fs::read_to_string(&path).expect("the file")
    };
    let text = write("whole", 7);
    let ops = parse(3, &text);
    assert_eq!((ops.len(), operations(&text)), (2, 5));
    assert_eq!((ops[0].kind, ops[0].steps.as_slice()), (Kind::Assign, &[committed(0, 4)][..]));
    let steps = [read(0, &[(4, 1), (6, 2)]), send(1, 77, 9), commit(0, 7)];
    assert_eq!((ops[1].process, ops[1].end, ops[1].steps.as_slice()), (3, End::Ok, &steps[..]));
    assert!(ops[1].begun > 0 && ops[1].ended >= ops[1].begun);
    // Killed before and after it asked for the commit, and in the middle of a line.
    let killed = write("killed", 5);
    assert_eq!(parse(3, &killed)[1].end, End::Fail);
    assert_eq!(parse(3, &killed[..killed.len() - 9])[1].steps, steps[..2]);
    assert_eq!(parse(3, &write("asked", 6))[1].end, End::Info);
    assert_eq!(parse(3, &write("unanswered", 3))[1].steps[1], lost_answer(1, 77));
}
