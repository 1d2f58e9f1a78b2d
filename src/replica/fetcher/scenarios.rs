//! Scenarios of one follower: what it asks for, and what it does with the answers. The replica is a list of batches.

use super::*;
use parking_lot::Mutex;

/// The longest pause, and the first one.
const BACKOFF: i64 = 1000;
const FIRST: i64 = 5;

#[derive(Default)]
struct State {
    /// (epoch, start)
    epochs: Vec<(i32, i64)>,
    start: i64,
    end: i64,
    high_watermark: i64,
    current_epoch: i32,
    is_offline: bool,
    is_throttled: bool,
    fails: bool,
    done: Vec<String>,
}

/// A follower's log without the records.
#[derive(Default)]
struct Fake(Mutex<State>);

impl Fake {
    fn new(epochs: &[(i32, i64)], end: i64, high_watermark: i64) -> Arc<Fake> {
        let state = State { epochs: epochs.to_vec(), end, high_watermark, current_epoch: 9, ..State::default() };
        Arc::new(Fake(Mutex::new(state)))
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().done)
    }

    fn change(&self, epoch: LeaderEpoch, what: String) -> Result<(), ReplicaError> {
        let mut state = self.0.lock();
        if epoch.0 != state.current_epoch {
            return Err(ReplicaError::NotFollowing { current: LeaderEpoch(state.current_epoch) });
        }
        if state.fails {
            return Err(ReplicaError::Corrupt("a bad crc".into()));
        }
        state.done.push(what);
        Ok(())
    }
}

impl FollowerReplica for Fake {
    fn log_start_offset(&self) -> i64 {
        self.0.lock().start
    }
    fn log_end_offset(&self) -> i64 {
        self.0.lock().end
    }
    fn high_watermark(&self) -> i64 {
        self.0.lock().high_watermark
    }
    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.0.lock().epochs.last().map(|(epoch, _)| LeaderEpoch(*epoch))
    }
    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, i64) {
        let state = self.0.lock();
        let Some(&(first, first_start)) = state.epochs.first() else { return (LeaderEpoch::NONE, -1) };
        if state.epochs.last().is_some_and(|(last, _)| epoch.0 > *last) {
            return (LeaderEpoch::NONE, -1);
        }
        if epoch.0 < first {
            return (epoch, first_start);
        }
        let above = state.epochs.partition_point(|(known, _)| *known <= epoch.0);
        let end = state.epochs.get(above).map_or(state.end, |(_, start)| *start);
        (LeaderEpoch(state.epochs[above - 1].0), end)
    }
    fn is_offline(&self) -> bool {
        self.0.lock().is_offline
    }
    fn is_throttled(&self) -> bool {
        self.0.lock().is_throttled
    }
    /// Records are only counted: one byte is one record.
    fn append(&self, epoch: LeaderEpoch, records: &Bytes, hw: i64, start: i64) -> Result<Followed, ReplicaError> {
        self.change(epoch, format!("append {} hw {hw} start {start}", records.len()))?;
        let mut state = self.0.lock();
        state.end += records.len() as i64;
        state.high_watermark = hw.min(state.end);
        if !records.is_empty() && state.epochs.last().is_none_or(|(last, _)| *last < epoch.0) {
            let start = state.end - records.len() as i64;
            state.epochs.push((epoch.0, start));
        }
        let last_epoch = (!records.is_empty()).then_some(epoch);
        Ok(Followed { next_offset: state.end, last_epoch, size_bytes: records.len() })
    }
    fn truncate(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError> {
        self.change(epoch, format!("truncate {offset}"))?;
        let mut state = self.0.lock();
        state.end = state.end.min(offset);
        state.epochs.retain(|(_, start)| *start < offset);
        Ok(state.end)
    }
    fn restart(&self, epoch: LeaderEpoch, offset: i64) -> Result<i64, ReplicaError> {
        self.change(epoch, format!("restart {offset}"))?;
        let mut state = self.0.lock();
        (state.start, state.end) = (offset, offset);
        state.epochs.clear();
        Ok(offset)
    }
}

