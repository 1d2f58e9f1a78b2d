//! Files that a crash or a delayed deletion left in a partition directory (class `LogLoader`).
//!
//! Compaction writes `.cleaned` files, renames them to `.swap` once they are complete, and then puts them in the place of the
//! segments that they replace. So `.swap` files count if no `.cleaned` file lies at or below them; `.cleaned` files never do.
//! Invariant: the plan is a function of the names alone, and may be carried out again after a crash.

use super::names::{FileKind, Transit};

/// A file of the directory, by what its name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundFile {
    pub offset: i64,
    pub kind: FileKind,
    pub transit: Transit,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeftoverPlan {
    pub remove: Vec<FoundFile>,
    /// Swap files that take their place; the originals from the first of them to the end of the last one go.
    pub swap_in: Vec<FoundFile>,
}

pub fn plan(files: &[FoundFile]) -> LeftoverPlan {
    let first_cleaned = files.iter().filter(|f| f.transit == Transit::Cleaned).map(|f| f.offset).min();
    let mut plan = LeftoverPlan::default();
    for file in files {
        match file.transit {
            Transit::None => {}
            Transit::Deleted | Transit::Cleaned => plan.remove.push(*file),
            Transit::Swap if first_cleaned.is_some_and(|first| file.offset >= first) => plan.remove.push(*file),
            Transit::Swap => plan.swap_in.push(*file),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(offset: i64, kind: FileKind, transit: Transit) -> FoundFile {
        FoundFile { offset, kind, transit }
    }

    #[test]
    fn complete_swaps_count_and_halves_do_not() {
        use FileKind::*;
        let plain = file(0, Log, Transit::None);
        let deleted = file(5, OffsetIndex, Transit::Deleted);
        let swap_0 = file(0, Log, Transit::Swap);
        let swap_9 = file(9, Log, Transit::Swap);
        let cleaned_9 = file(9, TimeIndex, Transit::Cleaned);
        let cases: [(&[FoundFile], &[FoundFile], &[FoundFile]); 4] = [
            (&[plain], &[], &[]),
            (&[plain, deleted], &[deleted], &[]),
            (&[plain, swap_0, swap_9], &[], &[swap_0, swap_9]),
            (&[swap_0, swap_9, cleaned_9], &[swap_9, cleaned_9], &[swap_0]),
        ];
        for (files, remove, swap_in) in cases {
            let plan = plan(files);
            assert_eq!((plan.remove.as_slice(), plan.swap_in.as_slice()), (remove, swap_in));
        }
    }
}
