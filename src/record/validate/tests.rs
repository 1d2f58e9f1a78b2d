//! What is kept, rewritten and refused of what clients produce.

use super::*;
use crate::record::{BatchBuilder, batches};

const LIMIT: usize = 1 << 20;

/// A batch of `count` records as a client builds it.
fn produced(codec: Compression, count: usize) -> BatchBuilder {
    let mut builder = BatchBuilder::new().compression(codec, None);
    for index in 0..count {
        let value = format!("value {index} {}", "x".repeat(100));
        builder.append(1000 + index as i64, Some(b"key"), Some(value.as_bytes()), [(&b"h"[..], None)]);
    }
    builder
}

fn bytes(builder: BatchBuilder) -> Bytes {
    builder.build().unwrap().to_bytes()
}

#[test]
fn the_payload_of_a_good_batch_is_not_copied() {
    for codec in Compression::ALL {
        let sent = bytes(produced(codec, 10));
        let validated = validate(sent.clone(), &ValidationRules::default()).unwrap();
        let [batch] = &validated.batches[..] else { panic!("one batch") };
        assert_eq!(batch.payload.as_ptr(), sent[HEADER_SIZE..].as_ptr());
        assert_eq!(batch.to_bytes(), sent);
        assert_eq!((validated.record_count, validated.max_timestamp, validated.log_append_time), (10, 1009, -1));
    }
}

#[test]
fn the_topics_codec_and_clock_are_applied() {
    for source in Compression::ALL {
        for target in Compression::ALL {
            let sent = bytes(produced(source, 10).producer(5, 1, 100));
            let rules = ValidationRules {
                target_codec: Some((target, None)),
                log_append_time: true,
                now_ms: 77,
                ..ValidationRules::default()
            };
            let validated = validate(sent.clone(), &rules).unwrap();
            assert_eq!(validated.log_append_time, 77);
            let stored = validated.batches[0].to_bytes();
            let batch = batches(&stored).next().unwrap().unwrap();
            batch.verify().unwrap();
            assert_eq!(batch.compression().unwrap(), target);
            assert_eq!(batch.header().unwrap().base_sequence(), 100);
            let before = batches(&sent).next().unwrap().unwrap().records(LIMIT).unwrap();
            let after = batch.records(LIMIT).unwrap();
            for (before, after) in before.iter().zip(after.iter()) {
                let (before, after) = (before.unwrap(), after.unwrap());
                assert_eq!((before.key, before.value, before.headers), (after.key, after.value, after.headers));
                assert_eq!(after.timestamp, 77);
            }
            assert_eq!(after.iter().count(), 10);
        }
    }
}

/// A good batch with a change to its header, checksum mended.
fn with_header(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let built = produced(Compression::None, 3).producer(5, 1, 0).build().unwrap();
    let mut header = built.header;
    change(&mut header);
    let magic_and_size_stay = header.size_bytes() == built.header.size_bytes();
    let mut sealed = ValidatedBatch::seal(header, built.payload);
    if !magic_and_size_stay {
        sealed.header.set_length(header.length());
    }
    sealed.to_bytes()
}

fn kind(bytes: Bytes, rules: &ValidationRules) -> Result<i64, ValidationErrorKind> {
    validate(bytes, rules).map(|validated| validated.record_count).map_err(|error| error.kind)
}

