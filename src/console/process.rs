//! What the process takes of the machine, as `/proc` has it.

use std::fs;

pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_files: Option<usize>,
}

/// `None` where there is no such `/proc`.
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (ticks, virtual_bytes, pages) = parse(&stat)?;
    Some(Usage {
        cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        resident_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
        virtual_bytes,
        open_files: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
    })
}

/// User and system time together, bytes of address space, resident pages. The name of the process may hold anything.
fn parse(stat: &str) -> Option<(u64, u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((number(11)?.saturating_add(number(12)?), number(20)?, number(21)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 5 123456 789 18446744073709551615 1";
        assert_eq!(parse(stat), Some((300, 123456, 789)));
        assert_eq!(parse("7 (a) S 1"), None);
        assert!(usage().is_some_and(|usage| usage.resident_bytes > 0 && usage.open_files > Some(0)));
    }
}
