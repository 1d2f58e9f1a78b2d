//! Hostile bytes for everything that reads record batches: no panic, no hang, no more memory than the budget allows.
//!
//! OTTLA_FUZZ_ITERATIONS sets the rounds, OTTLA_FUZZ_SEED the seed; both are printed.

#[path = "common/records.rs"]
mod records;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use ottla::record::{
    BatchBuilder, BatchPrefix, Compression, EndTxnMarker, RawBatch, ValidationErrorKind, ValidationRules, batches,
    compress, decompress, down_convert, validate,
};
use records::{Dice, NOW, mend_crc, random_batch, with_payload};

/// Counts what this thread holds. zstd's own memory is not seen: it is bounded by the window that we grant.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add_signed(change));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: hands every call to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Most bytes that `work` held at once on top of what was there.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    PEAK.get() - before
}

const BUDGET: usize = 256 << 10;

fn setting(name: &str, default: u64) -> u64 {
    let value =
        std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")));
    println!("{name}={value}");
    value
}

/// A batch of any format, spoiled in a few places; the checksum is right most of the time, so that the inside is reached.
fn hostile(dice: &mut Dice) -> Vec<u8> {
    let codec = dice.pick(&Compression::ALL);
    let mut bytes = random_batch(dice, codec).build().unwrap().to_bytes().to_vec();
    let magic = dice.pick(&[0, 1, 2, 2, 2, 2]);
    if magic < 2 && codec != Compression::Zstd {
        bytes = down_convert(&bytes, magic, 0, BUDGET).unwrap().to_vec();
    } else if dice.once_in(2) {
        let mut plain = decompress(codec, &bytes[61..], BUDGET).unwrap();
        spoil(dice, &mut plain);
        bytes = with_payload(&bytes, &compress(codec, None, &plain).unwrap());
    }
    spoil(dice, &mut bytes);
    if !dice.once_in(4) && bytes.len() > 61 {
        match bytes[16] {
            2 => mend_crc(&mut bytes),
            _ => {
                let crc = ottla::record::crc::crc32(&bytes[16..]);
                bytes[12..16].copy_from_slice(&crc.to_be_bytes());
            }
        }
    }
    bytes
}

fn spoil(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..dice.below(4) {
        let end = bytes.len();
        let near = dice.below(end.min(70));
        let at = if dice.once_in(2) { near } else { dice.below(end) };
        match dice.below(7) {
            0 => bytes[at] = dice.next() as u8,
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = 0xff,
            3 => bytes.truncate(at + 1),
            4 => bytes.extend(dice.bytes(40)),
            5 => {
                let number = dice.number().to_be_bytes();
                let size = dice.pick(&[1, 2, 4, 8]).min(end - at);
                bytes[at..at + size].copy_from_slice(&number[8 - size..]);
            }
            _ => {
                let twice = bytes[at..].to_vec();
                bytes.splice(at..at, twice);
            }
        }
    }
}

/// Everything that a broker does with batches.
fn use_all(bytes: &[u8], rules: &ValidationRules) {
    let _ = BatchPrefix::read(bytes);
    for batch in batches(bytes).flatten() {
        let _ = (batch.verify(), batch.last_offset(), batch.max_timestamp(), batch.header().map(|h| h.last_sequence()));
        let Ok(records) = batch.records(BUDGET) else { continue };
        for record in records.iter().flatten() {
            assert!(record.headers.iter().count() == record.headers.len());
            let _ = EndTxnMarker::decode(&record);
        }
    }
    for magic in [0, 1] {
        let _ = down_convert(bytes, magic, 3, BUDGET);
    }
    if let Ok(validated) = validate(Bytes::copy_from_slice(bytes), rules) {
        check_readable(&validated.batches.iter().flat_map(|batch| batch.to_bytes()).collect::<Vec<u8>>());
    }
}

/// What was accepted can be read to its end, with the offsets that its headers promise.
fn check_readable(stored: &[u8]) {
    let mut next = 0;
    let mut position = 0;
    for batch in batches(stored) {
        let batch = batch.unwrap();
        batch.verify().unwrap();
        position += batch.size_bytes();
        for record in batch.records(64 << 20).unwrap().iter() {
            assert_eq!(record.unwrap().offset, next);
            next += 1;
        }
        assert_eq!(batch.next_offset(), next);
    }
    assert_eq!(position, stored.len());
}

