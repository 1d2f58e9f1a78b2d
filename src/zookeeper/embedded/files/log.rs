//! One transaction log: how records lie in it, where it ends, and what of it is damage.
//!
//! ```text
//!  0  "ZKLG"  i32 version 2  i64 dbid 0
//! 16  i64 adler32 of the entry | i32 its length | entry | 0x42      again and again
//!     zeros to the end of the file: a length of 0 is the end
//! ```
//! A record cut short is where a crash stopped the writer: the file ends there. A record that is whole but wrong, with
//! whole ones after it, is damage, and nobody should go on from it. Class `FileTxnLog`.

use std::io::{self, Read};
use std::path::Path;

use super::super::txn::Entry;
use super::FileError;
use super::adler::Adler32;

pub const HEADER_BYTES: u64 = 16;
const MAGIC: &[u8; 4] = b"ZKLG";
const END_OF_RECORD: u8 = 0x42;
/// Checksum and length in front of an entry.
const PREFIX_BYTES: usize = 12;
/// Smallest entry: a transaction header.
const ENTRY_BYTES_MIN: usize = 32;

/// The bytes that begin every log.
pub fn header() -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..4].copy_from_slice(MAGIC);
    header[7] = 2;
    header
}

/// Appends an entry as the log holds it.
pub fn frame(entry: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&Adler32::of(entry).to_be_bytes());
    to.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(entry);
    to.push(END_OF_RECORD);
}

/// How a log ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// At a record's boundary.
    Clean,
    /// In the middle of a record that the writer did not finish.
    Torn,
}

/// What one log gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    pub end: End,
    /// Just after the last good record.
    pub good_bytes: u64,
}

/// Reads a log to its end, giving each entry to `each`.
pub fn scan(
    path: &Path,
    from: &mut impl Read,
    entry_bytes_max: usize,
    mut each: impl FnMut(Entry),
) -> Result<Scan, FileError> {
    let failed = |error| FileError::io("read", path)(error);
    let header = read_up_to(from, HEADER_BYTES as usize).map_err(failed)?;
    if header.len() < HEADER_BYTES as usize || is_begun(&header) {
        // A crash between making the file and writing its header; nothing can have been in it.
        return Ok(Scan { end: End::Torn, good_bytes: 0 });
    }
    if !header.starts_with(MAGIC) {
        return Err(FileError::damaged(path, 0, "it does not begin as a ZooKeeper log"));
    }
    let mut good_bytes = HEADER_BYTES;
    loop {
        match read_record(from, entry_bytes_max).map_err(failed)? {
            Record::Good { entry, bytes } => {
                good_bytes += bytes;
                each(entry);
            }
            Record::None => return Ok(Scan { end: End::Clean, good_bytes }),
            Record::Bad { why, mut bytes } => {
                from.read_to_end(&mut bytes).map_err(failed)?;
                if holds_good_record(bytes.get(1..).unwrap_or_default(), entry_bytes_max) {
                    return Err(FileError::damaged(path, good_bytes, format!("{why}, and good records follow")));
                }
                return Ok(Scan { end: End::Torn, good_bytes });
            }
        }
    }
}

/// Part of a log's header and then zeros.
fn is_begun(bytes: &[u8]) -> bool {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    written < MAGIC.len() && bytes.get(..written).is_some_and(|written| MAGIC.starts_with(written))
}

enum Record {
    Good {
        entry: Entry,
        bytes: u64,
    },
    /// The zeros behind the last record, or the end of the file.
    None,
    /// Cut short, or whole and wrong; with all that was read of it.
    Bad {
        why: String,
        bytes: Vec<u8>,
    },
}

fn read_record(from: &mut impl Read, entry_bytes_max: usize) -> io::Result<Record> {
    let mut bytes = read_up_to(from, PREFIX_BYTES)?;
    let (sum, len) = match split_prefix(&bytes) {
        Some((_, 0)) => return Ok(Record::None),
        Some((sum, len)) => (sum, len),
        None if bytes.iter().all(|byte| *byte == 0) => return Ok(Record::None),
        None => return Ok(Record::Bad { why: "a record is cut short".to_owned(), bytes }),
    };
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= entry_bytes_max) else {
        return Ok(Record::Bad { why: format!("a record claims {len} bytes"), bytes });
    };
    let body = read_up_to(from, len + 1)?;
    match check_body(sum, len, &body) {
        Ok(entry) => Ok(Record::Good { entry, bytes: (PREFIX_BYTES + len + 1) as u64 }),
        Err(why) => {
            bytes.extend(body);
            Ok(Record::Bad { why, bytes })
        }
    }
}

