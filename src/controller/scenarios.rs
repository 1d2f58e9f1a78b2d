//! What the controller does, as scenarios: events in, requests and znodes out.

mod isr;
mod reassignment;

use super::commands::Command;
use super::event::UncleanChange;
use super::machine::Event;
use super::simulated::Sim;
use crate::base::{BrokerId, TopicPartition};
use crate::zookeeper::paths;

fn cluster(brokers: &[i32]) -> Sim {
    let mut sim = Sim::new();
    for broker in brokers {
        sim.up(*broker);
    }
    sim.said();
    sim
}

fn topic_json(partitions: &[&[i32]]) -> String {
    let lists: Vec<String> = (0..).zip(partitions).map(|(number, list)| format!("\"{number}\":{list:?}")).collect();
    format!(
        r#"{{"version":3,"topic_id":"jYo5pkLjTbSGZwZwFEPqQA","partitions":{{{}}},"adding_replicas":{{}},"removing_replicas":{{}}}}"#,
        lists.join(",")
    )
}

fn create(sim: &mut Sim, topic: &str, partitions: &[&[i32]]) {
    sim.zk.put(&format!("/config/topics/{topic}"), r#"{"version":1,"config":{}}"#);
    sim.zk.put(&paths::topic(topic), &topic_json(partitions));
    sim.settle();
}

fn delete(sim: &mut Sim, topic: &str) {
    sim.zk.put(&paths::delete_topic(topic), "");
    sim.settle();
}

#[test]
fn the_first_broker_is_elected_and_writes_what_kafka_writes() {
    let mut sim = Sim::new();
    sim.up(3);
    assert_eq!(sim.controllers(), [3]);
    assert_eq!(sim.zk.text("/controller_epoch").as_deref(), Some("1"));
    assert_eq!(sim.zk.text("/feature").as_deref(), Some(r#"{"features":{},"status":1,"version":2}"#));
    assert_eq!(sim.said(), "3>3 UpdateMetadata brokers=3\n");
    sim.up(4);
    assert_eq!(sim.controllers(), [3]);
    assert_eq!(sim.said(), "3>3 UpdateMetadata brokers=3,4\n3>4 UpdateMetadata brokers=3,4\n");
}

#[test]
fn a_new_topic_gets_leaders() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[1, 2], &[2, 1]]);
    assert_eq!((sim.state("t", 0), sim.state("t", 1)), ("1/0/1,2".into(), "2/0/2,1".into()));
    assert_eq!(
        sim.zk.text(&paths::partition_state("t", 0)).as_deref(),
        Some(r#"{"controller_epoch":1,"isr":[1,2],"leader":1,"leader_epoch":0,"version":1}"#)
    );
    let expected = "\
1>1 LeaderAndIsr [t-0 1/0/1,2 new] [t-1 2/0/2,1 new]
1>2 LeaderAndIsr [t-0 1/0/1,2 new] [t-1 2/0/2,1 new]
1>1 UpdateMetadata brokers=1,2 [t-0 1] [t-1 2]
1>2 UpdateMetadata brokers=1,2 [t-0 1] [t-1 2]
";
    assert_eq!(sim.said(), expected);
}

#[test]
fn a_topic_grows() {
    let mut sim = cluster(&[1]);
    create(&mut sim, "t", &[&[1]]);
    sim.said();
    create(&mut sim, "t", &[&[1], &[1]]);
    assert_eq!((sim.state("t", 0), sim.state("t", 1)), ("1/0/1".into(), "1/0/1".into()));
    assert_eq!(sim.said(), "1>1 LeaderAndIsr [t-1 1/0/1 new]\n1>1 UpdateMetadata brokers=1 [t-1 1]\n");
}

#[test]
fn a_topic_with_more_partitions_than_one_transaction_holds() {
    let mut sim = cluster(&[1]);
    let replicas: Vec<&[i32]> = vec![&[1]; 250];
    create(&mut sim, "t", &replicas);
    assert!((0..250).all(|partition| sim.state("t", partition) == "1/0/1"));
    assert_eq!(sim.said().matches(" new]").count(), 250);
}

#[test]
fn partitions_that_an_earlier_controller_began_are_finished() {
    let mut sim = cluster(&[1]);
    sim.zk.put(&paths::partition("t", 0), "");
    let led = r#"{"version":1,"leader":1,"leader_epoch":7,"controller_epoch":1,"isr":[1]}"#;
    sim.zk.put(&paths::partition_state("t", 1), led);
    create(&mut sim, "t", &[&[1], &[1], &[1]]);
    assert_eq!([0, 1, 2].map(|partition| sim.state("t", partition)), ["1/0/1", "1/8/1", "1/0/1"]);
}

#[test]
fn topics_without_an_id_get_one() {
    let mut sim = cluster(&[1]);
    sim.zk.put(&paths::topic("t"), r#"{"version":1,"partitions":{"0":[1]}}"#);
    sim.settle();
    let znode = paths::TopicZnode::parse(sim.zk.text(&paths::topic("t")).unwrap().as_bytes()).unwrap();
    assert!(znode.topic_id.is_some_and(|id| !id.is_zero()));
    assert_eq!(sim.state("t", 0), "1/0/1");
}

#[test]
fn hostile_and_malformed_znodes_change_nothing() {
    let mut sim = cluster(&[1]);
    sim.zk.put("/brokers/topics/a b", &topic_json(&[&[1]]));
    sim.zk.put("/brokers/topics/bad", "{");
    sim.zk.put("/brokers/ids/x", "{}");
    sim.zk.put("/brokers/ids/7", "[]");
    create(&mut sim, "t", &[&[1]]);
    assert_eq!(sim.state("t", 0), "1/0/1");
    assert!(sim.zk.text("/brokers/topics/a b/partitions").is_none());
    assert_eq!(sim.controllers(), [1]);
}

#[test]
fn a_broker_dies_and_returns() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3], &[3, 2], &[2]]);
    sim.said();
    sim.down(2);
    // The last member of an ISR stays in it, without a leader.
    assert_eq!([0, 1, 2].map(|partition| sim.state("t", partition)), ["3/1/3", "3/1/3", "-1/1/2"]);
    let said = sim.said();
    assert!(
        said.contains("1>3 LeaderAndIsr [t-0 3/1/3] [t-1 3/1/3]") || said.contains("1>3 LeaderAndIsr [t-0 3/1/3]\n"),
        "{said}"
    );
    sim.up(2);
    assert_eq!([0, 1, 2].map(|partition| sim.state("t", partition)), ["3/1/3", "3/1/3", "2/2/2"]);
    let said = sim.said();
    assert!(said.contains("1>2 LeaderAndIsr [t-0 3/1/3] [t-1 3/1/3] [t-2 -1/1/2]"), "{said}");
    assert!(said.contains("1>2 LeaderAndIsr [t-2 2/2/2]"), "{said}");
    // Everybody hears who is alive before a leader is named.
    let first = |what: &str| said.find(what).unwrap_or(usize::MAX);
    assert!(first("1>2 UpdateMetadata brokers=1,2,3") < first("1>2 LeaderAndIsr"), "{said}");
}

