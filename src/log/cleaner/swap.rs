//! Putting a cleaned group in the place of the segments that it was made from (class `UnifiedLog.replaceSegments`).
//!
//! ```text
//! X.cleaned -> X.swap     up to here a crash leaves the old segments: a start drops what is `.cleaned`, and `.swap` beside it
//! old -> old.deleted      from here on a start completes the change: `.swap` files win over what they replace
//! X.swap -> X             the log first: an index without its log would be dropped, a log waits for its index
//! ```
//! Invariant: after any prefix of these renames a start finds the old segments or the new one, never a mixture. Readers and
//! appends wait meanwhile, so that no lookup sees half of it.

use super::Halt;
use super::output::{Cleaned, KINDS, discard};
use crate::base::time::{monotonic_ms, wall_ms};
use crate::log::background::Removal;
use crate::log::disk::{self, sync_directory};
use crate::log::error::AtPath;
use crate::log::names::{FileKind, Transit};
use crate::log::partition::Log;
use crate::log::segment::Segment;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// From one name to another, in the partition's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rename {
    pub from: String,
    pub to: String,
}

fn rename(kind: FileKind, offset: i64, from: Transit, to: Transit) -> Rename {
    let name = kind.file_name(offset);
    Rename { from: format!("{name}{}", from.suffix()), to: format!("{name}{}", to.suffix()) }
}

/// The renames in order. Old files that are not there are passed over.
pub(super) fn renames(cleaned: &Cleaned, replaced: &[i64]) -> Vec<Rename> {
    let kinds = || KINDS.into_iter().filter(|kind| *kind != FileKind::TransactionIndex || cleaned.has_aborted);
    let base = cleaned.base_offset;
    let mut list: Vec<Rename> = kinds().map(|kind| rename(kind, base, Transit::Cleaned, Transit::Swap)).collect();
    for &old in replaced {
        list.extend(KINDS.map(|kind| rename(kind, old, Transit::None, Transit::Deleted)));
        if old != base {
            list.push(rename(FileKind::ProducerSnapshot, old, Transit::None, Transit::Deleted));
        }
    }
    list.extend(kinds().map(|kind| rename(kind, base, Transit::Swap, Transit::None)));
    list
}

pub(super) fn carry_out(dir: &Path, renames: &[Rename]) -> io::Result<()> {
    for Rename { from, to } in renames {
        match disk::rename(&dir.join(from), &dir.join(to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.ends_with(Transit::Deleted.suffix()) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Replaces `sources`, if they are still what the group was made from.
pub(super) fn replace(log: &Log, sources: &[Arc<Segment>], cleaned: &Cleaned, generation: u64) -> Result<(), Halt> {
    let writer = log.writer.lock();
    let flushing = log.flushing.lock();
    let no_reader = log.truncation.write();
    let segments = log.segments.load_full();
    let place = place_of(&segments, sources);
    let is_current = log.check_usable().is_ok() && log.cleaning.generation() == generation;
    let Some(start) = place.filter(|_| is_current) else {
        discard(log, cleaned.base_offset);
        return Err(Halt::Aborted);
    };
    let replaced: Vec<i64> = sources.iter().map(|segment| segment.base_offset()).collect();
    let renames = renames(cleaned, &replaced);
    if let Err(error) = carry_out(&log.dir(), &renames) {
        // Half of it is done: only a start can tell what counts.
        log.log_dir().set_offline(&format!("{}: cannot replace segments: {error}", log.dir().display()));
        return Err(Halt::Failed(log.log_dir().failed(&log.dir(), error)));
    }
    let mut list = segments[..start].to_vec();
    list.push(Arc::new(Segment::open(&log.dir(), cleaned.base_offset, cleaned.size, wall_ms())));
    list.extend_from_slice(&segments[start + sources.len()..]);
    log.segments.store(Arc::new(list));
    // It may have been noted as the end of a segment that has another size now.
    log.high_watermark.write().position = None;
    drop((no_reader, flushing, writer));
    let is_removed = |rename: &&Rename| rename.to.ends_with(Transit::Deleted.suffix());
    let paths = renames.iter().filter(is_removed).map(|rename| log.dir().join(&rename.to)).collect();
    let due_ms = monotonic_ms().saturating_add(log.config().file_delete_delay_ms);
    log.background.remove_later(Removal { due_ms, paths });
    match sync_directory(&log.dir()) {
        // The directory went away with its topic.
        Err(_) if log.is_closed() => Err(Halt::Aborted),
        result => result.at(&log.dir()).map_err(Halt::Failed),
    }
}

/// Where the sources stand. The active segment is never among them.
fn place_of(segments: &[Arc<Segment>], sources: &[Arc<Segment>]) -> Option<usize> {
    let first = sources.first()?;
    let start = segments.iter().position(|segment| Arc::ptr_eq(segment, first))?;
    let there = segments.get(start..start + sources.len())?;
    let is_same = there.iter().zip(sources).all(|(have, source)| Arc::ptr_eq(have, source));
    (is_same && start + sources.len() < segments.len()).then_some(start)
}
