//! Snapshots: the whole tree, its sessions and its ACLs in one file.
//!
//! ```text
//! "ZKSN"  i32 version 2  i64 dbid -1
//! i32 count, { i64 session, i32 time-out }     i32 count, { i64 id, ACL }
//! { path, data, i64 ACL id, stat } ... parents first, the root as ""     "/"
//! i64 adler32 of all before it   "/"
//! i64 zxid  i32 digest version 2  i64 digest   i64 adler32 of all before it   "/"
//! ```
//! The zxid is in the file's name only. Class `FileSnap`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::super::acl::{self, AclList};
use super::super::jute::{JuteError, JuteReader, JuteWriter};
use super::super::stat::StatPersisted;
use super::super::tree::{Node, Tree};
use super::super::txn::DIGEST_VERSION;
use super::FileError;
use super::adler::Adler32;

const MAGIC: &[u8] = b"ZKSN";
/// `"/"`, which ends each part.
const END: [u8; 5] = [0, 0, 0, 1, b'/'];
/// The ACL that needs no entry: anyone may do anything.
const OPEN_ACL: i64 = -1;
/// How much is gathered before it goes to the file.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes a tree; the caller syncs and names the file.
pub fn write(tree: &Tree, to: &mut File) -> io::Result<()> {
    let mut to = Summed { to, sum: Adler32::new(), buffer: JuteWriter::new() };
    to.buffer.raw(MAGIC).i32(2).i64(-1).count(tree.sessions().len());
    for (session, timeout_ms) in tree.sessions() {
        to.buffer.i64(*session).i32(*timeout_ms);
    }
    let ids = number_acls(tree);
    let mut lists: Vec<_> = ids.iter().collect();
    lists.sort_by_key(|(_, id)| **id);
    to.buffer.count(lists.len());
    for (list, id) in lists {
        to.buffer.i64(*id);
        acl::write_list(list, &mut to.buffer);
    }
    let mut result = Ok(());
    tree.visit("", &mut |key, node| {
        let id = ids.get(&node.acl).copied().unwrap_or(OPEN_ACL);
        to.buffer.string(key).buffer(node.data.as_deref()).i64(id);
        node.stat.write(&mut to.buffer);
        if result.is_ok() && to.buffer.len() > CHUNK_BYTES {
            result = to.flush();
        }
    });
    result?;
    to.end()?;
    to.buffer.i64(tree.last_zxid()).i32(DIGEST_VERSION).i64(tree.digest());
    to.sum_and_end()
}

/// Every list but the open one gets a number, from 1 on.
fn number_acls(tree: &Tree) -> HashMap<AclList, i64> {
    let mut ids = HashMap::new();
    let open = acl::open();
    tree.visit("", &mut |_, node| {
        if node.acl != open && !ids.contains_key(&node.acl) {
            ids.insert(node.acl.clone(), ids.len() as i64 + 1);
        }
    });
    ids
}

struct Summed<'a> {
    to: &'a mut File,
    sum: Adler32,
    buffer: JuteWriter,
}

impl Summed<'_> {
    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer).into_bytes();
        self.sum.update(&bytes);
        self.to.write_all(&bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        self.buffer.raw(&END);
        self.sum_and_end()
    }

    fn sum_and_end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.buffer.i64(self.sum.value()).raw(&END);
        self.flush()
    }
}

/// A tree from a snapshot, and the zxid from which on its digest holds.
pub struct Loaded {
    pub tree: Tree,
    pub digest_from: i64,
}

/// Whether the file has an end, as a finished snapshot does; stock servers pick by this.
pub fn is_finished(bytes: &[u8]) -> bool {
    bytes.ends_with(&END)
}

/// The bytes of a snapshot, unpacked.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::io("open", path))?;
    let mut bytes = Vec::new();
    let mut reader: Box<dyn Read> = match path.extension().and_then(|ext| ext.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    reader.read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    Ok(bytes)
}

/// Reads a snapshot and checks its sums; `zxid` is that of its name.
pub fn load(path: &Path, bytes: &[u8], zxid: i64) -> Result<Loaded, FileError> {
    let mut from = JuteReader::new(bytes);
    parse(bytes, &mut from, zxid).map_err(|error| {
        let offset = (bytes.len() - from.remaining()) as u64;
        FileError::damaged(path, offset, error.to_string())
    })
}

#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(transparent)]
    Jute(#[from] JuteError),
    #[error("it does not begin as a ZooKeeper snapshot")]
    Magic,
    #[error("the checksum is wrong")]
    Sum,
    #[error("node {0} has no parent before it")]
    Orphan(String),
    #[error("node {0} names an ACL that is not there")]
    Acl(String),
}

fn parse(bytes: &[u8], from: &mut JuteReader<'_>, zxid: i64) -> Result<Loaded, SnapshotError> {
    if from.take(MAGIC.len())? != MAGIC {
        return Err(SnapshotError::Magic);
    }
    from.i32()?;
    from.i64()?;
    let mut tree = Tree::bare();
    for _ in 0..from.count(12)? {
        tree.load_session(from.i64()?, from.i32()?);
    }
    let mut acls = HashMap::new();
    for _ in 0..from.count(12)? {
        acls.insert(from.i64()?, acl::shared(acl::read_list(from)?));
    }
    loop {
        let path = from.string()?;
        if path == "/" {
            break;
        }
        let data = from.data()?;
        let acl = match from.i64()? {
            OPEN_ACL => acl::open(),
            id => acls.get(&id).cloned().ok_or_else(|| SnapshotError::Acl(path.clone()))?,
        };
        let stat = StatPersisted::read(from)?;
        if !tree.load_node(&path, Node::new(data, acl, stat)) {
            return Err(SnapshotError::Orphan(path));
        }
    }
    check_sum(bytes, from)?;
    tree.set_last_zxid(zxid);
    let digest_from = if from.is_empty() { zxid } else { read_digest(bytes, from)? };
    Ok(Loaded { tree, digest_from })
}

/// A fuzzy snapshot names the zxid at which its nodes add up to the digest.
fn read_digest(bytes: &[u8], from: &mut JuteReader<'_>) -> Result<i64, SnapshotError> {
    let zxid = from.i64()?;
    from.i32()?;
    from.i64()?;
    check_sum(bytes, from)?;
    Ok(zxid)
}

fn check_sum(bytes: &[u8], from: &mut JuteReader<'_>) -> Result<(), SnapshotError> {
    let before = bytes.len() - from.remaining();
    let expected = Adler32::of(bytes.get(..before).unwrap_or_default());
    if from.i64()? != expected || from.take(END.len())? != END {
        return Err(SnapshotError::Sum);
    }
    Ok(())
}
