//! The calls by which data reaches the disk, or does not, and those that change which files there are.
//!
//! Tests have calls fail, or take a picture of the directory before each of them: that is what a crash there leaves. Invariant: what could not be synced is an error of the disk whatever the reason, a full one below the file system included: the
//! operating system has dropped the pages, and a second call would answer that all is well.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Data, and what of the metadata is needed to read it.
pub fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    faults::check(Call::Sync, path).and_then(|()| sync(path, || file.sync_data())).map_err(never_again)
}

pub fn sync_all(file: &File, path: &Path) -> io::Result<()> {
    faults::check(Call::Sync, path).and_then(|()| sync(path, || file.sync_all())).map_err(never_again)
}

/// Where a test keeps account of what is on the disk, nobody waits for one.
fn sync(path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if faults::is_watched(path) { Ok(()) } else { sync() }
}

/// The names in a directory.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    sync_all(&File::open(path)?, path)
}

/// All files of the file system that `path` is on.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    let dir = File::open(path)?;
    let synced = faults::check(Call::Sync, path).and_then(|()| rustix::fs::syncfs(&dir).map_err(io::Error::from));
    synced.map_err(never_again)
}

pub fn write_all_at(file: &File, path: &Path, bytes: &[u8], position: u64) -> io::Result<()> {
    faults::check(Call::Write, path)?;
    file.write_all_at(bytes, position)
}

/// To be asked before other writes.
pub fn may_write(path: &Path) -> io::Result<()> {
    faults::check(Call::Write, path)
}

/// To be asked before other changes of what files there are.
pub fn may_change(path: &Path) -> io::Result<()> {
    faults::check(Call::Change, path)
}

pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::check(Call::Change, from).and_then(|()| fs::rename(from, to))
}

pub fn remove_file(path: &Path) -> io::Result<()> {
    faults::check(Call::Change, path).and_then(|()| fs::remove_file(path))
}

/// A file of this name that has nothing in it.
pub fn create(path: &Path) -> io::Result<File> {
    faults::check(Call::Change, path).and_then(|()| File::create(path))
}

pub fn set_len(file: &File, path: &Path, len: u64) -> io::Result<()> {
    faults::check(Call::Change, path).and_then(|()| file.set_len(len))
}

/// An error that no retry can make good.
fn never_again(error: io::Error) -> io::Error {
    io::Error::other(format!("cannot be synced: {error}"))
}

/// Kinds of calls that tests have fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Write,
    Sync,
    /// A file begins, goes, or gets another name or size.
    Change,
}

#[cfg(not(test))]
mod faults {
    use super::Call;
    use std::io;
    use std::path::Path;

    #[inline(always)]
    pub fn check(_: Call, _: &Path) -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub fn is_watched(_: &Path) -> bool {
        false
    }
}

/// Faults below a directory, for the tests of this room.
#[cfg(test)]
pub mod faults {
    use super::Call;
    use parking_lot::Mutex;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    type Action = Arc<dyn Fn(Call, &Path) -> io::Result<()> + Send + Sync>;

    /// Without a kind: of every call.
    static TABLE: Mutex<Vec<(Option<Call>, PathBuf, Action)>> = Mutex::new(Vec::new());

    /// In force until dropped.
    pub struct Fault {
        below: PathBuf,
    }

    impl Drop for Fault {
        fn drop(&mut self) {
            TABLE.lock().retain(|(_, below, _)| *below != self.below);
        }
    }

    /// Has `action` answer each such call on files below a directory, before the operating system is asked.
    pub fn at(call: Call, below: &Path, action: impl Fn(&Path) -> io::Result<()> + Send + Sync + 'static) -> Fault {
        add(Some(call), below, Arc::new(move |_: Call, path: &Path| action(path)))
    }

    pub fn is_watched(path: &Path) -> bool {
        TABLE.lock().iter().any(|(call, below, _)| call.is_none() && path.starts_with(below))
    }

    /// Shows `action` every call on files below a directory before it is done. It knows what was synced; nothing really is.
    pub fn watch(below: &Path, action: impl Fn(Call, &Path) + Send + Sync + 'static) -> Fault {
        let action = move |call: Call, path: &Path| {
            action(call, path);
            Ok(())
        };
        add(None, below, Arc::new(action))
    }

    fn add(call: Option<Call>, below: &Path, action: Action) -> Fault {
        TABLE.lock().push((call, below.to_owned(), action));
        Fault { below: below.to_owned() }
    }

    pub fn check(call: Call, path: &Path) -> io::Result<()> {
        let action = {
            let table = TABLE.lock();
            let found = table
                .iter()
                .find(|(which, below, _)| which.is_none_or(|which| which == call) && path.starts_with(below));
            found.map(|(_, _, action)| Arc::clone(action))
        };
        action.map_or(Ok(()), |action| action(call, path))
    }
}

#[cfg(test)]
mod tests;
