//! What is wrong with a history. The anomalies are those of Jepsen's Kafka test, defined anew here, with committed offsets beside.
//!
//! The version order of a partition is its offsets, from all that was polled by anybody (who polls must only ever see safe data) and
//! from the sends of operations that must have happened: those that were `ok`, and unknown ones of which somebody has read
//! something. Offsets without a value (markers, what was aborted) are left out, so that neighbours have neighbouring indexes.
//! All checks are linear in the history but for sorting.

use crate::cycles::{self, Edge};
use crate::history::{End, Key, Kind, Op, Step, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Anomaly {
    /// One offset has two values.
    InconsistentOffsets,
    /// One value has two offsets.
    Duplicate,
    /// G1a: a value of an operation that failed is read.
    AbortedRead,
    /// A value that must be there is read by nobody, though later ones are.
    LostWrite,
    /// A value that must be there is not read in the end.
    Unseen,
    /// Some values of an operation are there and others are not.
    Torn,
    /// A value is in another partition than it was sent to.
    Astray,
    NeverWritten,
    /// Inside an operation successive reads leave something out,
    IntPollSkip,
    /// or go back.
    IntNonmonotonicPoll,
    /// Between successive operations of a process.
    PollSkip,
    NonmonotonicPoll,
    /// A process's writes are stored in another order.
    NonmonotonicSend,
    /// Those of one operation are.
    IntNonmonotonicSend,
    /// A transaction reads what it has written itself.
    PrecommittedRead,
    /// A group's offset is not one that was committed last: it went back, or nobody asked for it.
    CommittedOffset,
    /// Operations read from each other in a circle.
    G1c,
    /// Another's value between two of one transaction. Allowed: nothing isolates writes in Kafka.
    IntSendSkip,
    /// Operations write after each other in a circle. Allowed for the same reason,
    G0,
    /// and so are circles of writes and reads,
    G1cWithWrites,
    /// and those with a read that misses a write.
    GSingle,
}

impl Anomaly {
    /// Kafka promises nothing of the kind: these are counted and no more.
    pub fn is_allowed(self) -> bool {
        matches!(self, Anomaly::IntSendSkip | Anomaly::G0 | Anomaly::G1cWithWrites | Anomaly::GSingle)
    }
}

/// What was found. A figure is no verdict.
#[derive(Default, Debug)]
pub struct Report {
    pub found: BTreeMap<Anomaly, Vec<String>>,
    /// For how long at least a reader has not seen a write that had been committed before it asked.
    pub lag_ns: u64,
}

impl Report {
    fn add(&mut self, anomaly: Anomaly, what: impl Into<String>) {
        self.found.entry(anomaly).or_default().push(what.into());
    }

    /// What must not be.
    pub fn bad(&self) -> Vec<Anomaly> {
        self.found.keys().copied().filter(|anomaly| !anomaly.is_allowed()).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (anomaly, found) in &self.found {
            let verdict = if anomaly.is_allowed() { "allowed" } else { "BAD" };
            writeln!(
                f,
                "{verdict}: {anomaly:?}: {} times, as in {}",
                found.len(),
                found[..found.len().min(3)].join("; ")
            )?;
        }
        write!(f, "readers were at least {} ms behind at worst", self.lag_ns / 1_000_000)
    }
}

/// The values of one partition in their order.
#[derive(Default)]
struct Versions {
    values: Vec<BTreeSet<Value>>,
    offsets: Vec<i64>,
    first: HashMap<Value, usize>,
    last: HashMap<Value, usize>,
}

impl Versions {
    fn new(offsets: BTreeMap<i64, BTreeSet<Value>>) -> Versions {
        let mut versions = Versions::default();
        for (at, (offset, values)) in offsets.into_iter().enumerate() {
            for value in &values {
                versions.first.entry(*value).or_insert(at);
                versions.last.insert(*value, at);
            }
            versions.offsets.push(offset);
            versions.values.push(values);
        }
        versions
    }

    /// The index before the first value at or after an offset.
    fn before(&self, offset: i64) -> i64 {
        self.offsets.partition_point(|known| *known < offset) as i64 - 1
    }
}

/// A history with what every check wants to know of it.
struct Facts<'a> {
    ops: &'a [Op],
    writer: HashMap<Value, (usize, Key)>,
    /// Polled by anybody.
    seen: HashSet<Value>,
    must: Vec<bool>,
    versions: BTreeMap<Key, Versions>,
    /// Operations of each process, in their order.
    processes: BTreeMap<u32, Vec<usize>>,
}

