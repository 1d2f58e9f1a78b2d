//! Leaders ask for other ISRs.

use super::{cluster, create};
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use crate::controller::commands::Command;
use crate::controller::simulated::Sim;
use crate::controller::{Alteration, TopicKey};
use crate::zookeeper::paths::LeaderRecoveryState;

fn asked(leader_epoch: i32, isr: &[i32], partition_epoch: i32) -> Alteration {
    Alteration {
        topic: TopicKey::Name("t".into()),
        partition: 0,
        leader_epoch: LeaderEpoch(leader_epoch),
        isr: isr.iter().map(|id| (BrokerId(*id), BrokerEpoch::UNKNOWN)).collect(),
        recovery: LeaderRecoveryState::Recovered,
        partition_epoch: PartitionEpoch(partition_epoch),
    }
}

fn alter(sim: &mut Sim, leader: i32, alterations: Vec<Alteration>) -> String {
    let epoch = sim.broker_epoch(leader);
    let controller = sim.controllers()[0];
    sim.said();
    sim.command(controller, Command::AlterPartitions { broker: BrokerId(leader), epoch, alterations });
    sim.said()
}

fn answer(sim: &mut Sim, leader: i32, alteration: Alteration) -> String {
    alter(sim, leader, vec![alteration]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn an_isr_shrinks_and_grows_without_a_new_leader_epoch() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    let said = alter(&mut sim, 2, vec![asked(0, &[2], 0)]);
    let expected = "\
altered: 2/0/2 at 1
1>1 UpdateMetadata brokers=1,2,3 [t-0 2]
1>2 UpdateMetadata brokers=1,2,3 [t-0 2]
1>3 UpdateMetadata brokers=1,2,3 [t-0 2]
";
    assert_eq!(said, expected, "nobody hears of it by LeaderAndIsr");
    assert_eq!(answer(&mut sim, 2, asked(0, &[2, 3], 1)), "altered: 2/0/2,3 at 2");
    assert_eq!(sim.state("t", 0), "2/0/2,3");
}

/// A broker that is back joins the ISRs of all that it follows; one partition that lost a race costs only its own hundred.
#[test]
fn isrs_of_many_partitions_change_in_few_transactions() {
    let mut sim = cluster(&[1, 2, 3]);
    let replicas: Vec<&[i32]> = vec![&[2, 3]; 250];
    create(&mut sim, "t", &replicas);
    let all = |isr: &[i32], epoch| (0..250).map(|partition| Alteration { partition, ..asked(0, isr, epoch) }).collect();
    let before = sim.zk.transactions();
    let said = alter(&mut sim, 2, all(&[2], 0));
    assert_eq!(sim.zk.transactions() - before, 3);
    assert_eq!(said.lines().next(), Some(format!("altered: {}", vec!["2/0/2 at 1"; 250].join(" | ")).as_str()));
    let raced = r#"{"version":1,"leader":2,"leader_epoch":0,"controller_epoch":1,"isr":[2]}"#;
    sim.zk.put(&crate::zookeeper::paths::partition_state("t", 120), raced);
    let before = sim.zk.transactions();
    let said = alter(&mut sim, 2, all(&[2, 3], 1));
    assert_eq!(sim.zk.transactions() - before, 2 + 99);
    let mut expected = vec!["2/0/2,3 at 2"; 250];
    expected[120] = "InvalidUpdateVersion";
    assert_eq!(said.lines().next(), Some(format!("altered: {}", expected.join(" | ")).as_str()));
    assert_eq!((sim.state("t", 119), sim.state("t", 120)), ("2/0/2,3".into(), "2/0/2".into()));
}

/// KAFKA-2729, KAFKA-13790 and the order of the checks.
#[test]
fn what_a_leader_does_not_know_decides() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    assert_eq!(answer(&mut sim, 2, asked(0, &[2], 0)), "altered: 2/0/2 at 1");
    for (alteration, expected) in [
        (asked(0, &[2], 0), "2/0/2 at 1"),
        (asked(0, &[2], 1), "2/0/2 at 1"),
        (asked(0, &[2, 3], 0), "InvalidUpdateVersion"),
        (asked(0, &[2, 3], 7), "NotController"),
        (asked(9, &[2, 3], 1), "NotController"),
        (asked(0, &[2, 1], 1), "InvalidRequest"),
        (asked(0, &[], 1), "InvalidRequest"),
        (Alteration { recovery: LeaderRecoveryState::Recovering, ..asked(0, &[2], 1) }, "InvalidRequest"),
        (Alteration { partition: 5, ..asked(0, &[2], 1) }, "UnknownTopicOrPartition"),
        (Alteration { topic: TopicKey::Id(TopicId::random()), ..asked(0, &[2], 1) }, "UnknownTopicId"),
    ] {
        let what = format!("{alteration:?}");
        assert_eq!(answer(&mut sim, 2, alteration), format!("altered: {expected}"), "{what}");
    }
    // A new leader epoch: the old leader is told so.
    sim.down(2);
    sim.up(2);
    assert_eq!(sim.state("t", 0), "2/2/2");
    assert_eq!(answer(&mut sim, 2, asked(0, &[2, 3], 1)), "altered: FencedLeaderEpoch");
    // Somebody has written the state outside the protocol: until the next election nothing fits.
    sim.zk.put(
        &crate::zookeeper::paths::partition_state("t", 0),
        r#"{"version":1,"leader":2,"leader_epoch":2,"controller_epoch":1,"isr":[2]}"#,
    );
    assert_eq!(answer(&mut sim, 2, asked(2, &[2, 3], 3)), "altered: InvalidUpdateVersion");
}

