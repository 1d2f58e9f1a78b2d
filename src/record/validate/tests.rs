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
