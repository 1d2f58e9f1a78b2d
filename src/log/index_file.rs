//! A file of fixed-size entries in rising order, of which only the newest are in memory (class `AbstractIndex`).
//!
//! ```text
//! file:    [entry][entry]...[entry]        everything older, written a block at a time
//! memory:                          [entry][entry]       the tail, at most BLOCK_ENTRIES
//! ```
//! Kafka maps a preallocated file of 10 MiB and cuts off its zeros at roll and close. This file never has zeros to cut off:
//! it only ever holds whole, true entries. An index costs no descriptor and no mapping while nobody looks into its older
//! part, and an I/O error is an error instead of a signal. The tail may be lost in a crash; recovery rebuilds every index
//! that has not been flushed. The block that was looked into last stays in memory, for a reader comes back to it or to the
//! one behind it.
//!
//! Invariant: the entries are those of the file, then those of the tail; keys never fall.

use super::disk;
use parking_lot::{Mutex, RwLock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const BLOCK_ENTRIES: usize = 512;

pub struct IndexFile<const SIZE: usize> {
    path: PathBuf,
    state: RwLock<State<SIZE>>,
    /// Taken after `state`. Entries in the file do not change but by truncation and replacement, which empty it.
    block: Mutex<Block<SIZE>>,
}

/// Entries of the file from `first` on.
#[derive(Default)]
struct Block<const SIZE: usize> {
    first: usize,
    entries: Vec<[u8; SIZE]>,
}

impl<const SIZE: usize> Block<SIZE> {
    fn read(file: &File, first: usize, on_disk: usize) -> io::Result<Block<SIZE>> {
        let mut entries = vec![[0; SIZE]; on_disk.saturating_sub(first).min(BLOCK_ENTRIES)];
        file.read_exact_at(entries.as_flattened_mut(), (first * SIZE) as u64)?;
        Ok(Block { first, entries })
    }

    fn end(&self) -> usize {
        self.first + self.entries.len()
    }

    fn get(&self, at: usize) -> Option<[u8; SIZE]> {
        self.entries.get(at.checked_sub(self.first)?).copied()
    }

    /// Length of the prefix of all `on_disk` entries for which `holds`, if this block shows where it ends.
    fn count_while(&self, on_disk: usize, holds: &impl Fn(&[u8; SIZE]) -> bool) -> Option<usize> {
        let first = self.entries.first()?;
        if self.first > 0 && !holds(first) {
            return None;
        }
        let inside = self.entries.partition_point(holds);
        (inside < self.entries.len() || self.end() == on_disk).then_some(self.first + inside)
    }
}

struct State<const SIZE: usize> {
    /// Whole entries in the file; `None` until somebody asks.
    on_disk: Option<usize>,
    tail: Vec<[u8; SIZE]>,
}

impl<const SIZE: usize> State<SIZE> {
    fn len(&self) -> usize {
        self.on_disk.unwrap_or(0) + self.tail.len()
    }
}

fn file_entries(path: &PathBuf, entry_size: usize) -> io::Result<usize> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() as usize / entry_size),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

impl<const SIZE: usize> IndexFile<SIZE> {
    /// An index whose file, if there is one, is taken to be entirely valid.
    pub fn open(path: PathBuf) -> IndexFile<SIZE> {
        IndexFile::with(path, None)
    }

    /// An empty index; an older file of that name is emptied.
    pub fn create(path: PathBuf) -> io::Result<IndexFile<SIZE>> {
        disk::create(&path)?;
        Ok(IndexFile::with(path, Some(0)))
    }

