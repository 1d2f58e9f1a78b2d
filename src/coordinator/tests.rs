//! The driver over a toy: shards that add up numbers, on a log in memory.

use super::*;
use crate::base::time::monotonic_ms;
use crate::base::{ErrorCode, LeaderEpoch, Millis, ProducerId};
use crate::record::{BatchBuilder, RecordError, ValidatedBatch};
use crate::wire::coordinator_record::RecordFormatError;
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

/// What has been appended to partition 0, and what waits.
#[derive(Default)]
struct Disk {
    batches: Vec<Bytes>,
    /// If set, appends wait to be released.
    held: Option<Vec<oneshot::Sender<()>>>,
    epochs: Vec<Option<LeaderEpoch>>,
    is_damaged: bool,
}

struct MemoryLog {
    disk: Mutex<Disk>,
    /// Whether the replicas have everything.
    replicated: watch::Sender<bool>,
}

impl CoordinatorLog for MemoryLog {
    fn append(&self, _: i32, epoch: Option<LeaderEpoch>, mut batch: ValidatedBatch, _: Duration) -> Append {
        let mut disk = self.disk.lock();
        let base = disk.batches.len() as i64;
        batch.header.set_base_offset(base);
        disk.batches.push(batch.to_bytes());
        disk.epochs.push(epoch);
        let held = disk.held.as_mut().map(|held| {
            let (sender, receiver) = oneshot::channel();
            held.push(sender);
            receiver
        });
        Box::pin(async move {
            match held {
                Some(held) => held.await.map(|()| base).map_err(|_| ErrorCode::RequestTimedOut),
                None => Ok(base),
            }
        })
    }

    fn committed(&self, _: i32, _: i64) -> Committed {
        let mut replicated = self.replicated.subscribe();
        Box::pin(async move {
            let done = replicated.wait_for(|replicated| *replicated).await;
            done.map(drop).map_err(|_| ErrorCode::NotLeaderOrFollower)
        })
    }

    fn bounds(&self, _: i32) -> Option<Range<i64>> {
        Some(0..self.disk.lock().batches.len() as i64)
    }

    fn read(&self, _: i32, offset: i64, _: usize) -> Result<Bytes, ErrorCode> {
        let disk = self.disk.lock();
        if disk.is_damaged { Err(ErrorCode::KafkaStorageError) } else { Ok(disk.batches[offset as usize].clone()) }
    }
}

type Sum = Result<i64, ErrorCode>;

enum Event {
    Add(ReplyToken, i64),
    /// Wants a number from outside.
    Borrow(ReplyToken),
    Appended(WriteToken, Result<i64, ErrorCode>),
    Tick,
}

/// Adds up one-byte records.
struct Tally<const BOUND: bool> {
    sum: i64,
    writes: Writes<i64, ReplyToken>,
    tick_at: Option<Millis>,
}

impl Kind<Sum> for Sum {
    fn of(sum: Sum) -> Option<Sum> {
        Some(sum)
    }
}

impl<const BOUND: bool> Shard for Tally<BOUND> {
    const TOPIC: &'static str = "sums";
    const IS_BOUND_TO_EPOCH: bool = BOUND;
    type Event = Event;
    type Response = Sum;
    type Batch = i64;
    type Errand = ReplyToken;
    type Hands = watch::Sender<Option<Sum>>;
    type Note = i64;

    fn read(&mut self, _: Now, record: &StoredRecord<'_>) -> Result<(), RecordFormatError> {
        self.sum += i64::from(record.key[0]);
        Ok(())
    }

    fn read_marker(&mut self, _: ProducerId, _: bool) {}

    fn replay_note(&mut self, note: i64) {
        self.sum += note;
    }

    fn finish_loading(&mut self, _: Now, _: &mut Vec<EffectOf<Self>>) {}