#[test]
fn members_must_be_alive_and_the_ones_that_the_leader_saw() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    let before = sim.broker_epoch(3);
    sim.down(3);
    assert_eq!(sim.state("t", 0), "2/1/2");
    assert_eq!(answer(&mut sim, 2, asked(1, &[2, 3], 1)), "altered: IneligibleReplica");
    sim.up(3);
    let seen =
        |epoch| Alteration { isr: vec![(BrokerId(2), BrokerEpoch::UNKNOWN), (BrokerId(3), epoch)], ..asked(1, &[], 1) };
    // KIP-903: the leader has not noticed the restart.
    assert_eq!(answer(&mut sim, 2, seen(before)), "altered: IneligibleReplica");
    let now = sim.broker_epoch(3);
    assert_eq!(answer(&mut sim, 2, seen(now)), "altered: 2/1/2,3 at 2");
    sim.shutdown(1, 3);
    assert_eq!(sim.state("t", 0), "2/2/2");
    assert_eq!(answer(&mut sim, 2, asked(2, &[2, 3], 3)), "altered: IneligibleReplica");
}

/// KIP-380: the broker of an earlier life changes nothing.
#[test]
fn a_leader_of_an_earlier_life_is_refused() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    let epoch = sim.broker_epoch(2);
    sim.expire(2);
    sim.said();
    let alterations = vec![asked(0, &[2], 0)];
    sim.command(1, Command::AlterPartitions { broker: BrokerId(2), epoch, alterations: alterations.clone() });
    assert_eq!(sim.said(), "altered: StaleBrokerEpoch\n");
    sim.command(3, Command::AlterPartitions { broker: BrokerId(2), epoch, alterations });
    assert_eq!(sim.said(), "altered: NotController\n");
    sim.command(1, Command::CheckBroker { broker: BrokerId(2), epoch });
    sim.command(1, Command::CheckBroker { broker: BrokerId(9), epoch });
    let now = sim.broker_epoch(2);
    sim.command(1, Command::CheckBroker { broker: BrokerId(2), epoch: now });
    assert_eq!(sim.said(), "broker: Err(StaleBrokerEpoch)\nbroker: Err(BrokerIdNotRegistered)\nbroker: Ok(())\n");
}

/// KAFKA-6082: the write of a controller that was replaced is refused by ZooKeeper, and the leader asks the new one.
#[test]
fn a_controller_that_was_replaced_changes_no_isr() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    let epoch = sim.broker_epoch(2);
    sim.expire_unnoticed(1);
    sim.said();
    let alterations = vec![asked(0, &[2], 0)];
    sim.command(1, Command::AlterPartitions { broker: BrokerId(2), epoch, alterations });
    assert!(sim.said().contains("altered: NotController\n"), "every command is answered");
    assert_eq!(sim.state("t", 0), "2/0/2,3");
    assert_eq!(sim.controllers().len(), 1);
}

#[test]
fn an_unclean_leader_says_when_it_has_recovered() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    sim.down(3);
    sim.down(2);
    sim.up(3);
    let tp = TopicPartition::new("t", 0);
    sim.command(1, Command::ElectLeaders { partitions: Some(vec![tp]), unclean: true });
    assert_eq!(sim.state("t", 0), "3/3/3");
    let state = sim.zk.text(&crate::zookeeper::paths::partition_state("t", 0)).unwrap();
    assert!(state.contains(r#""leader_recovery_state":1"#), "{state}");
    sim.up(2);
    let recovering = |isr: &[i32]| Alteration { recovery: LeaderRecoveryState::Recovering, ..asked(3, isr, 3) };
    assert_eq!(answer(&mut sim, 3, recovering(&[3, 2])), "altered: InvalidRequest");
    assert_eq!(answer(&mut sim, 3, asked(3, &[3], 3)), "altered: 3/3/3 at 4");
    let state = sim.zk.text(&crate::zookeeper::paths::partition_state("t", 0)).unwrap();
    assert!(!state.contains("recovery"), "{state}");
}
