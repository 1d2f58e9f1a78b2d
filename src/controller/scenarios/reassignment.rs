//! Partitions move to other replicas.

use super::{cluster, create, delete};
use crate::base::{BrokerId, TopicPartition};
use crate::controller::commands::Command;
use crate::controller::reassignment::Wishes;
use crate::controller::simulated::Sim;
use crate::zookeeper::paths;

fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

/// Empty cancels.
fn reassign(sim: &mut Sim, wishes: &[(i32, &[i32])]) -> String {
    let wish = |(partition, target): &(i32, &[i32])| (t(*partition), (!target.is_empty()).then(|| ids(target)));
    let wishes: Wishes = wishes.iter().map(wish).collect();
    sim.said();
    let controller = sim.controllers()[0];
    sim.command(controller, Command::AlterReassignments(wishes));
    sim.said()
}

/// `replicas +adding -removing` of the topic's znode.
fn assignment(sim: &Sim, partition: i32) -> String {
    let znode = paths::TopicZnode::parse(sim.zk.text(&paths::topic("t")).unwrap().as_bytes()).unwrap();
    let list = |ids: &[BrokerId]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let assignment = &znode.partitions[&partition];
    let mut text = list(&assignment.replicas);
    for (sign, ids) in [('+', &assignment.adding), ('-', &assignment.removing)] {
        if !ids.is_empty() {
            text.push_str(&format!(" {sign}{}", list(ids)));
        }
    }
    text
}

#[test]
fn a_partition_moves_when_its_new_replicas_are_in_sync() {
    let mut sim = cluster(&[1, 2, 3, 4]);
    create(&mut sim, "t", &[&[1, 2]]);
    let said = reassign(&mut sim, &[(0, &[3, 4])]);
    assert_eq!(assignment(&sim, 0), "3,4,1,2 +3,4 -1,2");
    assert_eq!(sim.state("t", 0), "1/1/1,2");
    let expected = "\
1>1 LeaderAndIsr [t-0 1/1/1,2]
1>2 LeaderAndIsr [t-0 1/1/1,2]
1>3 LeaderAndIsr [t-0 1/1/1,2 new]
1>4 LeaderAndIsr [t-0 1/1/1,2 new]
";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains("reassigned: Ok({t-0: None})"), "{said}");
    // One of two is not enough.
    sim.alter_isr("t", 0, &[1, 2, 3]);
    assert_eq!(assignment(&sim, 0), "3,4,1,2 +3,4 -1,2");
    sim.said();
    sim.alter_isr("t", 0, &[1, 2, 3, 4]);
    assert_eq!(assignment(&sim, 0), "3,4");
    assert_eq!(sim.state("t", 0), "3/3/3,4");
    let said = sim.said();
    for line in [
        "1>3 LeaderAndIsr [t-0 3/2/1,2,3,4]\n",
        "1>1 StopReplica [t-0 3]\n",
        "1>2 StopReplica [t-0 3]\n",
        "1>1 StopReplica [t-0 3 delete]\n",
        "1>2 StopReplica [t-0 3 delete]\n",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(sim.context(1).reassigning.is_empty());
    sim.command(1, Command::ListReassignments);
    assert!(sim.said().ends_with("moving: Ok({})\n"));
}

#[test]
fn the_replication_factor_grows_and_shrinks_around_the_leader() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2]]);
    reassign(&mut sim, &[(0, &[1, 2, 3])]);
    assert_eq!(assignment(&sim, 0), "1,2,3 +3");
    sim.alter_isr("t", 0, &[1, 2, 3]);
    assert_eq!(assignment(&sim, 0), "1,2,3");
    assert_eq!(sim.state("t", 0), "1/2/1,2,3", "the leader stays, the epoch tells of the new list");
    let said = reassign(&mut sim, &[(0, &[1])]);
    assert_eq!((assignment(&sim, 0).as_str(), sim.state("t", 0).as_str()), ("1", "1/4/1"));
    assert!(said.contains("1>3 StopReplica [t-0 4 delete]"), "{said}");
    // Only the order changes, and with it who is to lead.
    reassign(&mut sim, &[(0, &[1, 2])]);
    sim.alter_isr("t", 0, &[1, 2]);
    reassign(&mut sim, &[(0, &[2, 1])]);
    assert_eq!(assignment(&sim, 0), "2,1");
    assert!(sim.state("t", 0).starts_with("1/"));
    sim.command(1, Command::ElectLeaders { partitions: Some(vec![t(0)]), unclean: false });
    assert!(sim.state("t", 0).starts_with("2/"));
}