    fn with(path: PathBuf, on_disk: Option<usize>) -> IndexFile<SIZE> {
        let state = RwLock::new(State { on_disk, tail: Vec::new() });
        IndexFile { path, state, block: Mutex::default() }
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    fn with_state<T>(&self, work: impl FnOnce(&State<SIZE>) -> io::Result<T>) -> io::Result<T> {
        let state = self.state.read();
        if state.on_disk.is_some() {
            return work(&state);
        }
        drop(state);
        let mut state = self.state.write();
        if state.on_disk.is_none() {
            state.on_disk = Some(file_entries(&self.path, SIZE)?);
        }
        work(&state)
    }

    fn with_state_mut<T>(&self, work: impl FnOnce(&mut State<SIZE>) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.write();
        if state.on_disk.is_none() {
            state.on_disk = Some(file_entries(&self.path, SIZE)?);
        }
        work(&mut state)
    }

    pub fn count(&self) -> io::Result<usize> {
        self.with_state(|state| Ok(state.len()))
    }

    pub fn size_bytes(&self) -> io::Result<u64> {
        Ok((self.count()? * SIZE) as u64)
    }

    pub fn last(&self) -> io::Result<Option<[u8; SIZE]>> {
        self.with_state(|state| match (state.tail.last(), state.on_disk) {
            (Some(entry), _) => Ok(Some(*entry)),
            (None, Some(on_disk)) if on_disk > 0 => read_entry(&File::open(&self.path)?, on_disk - 1).map(Some),
            _ => Ok(None),
        })
    }

    /// Adds an entry; full blocks go to the file. A failure to write only keeps them in memory: the log itself is the truth.
    pub fn push(&self, entry: [u8; SIZE]) -> io::Result<()> {
        self.with_state_mut(|state| {
            state.tail.push(entry);
            if state.tail.len() >= BLOCK_ENTRIES && state.tail.len().is_multiple_of(BLOCK_ENTRIES) {
                // Reported by the flush at roll or close, which must succeed.
                let _ = self.write_tail(state);
            }
            Ok(())
        })
    }

    /// The last entry for which `not_above` holds, where it holds for a prefix of the entries.
    pub fn floor(&self, not_above: impl Fn(&[u8; SIZE]) -> bool) -> io::Result<Option<[u8; SIZE]>> {
        self.with_state(|state| {
            let count = self.count_while(state, &not_above)?;
            if count == 0 { Ok(None) } else { self.entry_of(state, count - 1).map(Some) }
        })
    }

    /// The first entry for which `below` does not hold, where it holds for a prefix of the entries.
    pub fn first_after(&self, below: impl Fn(&[u8; SIZE]) -> bool) -> io::Result<Option<[u8; SIZE]>> {
        self.with_state(|state| {
            let count = self.count_while(state, &below)?;
            if count == state.len() { Ok(None) } else { self.entry_of(state, count).map(Some) }
        })
    }

    /// Keeps the entries for which `keep` holds, where it holds for a prefix of the entries.
    pub fn truncate_while(&self, keep: impl Fn(&[u8; SIZE]) -> bool) -> io::Result<()> {
        self.with_state_mut(|state| {
            let count = self.count_while(state, &keep)?;
            let on_disk = state.on_disk.unwrap_or(0);
            if count < on_disk {
                *self.block.lock() = Block::default();
                disk::set_len(&self.open_file()?, &self.path, (count * SIZE) as u64)?;
                state.on_disk = Some(count);
                state.tail.clear();
            } else {
                state.tail.truncate(count - on_disk);
            }
            Ok(())
        })
    }

    /// Replaces everything, as recovery does. What the file has right already stays; the rest is the tail until the next flush.
    pub fn replace(&self, entries: &[[u8; SIZE]]) -> io::Result<()> {
        let mut state = self.state.write();
        *self.block.lock() = Block::default();
        let wanted = entries.as_flattened();
        let found = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open_file()?;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let same = wanted.iter().zip(&found).take_while(|(want, have)| want == have).count() / SIZE;
        if found.len() != same * SIZE {
            disk::set_len(&self.open_file()?, &self.path, (same * SIZE) as u64)?;
        }
        state.on_disk = Some(same);
        state.tail = entries.get(same..).unwrap_or_default().to_vec();
        Ok(())
    }

    /// Writes the tail, so that the file is what Kafka expects of a closed index.
    pub fn flush(&self, sync: bool) -> io::Result<()> {
        self.with_state_mut(|state| self.write_tail(state))?;
        if sync { disk::sync_data(&self.open_file()?, &self.path) } else { Ok(()) }
    }

    fn write_tail(&self, state: &mut State<SIZE>) -> io::Result<()> {
        let on_disk = state.on_disk.unwrap_or(0);
        if state.tail.is_empty() {
            return Ok(());
        }
        disk::write_all_at(&self.open_file()?, &self.path, state.tail.as_flattened(), (on_disk * SIZE) as u64)?;
        state.on_disk = Some(on_disk + state.tail.len());
        state.tail = Vec::new();
        Ok(())
    }

    fn open_file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)
    }

    fn entry_of(&self, state: &State<SIZE>, at: usize) -> io::Result<[u8; SIZE]> {
        match at.checked_sub(state.on_disk.unwrap_or(0)).and_then(|in_tail| state.tail.get(in_tail)) {
            Some(entry) => Ok(*entry),
            None => match self.block.lock().get(at) {
                Some(entry) => Ok(entry),
                None => read_entry(&File::open(&self.path)?, at),
            },
        }
    }

    /// Length of the prefix for which `holds`. Looks into the file only if the tail does not already answer.
    fn count_while(&self, state: &State<SIZE>, holds: &impl Fn(&[u8; SIZE]) -> bool) -> io::Result<usize> {
        let on_disk = state.on_disk.unwrap_or(0);
        let in_tail = state.tail.partition_point(holds);
        if in_tail > 0 || on_disk == 0 {
            return Ok(on_disk + in_tail);
        }
        let mut block = self.block.lock();
        if let Some(count) = block.count_while(on_disk, holds) {
            return Ok(count);
        }
        let file = File::open(&self.path)?;
        if block.end() > 0 {
            let next = Block::read(&file, block.end(), on_disk)?;
            if let Some(count) = next.count_while(on_disk, holds) {
                *block = next;
                return Ok(count);
            }
        }
        let (mut low, mut high) = (0, on_disk);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&read_entry(&file, middle)?) { low = middle + 1 } else { high = middle }
        }
        *block = Block::read(&file, low.saturating_sub(1), on_disk)?;
        Ok(low)
    }
}