#[test]
fn headers_that_do_not_fit_are_refused() {
    use ValidationErrorKind::{CorruptMessage, InvalidRecord};
    type Case = (&'static str, fn(&mut BatchHeader), Result<i64, ValidationErrorKind>);
    let cases: &[Case] = &[
        ("nothing wrong", |_| {}, Ok(3)),
        ("base offset", |header| header.set_base_offset(1), Err(InvalidRecord)),
        ("no records", |header| header.set_record_count(0), Err(InvalidRecord)),
        ("fewer records", |header| header.set_record_count(2), Err(InvalidRecord)),
        ("negative delta", |header| header.set_last_offset_delta(-1), Err(InvalidRecord)),
        ("larger delta", |header| header.set_last_offset_delta(3), Err(InvalidRecord)),
        ("one record more", |h| (h.set_record_count(4), h.set_last_offset_delta(3)).0, Err(InvalidRecord)),
        ("one record less", |h| (h.set_record_count(2), h.set_last_offset_delta(1)).0, Err(InvalidRecord)),
        ("control", |header| header.set_control(true), Err(InvalidRecord)),
        ("no sequence", |header| header.set_base_sequence(-1), Err(InvalidRecord)),
        ("too short", |header| header.set_length(40), Err(CorruptMessage)),
        ("negative size", |header| header.set_length(-5), Err(CorruptMessage)),
        ("not whole", |header| header.set_length(5000), Err(InvalidRecord)),
        ("codec 5", |header| header.set_codec_id(5), Err(ValidationErrorKind::UnsupportedCompressionType)),
        ("leader epoch", |header| header.set_partition_leader_epoch(9), Ok(3)),
        ("max timestamp", |header| header.set_max_timestamp(77), Ok(3)),
    ];
    for (name, change, expected) in cases {
        assert_eq!(kind(with_header(change), &ValidationRules::default()), *expected, "{name}");
    }
}

#[test]
fn a_wrong_max_timestamp_is_put_right_with_its_checksum() {
    let validated = validate(with_header(|header| header.set_max_timestamp(77)), &ValidationRules::default()).unwrap();
    assert_eq!(validated.max_timestamp, 1002);
    let stored = validated.batches[0].to_bytes();
    batches(&stored).next().unwrap().unwrap().verify().unwrap();
    assert_eq!(stored, with_header(|_| {}));
}

#[test]
fn any_changed_byte_behind_the_checksum_is_found() {
    let good = bytes(produced(Compression::None, 2));
    for at in 17..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x10;
        assert_eq!(
            kind(bad.into(), &ValidationRules::default()),
            Err(ValidationErrorKind::CorruptMessage),
            "byte {at}"
        );
    }
}

#[test]
fn versions_of_produce_limit_what_may_come() {
    use ValidationErrorKind::{InvalidRecord, UnsupportedCompressionType};
    let plain = bytes(produced(Compression::None, 2));
    let zstd = bytes(produced(Compression::Zstd, 2));
    let gzip = bytes(produced(Compression::Gzip, 2));
    let old = crate::record::down_convert(&plain, 1, 0, LIMIT).unwrap();
    let wrapped = crate::record::down_convert(&gzip, 0, 0, LIMIT).unwrap();
    let twice = |bytes: &Bytes| Bytes::from([&bytes[..], &bytes[..]].concat());
    let torn = Bytes::from([&plain[..], &plain[..40]].concat());
    let cases = [
        (plain.clone(), 2, Ok(2)),
        (plain.clone(), 3, Ok(2)),
        (twice(&plain), 2, Ok(4)),
        (twice(&plain), 3, Err(InvalidRecord)),
        (twice(&gzip), 2, Err(InvalidRecord)),
        (torn, 9, Ok(2)),
        (zstd.clone(), 6, Err(UnsupportedCompressionType)),
        (zstd, 7, Ok(2)),
        (old.clone(), 2, Ok(2)),
        (old.clone(), 3, Err(InvalidRecord)),
        (wrapped.clone(), 0, Ok(2)),
        (twice(&wrapped), 0, Err(InvalidRecord)),
        (Bytes::from([&old[..], &plain[..]].concat()), 2, Err(InvalidRecord)),
        (Bytes::new(), 2, Ok(0)),
        (Bytes::new(), 3, Err(InvalidRecord)),
        (Bytes::from_static(&[0; 16]), 11, Err(InvalidRecord)),
    ];
    for (index, (bytes, produce_version, expected)) in cases.into_iter().enumerate() {
        let rules = ValidationRules { produce_version, ..ValidationRules::default() };
        assert_eq!(kind(bytes, &rules), expected, "case {index}");
    }
}