#[test]
fn spoiled_batches_are_read_or_refused() {
    let rounds = setting("OTTLA_FUZZ_ITERATIONS", 5000);
    let mut dice = Dice::new(setting("OTTLA_FUZZ_SEED", 11));
    for round in 0..rounds {
        let bytes = hostile(&mut dice);
        let codec = dice.pick(&Compression::ALL);
        let rules = ValidationRules {
            produce_version: dice.pick(&[2, 7]),
            target_codec: dice.pick(&[None, Some((codec, None))]),
            log_append_time: dice.once_in(4),
            compacted: dice.once_in(4),
            now_ms: NOW,
            decompressed_bytes_max: BUDGET,
            ..ValidationRules::default()
        };
        let peak = peak_of(|| use_all(&bytes, &rules));
        assert!(peak < 16 << 20, "round {round}: {peak} bytes held for a batch of {}", bytes.len());
    }
}

#[test]
fn random_bytes_are_refused_by_every_codec() {
    let rounds = setting("OTTLA_FUZZ_ITERATIONS", 5000);
    let mut dice = Dice::new(setting("OTTLA_FUZZ_SEED", 12));
    for _ in 0..rounds {
        let mut bytes = dice.bytes(200);
        let codec = dice.pick(&Compression::ALL);
        if dice.once_in(2) {
            let mut good = compress(codec, None, &dice.bytes(100)).unwrap();
            good.truncate(dice.below(24));
            good.append(&mut bytes);
            bytes = good;
        }
        let peak = peak_of(|| {
            if let Ok(plain) = decompress(codec, &bytes, BUDGET) {
                assert!(plain.len() <= BUDGET);
            }
        });
        assert!(peak < 16 << 20, "{codec:?}: {peak} bytes held for {}", bytes.len());
    }
}

/// One record whose value is `size` zeros, compressed.
fn bomb(codec: Compression, size: usize) -> Bytes {
    let mut builder = BatchBuilder::new().compression(codec, None);
    builder.append(NOW, Some(b"k"), Some(&vec![0; size]), []);
    builder.build().unwrap().to_bytes()
}

#[test]
fn bombs_are_refused_in_little_memory() {
    for codec in Compression::ALL {
        if codec == Compression::None {
            continue;
        }
        let sent = bomb(codec, 40 << 20);
        let old = (codec != Compression::Zstd).then(|| down_convert(&sent, 1, 0, 64 << 20).unwrap());
        for (bytes, produce_version) in [(Some(sent), 11), (old, 2)] {
            let Some(bytes) = bytes else { continue };
            for target_codec in [None, Some((Compression::None, None)), Some((Compression::Gzip, None))] {
                let rules = ValidationRules {
                    produce_version,
                    target_codec,
                    max_message_bytes: 8 << 20,
                    decompressed_bytes_max: 16 << 20,
                    ..ValidationRules::default()
                };
                let sent = bytes.clone();
                let peak = peak_of(|| {
                    let error = validate(sent, &rules).unwrap_err();
                    assert_eq!(error.kind, ValidationErrorKind::MessageTooLarge, "{codec:?} {error}");
                });
                // Old formats are unpacked whole, up to the budget; a vector that grows holds it one and a half times.
                let allowed = if produce_version == 2 { 40 << 20 } else { 24 << 20 };
                assert!(peak < allowed, "{codec:?} v{produce_version}: {peak} bytes held");
            }
        }
    }
}

#[test]
fn a_large_batch_is_checked_in_the_memory_of_one_block() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let sent = bomb(codec, 40 << 20);
        let rules = ValidationRules { max_message_bytes: 8 << 20, ..ValidationRules::default() };
        let peak = peak_of(|| assert_eq!(validate(sent.clone(), &rules).unwrap().record_count, 1));
        assert!(peak < 1 << 20, "{codec:?}: {peak} bytes held");
    }
}

#[test]
fn counts_and_lengths_that_cannot_be_cost_nothing() {
    let good = random_batch(&mut Dice::new(1), Compression::None).build().unwrap().to_bytes();
    let huge = i32::MAX.to_be_bytes();
    let mut counted = good.to_vec();
    counted[57..61].copy_from_slice(&huge);
    counted[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    mend_crc(&mut counted);
    // length 1 GiB; attributes, timestamp, offset 0; value of 1 GiB
    let long = with_payload(&good, &[0x80, 0x80, 0x80, 0x80, 0x08, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x08, 0]);
    let zeros = with_payload(&good, &compress(Compression::Gzip, None, &[0; 100]).unwrap());
    for bytes in [counted, long, zeros] {
        let peak = peak_of(|| {
            assert!(validate(Bytes::from(bytes.clone()), &ValidationRules::default()).is_err());
            let batch = RawBatch::read(&bytes).unwrap().unwrap();
            assert!(
                batch.records(BUDGET).is_err() || batch.records(BUDGET).unwrap().iter().any(|record| record.is_err())
            );
        });
        assert!(peak < 1 << 20, "{peak} bytes held");
    }
}
