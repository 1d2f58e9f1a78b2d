//! Bits that flip in the `.log` file of a running leader: no replica takes the damaged batch over, everything else goes on, and so does
//! the follower when the file is whole again, or when a sound replica leads.

mod common;

use bytes::Bytes;
use common::cluster::eventually;
use common::{Client, Cluster, ZooKeeper};
use ottla::base::ErrorCode;
use ottla::record::{BatchBuilder, batches};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What a consumer gets who asks for the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    /// The bytes as they are, and nothing is wrong with their checksum: the leader epoch lies outside of it.
    Sound,
    /// The bytes as they are; the client has to notice.
    Damaged,
    /// CORRUPT_MESSAGE: where the batch ends, or what it is, cannot be told.
    Refused,
}

/// Which byte of the batch changes, and which bits of it. Apache Kafka 3.9.2 answers consumers alike, except for the last two: with
/// nothing, for ever, where the length is too long, and with the bytes of a format that does not exist.
const DAMAGES: [(usize, u8, Read); 9] = [
    (75, 0x10, Read::Damaged), // in a value
    (18, 0x01, Read::Damaged), // the checksum
    (22, 0x02, Read::Damaged), // the codec
    (26, 0x04, Read::Damaged), // the last offset
    (11, 0x08, Read::Damaged), // a length that is a little shorter
    (14, 0x01, Read::Sound),   // a leader epoch that never was
    (11, 0x80, Read::Refused), // a length that no batch has
    (9, 0x10, Read::Refused),  // a length beyond the end of the file
    (16, 0x04, Read::Refused), // a format that does not exist
];
const SOUND: i32 = DAMAGES.len() as i32;

/// All values, and so all batches, are of one size.
fn batch(number: i64) -> Bytes {
    let mut batch = BatchBuilder::new();
    batch.append(1, None, Some(format!("{number:080}").as_bytes()), []);
    batch.build().expect("a batch").to_bytes()
}

/// The topic with its first record. A broker may hear of it later than the controller's client.
fn create(cluster: &Cluster, replicas: &[&[i32]], configs: &[(&str, &str)]) {
    eventually("the topic is created", || cluster.controller_client().create_assigned("t", replicas, configs).ok());
    for partition in 0..replicas.len() as i32 {
        let answer = || cluster.client(1).produce("t", partition, batch(0)).ok();
        eventually("the first record is taken", || answer().filter(|answer| answer.error_code == 0));
    }
}

fn produce(client: &mut Client, partition: i32, number: i64) {
    let answer = client.produce("t", partition, batch(number)).expect("an answer");
    assert_eq!((answer.error_code, answer.base_offset), (0, number), "partition {partition}");
}

fn log_file(cluster: &mut Cluster, id: i32, partition: i32) -> PathBuf {
    cluster.broker(id).log_dir().join(format!("t-{partition}/00000000000000000000.log"))
}

fn copy(cluster: &mut Cluster, id: i32, partition: i32) -> Vec<u8> {
    fs::read(log_file(cluster, id, partition)).unwrap_or_default()
}

