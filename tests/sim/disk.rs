//! What a disk may forget when the power goes: the end of a log that was not flushed. The other files are found out by recovery.

use super::dice::Dice;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Cuts a log at any byte, often near its end.
pub fn cut(partition: &Path, dice: &mut Dice) {
    let mut segments: Vec<(PathBuf, u64)> = std::fs::read_dir(partition)
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .filter_map(|path| Some((path.clone(), path.metadata().ok()?.len())))
        .collect();
    segments.sort();
    let size: u64 = segments.iter().map(|(_, size)| size).sum();
    let mut lost = if dice.one_in(3) { dice.below(size + 1) } else { dice.below(size.min(400) + 1) };
    while let Some((path, size)) = segments.pop() {
        if lost < size {
            let file = OpenOptions::new().write(true).open(path).expect("a segment");
            return file.set_len(size - lost).expect("cut");
        }
        lost -= size;
        // The first one stays, empty.
        match segments.is_empty() {
            true => std::fs::write(path, []).expect("emptied"),
            false => std::fs::remove_file(path).expect("removed"),
        }
    }
}