impl<'a> Facts<'a> {
    fn new(ops: &'a [Op]) -> Facts<'a> {
        let (mut writer, mut seen, mut read) = (HashMap::new(), HashSet::new(), HashSet::new());
        let mut processes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, op) in ops.iter().enumerate() {
            processes.entry(op.process).or_default().push(at);
            for step in &op.steps {
                match step {
                    Step::Send { key, value, .. } => {
                        writer.insert(*value, (at, *key));
                    }
                    Step::Poll { values, .. } => {
                        seen.extend(values.iter().map(|(_, value)| *value));
                        if op.end == End::Ok {
                            read.extend(values.iter().map(|(_, value)| *value));
                        }
                    }
                    _ => {}
                }
            }
        }
        processes.values_mut().for_each(|ops_of| ops_of.sort_by_key(|at| ops[*at].begun));
        let must: Vec<bool> = ops
            .iter()
            .map(|op| op.end == End::Ok || op.end == End::Info && sends(op).any(|(_, value, _)| read.contains(&value)))
            .collect();
        let mut offsets: BTreeMap<Key, BTreeMap<i64, BTreeSet<Value>>> = BTreeMap::new();
        for (at, op) in ops.iter().enumerate() {
            for (key, values) in polls(op) {
                for (offset, value) in values {
                    offsets.entry(key).or_default().entry(*offset).or_default().insert(*value);
                }
            }
            for (key, value, offset) in sends(op).filter(|_| must[at]) {
                if let Some(offset) = offset {
                    offsets.entry(key).or_default().entry(offset).or_default().insert(value);
                }
            }
        }
        let versions = offsets.into_iter().map(|(key, offsets)| (key, Versions::new(offsets))).collect();
        Facts { ops, writer, seen, must, versions, processes }
    }

    fn index(&self, key: Key, value: Value) -> Option<i64> {
        self.versions.get(&key)?.first.get(&value).map(|at| *at as i64)
    }
}

fn sends(op: &Op) -> impl Iterator<Item = (Key, Value, Option<i64>)> {
    op.steps.iter().filter_map(|step| match step {
        Step::Send { key, value, offset } => Some((*key, *value, *offset)),
        _ => None,
    })
}

fn polls(op: &Op) -> impl Iterator<Item = (Key, &Vec<(i64, Value)>)> {
    op.steps.iter().filter_map(|step| match step {
        Step::Poll { key, values } => Some((*key, values)),
        _ => None,
    })
}

/// The last reads of a history are to reach the end of every partition.
pub fn judge(ops: &[Op]) -> Report {
    let facts = Facts::new(ops);
    let mut report = Report::default();
    offsets_and_values(&facts, &mut report);
    reads(&facts, &mut report);
    writes(&facts, &mut report);
    orders(&facts, &mut report);
    committed_offsets(&facts, &mut report);
    circles(&facts, &mut report);
    report
}

fn offsets_and_values(facts: &Facts<'_>, report: &mut Report) {
    for (key, versions) in &facts.versions {
        for (at, values) in versions.values.iter().enumerate().filter(|(_, values)| values.len() > 1) {
            report.add(Anomaly::InconsistentOffsets, format!("{key}@{} is {values:?}", versions.offsets[at]));
        }
        for (value, first) in &versions.first {
            if versions.last[value] != *first {
                report.add(Anomaly::Duplicate, format!("{value} twice in {key}"));
            }
        }
    }
}

fn reads(facts: &Facts<'_>, report: &mut Report) {
    for op in facts.ops {
        let own: HashSet<Value> = sends(op).map(|(_, value, _)| value).collect();
        for (key, values) in polls(op) {
            for (offset, value) in values {
                let place = format!("{value} at {key}@{offset}");
                match facts.writer.get(value) {
                    None => report.add(Anomaly::NeverWritten, &*place),
                    Some((_, home)) if *home != key => report.add(Anomaly::Astray, format!("{place}, sent to {home}")),
                    Some((writer, _)) if facts.ops[*writer].end == End::Fail => {
                        report.add(Anomaly::AbortedRead, &*place)
                    }
                    Some(_) => {}
                }
                if own.contains(value) {
                    report.add(Anomaly::PrecommittedRead, place);
                }
            }
        }
    }
}