#[test]
fn a_bounced_broker_is_told_everything_again() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[2, 1], &[2]]);
    sim.said();
    sim.expire(2);
    assert_eq!((sim.state("t", 0), sim.state("t", 1)), ("1/1/1".into(), "2/2/2".into()));
    assert!(sim.said().contains("1>2 LeaderAndIsr"));
}

#[test]
fn the_controller_dies_and_another_takes_over() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2], &[3, 1]]);
    sim.said();
    sim.down(1);
    let controllers = sim.controllers();
    assert_eq!(controllers.len(), 1);
    assert_eq!(sim.zk.text("/controller_epoch").as_deref(), Some("2"));
    assert_eq!((sim.state("t", 0), sim.state("t", 1)), ("2/1/2".into(), "3/1/3".into()));
    let said = sim.said();
    let first_line = said.lines().next().unwrap_or_default();
    assert!(first_line.ends_with("UpdateMetadata brokers=2,3"), "{said}");
}

/// Nobody is told first that the dead one leads: who waits for a leader hears of it in the first LeaderAndIsr.
#[test]
fn a_new_controller_elects_before_it_tells() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[1, 2, 3], &[3, 2, 1]]);
    sim.said();
    sim.down(1);
    let controller = sim.controllers()[0];
    let said = sim.said();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("LeaderAndIsr")).collect();
    assert_eq!(told[0], format!("{controller}>2 LeaderAndIsr [t-0 2/1/2,3] [t-1 3/0/3,2,1]"), "{said}");
    assert_eq!(told[1], format!("{controller}>3 LeaderAndIsr [t-0 2/1/2,3] [t-1 3/0/3,2,1]"), "{said}");
    // And then the dead one leaves the ISR of what others lead.
    assert_eq!(sim.state("t", 1), "3/1/3,2");
}

