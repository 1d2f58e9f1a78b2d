//! Message formats 0 and 1 on a running broker: converted on the way in, and on the way out for clients that know nothing newer.

mod common;

use bytes::Bytes;
use common::{Broker, Client};
use ottla::record::batches;
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::{FetchRequest, TopicName};
use ottla::wire::text;

type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Keys and values of all records, and the formats they were in.
fn read(bytes: &Bytes) -> (Vec<KeyAndValue>, Vec<i8>) {
    let (mut found, mut formats) = (Vec::new(), Vec::new());
    for batch in batches(bytes) {
        let batch = batch.expect("a whole batch");
        formats.push(batch.magic());
        let records = batch.records(16 << 20).expect("records");
        for record in records.iter() {
            let record = record.expect("record");
            found.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
        }
    }
    (found, formats)
}

fn fetch(client: &mut Client, version: i16, topic: &str) -> Bytes {
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(1000)
        .with_min_bytes(1)
        .with_topics(vec![topic]);
    let response = client.call(&request, version).expect("Fetch");
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0, "Fetch {version}");
    partition.records.clone().expect("records")
}

#[test]
fn old_formats_come_in_by_old_produce_and_go_out_by_old_fetch() {
    let broker = Broker::start(&[]);
    let mut client = broker.client();
    let cases = [
        ("v0-none", 0),
        ("v0-gzip", 1),
        ("v0-snappy", 0),
        ("v0-lz4", 1),
        ("v1-none", 2),
        ("v1-gzip", 2),
        ("v1-snappy", 2),
        ("v1-lz4", 2),
    ];
    for (name, produce_version) in cases {
        let path = format!("{}/tests/fixtures/records/{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let sent = Bytes::from(std::fs::read(path).expect("a fixture written by Apache Kafka"));
        let (wanted, _) = read(&sent);
        assert!(!wanted.is_empty());
        client.create_topic(name, 1, &[]).expect("CreateTopics");
        let response = client.produce_version(produce_version, name, 0, sent).expect("Produce");
        assert_eq!((response.error_code, response.base_offset), (0, 0), "{name}");
        for (fetch_version, format) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (12, 2)] {
            let (found, formats) = read(&fetch(&mut client, fetch_version, name));
            assert_eq!(found, wanted, "{name} by Fetch {fetch_version}");
            assert!(formats.iter().all(|found| *found == format), "{name} by Fetch {fetch_version}: {formats:?}");
        }
    }
}
