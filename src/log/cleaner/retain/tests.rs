//! Batches in, batches out: what a pass leaves of each.

use super::*;
use crate::record::{Compression, EndTxnMarker};

const HORIZON_MS: i64 = 86_400_000;

/// Records at offsets 10, 11, ... of a batch that begins at 10, with keys and values.
fn batch(records: &[(Option<&str>, Option<&str>)], build: impl FnOnce(BatchBuilder) -> BatchBuilder) -> ValidatedBatch {
    let mut builder = build(BatchBuilder::new().base_offset(10).partition_leader_epoch(3));
    for (at, (key, value)) in records.iter().enumerate() {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.append(1000 + at as i64, key, value, [(&b"h"[..], Some(&b"v"[..]))]);
    }
    builder.build().unwrap()
}

struct Case {
    map: OffsetMap,
    end_offset: i64,
    boundary: i64,
    now_ms: i64,
    producers: HashMap<i64, LastOfProducer>,
}

impl Case {
    fn new(newest: &[(&str, i64)]) -> Case {
        let mut map = OffsetMap::new(1 << 16, 0.9, 0, 100);
        newest.iter().for_each(|(key, offset)| map.put(key.as_bytes(), *offset).unwrap());
        Case { map, end_offset: 100, boundary: 200, now_ms: 5000, producers: HashMap::new() }
    }

    fn filter(&self, bytes: &[u8], standing: Standing) -> Outcome {
        let rules = Rules {
            map: &self.map,
            end_offset: self.end_offset,
            boundary: self.boundary,
            now_ms: self.now_ms,
            delete_retention_ms: HORIZON_MS,
            keeps_legacy_tombstones: false,
            producers: &self.producers,
            decompressed_bytes_max: 1 << 20,
        };
        filter(&RawBatch::read(bytes).unwrap().unwrap(), standing, &rules).unwrap()
    }
}

/// (offset, timestamp, key) of what is left.
fn records(bytes: &[u8]) -> Vec<(i64, i64, String)> {
    let batch = RawBatch::read(bytes).unwrap().unwrap();
    batch.verify().unwrap();
    let records = batch.records(1 << 20).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or(b"-").to_vec()).unwrap();
    records.iter().map(|record| record.unwrap()).map(|r| (r.offset, r.timestamp, text(r.key))).collect()
}

#[test]
fn the_newest_of_a_key_stays_where_it_is() {
    for codec in Compression::ALL {
        let original =
            batch(&[(Some("a"), Some("1")), (Some("b"), Some("2")), (None, Some("3")), (Some("c"), Some("4"))], |b| {
                b.compression(codec, None).producer(7, 2, 40).transactional(true)
            });
        let case = Case::new(&[("a", 50), ("b", 11)]);
        let Outcome::Rewrite(kept) = case.filter(&original.to_bytes(), Standing::Live) else { panic!("{codec:?}") };
        let expected = [(11, 1001, "b".to_string()), (13, 1003, "c".to_string())];
        assert_eq!(records(&kept.to_bytes()), expected, "{codec:?}");
        let (old, new) = (&original.header, &kept.header);
        assert_eq!(new.attributes(), old.attributes(), "codec and kinds");
        assert_eq!((new.base_offset(), new.last_offset()), (10, 13));
        assert_eq!((new.base_sequence(), new.last_sequence()), (40, 43));
        assert_eq!((new.producer_id(), new.producer_epoch(), new.partition_leader_epoch()), (7, 2, 3));
        assert_eq!((new.record_count(), new.max_timestamp()), (2, 1003));
    }
}

#[test]
fn what_stays_whole_is_not_touched() {
    let original = batch(&[(Some("a"), Some("1"))], |b| b);
    let bytes = original.to_bytes();
    assert_eq!(Case::new(&[("a", 10)]).filter(&bytes, Standing::Live), Outcome::Keep);
    assert_eq!(Case::new(&[]).filter(&bytes, Standing::Live), Outcome::Keep);
    assert_eq!(Case::new(&[("a", 11)]).filter(&bytes, Standing::Live), Outcome::Drop);
    let beyond = Case { end_offset: 10, ..Case::new(&[("a", 11)]) };
    assert_eq!(beyond.filter(&bytes, Standing::Live), Outcome::Keep, "the map does not reach so far");
    assert_eq!(Case::new(&[]).filter(&bytes, Standing::Aborted), Outcome::Drop);
}

