//! One controller and several brokers, as processes: leaders, moves of partitions, deletion, fail-over.

mod common;

use bytes::Bytes;
use common::cluster::eventually;
use common::{Client, Cluster, ZooKeeper};
use ottla::record::BatchBuilder;
use ottla::wire::RequestMessage;
use ottla::wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use ottla::wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use ottla::wire::messages::elect_leaders_request::TopicPartitions;
use ottla::wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionRequest, BrokerId, ControlledShutdownRequest,
    CreateTopicsRequest, DeleteTopicsRequest, ElectLeadersRequest, InitProducerIdRequest, LeaderAndIsrRequest,
    ListPartitionReassignmentsRequest, TopicName, UpdateMetadataRequest,
};
use ottla::wire::text;

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

fn controller(cluster: &Cluster) -> Client {
    cluster.client(eventually("a controller", || cluster.zookeeper.controller()))
}

/// Error of CreateTopics.
fn create(cluster: &Cluster, topic: CreatableTopic) -> i16 {
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    eventually("an answer of the controller", || {
        let answer = controller(cluster).call(&request, 5).ok()?;
        let code = answer.topics.first()?.error_code;
        (code != 41).then_some(code)
    })
}

fn create_assigned(cluster: &Cluster, topic: &str, replicas: &[&[i32]]) {
    let assigned = |(index, replicas): (i32, &&[i32])| {
        CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(ids(replicas))
    };
    let assignments = (0..).zip(replicas).map(assigned).collect();
    let wish = CreatableTopic::default().with_name(name(topic)).with_assignments(assignments);
    let wish = wish.with_num_partitions(-1).with_replication_factor(-1);
    assert_eq!(create(cluster, wish), 0, "{}", cluster.logs());
}

/// Leader and ISR, as ZooKeeper has them; the ISR sorted.
fn state(cluster: &Cluster, topic: &str, partition: i32) -> Option<(i32, Vec<i32>)> {
    let json = cluster.zookeeper.json(&format!("/brokers/topics/{topic}/partitions/{partition}/state"))?;
    let mut isr: Vec<i32> = json["isr"].as_array()?.iter().filter_map(|id| Some(id.as_i64()? as i32)).collect();
    isr.sort_unstable();
    Some((json["leader"].as_i64()? as i32, isr))
}

fn until_state(cluster: &Cluster, topic: &str, partition: i32, leader: i32, isr: &[i32]) {
    let what = format!("{topic}-{partition} is led by {leader} with {isr:?}");
    eventually(&what, || (state(cluster, topic, partition) == Some((leader, isr.to_vec()))).then_some(()));
}

fn batch(value: &str) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(1, None, Some(value.as_bytes()), []);
    builder.build().expect("a batch").to_bytes()
}

/// Appends one record through the leader, whoever that is by then, and returns its offset.
fn produce(cluster: &Cluster, topic: &str, partition: i32, value: &str) -> i64 {
    eventually("the record is acknowledged", || {
        let (leader, _) = state(cluster, topic, partition)?;
        let answer = Client::connect(cluster.port(leader)).ok()?.produce(topic, partition, batch(value)).ok()?;
        (answer.error_code == 0).then_some(answer.base_offset)
    })
}

/// The high watermark that a broker shows.
fn committed(cluster: &Cluster, broker: i32, topic: &str, partition: i32) -> Option<i64> {
    let data = Client::connect(cluster.port(broker)).ok()?.fetch(topic, partition, 0).ok()?;
    (data.error_code == 0).then_some(data.high_watermark)
}

/// Errors of AlterPartitionReassignments; no replicas cancel.
fn reassign(cluster: &Cluster, topic: &str, wishes: &[(i32, Option<&[i32]>)]) -> Vec<i16> {
    let partition = |(index, target): &(i32, Option<&[i32]>)| {
        ReassignablePartition::default().with_partition_index(*index).with_replicas(target.map(ids))
    };
    let wish = ReassignableTopic::default().with_name(name(topic));
    let wish = wish.with_partitions(wishes.iter().map(partition).collect());
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![wish]).with_timeout_ms(30_000);
    let answer = controller(cluster).call(&request, 0).expect("an answer");
    assert_eq!(answer.error_code, 0);
    answer.responses[0].partitions.iter().map(|partition| partition.error_code).collect()
}

/// Partitions on the move.
fn moving(cluster: &Cluster) -> usize {
    let request = ListPartitionReassignmentsRequest::default().with_topics(None).with_timeout_ms(30_000);
    let answer = controller(cluster).call(&request, 0).expect("an answer");
    answer.topics.iter().map(|topic| topic.partitions.len()).sum()
}

fn elect_preferred(cluster: &Cluster, topic: &str, partition: i32) -> i16 {
    let wish = TopicPartitions::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![wish])).with_timeout_ms(30_000);
    let answer = controller(cluster).call(&request, 2).expect("an answer");
    answer.replica_election_results[0].partition_result[0].error_code
}

