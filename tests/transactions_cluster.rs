//! Transactions over several brokers: partitions, their coordinator and the groups' on different ones, while brokers die.

mod common;

use common::cluster::eventually;
use common::transactional::{Transactional, is_retriable, read_committed};
use common::{Client, Cluster, ZooKeeper};
use std::io;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 6;
const NOT_LEADER: i16 = 6;
const NOT_ENOUGH_REPLICAS: i16 = 19;

fn cluster() -> Cluster {
    cluster_with(&[])
}

fn cluster_with(more: &[(&str, &str)]) -> Cluster {
    let all = [
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.num.partitions", "3"),
        ("transaction.state.log.min.isr", "2"),
        ("offsets.topic.replication.factor", "3"),
        ("default.replication.factor", "3"),
        ("num.partitions", "6"),
        ("min.insync.replicas", "2"),
    ];
    let cluster = Cluster::start(3, ZooKeeper::inside(), &[&all, more].concat());
    eventually("the topic exists", || {
        let controller = cluster.zookeeper.controller()?;
        create(&mut cluster.client(controller)).ok()
    });
    cluster
}

/// With three replicas.
fn create(client: &mut Client) -> io::Result<()> {
    use ottla::wire::messages::create_topics_request::CreatableTopic;
    use ottla::wire::messages::{CreateTopicsRequest, TopicName};
    use ottla::wire::text;
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    match client.call(&request, 5)?.topics[0].error_code {
        0 | 36 => Ok(()),
        code => Err(io::Error::other(format!("CreateTopics: {code}"))),
    }
}

/// Clients of a cluster that look for leaders and coordinators as real ones do.
struct Driver<'a> {
    cluster: &'a Cluster,
    alive: Vec<i32>,
}

impl Driver<'_> {
    fn any(&self) -> Option<Client> {
        self.alive.iter().find_map(|id| Client::connect(self.cluster.port(*id)).ok())
    }

    fn leader(&self, partition: i32) -> Option<Client> {
        let leader = *self.any()?.leaders(TOPIC).ok()?.get(partition as usize)?;
        (leader > 0).then(|| Client::connect(self.cluster.port(leader)).ok())?
    }

    fn coordinator(&self, producer: &Transactional) -> Option<Client> {
        let port = producer.find(&mut self.any()?, 4).ok()?.ok()?;
        Client::connect(u16::try_from(port).ok()?).ok()
    }

    /// Asks the coordinator until it answers with something that is not "later".
    fn coordinated(&self, what: &str, producer: &Transactional, mut ask: impl FnMut(&mut Client) -> io::Result<i16>) {
        eventually(what, || {
            let code = ask(&mut self.coordinator(producer)?).ok()?;
            assert!(code == 0 || is_retriable(code), "{what}: {code}");
            (code == 0).then_some(())
        });
    }

    fn init(&self, producer: &mut Transactional) {
        eventually("a producer id", || {
            let mut client = self.coordinator(producer)?;
            let code = producer.try_init(&mut client, 4, None).ok()?;
            assert!(code == 0 || is_retriable(code), "InitProducerId: {code}");
            (code == 0).then_some(())
        });
    }

    fn add(&self, producer: &Transactional) {
        let all: Vec<i32> = (0..PARTITIONS).collect();
        self.coordinated("partitions are added", producer, |client| {
            let codes = producer.try_add(client, 3, TOPIC, &all)?;
            // A broker that was just started may not know the topic yet.
            Ok(codes.into_iter().map(|code| if code == 3 || code == 55 { 51 } else { code }).max().unwrap_or(-1))
        });
    }

    fn write(&self, producer: &mut Transactional, partition: i32, value: &str) {
        eventually("a record is written", || {
            let code = producer.produce(&mut self.leader(partition)?, TOPIC, partition, &[value]).ok()?;
            let later = [NOT_LEADER, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS + 1, 7];
            assert!(code == 0 || later.contains(&code), "Produce: {code}");
            (code == 0).then_some(())
        });
    }

    fn end(&self, producer: &Transactional, commit: bool) {
        self.coordinated("the end", producer, |client| producer.try_end(client, 3, commit));
    }

    /// Committed values of all partitions, once all of them can be read to `ends`.
    fn read(&self, expected: usize) -> Vec<Vec<String>> {
        eventually("all committed records are there", || {
            let mut all = Vec::new();
            for partition in 0..PARTITIONS {
                let (values, _) = read_committed(&mut self.leader(partition)?, TOPIC, partition, 0).ok()?;
                all.push(values.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
            }
            all.iter().all(|values| values.len() >= expected).then_some(all)
        })
    }
}

