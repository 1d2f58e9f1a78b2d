//! What the log should be: every batch that was written and not cut off, and what follows from them.
//!
//! Invariant: nothing here looks at the log. Records that compaction took are marked, when it was right to take them, and stay.

use crate::config::LogConfig;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    pub base: i64,
    pub last: i64,
    pub leader_epoch: i32,
    pub producer: i64,
    pub producer_epoch: i16,
    pub sequence: i32,
    pub is_transactional: bool,
    /// Of a control batch: commit or abort, and the coordinator's epoch.
    pub marker: Option<(bool, i32)>,
    /// What a pass of the cleaner wrote down.
    pub horizon: Option<i64>,
    /// Those that are left.
    pub records: Vec<Record>,
    /// Largest timestamp when it was written.
    pub timestamp: i64,
}

/// A producer, as an append is judged by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    pub epoch: i16,
    /// Last sequence, last offset, and how far the offsets of the batch reach.
    pub last: Option<(i32, i64, i64)>,
    pub coordinator_epoch: i32,
    pub open_from: Option<i64>,
    pub timestamp: i64,
}

impl Producer {
    pub const NEW: Producer = Producer { epoch: -1, last: None, coordinator_epoch: -1, open_from: None, timestamp: -1 };

    fn set_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            (self.epoch, self.last) = (epoch, None);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transaction {
    pub producer: i64,
    pub first: i64,
    /// The marker's offset, and whether it commits.
    pub end: Option<(i64, bool)>,
}

/// What the checkpoint files say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Saved {
    pub high_watermark: i64,
    pub start: i64,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub batches: BTreeMap<i64, Batch>,
    pub start: i64,
    pub end: i64,
    /// As far as the log start ever was: snapshots of that time do not know what was below.
    pub highest_start: i64,
    pub high_watermark: i64,
    pub leader_epoch: i32,
    /// Epochs and where they begin.
    pub epochs: Vec<(i32, i64)>,
    pub now: i64,
    /// A pass of the cleaner has judged by markers that may lie as far as this.
    pub judged_to: i64,
    /// The log was cut below that.
    pub is_cut_into_clean: bool,
    /// A producer of whom batches below this offset are forgotten: nothing of him was left when the log was opened.
    pub forgotten: BTreeMap<i64, i64>,
    /// Batches that a pass took whole, and that no snapshot tells of any more.
    pub untold: BTreeSet<i64>,
    /// Where producer snapshots were ever written: each tells of what was below, and one that is written in a recovery hands on what it
    /// was told by the one before it.
    pub snapshots: BTreeSet<i64>,
    /// Since the log was read again, ended transactions need not hold readers of committed records back.
    pub is_reloaded: bool,
    pub config: LogConfig,
    pub written: u64,
}

impl Model {
    pub fn new(config: LogConfig, now: i64) -> Model {
        Model {
            batches: BTreeMap::new(),
            start: 0,
            end: 0,
            highest_start: 0,
            high_watermark: 0,
            leader_epoch: 0,
            epochs: Vec::new(),
            now,
            judged_to: 0,
            is_cut_into_clean: false,
            forgotten: BTreeMap::new(),
            untold: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            is_reloaded: false,
            config,
            written: 0,
        }
    }

    /// Every producer that is known, and every transaction of theirs.
    pub fn replay(&self) -> (BTreeMap<i64, Producer>, Vec<Transaction>) {
        self.replay_if(|batch| {
            let is_forgotten = self.forgotten.get(&batch.producer).is_some_and(|from| batch.base < *from);
            !is_forgotten && !self.untold.contains(&batch.base)
        })
    }

    /// Every transaction, whoever may have forgotten it.
    pub fn transactions(&self) -> Vec<Transaction> {
        self.replay_if(|_| true).1
    }

    pub fn replay_if(&self, is_known: impl Fn(&Batch) -> bool) -> (BTreeMap<i64, Producer>, Vec<Transaction>) {
        let mut producers: BTreeMap<i64, Producer> = BTreeMap::new();
        let mut transactions = Vec::new();
        for batch in self.batches.values().filter(|batch| batch.producer >= 0 && is_known(batch)) {
            let producer = producers.entry(batch.producer).or_insert(Producer::NEW);
            producer.set_epoch(batch.producer_epoch);
            producer.timestamp = batch.timestamp;
            match batch.marker {
                Some((commits, coordinator_epoch)) => {
                    producer.coordinator_epoch = coordinator_epoch;
                    if let Some(first) = producer.open_from.take() {
                        let end = Some((batch.base, commits));
                        transactions.push(Transaction { producer: batch.producer, first, end });
                    }
                }
                None => {
                    let reach = batch.last - batch.base;
                    producer.last = Some((batch.sequence.wrapping_add(reach as i32), batch.last, reach));
                    if batch.is_transactional {
                        producer.open_from.get_or_insert(batch.base);
                    }
                }
            }
        }
        for (id, producer) in &producers {
            if let Some(first) = producer.open_from {
                transactions.push(Transaction { producer: *id, first, end: None });
            }
        }
        (producers, transactions)
    }

