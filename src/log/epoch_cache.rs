//! Leader epochs of a log and the offsets at which they start (class `LeaderEpochFileCache`, KIP-101).
//!
//! Invariant: epochs and start offsets both strictly rise. The newest truth wins: an entry that contradicts later ones
//! removes them.

use crate::base::LeaderEpoch;

/// Asked about an epoch that nothing is known of.
pub const UNDEFINED: (LeaderEpoch, i64) = (LeaderEpoch::NONE, -1);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochCache {
    /// (epoch, start offset)
    entries: Vec<(i32, i64)>,
}

impl LeaderEpochCache {
    /// Takes the entries of a checkpoint file; those out of order are dropped in favour of later ones.
    pub fn from_entries(entries: Vec<(i32, i64)>) -> LeaderEpochCache {
        let mut cache = LeaderEpochCache::default();
        for (epoch, start) in entries {
            cache.assign(LeaderEpoch(epoch), start);
        }
        cache
    }

    pub fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|&(epoch, _)| LeaderEpoch(epoch))
    }

    /// Epoch of the record at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|&(_, start)| start <= offset);
        self.entries[..after].last().map(|&(epoch, _)| LeaderEpoch(epoch))
    }

    /// First offset of an epoch that the log has.
    pub fn start_of(&self, epoch: LeaderEpoch) -> Option<i64> {
        self.entries.iter().find(|&&(e, _)| e == epoch.0).map(|&(_, start)| start)
    }

    /// Notes that `epoch` starts at `start`. Says whether anything changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: i64) -> bool {
        if epoch.0 < 0 || start < 0 {
            return false;
        }
        if let Some(&(last_epoch, last_start)) = self.entries.last()
            && last_epoch == epoch.0
            && start >= last_start
        {
            return false;
        }
        self.entries.retain(|&(e, s)| e < epoch.0 && s < start);
        self.entries.push((epoch.0, start));
        true
    }

    /// Where `asked` ends in this log: the largest epoch not above it, and the first offset that belongs to a later one.
    pub fn end_offset_for(&self, asked: LeaderEpoch, log_end_offset: i64) -> (LeaderEpoch, i64) {
        let (Some(&(first, first_start)), Some(&(last, _))) = (self.entries.first(), self.entries.last()) else {
            return UNDEFINED;
        };
        if asked.0 < 0 || asked.0 > last {
            return UNDEFINED;
        }
        if asked.0 == last {
            return (asked, log_end_offset);
        }
        if asked.0 < first {
            return (asked, first_start);
        }
        let above = self.entries.partition_point(|&(epoch, _)| epoch <= asked.0);
        (LeaderEpoch(self.entries[above - 1].0), self.entries[above].1)
    }

    /// Drops the epochs that start at or beyond `end`. Says whether anything changed.
    pub fn truncate_from_end(&mut self, end: i64) -> bool {
        let keep = self.entries.partition_point(|&(_, start)| start < end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// The log now starts at `start`: older epochs go, and the one that holds `start` begins there.
    pub fn truncate_from_start(&mut self, start: i64) -> bool {
        let after = self.entries.partition_point(|&(_, s)| s <= start);
        if after == 0 || (after == 1 && self.entries[0].1 == start) {
            return false;
        }
        self.entries.drain(..after - 1);
        self.entries[0].1 = start;
        true
    }

    pub fn clear(&mut self) -> bool {
        let changed = !self.entries.is_empty();
        self.entries.clear();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> LeaderEpochCache {
        LeaderEpochCache::from_entries(vec![(2, 10), (4, 20), (7, 30)])
    }

    #[test]
    fn end_offsets() {
        // asked -> answer, with the log ending at 45
        let cases = [
            (-1, (-1, -1)),
            (1, (1, 10)),
            (2, (2, 20)),
            (3, (2, 20)),
            (4, (4, 30)),
            (6, (4, 30)),
            (7, (7, 45)),
            (8, (-1, -1)),
        ];
        for (asked, (epoch, end)) in cases {
            assert_eq!(cache().end_offset_for(LeaderEpoch(asked), 45), (LeaderEpoch(epoch), end), "asked {asked}");
        }
        assert_eq!(LeaderEpochCache::default().end_offset_for(LeaderEpoch(0), 0), UNDEFINED);
    }

    #[test]
    fn assigning() {
        type Entries = &'static [(i32, i64)];
        let cases: [((i32, i64), Entries); 7] = [
            ((7, 40), &[(2, 10), (4, 20), (7, 30)]),
            ((8, 30), &[(2, 10), (4, 20), (8, 30)]),
            ((9, 50), &[(2, 10), (4, 20), (7, 30), (9, 50)]),
            ((4, 25), &[(2, 10), (4, 25)]),
            ((9, 15), &[(2, 10), (9, 15)]),
            ((7, 5), &[(7, 5)]),
            ((-1, 50), &[(2, 10), (4, 20), (7, 30)]),
        ];
        for ((epoch, start), expected) in cases {
            let mut cache = cache();
            cache.assign(LeaderEpoch(epoch), start);
            assert_eq!(cache.entries(), expected, "({epoch}, {start})");
        }
    }

    #[test]
    fn truncating() {
        for (end, kept) in [(31, 3), (30, 2), (20, 1), (10, 0), (0, 0)] {
            let mut cache = cache();
            cache.truncate_from_end(end);
            assert_eq!(cache.entries().len(), kept, "end {end}");
        }
        let cases: [(i64, &[(i32, i64)]); 5] = [
            (5, &[(2, 10), (4, 20), (7, 30)]),
            (10, &[(2, 10), (4, 20), (7, 30)]),
            (15, &[(2, 15), (4, 20), (7, 30)]),
            (20, &[(4, 20), (7, 30)]),
            (99, &[(7, 99)]),
        ];
        for (start, expected) in cases {
            let mut cache = cache();
            cache.truncate_from_start(start);
            assert_eq!(cache.entries(), expected, "start {start}");
        }
        assert_eq!(cache().epoch_at(9), None);
        assert_eq!(cache().epoch_at(29), Some(LeaderEpoch(4)));
        assert_eq!(cache().start_of(LeaderEpoch(4)), Some(20));
    }
}