/// Hundreds of elections and ISRs go to ZooKeeper in few transactions; one that lost a race costs only its own.
#[test]
fn leaders_of_many_partitions_are_elected_in_few_transactions() {
    let mut sim = cluster(&[1, 2, 3]);
    let replicas: Vec<&[i32]> = (0..250).map(|at| [&[2, 3][..], &[3, 2][..]][at % 2]).collect();
    create(&mut sim, "t", &replicas);
    // A leader of an old version has shrunk its ISR by itself.
    let raced = r#"{"version":1,"leader":3,"leader_epoch":0,"controller_epoch":1,"isr":[3]}"#;
    sim.zk.put(&paths::partition_state("t", 101), raced);
    let raced = r#"{"version":1,"leader":2,"leader_epoch":0,"controller_epoch":1,"isr":[2]}"#;
    sim.zk.put(&paths::partition_state("t", 100), raced);
    sim.said();
    let before = sim.zk.transactions();
    sim.down(2);
    for at in (0..250).filter(|at| ![100, 101].contains(at)) {
        assert_eq!(sim.state("t", at), "3/1/3", "partition {at}");
    }
    assert_eq!((sim.state("t", 100), sim.state("t", 101)), ("-1/1/2".into(), "3/0/3".into()));
    // Two for the elections and two for the ISRs, of which one each falls apart into its hundred.
    let transactions = sim.zk.transactions() - before;
    assert!((200..215).contains(&transactions), "{transactions}");
    let warned = sim.said();
    assert!(!warned.contains("warns"), "{warned}");
}

/// KAFKA-6082
#[test]
fn a_controller_whose_session_expired_changes_nothing() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[1, 2]]);
    sim.expire_unnoticed(1);
    assert_eq!(sim.controllers(), [1, 2], "the old one does not know yet");
    assert_eq!(sim.state("t", 0), "2/1/2");
    sim.said();
    // It still acts on what it hears late, and is fenced.
    sim.zk.put(&paths::topic("t2"), &topic_json(&[&[1]]));
    sim.event(1, Event::Changed { path: paths::BROKER_TOPICS.into(), children: true });
    assert_eq!(sim.controllers(), [2]);
    assert!(sim.said().contains("1 warns: another controller was elected"));
}

#[test]
fn a_session_that_expires_costs_the_office() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[1, 2]]);
    sim.expire(1);
    assert_eq!(sim.controllers(), [2]);
    assert_eq!(sim.zk.text("/controller_epoch").as_deref(), Some("2"));
    assert_eq!(sim.context(1).brokers.len(), 0);
    assert_eq!(sim.state("t", 0), "2/1/2");
}