    /// Bounds of what a reader of committed records may see.
    pub fn stable_ends(&self) -> (i64, i64) {
        let (_, transactions) = self.replay();
        let (mut lowest, mut highest) = (self.high_watermark, self.high_watermark);
        for transaction in &transactions {
            let first = transaction.first.max(self.start);
            match transaction.end {
                None => (lowest, highest) = (lowest.min(first), highest.min(first)),
                Some((marker, _)) if marker >= self.high_watermark => lowest = lowest.min(first),
                Some(_) => {}
            }
        }
        if !self.is_reloaded {
            return (lowest, lowest);
        }
        // A recovery reads what lies below the log start as well: an ended transaction may begin before what is known of its producer.
        for transaction in self.transactions() {
            if transaction.end.is_some_and(|(marker, _)| marker >= self.high_watermark) {
                lowest = lowest.min(transaction.first.max(self.start));
            }
        }
        (lowest, highest)
    }

    pub fn note_epoch(&mut self, epoch: i32, start: i64) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.retain(|(_, at)| *at < start);
            self.epochs.push((epoch, start));
        }
    }

    pub fn add(&mut self, batch: Batch) {
        self.note_epoch(batch.leader_epoch, batch.base);
        self.end = batch.last + 1;
        self.batches.insert(batch.base, batch);
    }

    pub fn cut(&mut self, offset: i64) {
        self.batches.retain(|_, batch| batch.last < offset);
        self.epochs.retain(|(_, start)| *start < offset);
        self.end = self.end.min(offset);
        self.start = self.start.min(self.end);
        self.is_cut_into_clean |= self.end < self.judged_to;
        self.judged_to = self.judged_to.min(self.end);
        self.high_watermark = self.high_watermark.min(self.end);
        self.is_reloaded = true;
        // What is written there from now on is something else.
        self.forgotten.values_mut().for_each(|below| *below = (*below).min(self.end));
        self.untold.retain(|base| *base < self.end);
        self.snapshots.retain(|offset| *offset <= self.end);
    }

    /// Nothing is left but where the log goes on.
    pub fn start_anew(&mut self, offset: i64) {
        self.batches.clear();
        self.epochs.clear();
        self.forgotten.clear();
        self.untold.clear();
        self.snapshots.clear();
        (self.start, self.end, self.high_watermark) = (offset, offset, offset);
        self.highest_start = offset;
        (self.judged_to, self.is_cut_into_clean) = (offset, false);
    }

    pub fn raise_start(&mut self, start: i64) {
        self.start = self.start.max(start);
        self.highest_start = self.highest_start.max(self.start);
        let holds = self.epochs.iter().rposition(|(_, at)| *at <= self.start);
        if let Some(holds) = holds {
            self.epochs.drain(..holds);
            self.epochs[0].1 = self.start;
        }
    }

    /// The log is opened again: what the checkpoint files said counts, and epochs without records are forgotten. `first_base` is
    /// where the first segment begins.
    pub fn reopen(&mut self, saved: Saved, first_base: i64) {
        self.start = saved.start.max(first_base);
        self.raise_start(self.start);
        self.epochs.retain(|(_, start)| *start < self.end);
        self.high_watermark = saved.high_watermark.max(self.start).min(self.end);
        self.is_reloaded = true;
    }

    /// Whether the records of a batch are of a transaction that was aborted; `None` while it is open.
    pub fn fate(transactions: &[Transaction], batch: &Batch) -> Option<bool> {
        if !batch.is_transactional || batch.marker.is_some() {
            return Some(false);
        }
        let holds = |transaction: &&Transaction| {
            let end = transaction.end.map_or(i64::MAX, |(marker, _)| marker);
            transaction.producer == batch.producer && (transaction.first..end).contains(&batch.base)
        };
        let end = transactions.iter().find(holds)?.end;
        end.map(|(_, commits)| !commits)
    }
}
