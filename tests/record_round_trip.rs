//! Whatever is put into a batch comes out again: every codec, every format, whole and after rewriting.

use bytes::Bytes;
use ottla::record::{
    BatchBuilder, Compression, Record, ValidationRules, batches, compress, decompress, down_convert, validate,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const LIMIT: usize = 4 << 20;

type Header = (Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, PartialEq, Debug)]
struct Given {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

fn records() -> impl Strategy<Value = Vec<Given>> {
    let field = || option::of(vec(any::<u8>(), 0..200));
    let headers = vec((vec(any::<u8>(), 0..10), field()), 0..4);
    let record = (0..i64::MAX / 4, field(), field(), headers).prop_map(|(timestamp, key, value, headers)| Given {
        timestamp,
        key,
        value,
        headers,
    });
    vec(record, 1..20)
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn build(records: &[Given], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(codec, None);
    for record in records {
        let headers = record.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    }
    builder.build().unwrap().to_bytes()
}

fn given(record: Record<'_>) -> Given {
    Given {
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
    }
}

/// The records, and that their offsets are 0, 1, 2, ...
fn read(bytes: &[u8]) -> Vec<Given> {
    let mut out = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.verify().unwrap();
        for record in batch.records(LIMIT).unwrap().iter() {
            let record = record.unwrap();
            assert_eq!(record.offset, out.len() as i64);
            out.push(given(record));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn codecs_give_back_what_they_took(pieces in vec((any::<u8>(), 0..3000usize), 0..60), codec in codec()) {
        let bytes: Vec<u8> = pieces
            .into_iter()
            .flat_map(|(byte, times)| (0..times).map(move |at| byte.wrapping_add((at / 7) as u8)))
            .collect();
        let packed = compress(codec, None, &bytes).unwrap();
        prop_assert_eq!(decompress(codec, &packed, bytes.len()).unwrap(), bytes.clone());
        if !bytes.is_empty() {
            prop_assert!(decompress(codec, &packed, bytes.len() - 1).is_err() || codec == Compression::None);
        }
    }

    #[test]
    fn format_2_keeps_all(records in records(), codec in codec()) {
        prop_assert_eq!(read(&build(&records, codec)), records);
    }

    #[test]
    fn the_topics_codec_changes_nothing_else(records in records(), source in codec(), target in codec()) {
        let rules = ValidationRules { target_codec: Some((target, None)), ..ValidationRules::default() };
        let validated = validate(build(&records, source), &rules).unwrap();
        let max = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(validated.max_timestamp, max);
        prop_assert_eq!(read(&validated.batches[0].to_bytes()), records);
    }

    #[test]
    fn the_old_formats_keep_what_they_can(records in records(), codec in codec(), magic in 0..2i8) {
        prop_assume!(codec != Compression::Zstd);
        let old = down_convert(&build(&records, codec), magic, 0, LIMIT).unwrap();
        let expected: Vec<Given> = records
            .into_iter()
            .map(|record| Given {
                timestamp: if magic == 0 { -1 } else { record.timestamp },
                headers: Vec::new(),
                ..record
            })
            .collect();
        prop_assert_eq!(read(&old), expected.clone());
        let rules = ValidationRules { produce_version: 2, ..ValidationRules::default() };
        let stored = validate(old, &rules).unwrap();
        prop_assert_eq!(read(&stored.batches[0].to_bytes()), expected);
    }
}

#[test]
fn levels_are_taken_as_they_come() {
    let text = "to be or not to be, ".repeat(500).into_bytes();
    for codec in Compression::ALL {
        for level in [None, Some(-131_072), Some(-1), Some(0), Some(1), Some(9), Some(17), Some(22), Some(i32::MAX)] {
            let packed = compress(codec, level, &text).unwrap();
            assert_eq!(decompress(codec, &packed, LIMIT).unwrap(), text, "{codec:?} {level:?}");
        }
    }
}
