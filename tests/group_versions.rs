//! One consumer's life at every version of the group APIs, against a running broker.

mod common;

use bytes::Bytes;
use common::{Broker, Client};
use ottla::wire::messages::join_group_request::JoinGroupRequestProtocol;
use ottla::wire::messages::leave_group_request::MemberIdentity;
use ottla::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla::wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use ottla::wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla::wire::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla::wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, ProducerId, SyncGroupRequest, TopicName,
};
use ottla::wire::{StrBytes, text};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TOPIC: &str = "t";
const MEMBER_ID_REQUIRED: i16 = 79;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const INVALID_REQUEST: i16 = 42;

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

/// (error, node, port) of a group's coordinator.
fn find(client: &mut Client, group: &GroupId, version: i16) -> (i16, i32, i32) {
    let request = match version {
        0..=3 => FindCoordinatorRequest::default().with_key(group.0.clone()),
        _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![group.0.clone()]),
    };
    let response = client.call(&request, version).expect("FindCoordinator");
    match version {
        0..=3 => (response.error_code, response.node_id.0, response.port),
        _ => {
            let found = &response.coordinators[0];
            assert_eq!(found.key, group.0);
            (found.error_code, found.node_id.0, found.port)
        }
    }
}

fn join(client: &mut Client, group: &GroupId, member: &StrBytes, version: i16) -> JoinGroupResponse {
    let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata);
    let mut request = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(10_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 {
        request.rebalance_timeout_ms = 10_000;
    }
    client.call(&request, version).expect("JoinGroup")
}

fn fetch(client: &mut Client, group: &GroupId, version: i16) -> (i16, i64, Option<StrBytes>) {
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
        let response = client.call(&request, version).expect("OffsetFetch");
        let partition = &response.groups[0].topics[0].partitions[0];
        return (partition.error_code, partition.committed_offset, partition.metadata.clone());
    }
    let topic = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![0]);
    let mut request = OffsetFetchRequest::default().with_group_id(group.clone()).with_topics(Some(vec![topic]));
    request.require_stable = version >= 7;
    let response = client.call(&request, version).expect("OffsetFetch");
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.committed_offset, partition.metadata.clone())
}

fn commit(client: &mut Client, group: &GroupId, member: &StrBytes, generation: i32, version: i16) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(100 + i64::from(version))
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
    let mut request = OffsetCommitRequest::default().with_group_id(group.clone()).with_topics(vec![topic]);
    if version >= 1 {
        request = request.with_generation_id_or_member_epoch(generation).with_member_id(member.clone());
    }
    let response = client.call(&request, version).expect("OffsetCommit");
    response.topics[0].partitions[0].error_code
}

fn live(client: &mut Client, version: i16) {
    let group = GroupId(text(&format!("group-{version}")));
    let joined = join(client, &group, &StrBytes::default(), version);
    let joined = match version {
        4.. => {
            assert_eq!(joined.error_code, MEMBER_ID_REQUIRED);
            join(client, &group, &joined.member_id, version)
        }
        _ => joined,
    };
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1), "{joined:?}");
    let (member, generation) = (joined.member_id, joined.generation_id);

    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"everything"));
    let mut sync = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment]);
    let sync_version = version.min(5);
    if sync_version >= 5 {
        sync = sync.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
    }
    let synced = client.call(&sync, sync_version).expect("SyncGroup");
    assert_eq!((synced.error_code, &*synced.assignment), (0, &b"everything"[..]));

    let beat = HeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(generation)
        .with_member_id(member.clone());
    assert_eq!(client.call(&beat, version.min(4)).expect("Heartbeat").error_code, 0);

    assert_eq!(commit(client, &group, &member, generation, version), 0);
    // Version 0 commits to ZooKeeper, where only version 0 looks.
    let (code, offset, metadata) = fetch(client, &group, version);
    let note = if version == 0 { "" } else { "note" };
    assert_eq!((code, offset, metadata), (0, 100 + i64::from(version), Some(text(note))));
    assert_eq!(fetch(client, &group, 5).1, if version == 0 { -1 } else { 100 + i64::from(version) });

    let describe = DescribeGroupsRequest::default().with_groups(vec![group.clone(), GroupId(text("nobody"))]);
    let described = client.call(&describe, version.min(5)).expect("DescribeGroups").groups;
    assert_eq!((described[0].error_code, &*described[0].group_state), (0, "Stable"));
    assert_eq!((described[0].members.len(), &*described[0].members[0].client_host), (1, "/127.0.0.1"));
    assert_eq!((described[1].error_code, &*described[1].group_state), (0, "Dead"));

    let listed = client.call(&ListGroupsRequest::default(), version.min(5)).expect("ListGroups").groups;
    assert!(listed.iter().any(|listed| listed.group_id == group && &*listed.protocol_type == "consumer"));

    leave_and_delete(client, &group, &member, version);
}