fn name() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn machine() -> FetcherMachine {
    FetcherMachine::new(FetcherSettings { backoff_ms: BACKOFF })
}

fn following(fake: &Arc<Fake>) -> FetcherMachine {
    let mut machine = machine();
    machine.add(name(), TopicId::random(), LeaderEpoch(9), fake.clone());
    machine
}

fn answer(records: usize, high_watermark: i64) -> PartitionAnswer {
    PartitionAnswer {
        partition: name(),
        error: ErrorCode::None,
        high_watermark,
        log_start_offset: 0,
        diverging_epoch: None,
        records: Bytes::from(vec![0; records]),
    }
}

fn error(error: ErrorCode) -> PartitionAnswer {
    PartitionAnswer { error, ..answer(0, -1) }
}

fn diverging(epoch: i32, end: i64) -> PartitionAnswer {
    PartitionAnswer { diverging_epoch: Some((LeaderEpoch(epoch), end)), ..answer(0, -1) }
}

/// What is asked for: offset and last epoch.
fn asked(work: &Work) -> Option<(i64, i32)> {
    match work {
        Work::Fetch(fetch) => fetch.wants.first().map(|want| (want.offset, want.last_epoch.0)),
        _ => None,
    }
}

/// What is asked for by a fetch that says all of it.
fn asked_anew(machine: &mut FetcherMachine) -> Option<(i64, i32)> {
    machine.fetch_abandoned();
    asked(&machine.next(0, false))
}

/// Asks at `now`, and answers.
fn exchange(machine: &mut FetcherMachine, now_ms: i64, one: PartitionAnswer) {
    let work = machine.next(now_ms, false);
    assert!(matches!(work, Work::Fetch(_)), "{work:?}");
    machine.fetched(now_ms, LeaderAnswer { session_id: 1, partitions: vec![one], ..LeaderAnswer::default() });
}

#[test]
fn a_follower_goes_on_at_its_logs_end() {
    let fake = Fake::new(&[(3, 0)], 10, 8);
    let mut machine = following(&fake);
    assert_eq!(asked(&machine.next(0, false)), Some((10, 3)));
    exchange(&mut machine, 0, answer(5, 12));
    assert_eq!(fake.done(), ["append 5 hw 12 start 0"]);
    assert_eq!(asked(&machine.next(0, false)), Some((15, 9)));
    assert_eq!(machine.max_lag(), 0);
}

#[test]
fn a_log_without_epochs_is_first_cut_to_its_high_watermark() {
    let fake = Fake::new(&[], 10, 8);
    let mut machine = following(&fake);
    assert_eq!(asked(&machine.next(0, false)), Some((8, -1)));
    assert_eq!(fake.done(), ["truncate 8"]);
}

/// KIP-101, KIP-279 (KAFKA-6361): several leaders with a few records each, while the follower was away.
#[test]
fn diverging_logs_meet_where_both_have_the_same() {
    // This log, (epoch, end) of the leader's answer, where it is cut, what it asks for next.
    let cases = [
        ("the leader's epoch ends earlier", vec![(1, 0), (2, 5)], (2, 7), 7, (7, 2)),
        ("this log's epoch ends earlier", vec![(1, 0), (4, 5)], (1, 9), 5, (5, 1)),
        ("this log does not know the epoch: back to the one before", vec![(1, 0), (4, 5)], (3, 8), 5, (5, 1)),
        ("the leader knows only earlier epochs", vec![(4, 2), (5, 6)], (1, 1), 1, (1, -1)),
        ("beyond this log's end", vec![(1, 0)], (1, 50), 10, (10, 1)),
    ];
    for (name, epochs, (epoch, end), cut, next) in cases {
        let fake = Fake::new(&epochs, 10, 0);
        let mut machine = following(&fake);
        exchange(&mut machine, 0, diverging(epoch, end));
        assert_eq!(fake.done(), [format!("truncate {cut}")], "{name}");
        assert_eq!(asked_anew(&mut machine), Some(next), "{name}");
    }
    // What the leader says of its high watermark and log start along with it does not count.
    let fake = Fake::new(&[(1, 0)], 10, 8);
    exchange(&mut following(&fake), 0, PartitionAnswer { high_watermark: 3, ..diverging(1, 9) });
    assert_eq!(fake.high_watermark(), 8);
}