#[test]
fn a_lone_broker_whose_session_expires_leads_again() {
    let mut sim = cluster(&[1]);
    create(&mut sim, "t", &[&[1]]);
    sim.said();
    sim.expire(1);
    assert_eq!(sim.controllers(), [1]);
    assert_eq!(sim.state("t", 0), "1/0/1");
    let expected = "\
1>1 UpdateMetadata brokers=1
1>1 LeaderAndIsr [t-0 1/0/1]
1>1 UpdateMetadata brokers=1 [t-0 1]
";
    assert_eq!(sim.said(), expected);
}

#[test]
fn an_election_that_lost_a_race_reads_the_state_again() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    // A leader of an old version shrinks the ISR by itself meanwhile.
    let raced = r#"{"version":1,"leader":2,"leader_epoch":0,"controller_epoch":1,"isr":[2]}"#;
    sim.interference = Some((paths::partition_state("t", 0), raced.into()));
    sim.down(2);
    assert_eq!(sim.state("t", 0), "-1/1/2");
}

#[test]
fn unclean_election_only_where_it_is_allowed() {
    for (config, expected) in [("{}", "-1/2/2"), (r#"{"unclean.leader.election.enable":"true"}"#, "3/3/3")] {
        let mut sim = cluster(&[1, 2, 3]);
        create(&mut sim, "t", &[&[2, 3]]);
        sim.zk.put("/config/topics/t", &format!(r#"{{"version":1,"config":{config}}}"#));
        sim.down(3);
        assert_eq!(sim.state("t", 0), "2/1/2");
        sim.down(2);
        sim.up(3);
        assert_eq!(sim.state("t", 0), expected);
    }
}

#[test]
fn a_config_that_allows_unclean_elections_acts_at_once() {
    let lost = |config: &str| {
        let mut sim = cluster(&[1, 2, 3]);
        create(&mut sim, "t", &[&[2, 3]]);
        sim.down(3);
        sim.down(2);
        sim.up(3);
        assert_eq!(sim.state("t", 0), "-1/2/2");
        sim.zk.put("/config/topics/t", &format!(r#"{{"version":1,"config":{config}}}"#));
        sim
    };
    let mut sim = lost(r#"{"unclean.leader.election.enable":"true"}"#);
    sim.event(1, Event::Unclean(UncleanChange::Allowed(Some("other".into()))));
    assert_eq!(sim.state("t", 0), "-1/2/2");
    sim.event(1, Event::Unclean(UncleanChange::Allowed(Some("t".into()))));
    assert_eq!(sim.state("t", 0), "3/3/3");
    let mut sim = lost("{}");
    sim.event(1, Event::Unclean(UncleanChange::Default(false)));
    assert_eq!(sim.state("t", 0), "-1/2/2");
    sim.event(1, Event::Unclean(UncleanChange::Default(true)));
    assert_eq!(sim.state("t", 0), "3/3/3");
}

/// The whole restart fits between two looks at the list of brokers: the epoch gives it away.
#[test]
fn a_broker_that_was_gone_unseen_is_known_by_its_epoch() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[2, 1], &[2]]);
    sim.said();
    sim.restart_unseen(2);
    assert_eq!((sim.state("t", 0), sim.state("t", 1)), ("1/1/1".into(), "2/2/2".into()));
    let said = sim.said();
    assert!(said.contains("1>2 LeaderAndIsr [t-0 1/1/1] [t-1 -1/1/2]"), "{said}");
}

/// A shutdown that is asked for of a controller which loses its office meanwhile is refused, not forgotten.
#[test]
fn every_command_is_answered() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    sim.expire_unnoticed(1);
    sim.said();
    sim.shutdown(1, 2);
    let said = sim.said();
    assert!(said.contains("shutdown: NotController\n") && !sim.controllers().contains(&1), "{said}");
}

#[test]
fn controlled_shutdown_moves_leaders() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[2, 1], &[1, 2], &[2]]);
    sim.said();
    sim.shutdown(1, 2);
    assert_eq!([0, 1, 2].map(|partition| sim.state("t", partition)), ["1/1/1", "1/1/1", "2/0/2"]);
    let said = sim.said();
    assert!(said.contains("1>2 StopReplica [t-1 0]") || said.contains("1>2 StopReplica [t-1 1]"), "{said}");
    assert!(said.ends_with("shutdown: 0 left\n"), "{said}");
    sim.shutdown(2, 2);
    assert_eq!(sim.said(), "shutdown: NotController\n");
}