fn check_body(sum: i64, len: usize, body: &[u8]) -> Result<Entry, String> {
    let Some((entry, mark)) = body.split_at_checked(len) else { return Err("a record is cut short".to_owned()) };
    if mark != [END_OF_RECORD] {
        return Err("a record does not end with its mark".to_owned());
    }
    if Adler32::of(entry) != sum {
        return Err("a record's checksum is wrong".to_owned());
    }
    Entry::decode(entry).map_err(|error| format!("a record cannot be read ({error})"))
}

fn split_prefix(bytes: &[u8]) -> Option<(i64, i32)> {
    let (sum, rest) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*sum), i32::from_be_bytes(*rest.first_chunk::<4>()?)))
}

/// So many bytes, or fewer if the file ends before.
fn read_up_to(from: &mut impl Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.by_ref().take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a whole and right record begins anywhere in these bytes.
fn holds_good_record(bytes: &[u8], entry_bytes_max: usize) -> bool {
    (0..bytes.len()).any(|at| {
        let candidate = bytes.get(at..).unwrap_or_default();
        let Some((sum, len)) = split_prefix(candidate) else { return false };
        let Ok(len) = usize::try_from(len) else { return false };
        sum >> 32 == 0
            && (ENTRY_BYTES_MIN..=entry_bytes_max).contains(&len)
            && candidate.get(PREFIX_BYTES..=PREFIX_BYTES + len).is_some_and(|body| check_body(sum, len, body).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::txn::{Txn, TxnHeader};
    use super::*;

    fn entry(zxid: i64) -> Entry {
        let header = TxnHeader { zxid, client_id: 7, ..TxnHeader::default() };
        Entry { header, txn: Txn::CreateSession { timeout_ms: 6000 }, digest: Some(zxid) }
    }

    fn log(zxids: &[i64]) -> Vec<u8> {
        let mut bytes = header().to_vec();
        for zxid in zxids {
            frame(&entry(*zxid).encode(), &mut bytes);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Vec<i64>, Scan), FileError> {
        let mut zxids = Vec::new();
        let scan = scan(Path::new("log.1"), &mut &bytes[..], 1 << 20, |entry| zxids.push(entry.header.zxid))?;
        Ok((zxids, scan))
    }

    #[test]
    fn a_log_cut_at_any_byte_gives_every_whole_record() {
        let whole = log(&[1, 2, 3]);
        let record = (whole.len() - 16) / 3;
        for cut in 0..=whole.len() {
            let kept = cut.saturating_sub(16) / record;
            for padding in [0, 100] {
                let mut bytes = whole[..cut].to_vec();
                bytes.resize(cut + padding, 0);
                let (zxids, scan) = read(&bytes).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
                assert_eq!(zxids, (1..=kept as i64).collect::<Vec<_>>(), "cut at {cut}, padding {padding}");
                let good = if cut < 16 { 0 } else { 16 + kept * record };
                if cut >= 16 {
                    assert_eq!(scan.good_bytes, good as u64, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_damage_in_the_middle_and_a_tail_at_the_end() {
        let whole = log(&[1, 2, 3]);
        let record = (whole.len() - 16) / 3;
        for at in 16..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            match read(&bytes) {
                Ok((zxids, scan)) => {
                    assert!(at >= 16 + 2 * record, "a flip at {at} lost records silently: {zxids:?}");
                    assert_eq!((zxids, scan.end), (vec![1, 2], End::Torn));
                }
                Err(error) => {
                    assert!(at < 16 + 2 * record, "a flip at {at} in the last record: {error}");
                    assert!(error.to_string().contains("log.1 is damaged at offset"), "{error}");
                }
            }
        }
    }

    #[test]
    fn only_logs_are_read_as_logs() {
        assert!(matches!(read(b"ZKSN............"), Err(FileError::Damaged { offset: 0, .. })));
        assert_eq!(read(b"").map(|(zxids, _)| zxids).ok(), Some(vec![]));
        let empty = read(&header()).expect("a header alone is a log");
        assert_eq!(empty.1, Scan { end: End::Clean, good_bytes: 16 });
    }
}
