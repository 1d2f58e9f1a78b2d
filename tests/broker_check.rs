//! `ottla check`: it says what a start would do, with an exit code, and changes nothing.

mod common;

use common::{Broker, Client};
use ottla::record::BatchBuilder;
use ottla::wire::messages::create_topics_request::CreatableTopic;
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::{CreateTopicsRequest, ProduceRequest, TopicName};
use ottla::wire::text;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

fn write_some(client: &mut Client) {
    let name = TopicName(text("kept"));
    let topic = CreatableTopic::default().with_name(name.clone()).with_num_partitions(2).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    client.call(&request, 7).expect("CreateTopics");
    let mut batch = BatchBuilder::new();
    batch.append(1_700_000_000_000, Some(b"k"), Some(b"v"), []);
    let records = batch.build().expect("batch").to_bytes();
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let response = client.call(&request, 9).expect("Produce");
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "{response:?}");
}

/// Every file and directory with its content and the time of its last change.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let content = match metadata.is_dir() {
            true => {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            }
            false => fs::read(&path).unwrap(),
        };
        found.insert(path, (metadata.modified().unwrap(), content));
    }
    found
}

/// Exit code and words of `ottla check` with these properties over the broker's own; nothing in its folder has changed after.
fn check(broker: &Broker, overrides: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.arg("check").arg(broker.dir.join("server.properties"));
    for (name, value) in overrides {
        command.args(["--override", &format!("{name}={value}")]);
    }
    let before = tree(&broker.dir);
    let output = command.output().expect("ottla runs");
    assert!(tree(&broker.dir) == before, "{overrides:?} changed something");
    let words = String::from_utf8(output.stdout).unwrap();
    (output.status.code().expect("an exit code"), words)
}

#[track_caller]
fn expect(found: (i32, String), code: i32, says: &[&str]) {
    assert_eq!(found.0, code, "{}", found.1);
    for words in says {
        assert!(found.1.contains(words), "{words}: {}", found.1);
    }
}

#[test]
fn a_broker_that_stopped_cleanly_a_killed_one_and_a_running_one() {
    let mut broker = Broker::start(&[]);
    write_some(&mut broker.client());
    // While it runs, the folder changes by itself, so only the answer counts.
    let running =
        Command::new(env!("CARGO_BIN_EXE_ottla")).arg("check").arg(broker.dir.join("server.properties")).output();
    let running = running.expect("ottla runs");
    let found = (running.status.code().unwrap(), String::from_utf8(running.stdout).unwrap());
    expect(found, 2, &["holds its .lock", "broker 0 is registered now, at 127.0.0.1", "could not take over"]);
    assert!(broker.stop().success());
    let says = ["2 partitions", "was shut down cleanly", "broker 0 of cluster", "ZooKeeper inside is not running"];
    expect(check(&broker, &[]), 0, &says);
    broker.restart();
    broker.kill();
    expect(check(&broker, &[]), 1, &["was not shut down cleanly", "in 1 logs would be checked"]);
}