fn out_of_range(fake: &Arc<Fake>, latest: i64, earliest: i64) -> Option<(i64, i32)> {
    let mut machine = following(fake);
    exchange(&mut machine, 0, error(ErrorCode::OffsetOutOfRange));
    for (side, offset) in [(LogSide::Latest, latest), (LogSide::Earliest, earliest)] {
        match machine.next(0, false) {
            Work::Offsets(asked_side, asked) => {
                assert_eq!((asked_side, asked.len()), (side, 1));
                machine.offsets_answered(0, side, asked, Some(vec![Ok(offset)]));
            }
            _ => break,
        }
    }
    asked_anew(&mut machine)
}

#[test]
fn an_offset_that_the_leader_does_not_have() {
    let shorter = Fake::new(&[(3, 0)], 10, 8);
    assert_eq!(out_of_range(&shorter, 6, 0), Some((6, 3)));
    assert_eq!(shorter.done(), ["truncate 6"]);
    let away_for_long = Fake::new(&[(3, 0)], 10, 8);
    assert_eq!(out_of_range(&away_for_long, 90, 50), Some((50, -1)));
    assert_eq!(away_for_long.done(), ["restart 50"]);
    let appended_meanwhile = Fake::new(&[(3, 0)], 10, 8);
    assert_eq!(out_of_range(&appended_meanwhile, 11, 4), Some((10, 3)));
    assert!(appended_meanwhile.done().is_empty());
}

#[test]
fn errors_delay_one_partition_and_not_the_others() {
    for code in [ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownLeaderEpoch, ErrorCode::UnknownTopicId] {
        let (fake, other) = (Fake::new(&[(3, 0)], 10, 8), Fake::new(&[(3, 0)], 7, 7));
        let mut machine = following(&fake);
        machine.add(TopicPartition::new("u", 1), TopicId::random(), LeaderEpoch(9), other);
        exchange(&mut machine, 0, error(code));
        let Work::Fetch(fetch) = machine.next(FIRST - 1, false) else { panic!("the other goes on") };
        assert_eq!((fetch.wants.len(), fetch.forgotten.len()), (0, 1), "the session goes on without it");
        machine.fetched(FIRST - 1, LeaderAnswer { session_id: 1, ..LeaderAnswer::default() });
        assert_eq!(asked(&machine.next(FIRST, false)), Some((10, 3)), "{code:?}");
    }
}

/// KIP-320
#[test]
fn a_fenced_follower_waits_for_the_controller() {
    let fake = Fake::new(&[(3, 0)], 10, 8);
    let mut machine = following(&fake);
    exchange(&mut machine, 0, error(ErrorCode::FencedLeaderEpoch));
    assert!(matches!(machine.next(BACKOFF * 99, false), Work::Idle { until_ms: None }));
    fake.0.lock().current_epoch = 10;
    machine.add(name(), TopicId::random(), LeaderEpoch(10), fake.clone());
    assert_eq!(asked(&machine.next(BACKOFF * 99, false)), Some((10, 3)));
}

#[test]
fn an_answer_to_an_earlier_question_changes_nothing() {
    let fake = Fake::new(&[(3, 0)], 10, 8);
    let mut machine = following(&fake);
    machine.next(0, false);
    // Meanwhile the next epoch begins, at another offset.
    fake.0.lock().current_epoch = 10;
    fake.0.lock().end = 4;
    machine.add(name(), TopicId::random(), LeaderEpoch(10), fake.clone());
    machine.fetched(0, LeaderAnswer { session_id: 1, partitions: vec![answer(5, 12)], ..LeaderAnswer::default() });
    machine.next(0, false);
    machine.remove(&name());
    machine.fetched(0, LeaderAnswer { session_id: 1, partitions: vec![answer(5, 12)], ..LeaderAnswer::default() });
    assert!(fake.done().is_empty());
    // And a partition that has moved on without a word of this machine parks.
    let fake = Fake::new(&[(3, 0)], 10, 8);
    let mut machine = following(&fake);
    fake.0.lock().current_epoch = 10;
    exchange(&mut machine, 0, answer(5, 12));
    assert!(matches!(machine.next(0, false), Work::Idle { until_ms: None }));
}

