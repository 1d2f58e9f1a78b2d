//! Record batches that Apache Kafka 3.9.2 wrote (`tests/fixtures/RecordFixtures.java`) are read exactly.

use std::path::Path;

use ottla::record::{BatchHeader, Compression, EndTxnMarker, RawBatch, Record, batches};

const BASE_OFFSET: i64 = 40;
const TIME: i64 = 1_700_000_000_000;
const APPEND_TIME: i64 = 1_800_000_000_000;
const LIMIT: usize = 1 << 20;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(format!("{name}.bin"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record that owns its bytes.
#[derive(PartialEq, Debug)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

impl From<Record<'_>> for Owned {
    fn from(record: Record<'_>) -> Owned {
        Owned {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// What the generator put in.
fn expected(magic: i8, compressed: bool, append_time: bool) -> Vec<Owned> {
    let large: Vec<u8> =
        (0..if compressed { 70_000 } else { 700 }).map(|i| b'a' + (i % 23) as u8 + (i / 10_000) as u8).collect();
    let headers: Vec<Header> = vec![
        (b"a".to_vec(), Some(b"1".to_vec())),
        (b"a".to_vec(), Some(b"2".to_vec())),
        (b"null".to_vec(), None),
        (Vec::new(), Some(Vec::new())),
    ];
    type Row<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);
    let rows: [Row<'_>; 5] = [
        (0, Some(b"key-0"), Some(b"value-0")),
        (5, None, Some(b"no key")),
        (1000, Some(b"tombstone"), None),
        (3, Some(b""), Some(b"")),
        (-1, Some(&[0, 255, 127, 128]), Some(&large)),
    ];
    let timestamp = |delta| match (magic, append_time) {
        (0, _) => -1,
        (_, true) => APPEND_TIME,
        (_, false) => TIME + delta,
    };
    rows.into_iter()
        .enumerate()
        .map(|(index, (delta, key, value))| Owned {
            offset: BASE_OFFSET + index as i64,
            timestamp: timestamp(delta),
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: if magic == 2 && index == 3 { headers.clone() } else { Vec::new() },
        })
        .collect()
}

fn records(list: &[RawBatch<'_>]) -> Vec<Owned> {
    let mut out = Vec::new();
    for batch in list {
        batch.verify().unwrap();
        out.extend(batch.records(LIMIT).unwrap().iter().map(|record| Owned::from(record.unwrap())));
    }
    out
}

fn all(bytes: &[u8]) -> Vec<RawBatch<'_>> {
    batches(bytes).map(Result::unwrap).collect()
}

#[test]
fn every_format_and_codec_is_read_exactly() {
    for magic in 0..=2 {
        for codec in Compression::ALL {
            if magic < 2 && codec == Compression::Zstd {
                continue;
            }
            for suffix in ["", "-append-time", "-level9", "-level17", "-level22"] {
                let there = match suffix {
                    "" => true,
                    "-append-time" => magic > 0 && matches!(codec, Compression::None | Compression::Gzip),
                    "-level9" => magic == 2 && codec == Compression::Gzip,
                    "-level17" => magic == 2 && codec == Compression::Lz4,
                    _ => magic == 2 && codec == Compression::Zstd,
                };
                if !there {
                    continue;
                }
                let name = format!("v{magic}-{}{suffix}", codec.name());
                let bytes = fixture(&name);
                let list = all(&bytes);
                let append_time = suffix == "-append-time";
                let compressed = codec != Compression::None;
                assert_eq!(records(&list), expected(magic, compressed, append_time), "{name}");
                assert_eq!(list.len(), if magic == 2 || compressed { 1 } else { 5 }, "{name}");
                let last = list.last().unwrap();
                assert_eq!((last.magic(), last.compression().unwrap()), (magic, codec), "{name}");
                assert_eq!(last.last_offset(), BASE_OFFSET + 4, "{name}");
                assert_eq!(last.is_log_append_time(), append_time, "{name}");
                let max = list.iter().map(RawBatch::max_timestamp).max().unwrap();
                let expected_max = match (magic, append_time) {
                    (0, _) => -1,
                    (_, true) => APPEND_TIME,
                    _ => TIME + 1000,
                };
                assert_eq!(max, expected_max, "{name}");
            }
        }
    }
}

#[test]
fn a_file_of_mixed_formats_is_read() {
    let bytes = fixture("mixed");
    let list = all(&bytes);
    assert_eq!(list.iter().map(RawBatch::magic).collect::<Vec<_>>(), [0, 1, 2]);
    let expected: Vec<Owned> = (0..=2).flat_map(|magic| expected(magic, true, false)).collect();
    assert_eq!(records(&list), expected);
}

#[test]
fn the_producer_of_a_transactional_batch_is_read() {
    let bytes = fixture("v2-transactional");
    let header = BatchHeader::read(&bytes).unwrap();
    assert!(header.is_transactional() && !header.is_control() && header.has_producer_id());
    assert_eq!((header.producer_id(), header.producer_epoch(), header.base_sequence()), (4000, 3, 17));
    assert_eq!((header.last_sequence(), header.record_count(), header.next_offset()), (21, 5, 45));
    assert_eq!(records(&all(&bytes)), expected(2, false, false));
}

#[test]
fn transaction_markers_are_read_and_written_alike() {
    let bytes = fixture("v2-markers");
    let list = all(&bytes);
    let expected = [
        (45, EndTxnMarker { commit: true, coordinator_epoch: 9 }),
        (46, EndTxnMarker { commit: false, coordinator_epoch: 10 }),
    ];
    assert_eq!(list.len(), expected.len());
    for (batch, (offset, marker)) in list.iter().zip(expected) {
        batch.verify().unwrap();
        assert!(batch.is_control());
        let records = batch.records(LIMIT).unwrap();
        let read: Vec<_> = records.iter().map(Result::unwrap).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].offset, offset);
        assert_eq!(EndTxnMarker::decode(&read[0]).unwrap(), Some(marker));
        let mut ours = marker.batch(4000, 3, TIME).unwrap();
        ours.header.set_base_offset(offset);
        ours.header.set_partition_leader_epoch(7);
        assert_eq!(ours.to_bytes(), batch.bytes());
    }
}
