//! When a segment is full (class `LogSegment.shouldRoll`).

use crate::base::Millis;
use crate::config::LogConfig;

/// The active segment, and what is to be appended to it.
#[derive(Clone, Copy, Debug)]
pub struct RollInput {
    pub now_ms: Millis,
    pub segment_size: u64,
    pub segment_base: i64,
    /// -1: the segment has no timestamps.
    pub segment_first_timestamp: i64,
    pub segment_created_ms: Millis,
    pub segment_jitter_ms: Millis,
    pub is_index_full: bool,
    pub append_size: u64,
    pub append_last_offset: i64,
    pub append_max_timestamp: i64,
    pub segment_bytes: i32,
    pub segment_ms: Millis,
}

/// Time is that of the messages once the segment has a first one: an old broker's clock does not age data.
pub fn should_roll(input: &RollInput) -> bool {
    let waited_ms = if input.segment_first_timestamp >= 0 {
        input.append_max_timestamp.saturating_sub(input.segment_first_timestamp)
    } else {
        input.now_ms.saturating_sub(input.segment_created_ms)
    };
    let is_old = input.segment_size > 0 && waited_ms > input.segment_ms.saturating_sub(input.segment_jitter_ms);
    let is_large = input.segment_size + input.append_size > input.segment_bytes.max(0) as u64;
    let is_far = input.append_last_offset - input.segment_base > i64::from(i32::MAX);
    (is_large && input.segment_size > 0) || is_old || (input.is_index_full && input.segment_size > 0) || is_far
}

/// Drawn for each segment, so that not all logs roll at once.
pub fn segment_jitter_ms(config: &LogConfig) -> Millis {
    let limit = config.segment_jitter_ms.min(config.segment_ms);
    if limit > 0 { rand::random_range(0..limit) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_to_roll() {
        let calm = RollInput {
            now_ms: 10_000,
            segment_size: 500,
            segment_base: 100,
            segment_first_timestamp: 5_000,
            segment_created_ms: 0,
            segment_jitter_ms: 0,
            is_index_full: false,
            append_size: 500,
            append_last_offset: 200,
            append_max_timestamp: 6_000,
            segment_bytes: 1000,
            segment_ms: 1000,
        };
        let cases = [
            ("calm", calm, false),
            ("too large", RollInput { append_size: 501, ..calm }, true),
            ("empty", RollInput { segment_size: 0, append_size: 2000, segment_first_timestamp: -1, ..calm }, false),
            ("old by message time", RollInput { append_max_timestamp: 6_001, ..calm }, true),
            ("jitter", RollInput { segment_jitter_ms: 1, ..calm }, true),
            ("old message", RollInput { append_max_timestamp: 1, ..calm }, false),
            ("no timestamps: by the clock", RollInput { segment_first_timestamp: -1, ..calm }, true),
            ("young by the clock", RollInput { segment_first_timestamp: -1, now_ms: 1000, ..calm }, false),
            ("index full", RollInput { is_index_full: true, ..calm }, true),
            ("offset near", RollInput { append_last_offset: 100 + i64::from(i32::MAX), ..calm }, false),
            ("offset far", RollInput { append_last_offset: 101 + i64::from(i32::MAX), ..calm }, true),
            ("never by time", RollInput { segment_ms: i64::MAX, append_max_timestamp: i64::MAX, ..calm }, false),
        ];
        for (name, input, expected) in cases {
            assert_eq!(should_roll(&input), expected, "{name}");
        }
    }
}