#[test]
fn markers_reach_the_leaders_on_other_brokers() {
    let cluster = cluster();
    let driver = Driver { cluster: &cluster, alive: vec![1, 2, 3] };
    let mut expected = Vec::new();
    // Three ids, so that each broker coordinates one, probably.
    for (round, id) in ["x", "y", "z"].into_iter().enumerate() {
        let mut producer = Transactional::new(id);
        driver.init(&mut producer);
        for commit in [false, true] {
            driver.add(&producer);
            let value = format!("{round} {commit}");
            (0..PARTITIONS).for_each(|partition| driver.write(&mut producer, partition, &value));
            driver.end(&producer, commit);
            if commit {
                expected.push(value);
            }
        }
    }
    for values in driver.read(expected.len()) {
        assert_eq!(values, expected);
    }
}

#[test]
fn another_broker_goes_on_where_a_dead_coordinator_stopped() {
    let mut cluster = cluster();
    let mut producer = Transactional::new("id");
    Driver { cluster: &cluster, alive: vec![1, 2, 3] }.init(&mut producer);
    let mut expected = Vec::new();
    for (round, decide_first) in [(0, true), (1, false)] {
        let driver = Driver { cluster: &cluster, alive: vec![1, 2, 3] };
        driver.add(&producer);
        let value = format!("round {round}");
        (0..PARTITIONS).for_each(|partition| driver.write(&mut producer, partition, &value));
        let port = eventually("a coordinator", || producer.find(&mut driver.any()?, 4).ok()?.ok());
        let dead = cluster.ids().find(|id| i32::from(cluster.port(*id)) == port).expect("one of the brokers");
        if decide_first {
            driver.end(&producer, true);
        }
        cluster.kill(dead);
        let alive: Vec<i32> = cluster.ids().filter(|id| *id != dead).collect();
        let driver = Driver { cluster: &cluster, alive };
        // Asking again, since the answer may have been lost, gives the same.
        driver.end(&producer, true);
        expected.push(value);
        for values in driver.read(expected.len()) {
            assert_eq!(values, expected);
        }
        cluster.restart(dead);
    }
}

/// KAFKA-9307: the session of a coordinator ends, and once more as soon as the broker is back and takes over what it has to lead and to
/// follow. Whatever it was told half, every transactional id has a coordinator that works afterwards.
#[test]
fn kafka_9307_a_session_that_ends_twice_leaves_no_coordinator_half_loaded() {
    let mut cluster = cluster_with(&[("zookeeper.session.timeout.ms", "2000")]);
    let alive: Vec<i32> = cluster.ids().collect();
    // The partitions of __transaction_state have all of them.
    let mut producers: Vec<Transactional> = (0..9).map(|number| Transactional::new(&format!("id-{number}"))).collect();
    let write = |cluster: &Cluster, producers: &mut [Transactional], round: &str| {
        let driver = Driver { cluster, alive: alive.clone() };
        for (at, producer) in producers.iter_mut().enumerate() {
            driver.init(producer);
            driver.add(producer);
            driver.write(producer, at as i32 % PARTITIONS, &format!("{round} {at}"));
            driver.end(producer, true);
        }
    };
    write(&cluster, &mut producers, "before");
    let victim = cluster.partition_state("__transaction_state", 0).0;
    let mut lives = vec![eventually("registered", || cluster.zookeeper.broker_epoch(victim))];
    for _ in 0..2 {
        cluster.freeze(victim);
        eventually("the session is over", || cluster.zookeeper.broker_epoch(victim).is_none().then_some(()));
        cluster.thaw(victim);
        lives.push(eventually("registered again", || cluster.zookeeper.broker_epoch(victim)));
    }
    assert!(lives.is_sorted_by(|a, b| a < b), "{lives:?}");
    let ids: Vec<i64> = producers.iter().map(|producer| producer.producer_id).collect();
    write(&cluster, &mut producers, "after");
    let same: Vec<i64> = producers.iter().map(|producer| producer.producer_id).collect();
    assert_eq!(ids, same, "nobody was forgotten");
    assert!(producers.iter().all(|producer| producer.epoch >= 1));
    for partition in 0..3 {
        eventually("the coordinators' log is in sync", || {
            (cluster.partition_state("__transaction_state", partition).2.len() == 3).then_some(())
        });
    }
    let driver = Driver { cluster: &cluster, alive: alive.clone() };
    let committed = || driver.read(2).iter().map(Vec::len).sum::<usize>();
    eventually("all that was committed is there", || (committed() == 18).then_some(()));
}