fn writes(facts: &Facts<'_>, report: &mut Report) {
    let mut bounds: HashMap<Key, usize> = HashMap::new();
    for (key, versions) in &facts.versions {
        let read = versions.first.iter().filter(|(value, _)| facts.seen.contains(*value)).map(|(_, first)| *first);
        bounds.extend(read.max().map(|bound| (*key, bound)));
    }
    for (at, op) in facts.ops.iter().enumerate() {
        let missing: Vec<(Key, Value)> =
            sends(op).filter(|(_, value, _)| !facts.seen.contains(value)).map(|(key, value, _)| (key, value)).collect();
        for (key, value) in missing.iter().filter(|_| facts.must[at]) {
            let last = facts.versions.get(key).and_then(|versions| versions.last.get(value));
            match (last, bounds.get(key)) {
                (Some(last), Some(bound)) if last <= bound => {
                    report.add(Anomaly::LostWrite, format!("{value} of {key}"))
                }
                _ => report.add(Anomaly::Unseen, format!("{value} of {key}")),
            }
        }
        let there = sends(op).count() - missing.len();
        if there > 0 && !missing.is_empty() {
            report.add(Anomaly::Torn, format!("without {missing:?}: {op:?}"));
        }
    }
}

/// Reads and writes of each process, one after another.
fn orders(facts: &Facts<'_>, report: &mut Report) {
    for ops in facts.processes.values() {
        let mut at: HashMap<Key, i64> = HashMap::new();
        let mut written: HashMap<Key, i64> = HashMap::new();
        for op in ops.iter().map(|at| &facts.ops[*at]) {
            reads_of(facts, op, &mut at, report);
            let is_there = op.end != End::Fail;
            writes_of(facts, op, &mut written, is_there, report);
        }
    }
}

/// `at`: the last index that the process has read of each partition.
fn reads_of(facts: &Facts<'_>, op: &Op, at: &mut HashMap<Key, i64>, report: &mut Report) {
    if op.kind == Kind::Assign {
        for step in op.steps.iter().filter(|_| op.end == End::Ok) {
            if let Step::Committed { key, offset } = step {
                at.insert(*key, facts.versions.get(key).map_or(-1, |versions| versions.before(*offset)));
            }
        }
        return;
    }
    let mut inside: HashMap<Key, i64> = HashMap::new();
    for (key, values) in polls(op) {
        for (offset, value) in values {
            let Some(index) = facts.index(key, *value) else { continue };
            let (before, skip, back) = match inside.get(&key) {
                Some(before) => (Some(*before), Anomaly::IntPollSkip, Anomaly::IntNonmonotonicPoll),
                None => (at.get(&key).copied(), Anomaly::PollSkip, Anomaly::NonmonotonicPoll),
            };
            let place = || format!("process {} reads {value} at {key}@{offset}", op.process);
            match before.map(|before| index - before) {
                Some(delta) if delta > 1 => report.add(skip, format!("{}, {} left out", place(), delta - 1)),
                Some(delta) if delta < 1 => report.add(back, format!("{}, {} back", place(), 1 - delta)),
                _ => {}
            }
            inside.insert(key, index);
        }
        // What it could have seen: the next value, if it was committed before.
        let reached = inside.get(&key).or(at.get(&key)).copied();
        let next = reached.and_then(|reached| facts.versions.get(&key)?.values.get((reached + 1) as usize));
        let writer = next.and_then(|values| facts.writer.get(values.first()?)).map(|(writer, _)| &facts.ops[*writer]);
        if let Some(writer) = writer.filter(|writer| writer.end == End::Ok) {
            report.lag_ns = report.lag_ns.max(op.begun.saturating_sub(writer.ended));
        }
    }
    // One that failed has its process go back.
    if op.end == End::Ok {
        at.extend(inside);
    }
}