#[test]
fn what_stands_in_a_directory_is_told() {
    let mut broker = Broker::start(&[]);
    write_some(&mut broker.client());
    assert!(broker.stop().success());
    let logs = broker.log_dir();
    let path = |name: &str| logs.join(name).display().to_string();
    let dirs = |second: &str| format!("{},{second}", logs.display());
    let no_dir = [("log.dirs", dirs(&path("../other")))];
    expect(
        check(&broker, &no_dir.each_ref().map(|(k, v)| (*k, v.as_str()))),
        1,
        &["does not exist; a start would make it"],
    );
    let a_file = dirs(&path("../server.properties"));
    expect(check(&broker, &[("log.dirs", &a_file)]), 1, &["is not a directory"]);
    let only_a_file = path("../server.properties");
    expect(check(&broker, &[("log.dirs", &only_a_file)]), 2, &["no log directory can be worked in"]);
    expect(check(&broker, &[("broker.id", "7")]), 2, &["belongs to broker 0, but broker.id says 7"]);
    expect(check(&broker, &[("no.such.property", "1")]), 1, &["unknown property"]);
    expect(check(&broker, &[("process.roles", "broker")]), 2, &["KRaft"]);
    let no_data = path("nothing");
    expect(check(&broker, &[("zookeeper.embedded.data.dir", &no_data)]), 2, &["the ZooKeeper inside has no data in"]);

    let hex = "0123456789abcdef0123456789abcdef";
    for (name, code, says) in [
        (format!("old-0.{hex}-delete"), 0, "waits for removal"),
        (format!("old-0.{hex}-future"), 0, "on its way between two directories"),
        (format!("old-0.{hex}-stray"), 1, "set aside since the cluster did not know it"),
        ("lost+found".to_owned(), 2, "has a directory that is no partition"),
    ] {
        fs::create_dir(logs.join(&name)).unwrap();
        expect(check(&broker, &[]), code, &[&name, says]);
        fs::remove_dir(logs.join(&name)).unwrap();
    }
    fs::write(logs.join("notes.txt"), "mine").unwrap();
    expect(check(&broker, &[]), 0, &["a file that no broker wrote: notes.txt"]);
    fs::remove_file(logs.join("notes.txt")).unwrap();

    // (file, content, exit code, what is said)
    let cases: [(&str, &[u8], i32, &str); 7] = [
        ("meta.properties", b"version=1\nnode.id=0\ncluster.id=x\n", 2, "has version 1"),
        ("meta.properties", b"version=0\nbroker.id=9\n", 2, "belongs to broker 9"),
        ("recovery-point-offset-checkpoint", b"9\n", 1, "has version `9`, not 0; it counts as empty"),
        ("kept-0/partition.metadata", b"version: 5", 2, "kept-0/partition.metadata"),
        ("kept-0/leader-epoch-checkpoint", b"x", 1, "read from the log again"),
        ("kept-0/00000000000000000000.log", &[0; 100], 1, "does not begin with a batch"),
        ("kept-0/00000000000000000000.index.deleted", b"", 0, "1 files of an unfinished deletion or compaction"),
    ];
    for (name, content, code, says) in cases {
        let before = fs::read(logs.join(name)).ok();
        fs::write(logs.join(name), content).unwrap();
        expect(check(&broker, &[]), code, &[says]);
        match before {
            Some(before) => fs::write(logs.join(name), before).unwrap(),
            None => fs::remove_file(logs.join(name)).unwrap(),
        }
    }
    fs::create_dir_all(logs.join("../twice/kept-0")).unwrap();
    let twice = dirs(&path("../twice"));
    expect(check(&broker, &[("log.dirs", &twice)]), 2, &["kept-0 is in two log directories"]);
    expect(check(&broker, &[]), 0, &["could take over."]);
}

#[test]
fn the_cluster_in_zookeeper_has_a_say() {
    let cluster = Broker::start(&[]);
    let connect = format!("127.0.0.1:{}", cluster.zk_port);
    let mut broker = Broker::start(&[("broker.id", "1"), ("zookeeper.connect", &connect)]);
    expect_registered(&broker);
    assert!(broker.stop().success());
    // Its file has settings of the ZooKeeper inside too, which are told of; without them nothing needs a look.
    expect(
        check(&broker, &[]),
        1,
        &["has no effect, since zookeeper.connect is set", "1 other brokers are registered"],
    );
    let properties = broker.dir.join("server.properties");
    let text = fs::read_to_string(&properties).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("zookeeper.embedded")).collect();
    fs::write(&properties, kept.join("\n")).unwrap();
    expect(check(&broker, &[]), 0, &["broker 1 of cluster", "1 other brokers are registered"]);
    let taken = format!("PLAINTEXT://127.0.0.1:{}", cluster.port);
    expect(check(&broker, &[("advertised.listeners", &taken)]), 2, &["is already advertised by broker 0"]);
    let chroot = format!("{connect}/nothing");
    expect(
        check(&broker, &[("zookeeper.connect", &chroot)]),
        2,
        &["ZooKeeper has no cluster there, but the logs belong to"],
    );
    // Asked again, the chroot is still not there: looking did not make it.
    let empty = broker.dir.join("empty").display().to_string();
    let new = [("zookeeper.connect", chroot.as_str()), ("log.dirs", empty.as_str())];
    expect(check(&broker, &new), 1, &["ZooKeeper has no cluster there yet; a start would begin one"]);
    let other = Broker::start(&[]);
    let elsewhere = format!("127.0.0.1:{}", other.zk_port);
    expect(check(&broker, &[("zookeeper.connect", &elsewhere)]), 2, &["but ZooKeeper has cluster"]);
    let hex = "version: 0\ntopic_id: tp4bQcCgTIWKfVOmD3FJ5Q";
    write_some(&mut cluster.client());
    for (dir, says) in
        [("gone-0", "the cluster does not know; they would lie unused: gone-0"), ("kept-0", "topic ids differ")]
    {
        fs::create_dir(broker.log_dir().join(dir)).unwrap();
        fs::write(broker.log_dir().join(dir).join("partition.metadata"), hex).unwrap();
        expect(check(&broker, &[]), 1, &[says]);
        fs::remove_dir_all(broker.log_dir().join(dir)).unwrap();
    }
    fs::create_dir(broker.log_dir().join("kept-1")).unwrap();
    expect(check(&broker, &[]), 1, &["not assigned to this broker; they would lie unused: kept-1"]);
}

fn expect_registered(broker: &Broker) {
    assert!(broker.client().brokers().is_ok_and(|brokers| brokers.len() == 2));
}