#[test]
fn a_move_can_be_cancelled() {
    let mut sim = cluster(&[1, 2, 3, 4]);
    create(&mut sim, "t", &[&[1, 2]]);
    reassign(&mut sim, &[(0, &[3, 4])]);
    sim.alter_isr("t", 0, &[1, 2, 3]);
    let said = reassign(&mut sim, &[(0, &[])]);
    assert_eq!(assignment(&sim, 0), "1,2");
    assert!(said.contains("1>3 StopReplica [t-0 2 delete]") && said.contains("1>4 StopReplica"), "{said}");
    assert_eq!(sim.state("t", 0), "1/3/1,2", "the replica that had come in leaves the ISR");
    let said = reassign(&mut sim, &[(0, &[])]);
    assert_eq!(said, "reassigned: Ok({t-0: NoReassignmentInProgress})\n");
}

#[test]
fn a_wish_that_leaves_no_replica_with_the_records_is_refused() {
    let mut sim = cluster(&[1, 2, 3, 4]);
    create(&mut sim, "t", &[&[2, 3]]);
    reassign(&mut sim, &[(0, &[4, 1])]);
    sim.alter_isr("t", 0, &[2, 3, 4]);
    sim.down(2);
    sim.down(3);
    let before = assignment(&sim, 0);
    for wish in [&[][..], &[2, 3]] {
        let said = reassign(&mut sim, &[(0, wish)]);
        assert_eq!(said, "reassigned: Ok({t-0: InvalidReplicaAssignment})\n");
        assert_eq!((assignment(&sim, 0), sim.state("t", 0)), (before.clone(), "4/3/4".to_owned()));
    }
}

#[test]
fn a_new_wish_overtakes_the_old_one() {
    let mut sim = cluster(&[1, 2, 3, 4]);
    create(&mut sim, "t", &[&[1, 2]]);
    reassign(&mut sim, &[(0, &[3, 2])]);
    assert_eq!(assignment(&sim, 0), "3,2,1 +3 -1");
    let said = reassign(&mut sim, &[(0, &[4, 2])]);
    assert_eq!(assignment(&sim, 0), "4,2,1 +4 -1");
    assert!(said.contains("1>3 StopReplica [t-0 1 delete]"), "{said}");
    sim.alter_isr("t", 0, &[1, 2, 4]);
    assert_eq!(assignment(&sim, 0), "4,2");
}

#[test]
fn wishes_that_make_no_sense_are_refused_one_by_one() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2]]);
    let said = reassign(&mut sim, &[(0, &[1, 9]), (1, &[1, 1]), (2, &[1, -1]), (3, &[]), (4, &[1, 3]), (7, &[1])]);
    let expected = "reassigned: Ok({t-0: InvalidReplicaAssignment, t-1: InvalidReplicaAssignment, \
                    t-2: InvalidReplicaAssignment, t-3: NoReassignmentInProgress, t-4: None, \
                    t-7: UnknownTopicOrPartition})\n";
    assert!(said.ends_with(expected), "{said}");
    let empty = Wishes::from([(t(0), Some(Vec::new()))]);
    sim.said();
    sim.command(1, Command::AlterReassignments(empty.clone()));
    assert_eq!(sim.said(), "reassigned: Ok({t-0: InvalidReplicaAssignment})\n");
    sim.command(2, Command::AlterReassignments(empty));
    assert_eq!(sim.said(), "reassigned: Err(NotController)\n");
}

#[test]
fn the_next_controller_goes_on() {
    let mut sim = cluster(&[1, 2, 3, 4]);
    create(&mut sim, "t", &[&[2, 3]]);
    reassign(&mut sim, &[(0, &[3, 4])]);
    sim.down(1);
    assert_eq!(assignment(&sim, 0), "3,4,2 +4 -2");
    sim.alter_isr("t", 0, &[2, 3, 4]);
    assert_eq!(assignment(&sim, 0), "3,4");
    assert!(sim.state("t", 0).ends_with("/3,4"), "{}", sim.state("t", 0));
}

