//! Which log to clean next, how far, and which segments become one (classes `LogCleanerManager`, `LogToClean`,
//! `Cleaner.groupSegmentsBySize`).
//!
//! Invariant: pure; what is cleaned are whole segments, below the last stable offset and older than the compaction lag.

use crate::base::Millis;
use crate::config::LogConfig;

/// A segment, as far as the cleaner cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    pub base: i64,
    /// Base offset of the next segment; the log's end for the active one.
    pub end: i64,
    pub size: u64,
    pub offset_index_bytes: u64,
    pub time_index_bytes: u64,
    /// Largest timestamp, or when the file was last changed. Only asked for if there is a lag to keep.
    pub timestamp: Millis,
    /// Of the first batch; -1 if there is none.
    pub first_timestamp: Millis,
}

/// A log that may be cleaned, and why.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cleanable {
    pub first_dirty: i64,
    pub first_uncleanable: i64,
    pub dirty_ratio: f64,
    /// A record waits longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

/// The checkpoint, unless it lies outside the log.
pub fn first_dirty_offset(checkpoint: i64, log_start: i64, log_end: i64) -> i64 {
    if (log_start..=log_end).contains(&checkpoint) { checkpoint } else { log_start }
}

/// `None` if nothing of the log is worth cleaning now. `stable_end` is where committed and finished records end; the last
/// segment is the active one.
pub fn cleanable(
    segments: &[SegmentInfo],
    first_dirty: i64,
    stable_end: i64,
    config: &LogConfig,
    now_ms: Millis,
) -> Option<Cleanable> {
    let (_, closed) = segments.split_last()?;
    let is_young = |segment: &SegmentInfo| {
        config.min_compaction_lag_ms > 0
            && segment.end > first_dirty
            && segment.timestamp > now_ms.saturating_sub(config.min_compaction_lag_ms)
    };
    let ready = closed.iter().take_while(|segment| segment.end <= stable_end && !is_young(segment)).count();
    let ready = &closed[..ready];
    let first_uncleanable = ready.last()?.end;
    let is_clean = |segment: &&SegmentInfo| segment.end <= first_dirty;
    let clean: u64 = ready.iter().filter(is_clean).map(|segment| segment.size).sum();
    let dirty = || ready.iter().filter(|segment| !is_clean(segment));
    let dirty_bytes: u64 = dirty().map(|segment| segment.size).sum();
    if dirty_bytes == 0 {
        return None;
    }
    let dirty_ratio = dirty_bytes as f64 / (clean + dirty_bytes) as f64;
    let oldest = dirty().map(|segment| segment.first_timestamp).filter(|timestamp| *timestamp > 0).min();
    let is_overdue = oldest.is_some_and(|oldest| oldest < now_ms.saturating_sub(config.max_compaction_lag_ms));
    let is_worth_it = is_overdue || dirty_ratio > config.min_cleanable_dirty_ratio;
    is_worth_it.then_some(Cleanable { first_dirty, first_uncleanable, dirty_ratio, is_overdue })
}

/// Which of the logs comes first: the dirtiest.
pub fn choose<T>(candidates: impl IntoIterator<Item = (T, Cleanable)>) -> Option<(T, Cleanable)> {
    candidates.into_iter().max_by(|(_, a), (_, b)| a.dirty_ratio.total_cmp(&b.dirty_ratio))
}