fn leave_and_delete(client: &mut Client, group: &GroupId, member: &StrBytes, version: i16) {
    let leave_version = version.min(5);
    let leave = LeaveGroupRequest::default().with_group_id(group.clone());
    let leave = match leave_version {
        0..=2 => leave.with_member_id(member.clone()),
        _ => leave.with_members(vec![MemberIdentity::default().with_member_id(member.clone())]),
    };
    let left = client.call(&leave, leave_version).expect("LeaveGroup");
    assert_eq!((left.error_code, left.members.iter().map(|m| m.error_code).max().unwrap_or(0)), (0, 0));

    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
    if version % 2 == 0 {
        let partitions = vec![OffsetDeleteRequestPartition::default(), OffsetDeleteRequestPartition::default()];
        let topic = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(partitions);
        let request = OffsetDeleteRequest::default().with_group_id(group.clone()).with_topics(vec![topic]);
        let deleted = client.call(&request, 0).expect("OffsetDelete");
        assert_eq!((deleted.error_code, deleted.topics[0].partitions[1].error_code), (0, 0));
    } else {
        let deleted = client.call(&delete, version.min(2)).expect("DeleteGroups");
        assert_eq!(deleted.results[0].error_code, 0);
    }
    let again = client.call(&delete, version.min(2)).expect("DeleteGroups");
    assert_eq!(again.results[0].error_code, 69, "the group is gone");
}

#[test]
fn every_version_carries_a_consumer_through_its_life() {
    let broker = Broker::start(&[("group.initial.rebalance.delay.ms", "0")]);
    let mut client = broker.client();
    client.create_topic(TOPIC, 1, &[]).expect("topic");
    let group = GroupId(text("g"));
    let end = Instant::now() + Duration::from_secs(30);
    // The first question makes the topic of the groups.
    while find(&mut client, &group, 3).0 == COORDINATOR_NOT_AVAILABLE && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    for version in 0..=6 {
        assert_eq!(find(&mut client, &group, version), (0, 0, i32::from(broker.port)), "FindCoordinator {version}");
    }
    for version in 0..=9 {
        live(&mut client, version);
    }
}

#[test]
fn the_first_question_is_answered_when_the_topic_is_there() {
    // Few partitions, so that the wait is short on any machine.
    let small = [("offsets.topic.num.partitions", "1"), ("transaction.state.log.num.partitions", "1")];
    let broker = Broker::start(&small);
    for (key_type, topic) in [(0, "__consumer_offsets"), (1, "__transaction_state")] {
        let mut client = broker.client();
        assert_eq!(client.leaders(topic).expect("Metadata"), Vec::<i32>::new(), "nobody has asked yet");
        let question = FindCoordinatorRequest::default().with_key_type(key_type);
        let found = client.call(&question.clone().with_key(text("k")), 3).expect("FindCoordinator");
        assert_eq!((found.error_code, found.port), (0, i32::from(broker.port)), "{topic}");
        assert_eq!(client.leaders(topic).expect("Metadata"), [0]);
        // Nothing is created for no question.
        let none = client.call(&question.with_key_type(2).with_coordinator_keys(vec![text("k")]), 4);
        assert_eq!(none.expect("FindCoordinator").coordinators[0].error_code, INVALID_REQUEST);
    }
}

#[test]
fn a_topic_that_cannot_be_created_keeps_nobody_waiting_for_it() {
    let broker = Broker::start(&[("offsets.topic.replication.factor", "3")]);
    let mut client = broker.client();
    for version in 0..=6 {
        let found = find(&mut client, &GroupId(text("g")), version);
        assert_eq!(found, (COORDINATOR_NOT_AVAILABLE, -1, -1), "FindCoordinator {version}");
    }
}

#[test]
fn without_a_properties_file_both_internal_topics_are_there_at_once() {
    let mut broker = Broker::start_without_file(&[]);
    for _ in 0..2 {
        let mut client = broker.client();
        let end = Instant::now() + Duration::from_secs(60);
        for topic in ["__consumer_offsets", "__transaction_state"] {
            // Nobody asks for a coordinator.
            while client.leaders(topic).expect("Metadata") != [0; 50] {
                assert!(Instant::now() < end, "{topic} is not created\n{}", broker.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        assert_eq!(find(&mut client, &GroupId(text("g")), 3), (0, 0, i32::from(broker.port)));
        drop(client);
        broker.stop();
        broker.restart();
    }
    let created = broker.log().matches("created on demand").count();
    assert_eq!(created, 2, "a later start finds them\n{}", broker.log());
}

#[test]
fn producer_ids_are_fresh_also_after_a_crash() {
    let mut broker = Broker::start(&[]);
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut client = broker.client();
        for version in 0..=5 {
            let idempotent = InitProducerIdRequest::default().with_transactional_id(None);
            let response = client.call(&idempotent, version).expect("InitProducerId");
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(seen.insert(response.producer_id.0), "{} twice", response.producer_id.0);
        }
        let half_known = InitProducerIdRequest::default().with_transactional_id(None).with_producer_id(ProducerId(5));
        assert_eq!(client.call(&half_known, 4).expect("InitProducerId").error_code, INVALID_REQUEST);
        drop(client);
        broker.kill();
        broker.restart();
    }
    assert_eq!(seen.len(), 12);
}
