//! File ranges that are not in the page cache: read by a pool, so that a slow disk never stands in the way of the other connections
//! of a thread (Kafka reads them on its network threads, inside `FileRecords.writeTo`).
//!
//! Invariant: what was brought in for one reader that catches up is dropped from the cache behind it, so that old records never
//! push out the tail that everybody else reads.

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// One probe for each: what the kernel reads ahead at once.
const PROBE_BYTES: usize = 128 << 10;

/// Reads of all connections at a time: Kafka's default of `num.io.threads`.
static READS: Semaphore = Semaphore::const_new(8);

/// Whether the range is in the page cache, as far as a byte of each [`PROBE_BYTES`] shows. True where the filesystem cannot tell.
pub fn is_cached(file: &File, position: u64, len: usize) -> bool {
    let last = len.saturating_sub(1);
    (0..last).step_by(PROBE_BYTES).chain([last]).all(|at| {
        let mut byte = [0];
        let probe =
            rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], position + at as u64, ReadWriteFlags::NOWAIT);
        !matches!(probe, Err(Errno::AGAIN))
    })
}

/// Brings the range into the page cache without holding up this thread.
pub async fn read(file: &Arc<File>, position: u64, len: usize) -> io::Result<()> {
    let _turn = READS.acquire().await.map_err(io::Error::other)?;
    let file = file.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; len.min(PROBE_BYTES)];
        let mut read = 0;
        while read < len {
            let piece = (len - read).min(bytes.len());
            match file.read_at(bytes.get_mut(..piece).unwrap_or_default(), position + read as u64)? {
                // Sending it says that the file became shorter.
                0 => break,
                some => read += some,
            }
        }
        Ok(())
    });
    reading.await.map_err(io::Error::other)?
}

/// Drops the range from the page cache. Advice only: whatever goes wrong costs memory and nothing else.
pub fn drop_behind(file: &File, position: u64, len: usize) {
    if let Some(len) = NonZeroU64::new(len as u64) {
        let _ = rustix::fs::fadvise(file, position, Some(len), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// On a real disk, since a filesystem in memory has no page cache to miss.
    fn on_disk(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn a_range_is_cold_until_it_is_read_and_again_when_it_is_dropped() {
        let size = 1 << 20;
        let file = on_disk(&vec![7; size]);
        assert!(is_cached(&file, 0, size), "just written");
        drop_behind(&file, 0, size);
        assert!(!is_cached(&file, 0, size), "dropped");
        read(&file, 0, size).await.unwrap();
        assert!(is_cached(&file, 0, size) && is_cached(&file, 5, 1), "read");
        drop_behind(&file, 0, size);
        assert!(!is_cached(&file, size as u64 / 2, size / 4), "dropped behind its reader");
    }

    #[tokio::test]
    async fn a_range_beyond_the_end_is_no_error_here() {
        let file = on_disk(b"short");
        assert!(is_cached(&file, 3, 100));
        read(&file, 3, 100).await.unwrap();
    }
}