/// Ranges of segments that together fit one: by size, by the sizes of their indexes, and by what an index entry can say.
pub fn group(segments: &[SegmentInfo], segment_bytes: u64, index_bytes: u64) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while start < segments.len() {
        let first = &segments[start];
        let (mut size, mut offsets, mut times) = (first.size, first.offset_index_bytes, first.time_index_bytes);
        let mut end = start + 1;
        while let Some(next) = segments.get(end) {
            size += next.size;
            offsets += next.offset_index_bytes;
            times += next.time_index_bytes;
            let reach = next.end.saturating_sub(1).saturating_sub(first.base);
            if size > segment_bytes || offsets.max(times) > index_bytes || reach > i64::from(i32::MAX) {
                break;
            }
            end += 1;
        }
        groups.push(start..end);
        start = end;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed segments 0..10, 10..20, 20..30 of 100 bytes with times 1000, 2000, 3000, and an active one from 30 on.
    fn segments() -> Vec<SegmentInfo> {
        (0..4)
            .map(|n| SegmentInfo {
                base: n * 10,
                end: n * 10 + 10,
                size: 100,
                offset_index_bytes: 16,
                time_index_bytes: 24,
                timestamp: n * 1000 + 1000,
                first_timestamp: n * 1000 + 500,
            })
            .collect()
    }

    #[test]
    fn how_far_a_log_is_cleanable() {
        let plain = LogConfig::default();
        let lag = LogConfig { min_compaction_lag_ms: 1500, ..LogConfig::default() };
        let overdue = LogConfig { max_compaction_lag_ms: 2000, ..LogConfig::default() };
        // (name, config, first dirty, stable end, now) -> (first uncleanable, ratio, overdue)
        let cases = [
            ("all closed segments", &plain, 0, 40, 5000, Some((30, 1.0, false))),
            ("a third is dirty", &plain, 20, 40, 5000, None),
            ("two thirds are dirty", &plain, 10, 40, 5000, Some((30, 2.0 / 3.0, false))),
            ("a half-cleaned segment is dirty", &plain, 19, 40, 5000, Some((30, 2.0 / 3.0, false))),
            ("nothing is dirty", &plain, 30, 40, 5000, None),
            ("an open transaction", &plain, 0, 15, 5000, Some((10, 1.0, false))),
            ("an open transaction at the beginning", &plain, 0, 9, 5000, None),
            ("the lag holds the last one back", &lag, 0, 40, 4000, Some((20, 1.0, false))),
            ("the lag holds all back", &lag, 0, 40, 1000, None),
            ("overdue", &overdue, 20, 40, 5000, Some((30, 1.0 / 3.0, true))),
            ("not yet overdue", &overdue, 20, 40, 4500, None),
        ];
        for (name, config, first_dirty, stable_end, now_ms, expected) in cases {
            let found = cleanable(&segments(), first_dirty, stable_end, config, now_ms);
            let found = found.map(|found| (found.first_uncleanable, found.dirty_ratio, found.is_overdue));
            assert_eq!(found, expected, "{name}");
        }
        assert!(cleanable(&segments()[..1], 0, 40, &plain, 5000).is_none(), "only an active segment");
        assert!(cleanable(&[], 0, 40, &plain, 5000).is_none());
    }

    #[test]
    fn a_checkpoint_outside_the_log_is_not_believed() {
        for (checkpoint, expected) in [(0, 5), (4, 5), (5, 5), (7, 7), (9, 9), (10, 5)] {
            assert_eq!(first_dirty_offset(checkpoint, 5, 9), expected, "{checkpoint}");
        }
    }

    #[test]
    fn the_dirtiest_comes_first() {
        let with = |dirty_ratio| Cleanable { first_dirty: 0, first_uncleanable: 1, dirty_ratio, is_overdue: false };
        let chosen = choose([("a", with(0.6)), ("b", with(0.9)), ("c", with(0.7))]);
        assert_eq!(chosen.map(|(name, _)| name), Some("b"));
        assert_eq!(choose::<&str>([]), None);
    }

    #[test]
    fn groups_fit_one_segment() {
        let mut far = segments();
        far[2].end = 11 + i64::from(i32::MAX);
        let cases = [
            ("all fit", segments(), 400, 1000, &[(0, 4)][..]),
            ("by size", segments(), 299, 1000, &[(0, 2), (2, 4)]),
            ("one that is too large stands alone", segments(), 50, 1000, &[(0, 1), (1, 2), (2, 3), (3, 4)]),
            ("by time index", segments(), 400, 71, &[(0, 2), (2, 4)]),
            ("by reach", far, 400, 1000, &[(0, 2), (2, 4)]),
        ];
        for (name, segments, segment_bytes, index_bytes, expected) in cases {
            let groups = group(&segments, segment_bytes, index_bytes);
            let groups: Vec<_> = groups.iter().map(|range| (range.start, range.end)).collect();
            assert_eq!(groups, expected, "{name}");
        }
    }
}