/// Its producers are sent to the new leader, who must know by then.
#[test]
fn a_stopping_broker_hears_last_who_leads_now() {
    let mut sim = cluster(&[2, 1, 3]);
    create(&mut sim, "t", &[&[1, 2, 3]]);
    sim.said();
    sim.shutdown(2, 1);
    let said = sim.said();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("LeaderAndIsr")).collect();
    let expected = ["2>2", "2>3", "2>1"].map(|way| format!("{way} LeaderAndIsr [t-0 2/1/2,3]"));
    assert_eq!(told, expected, "{said}");
}

#[test]
fn preferred_leaders_return() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[2, 1]]);
    sim.down(2);
    sim.up(2);
    assert_eq!(sim.state("t", 0), "1/1/1");
    let tp = TopicPartition::new("t", 0);
    sim.said();
    sim.command(1, Command::ElectLeaders { partitions: Some(vec![tp.clone()]), unclean: false });
    assert_eq!(sim.said(), "elected: Ok({t-0: PreferredLeaderNotAvailable})\n");
    // The replica is back in the ISR: its leader, of an old version, wrote so itself.
    let caught_up = r#"{"version":1,"leader":1,"leader_epoch":1,"controller_epoch":1,"isr":[1,2]}"#;
    sim.zk.put(&paths::partition_state("t", 0), caught_up);
    let notification = r#"{"version":1,"partitions":[{"topic":"t","partition":0}]}"#;
    sim.zk.put("/isr_change_notification/isr_change_0000000000", notification);
    sim.settle();
    assert_eq!(sim.zk.text("/isr_change_notification/isr_change_0000000000"), None);
    sim.zk.put(paths::PREFERRED_REPLICA_ELECTION, notification);
    sim.settle();
    assert_eq!(sim.state("t", 0), "2/2/1,2");
    assert_eq!(sim.zk.text(paths::PREFERRED_REPLICA_ELECTION), None);
    sim.said();
    sim.command(1, Command::ElectLeaders { partitions: Some(vec![tp, TopicPartition::new("x", 0)]), unclean: false });
    assert_eq!(sim.said(), "elected: Ok({t-0: ElectionNotNeeded, x-0: UnknownTopicOrPartition})\n");
}

#[test]
fn leaders_that_drifted_are_brought_back_in_time() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[2, 1]]);
    sim.down(2);
    sim.up(2);
    let caught_up = r#"{"version":1,"leader":1,"leader_epoch":1,"controller_epoch":1,"isr":[1,2]}"#;
    sim.zk.put(&paths::partition_state("t", 0), caught_up);
    sim.zk.put(
        "/isr_change_notification/isr_change_0000000000",
        r#"{"version":1,"partitions":[{"topic":"t","partition":0}]}"#,
    );
    sim.settle();
    sim.pass_time();
    assert_eq!(sim.state("t", 0), "2/2/1,2");
}

#[test]
fn a_deleted_topic_leaves_nothing() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[1, 2], &[2]]);
    sim.said();
    delete(&mut sim, "t");
    for path in ["/brokers/topics/t", "/config/topics/t", "/admin/delete_topics/t"] {
        assert_eq!(sim.zk.text(path), None, "{path}");
    }
    let expected = "\
1>1 UpdateMetadata brokers=1,2 [t-0 -2] [t-1 -2]
1>2 UpdateMetadata brokers=1,2 [t-0 -2] [t-1 -2]
1>1 StopReplica [t-0 -2]
1>2 StopReplica [t-0 -2] [t-1 -2]
1>1 StopReplica [t-0 -2 delete]
1>2 StopReplica [t-0 -2 delete] [t-1 -2 delete]
";
    assert_eq!(sim.said(), expected);
    create(&mut sim, "t", &[&[2]]);
    assert_eq!(sim.state("t", 0), "2/0/2");
}