#[test]
fn a_tombstone_goes_one_horizon_later() {
    let original = batch(&[(Some("a"), None), (Some("b"), Some("2"))], |b| b.compression(Compression::Lz4, None));
    let mut case = Case::new(&[("a", 10), ("b", 11)]);
    let Outcome::Rewrite(first) = case.filter(&original.to_bytes(), Standing::Live) else { panic!("a horizon is set") };
    assert!(first.header.has_delete_horizon());
    assert_eq!((first.header.base_timestamp(), first.header.max_timestamp()), (5000 + HORIZON_MS, 1001));
    let both = [(10, 1000, "a".to_string()), (11, 1001, "b".to_string())];
    assert_eq!(records(&first.to_bytes()), both, "timestamps are what they were");
    case.now_ms = 4999 + HORIZON_MS;
    assert_eq!(case.filter(&first.to_bytes(), Standing::Live), Outcome::Keep);
    case.now_ms = 5000 + HORIZON_MS;
    let Outcome::Rewrite(second) = case.filter(&first.to_bytes(), Standing::Live) else { panic!("the tombstone goes") };
    assert_eq!(records(&second.to_bytes()), both[1..]);
    assert_eq!(second.header.base_timestamp(), 5000 + HORIZON_MS, "the horizon stays");
    assert!(second.header.has_delete_horizon());
}

#[test]
fn the_last_batch_of_a_producer_leaves_its_header() {
    let original = batch(&[(Some("a"), None), (Some("a"), Some("1"))], |b| {
        b.producer(7, 2, 40).compression(Compression::Zstd, None).log_append_time(777)
    });
    let mut case = Case::new(&[("a", 50)]);
    case.producers.insert(7, LastOfProducer { last_offset: Some(11), epoch: 2 });
    let Outcome::Rewrite(empty) = case.filter(&original.to_bytes(), Standing::Live) else { panic!("a bare header") };
    assert_eq!(records(&empty.to_bytes()), []);
    let header = &empty.header;
    assert_eq!((header.codec_id(), header.record_count(), header.size_bytes()), (0, 0, 61));
    assert_eq!((header.base_offset(), header.last_offset(), header.last_sequence()), (10, 11, 41));
    assert_eq!((header.max_timestamp(), header.is_log_append_time()), (777, true));
    assert_eq!(case.filter(&empty.to_bytes(), Standing::Live), Outcome::Keep, "and the next pass leaves it");
    case.producers.insert(7, LastOfProducer { last_offset: Some(60), epoch: 2 });
    assert_eq!(case.filter(&empty.to_bytes(), Standing::Live), Outcome::Drop, "until the producer has sent more");
    case.boundary = 12;
    let at_the_end = case.filter(&original.to_bytes(), Standing::Aborted);
    assert_eq!(at_the_end, Outcome::Rewrite(empty), "the end of the cleanable part can be read up to");
}

#[test]
fn a_marker_goes_after_its_data_and_its_horizon() {
    let mut marker = EndTxnMarker { commit: true, coordinator_epoch: 1 }.batch(7, 2, 1000).unwrap();
    marker.header.set_base_offset(20);
    let mut case = Case::new(&[]);
    assert_eq!(case.filter(&marker.to_bytes(), Standing::Live), Outcome::Keep);
    let Outcome::Rewrite(dated) = case.filter(&marker.to_bytes(), Standing::UselessMarker) else { panic!("a horizon") };
    assert!(dated.header.is_control() && dated.header.is_transactional() && dated.header.has_delete_horizon());
    assert_eq!(crate::log::marker::read_marker(&dated.to_bytes()).unwrap().map(|marker| marker.commit), Some(true));
    assert_eq!(case.filter(&dated.to_bytes(), Standing::UselessMarker), Outcome::Keep);
    case.now_ms = 5000 + HORIZON_MS;
    assert_eq!(case.filter(&dated.to_bytes(), Standing::UselessMarker), Outcome::Drop);
    case.producers.insert(7, LastOfProducer { last_offset: None, epoch: 2 });
    let Outcome::Rewrite(empty) = case.filter(&dated.to_bytes(), Standing::UselessMarker) else { panic!("it fences") };
    assert_eq!((empty.header.record_count(), empty.header.is_control()), (0, true));
}

#[test]
fn old_formats() {
    let plain = batch(&[(Some("a"), Some("1")), (Some("b"), None), (Some("c"), Some("3"))], |b| {
        b.compression(Compression::Gzip, None)
    });
    for magic in [0, 1] {
        let old = crate::record::down_convert(&plain.to_bytes(), magic, 0, 1 << 20).unwrap();
        let all = Case::new(&[]);
        // A tombstone of an old format stays as long as its segment is young; this one is not.
        let outcomes: Vec<_> = crate::record::batches(&old)
            .flat_map(|message| match all.filter(message.unwrap().bytes(), Standing::Live) {
                Outcome::Keep => records(&old).into_iter().collect::<Vec<_>>(),
                Outcome::Rewrite(batch) => records(&batch.to_bytes()),
                Outcome::Drop => Vec::new(),
            })
            .map(|(offset, _, key)| (offset, key))
            .collect();
        assert_eq!(outcomes, [(10, "a".to_string()), (12, "c".to_string())], "format {magic}");
    }
}