#[test]
fn a_move_waits_for_a_broker_that_is_away() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2]]);
    reassign(&mut sim, &[(0, &[1, 3])]);
    sim.down(3);
    assert_eq!(assignment(&sim, 0), "1,3,2 +3 -2");
    sim.said();
    sim.up(3);
    assert!(sim.said().contains("1>3 LeaderAndIsr [t-0 1/"));
    sim.alter_isr("t", 0, &[1, 2, 3]);
    assert_eq!(assignment(&sim, 0), "1,3");
}

/// KAFKA-9672: the ISR stays within the replicas.
#[test]
fn an_isr_change_in_the_middle_of_the_last_step_is_not_lost() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2]]);
    reassign(&mut sim, &[(0, &[1, 3])]);
    // The state changes between the read of the last step and its write.
    let raced = r#"{"version":1,"leader":1,"leader_epoch":1,"controller_epoch":1,"isr":[1,3]}"#;
    sim.zk.put(
        &paths::partition_state("t", 0),
        r#"{"version":1,"leader":1,"leader_epoch":1,"controller_epoch":1,"isr":[1,2,3]}"#,
    );
    sim.interference = Some((paths::partition_state("t", 0), raced.into()));
    reassign(&mut sim, &[(0, &[1, 3])]);
    assert_eq!((assignment(&sim, 0).as_str(), sim.state("t", 0).as_str()), ("1,3", "1/2/1,3"));
}

#[test]
fn partitions_that_are_added_meanwhile_are_kept() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2]]);
    let grown = r#"{"version":3,"topic_id":"jYo5pkLjTbSGZwZwFEPqQA","partitions":{"0":[1,2],"1":[2,1]},"adding_replicas":{},"removing_replicas":{}}"#;
    sim.interference = Some((paths::topic("t"), grown.into()));
    reassign(&mut sim, &[(0, &[1, 3])]);
    assert_eq!((assignment(&sim, 0).as_str(), assignment(&sim, 1).as_str()), ("1,3,2 +3 -2", "2,1"));
    assert_eq!(sim.state("t", 1), "2/0/2,1");
}

#[test]
fn the_znode_of_old_tools_is_worked_off() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2], &[1, 2]]);
    let wish = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,3]},
        {"topic":"t","partition":1,"replicas":[3,2]},{"topic":"x","partition":0,"replicas":[1]},
        {"topic":"t","partition":1,"replicas":[3,2]}]}"#;
    sim.zk.put(paths::REASSIGN_PARTITIONS, wish);
    sim.settle();
    assert_eq!((assignment(&sim, 0).as_str(), assignment(&sim, 1).as_str()), ("1,3,2 +3 -2", "3,2,1 +3 -1"));
    let left = |sim: &Sim| {
        let text = sim.zk.text(paths::REASSIGN_PARTITIONS)?;
        let list = paths::ReassignmentList::parse(text.as_bytes()).unwrap();
        Some(list.0.into_iter().map(|(tp, _)| tp.to_string()).collect::<std::collections::BTreeSet<_>>().len())
    };
    assert_eq!(left(&sim), Some(2), "the unknown topic is taken out");
    let epoch = sim.state("t", 1);
    sim.alter_isr("t", 0, &[1, 2, 3]);
    assert_eq!(left(&sim), Some(1));
    assert_eq!(sim.state("t", 1), epoch, "what is left does not begin anew");
    sim.alter_isr("t", 1, &[1, 2, 3]);
    assert_eq!(left(&sim), None);
    // The next one is noticed.
    sim.zk.put(
        paths::REASSIGN_PARTITIONS,
        r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[2,1]}]}"#,
    );
    sim.settle();
    assert_eq!(assignment(&sim, 0), "2,1,3 +2 -3");
    sim.zk.put(paths::REASSIGN_PARTITIONS, "garbage");
    reassign(&mut sim, &[(0, &[1, 2])]);
    assert_eq!(left(&sim), None, "a wish through the API overtakes");
}

#[test]
fn deletion_waits_for_a_move_and_a_move_does_not_begin_on_what_is_deleted() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2]]);
    reassign(&mut sim, &[(0, &[1, 3])]);
    delete(&mut sim, "t");
    assert_eq!(assignment(&sim, 0), "1,3,2 +3 -2");
    assert_eq!(reassign(&mut sim, &[(0, &[1, 2])]), "reassigned: Ok({t-0: UnknownTopicOrPartition})\n");
    sim.alter_isr("t", 0, &[1, 2, 3]);
    assert_eq!(sim.zk.text(&paths::topic("t")), None);
    assert_eq!(sim.zk.text(&paths::delete_topic("t")), None);
}