/// Flips bits of the batch that was `number`, under the broker's hands.
fn flip(cluster: &mut Cluster, id: i32, partition: i32, number: usize, (at, bits): (usize, u8)) {
    let path = log_file(cluster, id, partition);
    let position = (number * batch(0).len() + at) as u64;
    let file = File::options().read(true).write(true).open(path).expect("the log file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("a batch that is there");
    file.write_all_at(&[byte[0] ^ bits], position).expect("written");
}

fn isr(cluster: &Cluster, partition: i32) -> Vec<i32> {
    let mut isr = cluster.partition_state("t", partition).2;
    isr.sort_unstable();
    isr
}

fn wait_for_isr(cluster: &Cluster, partition: i32, expected: &[i32]) {
    eventually("the ISR", || (isr(cluster, partition) == expected).then_some(()));
}

/// What a broker said of the batch at an offset that it does not take over.
fn complaints(cluster: &mut Cluster, id: i32, partition: i32, offset: i64) -> Vec<String> {
    let complaint = format!("batch at offset {offset} of t-{partition} is damaged");
    let log = cluster.broker(id).log();
    log.lines().filter(|line| line.contains(&complaint)).map(str::to_owned).collect()
}

fn read(client: &mut Client, partition: i32, offset: i64) -> Read {
    let answer = client.fetch("t", partition, offset).expect("an answer");
    if answer.error_code == ErrorCode::CorruptMessage.code() {
        return Read::Refused;
    }
    assert_eq!(answer.error_code, 0);
    let records = answer.records.expect("records");
    let first = batches(&records).next().expect("a batch").expect("a header");
    if first.verify().is_ok() { Read::Sound } else { Read::Damaged }
}

#[test]
fn a_follower_takes_no_batch_over_that_was_damaged_on_the_leaders_disk() {
    let overrides = [("replica.lag.time.max.ms", "2000"), ("replica.fetch.backoff.ms", "50")];
    let mut cluster = Cluster::start(2, ZooKeeper::inside(), &overrides);
    let replicas: Vec<&[i32]> = (0..=SOUND).map(|_| [1, 2].as_slice()).collect();
    create(&cluster, &replicas, &[("index.interval.bytes", "0"), ("retention.ms", "-1")]);
    let mut client = cluster.client(1);
    // What is produced now only the leader has.
    cluster.stop(2);
    for partition in 0..=SOUND {
        wait_for_isr(&cluster, partition, &[1]);
        (1..=4).for_each(|number| produce(&mut client, partition, number));
    }
    for (partition, (at, bits, _)) in (0..).zip(DAMAGES) {
        flip(&mut cluster, 1, partition, 2, (at, bits));
    }
    for (partition, (.., expected)) in (0..).zip(DAMAGES) {
        let around = [1, 2, 3, 4].map(|offset| read(&mut client, partition, offset));
        assert_eq!(around[1], expected, "partition {partition}");
        // Behind it the index leads on.
        assert_eq!((around[0], around[3]), (Read::Sound, Read::Sound), "partition {partition}");
    }

    cluster.restart(2);
    wait_for_isr(&cluster, SOUND, &[1, 2]);
    for partition in 0..SOUND {
        eventually("the follower complains", || complaints(&mut cluster, 2, partition, 2).pop());
    }
    // It asks for them again and again; the other partition, and the leader of all, go on.
    for number in 5..40 {
        produce(&mut client, SOUND, number);
    }
    for partition in 0..SOUND {
        produce(&mut client, partition, 5);
        let sound = copy(&mut cluster, 1, partition)[..2 * batch(0).len()].to_vec();
        assert_eq!(copy(&mut cluster, 2, partition), sound, "partition {partition}: what is before the damaged batch");
        assert_eq!(isr(&cluster, partition), [1]);
    }

    for (partition, (at, bits, _)) in (0..).zip(DAMAGES) {
        flip(&mut cluster, 1, partition, 2, (at, bits));
    }
    for partition in 0..=SOUND {
        wait_for_isr(&cluster, partition, &[1, 2]);
        eventually("the copies are equal", || {
            (copy(&mut cluster, 1, partition) == copy(&mut cluster, 2, partition)).then_some(())
        });
        produce(&mut client, partition, if partition == SOUND { 40 } else { 6 });
    }
    for partition in 0..SOUND {
        let told = complaints(&mut cluster, 2, partition, 2);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains("ERROR") && told[0].contains("kafka-leader-election"), "{told:?}");
    }
    assert_eq!(complaints(&mut cluster, 2, SOUND, 2), Vec::<String>::new());
    let leader_told = |at: i32| cluster.broker(1).log().matches(&format!("log=t-{at} ")).count();
    let told: Vec<usize> = (0..SOUND).map(leader_told).collect();
    assert_eq!(
        told,
        DAMAGES.map(|(.., read)| usize::from(read == Read::Refused)),
        "the leader tells of what it cannot read"
    );
}

#[test]
fn a_replica_that_is_made_anew_gets_what_the_leader_has_lost_from_the_next_one() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "3000")]);
    create(&cluster, &[&[1, 2, 3]], &[("min.insync.replicas", "2"), ("retention.ms", "-1")]);
    wait_for_isr(&cluster, 0, &[1, 2, 3]);
    let mut client = cluster.client(1);
    (1..=5).for_each(|number| produce(&mut client, 0, number));
    flip(&mut cluster, 1, 0, 3, (75, 0x10));
    cluster.stop(3);
    fs::remove_dir_all(log_file(&mut cluster, 3, 0).parent().expect("a folder")).expect("removed");
    cluster.restart(3);
    eventually("the new replica complains", || complaints(&mut cluster, 3, 0, 3).pop());
    assert_eq!(isr(&cluster, 0), [1, 2]);
    produce(&mut client, 0, 6);
    assert_eq!(copy(&mut cluster, 3, 0), copy(&mut cluster, 2, 0)[..3 * batch(0).len()]);

    // The sound replica leads: the new one goes on, and the damaged one is mended by its recovery and by what it fetches then.
    cluster.kill(1);
    wait_for_isr(&cluster, 0, &[2, 3]);
    cluster.restart(1);
    wait_for_isr(&cluster, 0, &[1, 2, 3]);
    eventually("the copies are equal", || {
        let copies = [1, 2, 3].map(|id| copy(&mut cluster, id, 0));
        (copies[0] == copies[1] && copies[1] == copies[2]).then_some(())
    });
    let mut client = cluster.client(2);
    for number in 0..=6 {
        let records = client.fetch("t", 0, number).expect("an answer").records.expect("records");
        let first = batches(&records).next().expect("a batch").expect("a header");
        let inside = first.records(1 << 20).expect("sound records");
        let record = inside.iter().next().expect("a record").expect("a record");
        assert_eq!((record.offset, record.value), (number, Some(format!("{number:080}").as_bytes())));
    }
    assert!(cluster.broker(1).log().contains("the log is cut there"), "{}", cluster.broker(1).log());
}