fn read_entry<const SIZE: usize>(file: &File, at: usize) -> io::Result<[u8; SIZE]> {
    let mut entry = [0; SIZE];
    file.read_exact_at(&mut entry, (at * SIZE) as u64)?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(entry: &[u8; 8]) -> u64 {
        u64::from_be_bytes(*entry)
    }

    #[test]
    fn finds_entries_in_file_and_tail_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.index");
        let index = IndexFile::<8>::create(path.clone()).unwrap();
        let count = 2 * BLOCK_ENTRIES as u64 + 100;
        for i in 0..count {
            index.push((i * 10).to_be_bytes()).unwrap();
        }
        let check = |index: &IndexFile<8>| {
            assert_eq!(index.count().unwrap() as u64, count);
            for target in [0, 5, 10, 5119, 5120, 10_235, 10_240, 11_239, 99_999] {
                let expected = (target / 10).min(count - 1) * 10;
                assert_eq!(index.floor(|e| key(e) <= target).unwrap().map(|e| key(&e)), Some(expected), "{target}");
            }
            assert_eq!(index.first_after(|e| key(e) < 5121).unwrap().map(|e| key(&e)), Some(5130));
            assert_eq!(index.first_after(|e| key(e) < 99_999).unwrap(), None);
            assert_eq!(index.last().unwrap().map(|e| key(&e)), Some((count - 1) * 10));
        };
        check(&index);
        for target in (0..count * 10).step_by(7).chain((0..count * 10).rev().step_by(977)) {
            assert_eq!(index.floor(|e| key(e) <= target).unwrap().map(|e| key(&e)), Some(target / 10 * 10), "{target}");
        }
        index.flush(true).unwrap();
        check(&index);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), count * 8);
        check(&IndexFile::<8>::open(path));
    }

    #[test]
    fn truncates_in_tail_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let index = IndexFile::<8>::create(dir.path().join("a.index")).unwrap();
        for i in 0..(BLOCK_ENTRIES as u64 + 10) {
            index.push(i.to_be_bytes()).unwrap();
        }
        for keep in [BLOCK_ENTRIES + 5, BLOCK_ENTRIES, 7, 0] {
            index.truncate_while(|e| (key(e) as usize) < keep).unwrap();
            assert_eq!(index.count().unwrap(), keep);
            assert_eq!(index.last().unwrap().map(|e| key(&e) as usize), keep.checked_sub(1));
        }
        index.push(3u64.to_be_bytes()).unwrap();
        index.flush(false).unwrap();
        assert_eq!(index.count().unwrap(), 1);
        for entries in [&[1, 2, 3][..], &[1, 2], &[1, 5], &[]] {
            let entries: Vec<_> = entries.iter().map(|n: &u64| n.to_be_bytes()).collect();
            index.replace(&entries).unwrap();
            assert_eq!(index.last().unwrap(), entries.last().copied());
            index.flush(false).unwrap();
            assert_eq!(std::fs::read(index.path()).unwrap(), entries.concat());
        }
    }

    #[test]
    fn a_missing_file_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let index = IndexFile::<8>::open(dir.path().join("none"));
        assert!(index.count().unwrap() == 0);
        assert_eq!(index.last().unwrap(), None);
        assert_eq!(index.floor(|_| true).unwrap(), None);
    }
}
