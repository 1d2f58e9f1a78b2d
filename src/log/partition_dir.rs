//! What lies in a partition directory, once the remains of crashes and deletions are out of it (class `LogLoader`).

use super::disk;
use super::error::{AtPath, LogError};
use super::leftovers::{self, FoundFile};
use super::names::{FileKind, Transit, parse_file_name};
use super::scan::{Scanner, Step};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The files that count, with the sizes of the logs.
#[derive(Default)]
pub(super) struct Files {
    sizes: BTreeMap<(FileKind, i64), u64>,
}

impl Files {
    /// Offsets of the files of a kind, rising.
    pub fn of(&self, kind: FileKind) -> impl Iterator<Item = i64> + '_ {
        self.sizes.range((kind, i64::MIN)..=(kind, i64::MAX)).map(|((_, offset), _)| *offset)
    }

    pub fn has(&self, offset: i64, kind: FileKind) -> bool {
        self.sizes.contains_key(&(kind, offset))
    }

    pub fn size(&self, offset: i64, kind: FileKind) -> u64 {
        self.sizes.get(&(kind, offset)).copied().unwrap_or(0)
    }
}

/// Removes and renames what a crash left, and gives the files that count.
pub(super) fn tidy(dir: &Path) -> Result<Files, LogError> {
    let (files, found) = list(dir)?;
    let plan = leftovers::plan(&found);
    for file in &plan.remove {
        let path = path_of(dir, file);
        disk::remove_file(&path).at(&path)?;
    }
    if plan.swap_in.is_empty() {
        return Ok(files);
    }
    swap_in(dir, &plan.swap_in, &files)?;
    Ok(list(dir)?.0)
}

/// Whether any log in the directory, even one that waits to be swapped in, is more than empty.
pub(super) fn has_records(dir: &Path) -> Result<bool, LogError> {
    for entry in fs::read_dir(dir).at(dir)? {
        let entry = entry.at(dir)?;
        let parsed = entry.file_name().to_str().and_then(parse_file_name);
        if let Some((_, FileKind::Log, Transit::None | Transit::Swap)) = parsed
            && entry.metadata().at(dir)?.len() > 0
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn list(dir: &Path) -> Result<(Files, Vec<FoundFile>), LogError> {
    let (mut files, mut found) = (Files::default(), Vec::new());
    for entry in fs::read_dir(dir).at(dir)? {
        let entry = entry.at(dir)?;
        let name = entry.file_name();
        let Some((offset, kind, transit)) = name.to_str().and_then(parse_file_name) else { continue };
        if transit == Transit::None {
            let size = if kind == FileKind::Log { entry.metadata().at(dir)?.len() } else { 0 };
            files.sizes.insert((kind, offset), size);
        } else {
            found.push(FoundFile { offset, kind, transit });
        }
    }
    Ok((files, found))
}

fn path_of(dir: &Path, file: &FoundFile) -> PathBuf {
    dir.join(format!("{}{}", file.kind.file_name(file.offset), file.transit.suffix()))
}

/// Originals that complete swap files replace are removed first, so that a crash here can be repeated.
fn swap_in(dir: &Path, swaps: &[FoundFile], files: &Files) -> Result<(), LogError> {
    let logs: Vec<&FoundFile> = swaps.iter().filter(|file| file.kind == FileKind::Log).collect();
    let start = logs.iter().map(|file| file.offset).min().unwrap_or(i64::MAX);
    let mut end = i64::MIN;
    for log in &logs {
        end = end.max(next_offset(&path_of(dir, log), log.offset)?);
    }
    for &(kind, offset) in files.sizes.keys() {
        if (start..end).contains(&offset) && kind != FileKind::ProducerSnapshot {
            let path = dir.join(kind.file_name(offset));
            disk::remove_file(&path).at(&path)?;
        }
    }
    // Logs first: what is in place by then is not taken for an original when a crash makes this begin again.
    let mut ordered: Vec<&FoundFile> = swaps.iter().collect();
    ordered.sort_by_key(|file| file.kind != FileKind::Log);
    for file in ordered {
        let from = path_of(dir, file);
        let to = dir.join(file.kind.file_name(file.offset));
        disk::rename(&from, &to).at(&from)?;
    }
    Ok(())
}

/// Offset after the last batch of a `.log` file.
fn next_offset(path: &Path, base_offset: i64) -> Result<i64, LogError> {
    let file = File::open(path).at(path)?;
    let size = file.metadata().at(path)?.len();
    let mut scanner = Scanner::new(&file, 0, size);
    let mut next = base_offset + 1;
    while let Step::Batch(batch) = scanner.next_header().at(path)? {
        next = batch.last_offset + 1;
    }
    Ok(next)
}