#[test]
fn every_broker_leads_and_knows_who_leads() {
    let cluster = Cluster::start(3, ZooKeeper::inside(), &[]);
    let wish =
        |factor| CreatableTopic::default().with_name(name("t")).with_num_partitions(6).with_replication_factor(factor);
    assert_eq!(create(&cluster, wish(4)), 38, "more replicas than brokers");
    assert_eq!(create(&cluster, wish(1)), 0);
    let leaders = |id| cluster.client(id).leaders("t").unwrap_or_default();
    let all = leaders(cluster.zookeeper.controller().expect("a controller"));
    for id in cluster.ids() {
        assert_eq!(all.iter().filter(|leader| **leader == id).count(), 2, "{all:?}");
        eventually("another broker knows the leaders", || (leaders(id) == all).then_some(()));
    }
}

/// Two replicas for each of three partitions; a broker goes and returns, and its partition with it.
#[test]
fn leaders_move_with_their_brokers_and_return() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[("auto.leader.rebalance.enable", "false")]);
    create_assigned(&cluster, "user-logs", &[&[1, 2], &[2, 3], &[3, 1]]);
    for (partition, leader, isr) in [(0, 1, [1, 2]), (1, 2, [2, 3]), (2, 3, [1, 3])] {
        until_state(&cluster, "user-logs", partition, leader, &isr);
        assert_eq!(produce(&cluster, "user-logs", partition, "before"), 0);
    }
    assert_eq!(elect_preferred(&cluster, "user-logs", 0), 84, "not needed");
    cluster.kill(1);
    until_state(&cluster, "user-logs", 0, 2, &[2]);
    until_state(&cluster, "user-logs", 2, 3, &[3]);
    assert_eq!(produce(&cluster, "user-logs", 0, "meanwhile"), 1);
    assert_eq!(elect_preferred(&cluster, "user-logs", 0), 80, "it is away");
    cluster.restart(1);
    until_state(&cluster, "user-logs", 0, 2, &[1, 2]);
    assert_eq!(elect_preferred(&cluster, "user-logs", 0), 0);
    until_state(&cluster, "user-logs", 0, 1, &[1, 2]);
    assert_eq!(produce(&cluster, "user-logs", 0, "after"), 2);
    eventually("all that was acknowledged", || (committed(&cluster, 1, "user-logs", 0) == Some(3)).then_some(()));
}

#[test]
fn partitions_move_with_their_records() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[]);
    create_assigned(&cluster, "t", &[&[1, 2]]);
    create_assigned(&cluster, "u", &[&[1]]);
    for at in 0..5 {
        assert_eq!(produce(&cluster, "t", 0, "x"), at);
    }
    assert_eq!(reassign(&cluster, "u", &[(0, Some(&[1, 9])), (7, None)]), [39, 3]);
    assert_eq!(reassign(&cluster, "t", &[(0, Some(&[3, 2]))]), [0]);
    until_state(&cluster, "t", 0, 3, &[2, 3]);
    eventually("the move has ended", || (moving(&cluster) == 0).then_some(()));
    eventually("the new leader has it all", || (committed(&cluster, 3, "t", 0) == Some(5)).then_some(()));
    assert_eq!(produce(&cluster, "t", 0, "x"), 5);
    let old = cluster.broker(1).log_dir().join("t-0");
    eventually("the old replica is gone", || (!old.exists()).then_some(()));
    // To a broker that does not answer, and back.
    let away = if cluster.zookeeper.controller() == Some(3) { 2 } else { 3 };
    cluster.freeze(away);
    assert_eq!(reassign(&cluster, "u", &[(0, Some(&[away]))]), [0]);
    assert_eq!(moving(&cluster), 1);
    assert_eq!(reassign(&cluster, "u", &[(0, None)]), [0]);
    assert_eq!(moving(&cluster), 0);
    assert_eq!(reassign(&cluster, "u", &[(0, None)]), [85]);
    cluster.thaw(away);
    assert_eq!(state(&cluster, "u", 0), Some((1, vec![1])));
    assert_eq!(produce(&cluster, "u", 0, "x"), 0);
}

#[test]
fn the_next_controller_goes_on_where_the_killed_one_was() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "2000")]);
    let first = cluster.zookeeper.controller().expect("a controller");
    let (a, b) = (first % 3 + 1, (first + 1) % 3 + 1);
    create_assigned(&cluster, "t", &[&[a, first], &[first, b], &[b, a]]);
    assert_eq!(produce(&cluster, "t", 1, "x"), 0);
    until_state(&cluster, "t", 1, first, &sorted(first, b));
    cluster.kill(first);
    until_state(&cluster, "t", 1, b, &[b]);
    until_state(&cluster, "t", 0, a, &[a]);
    let second = cluster.zookeeper.controller().expect("a controller");
    assert_ne!(second, first);
    assert_eq!(reassign(&cluster, "t", &[(1, Some(&[a, b]))]), [0]);
    until_state(&cluster, "t", 1, b, &sorted(a, b));
    assert_eq!(produce(&cluster, "t", 1, "x"), 1);
    cluster.restart(first);
    until_state(&cluster, "t", 0, a, &sorted(a, first));
}

fn sorted(a: i32, b: i32) -> [i32; 2] {
    [a.min(b), a.max(b)]
}

