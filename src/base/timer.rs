//! A queue of deadlines by key, for pure cores: the core schedules and pops, its driver sleeps until `next_deadline`.
//!
//! Invariant: a key has at most one deadline. Moving a deadline later, which every heartbeat does, touches only the map:
//! the heap entry stays where it is and goes back in when it comes up early (Kafka's `SystemTimer` cancels and adds instead).

use super::time::Millis;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

#[derive(Clone)]
struct Deadline {
    at: Millis,
    /// The earliest time at which the heap has an entry for this key; later or equal ones never matter.
    queued_at: Millis,
}

/// Deadlines by key.
#[derive(Clone)]
pub struct TimerQueue<K> {
    deadlines: HashMap<K, Deadline>,
    /// (time, insertion number, key): the number makes keys that are due at the same time come out in a fixed order.
    heap: BinaryHeap<Reverse<(Millis, u64, Slot<K>)>>,
    inserted: u64,
}

/// A key in the heap, which is ordered by time and insertion number alone.
#[derive(Clone)]
struct Slot<K>(K);

impl<K> PartialEq for Slot<K> {
    fn eq(&self, _: &Slot<K>) -> bool {
        true
    }
}

impl<K> Eq for Slot<K> {}

impl<K> PartialOrd for Slot<K> {
    fn partial_cmp(&self, other: &Slot<K>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Slot<K> {
    fn cmp(&self, _: &Slot<K>) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<K> Default for TimerQueue<K> {
    fn default() -> TimerQueue<K> {
        TimerQueue { deadlines: HashMap::new(), heap: BinaryHeap::new(), inserted: 0 }
    }
}

impl<K: Clone + Eq + Hash> TimerQueue<K> {
    pub fn new() -> TimerQueue<K> {
        TimerQueue::default()
    }

    /// Sets the deadline of `key`, in place of the one it had.
    pub fn schedule(&mut self, key: K, at: Millis) {
        match self.deadlines.get_mut(&key) {
            Some(deadline) if deadline.queued_at <= at => deadline.at = at,
            _ => {
                self.deadlines.insert(key.clone(), Deadline { at, queued_at: at });
                self.push(at, key);
                self.drop_stale_entries();
            }
        }
    }

    pub fn cancel(&mut self, key: &K) {
        self.deadlines.remove(key);
    }

    pub fn deadline(&self, key: &K) -> Option<Millis> {
        self.deadlines.get(key).map(|deadline| deadline.at)
    }

    /// Takes out one key whose deadline is at or before `now`, earliest first.
    pub fn pop_due(&mut self, now: Millis) -> Option<K> {
        while self.heap.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Reverse((at, _, Slot(key))) = self.heap.pop()?;
            let Some(deadline) = self.deadlines.get_mut(&key) else { continue };
            if deadline.queued_at != at {
                continue;
            }
            if deadline.at <= at {
                self.deadlines.remove(&key);
                return Some(key);
            }
            deadline.queued_at = deadline.at;
            let at = deadline.at;
            self.push(at, key);
        }
        None
    }

    /// When to look again. May be earlier than the earliest deadline, never later.
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.deadlines.is_empty() {
            return None;
        }
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// All deadlines, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, Millis)> {
        self.deadlines.iter().map(|(key, deadline)| (key, deadline.at))
    }

    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    fn push(&mut self, at: Millis, key: K) {
        self.inserted += 1;
        self.heap.push(Reverse((at, self.inserted, Slot(key))));
    }

    /// Cancelled and superseded keys leave entries behind; rebuild before they outnumber the live ones.
    fn drop_stale_entries(&mut self) {
        if self.heap.len() <= 2 * self.deadlines.len() + 64 {
            return;
        }
        let entries = std::mem::take(&mut self.heap).into_vec();
        let mut kept = std::collections::HashSet::new();
        self.heap = entries
            .into_iter()
            .filter(|Reverse((at, _, Slot(key)))| {
                self.deadlines.get(key).is_some_and(|deadline| deadline.queued_at == *at) && kept.insert(key.clone())
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut TimerQueue<&'static str>, now: Millis) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop_due(now)).collect()
    }

    #[test]
    fn keys_come_out_when_due_and_in_order() {
        let mut queue = TimerQueue::new();
        queue.schedule("b", 20);
        queue.schedule("a", 10);
        queue.schedule("c", 20);
        assert_eq!(drain(&mut queue, 9), Vec::<&str>::new());
        assert_eq!(drain(&mut queue, 20), ["a", "b", "c"]);
        assert!(queue.is_empty());
        assert_eq!(queue.next_deadline(), None);
    }

    #[test]
    fn a_deadline_moves_both_ways_and_can_be_cancelled() {
        let mut queue = TimerQueue::new();
        queue.schedule("a", 10);
        queue.schedule("a", 30);
        assert_eq!(drain(&mut queue, 29), Vec::<&str>::new());
        queue.schedule("a", 5);
        assert_eq!(queue.next_deadline(), Some(5));
        assert_eq!(drain(&mut queue, 30), ["a"]);
        queue.schedule("a", 10);
        queue.cancel(&"a");
        queue.schedule("a", 40);
        assert_eq!(drain(&mut queue, 39), Vec::<&str>::new());
        assert_eq!(drain(&mut queue, 40), ["a"]);
        assert_eq!(drain(&mut queue, 100), Vec::<&str>::new());
    }

    #[test]
    fn many_reschedules_do_not_grow_the_heap() {
        let mut queue = TimerQueue::new();
        for round in 0..10_000 {
            queue.schedule("a", 1_000_000 - round);
            queue.cancel(&"b");
            queue.schedule("b", 2_000_000 - round);
        }
        assert!(queue.heap.len() <= 100, "{}", queue.heap.len());
        assert_eq!(drain(&mut queue, 3_000_000), ["a", "b"]);
    }
}
