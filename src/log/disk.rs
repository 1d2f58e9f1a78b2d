//! The calls by which data reaches the disk, or does not.
//!
//! Invariant: what could not be synced is an error of the disk whatever the reason, a full one below the file system included: the
//! operating system has dropped the pages, and a second call would answer that all is well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Data, and what of the metadata is needed to read it.
pub fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    faults::check(Call::Sync, path).and_then(|()| file.sync_data()).map_err(never_again)
}

pub fn sync_all(file: &File, path: &Path) -> io::Result<()> {
    faults::check(Call::Sync, path).and_then(|()| file.sync_all()).map_err(never_again)
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

/// An error that no retry can make good.
fn never_again(error: io::Error) -> io::Error {
    io::Error::other(format!("cannot be synced: {error}"))
}

/// Kinds of calls that tests have fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Write,
    Sync,
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
}

/// Faults below a directory, for the tests of this room.
#[cfg(test)]
pub mod faults {
    use super::Call;
    use parking_lot::Mutex;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    type Action = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

    static TABLE: Mutex<Vec<(Call, PathBuf, Action)>> = Mutex::new(Vec::new());

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
        TABLE.lock().push((call, below.to_owned(), Arc::new(action)));
        Fault { below: below.to_owned() }
    }

    pub fn check(call: Call, path: &Path) -> io::Result<()> {
        let action = {
            let table = TABLE.lock();
            let found = table.iter().find(|(which, below, _)| *which == call && path.starts_with(below));
            found.map(|(_, _, action)| Arc::clone(action))
        };
        action.map_or(Ok(()), |action| action(path))
    }
}