#[test]
fn what_cannot_be_appended_is_asked_for_again_unless_the_disk_is_gone() {
    let fake = Fake::new(&[(3, 0)], 10, 8);
    let mut machine = following(&fake);
    fake.0.lock().fails = true;
    exchange(&mut machine, 0, answer(5, 12));
    assert!(matches!(machine.next(1, false), Work::Idle { until_ms: Some(FIRST) }));
    exchange(&mut machine, FIRST, answer(5, 12));
    fake.0.lock().is_offline = true;
    exchange(&mut machine, BACKOFF * 2, answer(5, 12));
    assert!(matches!(machine.next(BACKOFF * 9, false), Work::Idle { until_ms: None }));
}

#[test]
fn a_leader_that_cannot_be_asked_is_asked_later_with_a_new_session() {
    let fake = Fake::new(&[(3, 0)], 10, 8);
    let mut machine = following(&fake);
    exchange(&mut machine, 0, answer(0, 10));
    assert!(matches!(machine.next(0, false), Work::Fetch(fetch) if fetch.session_epoch == 1));
    let mut now_ms = 0;
    for pause_ms in [1, 2, 4, 8, 16, 32, 64, 128, 200, 200].map(|times| times * FIRST) {
        assert!(pause_ms <= BACKOFF);
        machine.fetch_failed(now_ms);
        assert!(matches!(machine.next(now_ms + pause_ms - 1, false), Work::Idle { .. }), "{pause_ms}");
        now_ms += pause_ms;
        assert!(matches!(machine.next(now_ms, false), Work::Fetch(fetch) if fetch.session_epoch == 0), "{pause_ms}");
    }
    let refused = LeaderAnswer { error: ErrorCode::InvalidFetchSessionEpoch, ..LeaderAnswer::default() };
    machine.fetched(now_ms, refused);
    assert!(matches!(machine.next(now_ms, false), Work::Fetch(fetch) if fetch.session_epoch == 0), "at once");
}

#[test]
fn throttled_replicas_wait_unless_they_are_in_sync() {
    let fake = Fake::new(&[(3, 0)], 10, 8);
    fake.0.lock().is_throttled = true;
    let mut machine = following(&fake);
    assert!(matches!(machine.next(0, true), Work::Idle { until_ms: Some(100) }));
    let answered = |machine: &mut FetcherMachine, one| {
        machine.next(0, false);
        machine.fetched(0, LeaderAnswer { session_id: 1, partitions: vec![one], ..LeaderAnswer::default() })
    };
    assert_eq!(answered(&mut machine, answer(5, 100)), 5, "its bytes count");
    assert!(matches!(machine.next(0, true), Work::Idle { .. }), "behind the high watermark");
    answered(&mut machine, answer(85, 100));
    assert_eq!(asked(&machine.next(0, true)), Some((100, 9)));
}

#[test]
fn a_refused_partition_does_not_wait_for_records_of_the_others() {
    let (refused, other) = (Fake::new(&[(3, 0)], 10, 8), Fake::new(&[(3, 0)], 10, 8));
    let mut machine = following(&refused);
    machine.add(TopicPartition::new("t", 1), TopicId::random(), LeaderEpoch(9), other);
    exchange(&mut machine, 0, error(ErrorCode::NotLeaderOrFollower));
    let wait_ms_max = |machine: &mut FetcherMachine, now_ms| match machine.next(now_ms, false) {
        Work::Fetch(fetch) => fetch.wait_ms_max,
        work => panic!("{work:?}"),
    };
    assert_eq!(wait_ms_max(&mut machine, 0), Some(FIRST));
    assert_eq!(wait_ms_max(&mut machine, 3), Some(FIRST - 3));
    assert_eq!(wait_ms_max(&mut machine, FIRST), None, "both are asked for");
}
