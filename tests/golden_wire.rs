//! Every API, version and direction against bodies made from Kafka 3.9.2's own schemas: they decode, encode to the same bytes, and what
//! is broken about them is an error that costs no memory.

mod vectors;

use bytes::{BufMut, Bytes, BytesMut};
use ottla::wire::fetch::FetchRequest;
use ottla::wire::produce::ProduceRequest;
use ottla::wire::schema::{Direction, Message};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use vectors::{Count, Vector};

/// Counts what the current thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn hold(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: every call is handed to the system allocator as it came; the counters beside it are plain numbers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held beyond what was held before.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    // The table of all messages is read once, and is nobody's request.
    Message::of(0, Direction::Request);
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// What handling a body may hold: structs are larger in memory than on the wire.
fn fair_bytes(body: &[u8]) -> usize {
    16 * 1024 + 200 * body.len()
}

fn refused(vector: &Vector, broken: Bytes, how: &str) {
    let fair = fair_bytes(&broken);
    let (result, peak) = peak_bytes(|| vector.round_trip(broken.clone()));
    assert!(result.is_err(), "{} {how}: accepted {broken:?}", vector.name());
    assert!(peak <= fair, "{} {how}: held {peak} bytes", vector.name());
    refused_by_hot_codec(vector, broken, how);
}

fn refused_by_hot_codec(vector: &Vector, broken: Bytes, how: &str) {
    let fair = fair_bytes(&broken);
    let (accepted, peak) = peak_bytes(|| hot_codec(vector, &broken));
    assert_ne!(accepted, Some(true), "{} {how}: the hot codec accepted {broken:?}", vector.name());
    assert!(peak <= fair, "{} {how}: the hot codec held {peak} bytes", vector.name());
}

/// Whether the hand-written codec takes a body; `None` if the message has none.
fn hot_codec(vector: &Vector, body: &Bytes) -> Option<bool> {
    match (vector.api_key, vector.direction) {
        (0, Direction::Request) => Some(ProduceRequest::read(body, vector.version).is_ok()),
        (1, Direction::Request) => Some(FetchRequest::read(body, vector.version).is_ok()),
        _ => None,
    }
}

#[test]
fn every_key_version_and_direction_has_bodies() {
    let covered: BTreeSet<(i16, bool, i16)> = vectors::all()
        .iter()
        .map(|vector| (vector.api_key, vector.direction == Direction::Request, vector.version))
        .collect();
    let mut wanted = BTreeSet::new();
    for key in Message::api_keys() {
        for direction in [Direction::Request, Direction::Response] {
            let versions = Message::of(key, direction).unwrap().versions.clone();
            wanted.extend(versions.map(|version| (key, direction == Direction::Request, version)));
        }
    }
    assert_eq!(covered, wanted);
}

#[test]
fn bodies_decode_and_encode_to_the_same_bytes() {
    for vector in vectors::all() {
        let again = vector.round_trip(vector.body.clone());
        let again = again.unwrap_or_else(|error| panic!("{}: {error}: {:?}", vector.name(), vector.body));
        assert_eq!(again, vector.body, "{}", vector.name());
        assert_ne!(hot_codec(&vector, &vector.body), Some(false), "{}: the hot codec refuses", vector.name());
    }
}

/// `body` with another number where a length or count stands.
fn with_count(body: &[u8], count: Count, flexible: bool, value: i32) -> Bytes {
    let width = match count.width {
        0 => 1 + body[count.offset..].iter().position(|byte| byte & 0x80 == 0).unwrap(),
        width => width,
    };
    let mut broken = BytesMut::from(&body[..count.offset]);
    match (flexible, width) {
        (true, _) => put_varint(&mut broken, (value as u32).wrapping_add(1)),
        (false, 2) => broken.put_i16(value.min(i16::MAX.into()) as i16),
        (false, _) => broken.put_i32(value),
    }
    broken.put_slice(&body[count.offset + width..]);
    broken.freeze()
}

fn put_varint(buffer: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

#[test]
fn a_count_beyond_the_bytes_is_refused_wherever_it_stands() {
    for vector in vectors::all() {
        for &count in &vector.counts {
            for value in [i32::MAX, i32::from(i16::MAX), 100_000_000, i32::from(i16::MAX) - 1] {
                let broken = with_count(&vector.body, count, vector.flexible, value);
                refused(&vector, broken, &format!("count {value} at {}", count.offset));
            }
        }
    }
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    for vector in vectors::all() {
        for end in 0..vector.body.len() {
            refused(&vector, vector.body.slice(..end), &format!("cut at {end}"));
        }
    }
}

/// Apache Kafka ignores what stands behind a request, and librdkafka relies on it.
#[test]
fn bytes_behind_a_request_are_ignored() {
    for vector in vectors::all().into_iter().filter(|vector| vector.direction == Direction::Request) {
        let mut more = BytesMut::from(&vector.body[..]);
        more.put_slice(&[0, 0xff, 0x7f]);
        let more = more.freeze();
        assert_eq!(vector.round_trip(more.clone()).ok().as_ref(), Some(&vector.body), "{}", vector.name());
        assert_ne!(hot_codec(&vector, &more), Some(false), "{}: the hot codec refuses", vector.name());
    }
}

/// Whatever stands at whatever byte: an answer, no panic, no memory. (Plain numbers may be anything, so it may be taken.)
#[test]
fn any_byte_may_be_wrong() {
    for vector in vectors::all() {
        for at in 0..vector.body.len() {
            for wrong in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0x80; 6]] {
                let mut broken = BytesMut::from(&vector.body[..]);
                let end = broken.len().min(at + wrong.len());
                broken[at..end].copy_from_slice(&wrong[..end - at]);
                let broken = broken.freeze();
                let fair = fair_bytes(&broken);
                let (_, peak) = peak_bytes(|| (vector.round_trip(broken.clone()).is_ok(), hot_codec(&vector, &broken)));
                assert!(peak <= fair, "{} wrong at {at}: held {peak} bytes", vector.name());
            }
        }
    }
}