    fn step(&mut self, _: Now, event: Event, effects: &mut Vec<EffectOf<Self>>) {
        match event {
            Event::Add(reply, number) => effects.push(Effect::Append(self.writes.begin(number, reply), number)),
            Event::Borrow(reply) => effects.push(Effect::Errand(reply)),
            Event::Appended(token, result) => {
                let Some((number, reply)) = self.writes.end(token) else { return };
                let sum = result.map(|_| {
                    self.sum += number;
                    self.sum
                });
                effects.push(Effect::Reply(reply, sum));
            }
            Event::Tick => {
                self.tick_at = None;
                self.sum += 1_000;
            }
        }
    }

    fn unload(self, effects: &mut Vec<EffectOf<Self>>) {
        effects.extend(self.writes.abandon().map(|reply| Effect::Reply(reply, Err(ErrorCode::NotCoordinator))));
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.tick_at
    }

    fn len(&self) -> usize {
        self.sum as usize
    }

    fn tick() -> Event {
        Event::Tick
    }

    fn appended(token: WriteToken, result: Result<i64, ErrorCode>) -> Event {
        Event::Appended(token, result)
    }

    fn to_log(&self, batch: &i64, timestamp_ms: Millis) -> Result<ValidatedBatch, RecordError> {
        build(BatchBuilder::new(), &[*batch], timestamp_ms, |number, key, _| {
            key.push(*number as u8);
            false
        })
    }

    fn append_timeout(&self, _: &i64) -> Duration {
        Duration::from_secs(1)
    }

    fn run(hands: &watch::Sender<Option<Sum>>, reply: ReplyToken) -> Vec<Underway<Self>> {
        let mut lent = hands.subscribe();
        vec![Box::pin(async move {
            let number = lent.wait_for(Option::is_some).await.ok().and_then(|lent| *lent);
            match number.unwrap_or(Err(ErrorCode::UnknownServerError)) {
                Ok(number) => Done::Event(Event::Add(reply, number)),
                Err(error) => Done::Reply(reply, Err(error)),
            }
        })]
    }
}

struct Bench<const BOUND: bool> {
    log: Arc<MemoryLog>,
    partitions: Arc<Partitions<Tally<BOUND>>>,
}

impl<const BOUND: bool> Bench<BOUND> {
    /// With `numbers` in the log, and nobody elected yet.
    fn new(numbers: &[i64], lent: Option<Sum>) -> Bench<BOUND> {
        let log = Arc::new(MemoryLog { disk: Mutex::default(), replicated: watch::Sender::new(false) });
        let partitions = Partitions::new(log.clone(), watch::Sender::new(lent), 1, Handle::current());
        let bench = Bench { log, partitions };
        for number in numbers {
            let batch = bench.shard().to_log(number, 0).expect("a batch");
            drop(bench.log.append(0, None, batch, Duration::ZERO));
        }
        bench.log.disk.lock().epochs.clear();
        bench
    }

    fn shard(&self) -> Tally<BOUND> {
        Tally { sum: 0, writes: Writes::default(), tick_at: None }
    }

    fn elect(&self, epoch: i32) {
        self.partitions.elected(0, LeaderEpoch(epoch), || self.shard());
    }

    fn ask(&self, make: impl FnOnce(ReplyToken) -> Event) -> Answer<Sum, Sum> {
        self.partitions.ask("any", make, Err)
    }

    async fn add(&self, number: i64) -> Sum {
        self.ask(|reply| Event::Add(reply, number)).get().await
    }

    fn hold(&self) {
        self.log.disk.lock().held = Some(Vec::new());
    }

    fn release(&self) {
        for held in self.log.disk.lock().held.take().into_iter().flatten() {
            held.send(()).expect("somebody waits");
        }
    }

    /// The sum, once the partition is loaded.
    async fn loaded(&self) -> Sum {
        loop {
            match self.partitions.of("any").and_then(|partition| partition.view(|shard| shard.sum)) {
                Err(ErrorCode::CoordinatorLoadInProgress) => tokio::time::sleep(Duration::from_millis(1)).await,
                sum => return sum,
            }
        }
    }
}

