//! What producers were promised, and what consumers have seen.
//!
//! A value has one place for ever, once it was acknowledged or read. A producer that sends again has each value in the log once, in the
//! order in which it first sent them, and none is left out. Of a transaction, readers of committed data see everything once it
//! is committed, and never anything otherwise.
//!
//! Values are `aP-N`, of a plain producer; `iP.E-N`, of an idempotent producer in its epoch E; `tP.T-N`, of transaction T; and what
//! begins with `~` is a marker.

use std::collections::BTreeMap;

/// Partition and offset.
pub type Place = (i32, i64);

pub type Kept = Result<(), String>;

#[derive(Default)]
pub struct Promises {
    acknowledged: BTreeMap<Place, String>,
    read: BTreeMap<Place, String>,
    /// Of each value that was acknowledged or read.
    places: BTreeMap<String, Place>,
    /// Whether a transaction was committed; not there while it is open.
    outcomes: BTreeMap<String, bool>,
}

/// `t9.3` of `t9.3-12`.
fn transaction_of(value: &str) -> Option<&str> {
    value.starts_with('t').then(|| value.rsplit_once('-').map(|(name, _)| name)).flatten()
}

/// `i7.0-12` as (`i7`, (0, 12)).
fn sequence_of(value: &str) -> Option<(&str, (u64, u64))> {
    let (name, number) = value.rsplit_once('-')?;
    let (producer, life) = name.split_once('.')?;
    Some((producer, (life.parse().ok()?, number.parse().ok()?)))
}

fn is_marker(value: &str) -> bool {
    value.starts_with('~')
}

impl Promises {
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub fn acknowledge(&mut self, place: Place, value: String) -> Kept {
        self.locate(place, &value)?;
        match self.acknowledged.insert(place, value.clone()) {
            Some(before) if before != value => Err(format!("{before} and {value} are both acknowledged at {place:?}")),
            _ => Ok(()),
        }
    }

    pub fn consume(&mut self, place: Place, value: String) -> Kept {
        self.locate(place, &value)?;
        match self.read.get(&place) {
            Some(before) if *before != value => Err(format!("{place:?} was read as {before}, and then as {value}")),
            Some(_) => Ok(()),
            None => {
                self.read.insert(place, value);
                Ok(())
            }
        }
    }

    fn locate(&mut self, place: Place, value: &str) -> Kept {
        if is_marker(value) {
            return Ok(());
        }
        match *self.places.entry(value.to_string()).or_insert(place) {
            before if before == place => Ok(()),
            before => Err(format!("{value} is at {before:?} and at {place:?}")),
        }
    }

    /// From here on the transaction has ended, in one way or the other.
    pub fn decide(&mut self, transaction: String, commit: bool) {
        self.outcomes.insert(transaction, commit);
    }

    /// A reader of committed data has seen something.
    pub fn consume_committed(&mut self, place: Place, value: String) -> Kept {
        match transaction_of(&value).map(|name| self.outcomes.get(name)) {
            Some(None) => Err(format!("{value} at {place:?} was read as committed before it was")),
            Some(Some(false)) => Err(format!("{value} at {place:?} was read as committed, and was aborted")),
            Some(Some(true)) | None => self.consume(place, value),
        }
    }

    /// In the end the log of `partition` holds what was promised, where it was promised.
    pub fn hold(&self, partition: i32, records: &[String]) -> Kept {
        for (promised, places) in [("acknowledged", &self.acknowledged), ("read", &self.read)] {
            for ((_, offset), value) in places.range((partition, 0)..(partition + 1, 0)) {
                let kept = records.get(*offset as usize);
                if kept != Some(value) {
                    return Err(format!("{value} was {promised} at {partition}:{offset}, where now is {kept:?}"));
                }
            }
        }
        in_order(partition, records)
    }

    /// In the end readers of committed data see these of `partition`.
    pub fn hold_committed(&self, partition: i32, seen: &[(i64, String)]) -> Kept {
        let seen: BTreeMap<i64, &String> = seen.iter().map(|(offset, value)| (*offset, value)).collect();
        for ((_, offset), value) in self.acknowledged.range((partition, 0)..(partition + 1, 0)) {
            let is_committed = transaction_of(value).is_none_or(|name| self.outcomes.get(name) == Some(&true));
            if is_committed != (seen.get(offset) == Some(&value)) {
                let said = if is_committed { "is not read" } else { "is read" };
                return Err(format!("{value} at {partition}:{offset} has committed={is_committed}, and {said}"));
            }
        }
        Ok(())
    }
}

/// Nothing of a producer that sends again is there twice, out of order, or, within an epoch, left out.
fn in_order(partition: i32, records: &[String]) -> Kept {
    let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (offset, value) in records.iter().enumerate() {
        let Some((producer, (life, number))) = sequence_of(value) else { continue };
        let before = last.insert(producer, (life, number));
        let is_next = match before {
            // What comes first in an epoch is what was sent first.
            _ if producer.starts_with('i') && before.is_none_or(|(epoch, _)| epoch < life) => number == 0,
            Some((epoch, seen)) if producer.starts_with('i') => epoch == life && number == seen + 1,
            before => before < Some((life, number)),
        };
        if !is_next {
            return Err(format!("{value} at {partition}:{offset} comes after {before:?} of {producer}"));
        }
    }
    Ok(())
}