#[test]
fn deletion_waits_for_brokers_that_are_away_or_refuse() {
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    sim.down(3);
    delete(&mut sim, "t");
    assert!(sim.zk.text("/admin/delete_topics/t").is_some());
    sim.up(3);
    assert_eq!(sim.zk.text("/brokers/topics/t"), None);

    create(&mut sim, "t", &[&[2, 3]]);
    sim.refusing.insert(2);
    delete(&mut sim, "t");
    assert!(sim.zk.text("/brokers/topics/t").is_some());
    sim.refusing.clear();
    sim.pass_time();
    assert_eq!(sim.zk.text("/brokers/topics/t"), None);
}

#[test]
fn a_deletion_that_was_cut_short_is_taken_up_by_the_next_controller() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[2], &[2]]);
    sim.refusing.insert(2);
    delete(&mut sim, "t");
    sim.zk.put("/admin/delete_topics/unknown", "");
    sim.refusing.clear();
    sim.down(1);
    assert_eq!(sim.controllers(), [2]);
    assert_eq!(sim.zk.text("/brokers/topics/t"), None);
    assert_eq!(sim.zk.text("/admin/delete_topics/t"), None);
    assert_eq!(sim.zk.text("/admin/delete_topics/unknown"), None);
}

#[test]
fn growth_of_a_topic_that_is_being_deleted_is_reverted() {
    let mut sim = cluster(&[1, 2]);
    create(&mut sim, "t", &[&[1, 2]]);
    sim.refusing.insert(2);
    delete(&mut sim, "t");
    create(&mut sim, "t", &[&[1, 2], &[1, 2]]);
    let znode = paths::TopicZnode::parse(sim.zk.text(&paths::topic("t")).unwrap().as_bytes()).unwrap();
    assert_eq!(znode.partitions.len(), 1);
}

#[test]
fn a_lost_log_directory_moves_its_leaders() {
    use super::requests::{ControlRequest, ControlResponse};
    use crate::wire::messages::leader_and_isr_request::LeaderAndIsrTopicState;
    use crate::wire::messages::leader_and_isr_response::{LeaderAndIsrPartitionError, LeaderAndIsrTopicError};
    use crate::wire::messages::{LeaderAndIsrRequest, LeaderAndIsrResponse, TopicName};
    let mut sim = cluster(&[1, 2, 3]);
    create(&mut sim, "t", &[&[2, 3]]);
    sim.said();
    sim.zk.put("/log_dir_event_notification/log_dir_event_0000000000", r#"{"version":1,"broker":2,"event":1}"#);
    sim.settle();
    assert!(sim.said().contains("1>2 LeaderAndIsr [t-0 2/0/2,3]"));
    assert_eq!(sim.zk.text("/log_dir_event_notification/log_dir_event_0000000000"), None);
    let id = uuid::Uuid::from_u128(7);
    let state = LeaderAndIsrTopicState::default().with_topic_name(TopicName(crate::wire::text("t"))).with_topic_id(id);
    let error = LeaderAndIsrPartitionError::default().with_partition_index(0).with_error_code(56);
    let topic = LeaderAndIsrTopicError::default().with_topic_id(id).with_partition_errors(vec![error]);
    let request = ControlRequest::LeaderAndIsr(LeaderAndIsrRequest::default().with_topic_states(vec![state]));
    let response = ControlResponse::LeaderAndIsr(LeaderAndIsrResponse::default().with_topics(vec![topic]));
    sim.event(1, Event::Response { broker: BrokerId(2), request, response });
    assert_eq!(sim.state("t", 0), "3/1/3");
}