fn writes_of(facts: &Facts<'_>, op: &Op, written: &mut HashMap<Key, i64>, is_there: bool, report: &mut Report) {
    let mut inside: HashMap<Key, i64> = HashMap::new();
    for (key, value, _) in sends(op).filter(|_| is_there) {
        let Some(index) = facts.index(key, value) else { continue };
        if let Some(before) = inside.insert(key, index) {
            if index < before {
                report.add(Anomaly::IntNonmonotonicSend, format!("{value} of {key}"));
            } else if index - before > 1 {
                report.add(Anomaly::IntSendSkip, format!("before {value} of {key}"));
            }
        } else if written.get(&key).is_some_and(|before| index < *before) {
            report.add(Anomaly::NonmonotonicSend, format!("{value} of {key}, of process {}", op.process));
        }
        let newest = written.entry(key).or_insert(index);
        *newest = index.max(*newest);
    }
}

/// A group goes on where the last operation that happened has left it.
fn committed_offsets(facts: &Facts<'_>, report: &mut Report) {
    for (process, ops) in &facts.processes {
        // What may be found: the last one that is certain comes first.
        let mut may_be: HashMap<Key, Vec<i64>> = HashMap::new();
        for at in ops {
            let op = &facts.ops[*at];
            for step in &op.steps {
                match step {
                    Step::Commit { key, offset } => {
                        let known = may_be.entry(*key).or_insert_with(|| vec![-1]);
                        // An operation that has written something shows by that whether it happened.
                        match (op.end, sends(op).next().is_some()) {
                            (End::Ok, _) => *known = vec![*offset],
                            (End::Info, true) if facts.must[*at] => *known = vec![*offset],
                            (End::Info, false) => known.push(*offset),
                            _ => {}
                        }
                    }
                    Step::Committed { key, offset } => {
                        let known = may_be.entry(*key).or_insert_with(|| vec![-1]);
                        if !known.contains(offset) {
                            let what = format!("{offset} of {key} for process {process}, not one of {known:?}");
                            report.add(Anomaly::CommittedOffset, what);
                        }
                        *known = vec![*offset];
                    }
                    _ => {}
                }
            }
        }
    }
}

fn circles(facts: &Facts<'_>, report: &mut Report) {
    let mut graph: Vec<Vec<(usize, Edge)>> = vec![Vec::new(); facts.ops.len()];
    let mut connect = |from: usize, to: usize, edge: Edge| {
        if from != to {
            graph[from].push((to, edge));
        }
    };
    let writer = |values: &BTreeSet<Value>| {
        let value = values.iter().find(|value| facts.writer.get(*value).is_some_and(|(at, _)| facts.must[*at]));
        value.and_then(|value| facts.writer.get(value)).map(|(at, _)| *at)
    };
    for versions in facts.versions.values() {
        for pair in versions.values.windows(2) {
            if let (Some(from), Some(to)) = (writer(&pair[0]), writer(&pair[1])) {
                connect(from, to, Edge::Writes);
            }
        }
    }
    for (at, op) in facts.ops.iter().enumerate().filter(|(at, _)| facts.must[*at]) {
        let mut highest: HashMap<Key, (i64, Value)> = HashMap::new();
        for (key, values) in polls(op) {
            for (_, value) in values {
                let Some(index) = facts.index(key, *value) else { continue };
                let now = highest.entry(key).or_insert((index, *value));
                *now = (*now).max((index, *value));
            }
        }
        for (key, (index, value)) in highest {
            if let Some((from, _)) = facts.writer.get(&value) {
                connect(*from, at, Edge::Reads);
            }
            let next = facts.versions.get(&key).and_then(|versions| versions.values.get(index as usize + 1));
            if let Some(to) = next.and_then(writer) {
                connect(at, to, Edge::Misses);
            }
        }
    }
    let kinds: [(Anomaly, &[Edge]); 4] = [
        (Anomaly::G0, &[Edge::Writes]),
        (Anomaly::G1c, &[Edge::Reads]),
        (Anomaly::G1cWithWrites, &[Edge::Writes, Edge::Reads]),
        (Anomaly::GSingle, &[Edge::Writes, Edge::Reads, Edge::Misses]),
    ];
    for (anomaly, edges) in kinds {
        for circle in cycles::find(&graph, edges) {
            let shown: Vec<&Op> =
                circle.iter().filter(|_| !anomaly.is_allowed()).take(3).map(|at| &facts.ops[*at]).collect();
            report.add(anomaly, format!("{} operations {shown:?}", circle.len()));
        }
    }
}