#[tokio::test]
async fn a_shard_that_is_bound_to_its_epoch_waits_for_the_replicas_and_ends_with_the_epoch() {
    let bench = Bench::<true>::new(&[1, 2], None);
    assert_eq!(bench.add(3).await, Err(ErrorCode::NotCoordinator));
    bench.elect(1);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(bench.add(3).await, Err(ErrorCode::CoordinatorLoadInProgress));
    }
    bench.log.replicated.send_replace(true);
    assert_eq!(bench.loaded().await, Ok(3));
    bench.hold();
    let held = bench.ask(|reply| Event::Add(reply, 3));
    bench.elect(1);
    assert!(matches!(bench.partitions.of("any").and_then(|partition| partition.view(|shard| shard.sum)), Ok(3)));
    bench.elect(2);
    assert_eq!(held.get().await, Err(ErrorCode::NotCoordinator));
    bench.log.disk.lock().held = None;
    assert_eq!(bench.loaded().await, Ok(6), "the record is in the log all the same");
    assert_eq!(bench.add(4).await, Ok(10));
    assert_eq!(bench.log.disk.lock().epochs, [Some(LeaderEpoch(1)), Some(LeaderEpoch(2))]);
}

#[tokio::test]
async fn another_shard_goes_on_over_epochs() {
    let bench = Bench::<false>::new(&[1, 2], None);
    bench.elect(1);
    assert_eq!(bench.loaded().await, Ok(3), "though no replica has it yet");
    bench.hold();
    let held = [3, 4].map(|number| bench.ask(|reply| Event::Add(reply, number)));
    bench.elect(2);
    bench.release();
    let [three, four] = held;
    assert_eq!((three.get().await, four.get().await), (Ok(6), Ok(10)));
    assert_eq!(bench.log.disk.lock().epochs, [None, None]);
    bench.hold();
    let (held, at) = (bench.ask(|reply| Event::Add(reply, 5)), bench.partitions.at(0));
    bench.partitions.resigned(0);
    assert_eq!(held.get().await, Err(ErrorCode::NotCoordinator));
    assert_eq!(at.and_then(|partition| partition.view(|_| ())), Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn what_cannot_be_read_is_tried_again_by_the_next_election() {
    let bench = Bench::<false>::new(&[1], None);
    bench.log.disk.lock().is_damaged = true;
    bench.elect(1);
    assert_eq!(bench.loaded().await, Err(ErrorCode::CoordinatorNotAvailable));
    bench.log.disk.lock().is_damaged = false;
    assert_eq!(bench.add(1).await, Err(ErrorCode::CoordinatorNotAvailable));
    bench.elect(2);
    assert_eq!(bench.loaded().await, Ok(1));
}

#[tokio::test]
async fn what_happens_while_the_log_is_read_counts() {
    let bench = Bench::<true>::new(&[1], None);
    bench.elect(1);
    let partition = bench.partitions.of("any").unwrap_or_else(|error| panic!("{error:?}"));
    assert!(partition.note_while_loading(7));
    bench.log.replicated.send_replace(true);
    assert_eq!(bench.loaded().await, Ok(8));
    assert!(!partition.note_while_loading(7), "too late");
}

#[tokio::test]
async fn errands_come_back_as_events_or_as_the_reply() {
    for lent in [Ok(5), Err(ErrorCode::InvalidRequest)] {
        let at_once = Bench::<false>::new(&[], Some(lent));
        at_once.elect(1);
        let answer = at_once.ask(Event::Borrow);
        assert!(matches!(answer, Answer::Now(sum) if sum == lent));
    }
    let later = Bench::<false>::new(&[], None);
    later.elect(1);
    let answer = later.ask(Event::Borrow);
    assert!(matches!(answer, Answer::Later(_)));
    later.partitions.resigned(0);
    assert_eq!(answer.get().await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn a_deadline_is_a_tick() {
    let bench = Bench::<false>::new(&[], None);
    let shard = Tally { tick_at: Some(monotonic_ms() + 5), ..bench.shard() };
    bench.partitions.elected(0, LeaderEpoch(1), || shard);
    while bench.loaded().await == Ok(0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(bench.loaded().await, Ok(1_000));
}