#[test]
fn a_topic_is_deleted_when_its_last_broker_returns() {
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &[("zookeeper.session.timeout.ms", "2000")]);
    create_assigned(&cluster, "t", &[&[1, 2, 3], &[3, 1, 2]]);
    until_state(&cluster, "t", 0, 1, &[1, 2, 3]);
    cluster.kill(3);
    until_state(&cluster, "t", 0, 1, &[1, 2]);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]).with_timeout_ms(30_000);
    let answer = controller(&cluster).call(&request, 5).expect("an answer");
    assert_eq!(answer.responses[0].error_code, 0, "clients see it no more");
    let dirs: Vec<_> = [1, 2].map(|id| cluster.broker(id).log_dir().join("t-0")).into();
    eventually("the live brokers delete", || dirs.iter().all(|dir| !dir.exists()).then_some(()));
    assert!(cluster.zookeeper.get("/admin/delete_topics/t").is_some());
    cluster.restart(3);
    eventually("the topic is gone", || cluster.zookeeper.get("/brokers/topics/t").is_none().then_some(()));
    eventually("the marker is gone", || cluster.zookeeper.get("/admin/delete_topics/t").is_none().then_some(()));
    let left = [cluster.broker(3).log_dir().join("t-0"), cluster.broker(3).log_dir().join("t-1")];
    assert!(left.iter().all(|dir| !dir.exists()));
    create_assigned(&cluster, "t", &[&[3, 1]]);
    until_state(&cluster, "t", 0, 3, &[1, 3]);
}

/// KIP-380 and the fence of controllers, over the wire.
#[test]
fn requests_of_other_lives_are_refused() {
    let cluster = Cluster::start(2, ZooKeeper::inside(), &[]);
    let id = cluster.zookeeper.controller().expect("a controller");
    let other = 3 - id;
    let epoch = cluster.zookeeper.broker_epoch(other).expect("registered");
    fn call<R: RequestMessage>(cluster: &Cluster, id: i32, version: i16, request: &R) -> R::Response {
        cluster.client(id).call(request, version).expect("an answer")
    }
    let shutdown = |broker: i32, epoch| {
        ControlledShutdownRequest::default().with_broker_id(BrokerId(broker)).with_broker_epoch(epoch)
    };
    assert_eq!(call(&cluster, other, 3, &shutdown(other, epoch)).error_code, 41);
    assert_eq!(call(&cluster, id, 3, &shutdown(other, epoch - 1)).error_code, 77);
    assert_eq!(call(&cluster, id, 3, &shutdown(9, epoch)).error_code, 8);
    let alter = |epoch| AlterPartitionRequest::default().with_broker_id(BrokerId(other)).with_broker_epoch(epoch);
    assert_eq!(call(&cluster, other, 3, &alter(epoch)).error_code, 41);
    assert_eq!(call(&cluster, id, 3, &alter(epoch + 1)).error_code, 77);
    assert_eq!(call(&cluster, id, 3, &alter(epoch)).error_code, 0);
    let leaders = |controller_epoch, epoch| {
        LeaderAndIsrRequest::default().with_controller_epoch(controller_epoch).with_broker_epoch(epoch)
    };
    assert_eq!(call(&cluster, other, 7, &leaders(1, epoch - 1)).error_code, 77);
    assert_eq!(call(&cluster, other, 7, &leaders(0, epoch)).error_code, 11);
    let update = UpdateMetadataRequest::default().with_controller_epoch(0).with_broker_epoch(epoch);
    assert_eq!(call(&cluster, other, 8, &update).error_code, 11);
    assert_eq!(cluster.client(other).brokers().expect("metadata").len(), 2);
}

/// KIP-730: the controller hands out blocks of producer ids, to brokers that live. Brokers of before 3.0 take them from ZooKeeper.
#[test]
fn producer_ids_come_from_the_controller() {
    for (protocol, without_controller) in [("3.9", 14), ("2.8", 0)] {
        let properties = [("inter.broker.protocol.version", protocol), ("zookeeper.session.timeout.ms", "60000")];
        let mut cluster = Cluster::start(2, ZooKeeper::inside(), &properties);
        let id = eventually("a controller", || cluster.zookeeper.controller());
        let other = 3 - id;
        let ask = |cluster: &Cluster, broker| {
            let request =
                InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
            let answer = cluster.client(broker).call(&request, 4).expect("an answer");
            (answer.error_code, answer.producer_id.0)
        };
        cluster.freeze(id);
        assert_eq!(ask(&cluster, other).0, without_controller, "{protocol}: the controller does not answer");
        cluster.thaw(id);
        let answer =
            |broker| eventually("a producer id", || Some(ask(&cluster, broker)).filter(|(code, _)| *code == 0)).1;
        let (a, b) = (answer(other), answer(id));
        assert_ne!(a / 1000, b / 1000, "each broker has a block of its own");
        let latest = cluster.zookeeper.json("/latest_producer_id_block").expect("JSON");
        assert_eq!((latest["version"].as_i64(), latest["block_start"].as_str()), (Some(1), Some("1000")));
    }
}