#[test]
fn batches_of_one_request_follow_one_another() {
    let one = bytes(produced(Compression::None, 2));
    let rules = ValidationRules { produce_version: 2, ..ValidationRules::default() };
    let validated = validate([&one[..], &one[..], &one[..]].concat().into(), &rules).unwrap();
    let offsets: Vec<i64> = validated.batches.iter().map(|batch| batch.header.base_offset()).collect();
    assert_eq!(offsets, [0, 2, 4]);
}

#[test]
fn sizes_are_limited_before_and_after_rewriting() {
    use ValidationErrorKind::{MessageTooLarge, RecordListTooLarge};
    let gzip = bytes(produced(Compression::Gzip, 50));
    let size = gzip.len() as i32;
    let plain = Some((Compression::None, None));
    for (max_message_bytes, segment_bytes, target_codec, expected) in [
        (size, size, None, Ok(50)),
        (size - 1, size, None, Err(MessageTooLarge)),
        (size, size - 1, None, Err(RecordListTooLarge)),
        (size, size, plain, Err(MessageTooLarge)),
        (1 << 20, 1 << 20, plain, Ok(50)),
        (1 << 20, size, plain, Err(RecordListTooLarge)),
    ] {
        let rules = ValidationRules { max_message_bytes, segment_bytes, target_codec, ..ValidationRules::default() };
        assert_eq!(kind(gzip.clone(), &rules), expected);
    }
}

#[test]
fn faults_name_their_records() {
    let mut builder = BatchBuilder::new();
    for (timestamp, key) in
        [(1000, Some(&b"k"[..])), (50, Some(b"k")), (1000, None), (9000, Some(b"k")), (-1, Some(b"k"))]
    {
        builder.append(timestamp, key, None, []);
    }
    let sent = bytes(builder);
    let rules = ValidationRules {
        compacted: true,
        now_ms: 1000,
        timestamp_before_max_ms: 100,
        timestamp_after_max_ms: 100,
        ..ValidationRules::default()
    };
    let found = |rules: &ValidationRules| {
        let error = validate(sent.clone(), rules).unwrap_err();
        (error.kind, error.records.iter().map(|fault| fault.index).collect::<Vec<_>>())
    };
    assert_eq!(found(&rules), (ValidationErrorKind::InvalidTimestamp, vec![1, 2, 3]));
    let stamped = ValidationRules { log_append_time: true, ..rules };
    assert_eq!(found(&stamped), (ValidationErrorKind::InvalidRecord, vec![2]));
}

#[test]
fn the_list_of_faults_is_bounded() {
    let mut builder = BatchBuilder::new().compression(Compression::Zstd, None);
    for _ in 0..100_000 {
        builder.append(0, None, None, []);
    }
    let rules = ValidationRules { compacted: true, ..ValidationRules::default() };
    let error = validate(bytes(builder), &rules).unwrap_err();
    assert_eq!(error.records.len(), 1000);
    assert!(error.message.contains("100000"), "{}", error.message);
}

#[test]
fn old_formats_become_format_2() {
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        for magic in [0, 1] {
            let sent = crate::record::down_convert(&bytes(produced(codec, 5)), magic, 0, LIMIT).unwrap();
            let rules = ValidationRules { produce_version: 2, ..ValidationRules::default() };
            let validated = validate(sent, &rules).unwrap();
            let stored = validated.batches[0].to_bytes();
            let batch = batches(&stored).next().unwrap().unwrap();
            assert_eq!((batch.magic(), batch.compression().unwrap()), (2, codec));
            let records = batch.records(LIMIT).unwrap();
            for (index, record) in (0..).zip(records.iter()) {
                let record = record.unwrap();
                assert_eq!(record.offset, index);
                assert_eq!(record.timestamp, if magic == 0 { -1 } else { 1000 + index });
                assert_eq!(record.key, Some(&b"key"[..]));
            }
            assert_eq!(validated.record_count, 5);
        }
    }
}
