//! Groups over the end of their coordinators, among several brokers.

mod common;

use bytes::Bytes;
use common::cluster::eventually;
use common::{Client, Cluster, ZooKeeper};
use ottla::wire::messages::join_group_request::JoinGroupRequestProtocol;
use ottla::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla::wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use ottla::wire::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla::wire::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use ottla::wire::{StrBytes, text};

const NONE: i16 = 0;
const NOT_COORDINATOR: i16 = 16;
const MEMBER_ID_REQUIRED: i16 = 79;

fn group() -> GroupId {
    GroupId(text("g"))
}

/// The broker that coordinates the group, as one of the running brokers says.
fn coordinator(cluster: &Cluster, ask: i32) -> Option<i32> {
    let request = FindCoordinatorRequest::default().with_key(group().0);
    let found = cluster.client(ask).call(&request, 3).ok()?;
    (found.error_code == NONE).then_some(found.node_id.0)
}

struct Member {
    id: StrBytes,
    generation: i32,
}

fn join(client: &mut Client) -> Option<Member> {
    let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata);
    let mut request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let first = client.call(&request, 5).ok()?;
    if first.error_code != MEMBER_ID_REQUIRED {
        return None;
    }
    request.member_id = first.member_id;
    let joined = client.call(&request, 5).ok().filter(|joined| joined.error_code == NONE)?;
    let given = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![given]);
    let synced = client.call(&request, 3).ok().filter(|synced| synced.error_code == NONE)?;
    assert_eq!(synced.assignment, "mine");
    Some(Member { id: joined.member_id, generation: joined.generation_id })
}

fn heartbeat(client: &mut Client, member: &Member) -> Option<i16> {
    let request = HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(member.generation)
        .with_member_id(member.id.clone());
    client.call(&request, 3).ok().map(|beat| beat.error_code)
}

fn commit(client: &mut Client, member: &Member, offset: i64) -> Option<i16> {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(-1);
    let topic = OffsetCommitRequestTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(member.generation)
        .with_member_id(member.id.clone())
        .with_topics(vec![topic]);
    client.call(&request, 7).ok().map(|committed| committed.topics[0].partitions[0].error_code)
}

fn committed(client: &mut Client) -> Option<i64> {
    let topic = OffsetFetchRequestTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0]);
    let request =
        OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic])).with_require_stable(true);
    let fetched = client.call(&request, 7).ok().filter(|fetched| fetched.error_code == NONE)?;
    let partition = &fetched.topics[0].partitions[0];
    (partition.error_code == NONE).then_some(partition.committed_offset)
}

/// Waits until a broker other than `before` coordinates the group and knows `member` and `offset`.
fn moved(cluster: &Cluster, before: i32, member: &Member, offset: i64) -> i32 {
    let ask = cluster.ids().find(|id| *id != before).expect("another broker");
    eventually("another broker coordinates the group", || {
        let now = coordinator(cluster, ask).filter(|now| *now != before)?;
        let mut client = cluster.client(now);
        (heartbeat(&mut client, member)? == NONE).then_some(())?;
        assert_eq!(committed(&mut client)?, offset, "offsets are those that were acknowledged");
        let described = client.call(&DescribeGroupsRequest::default().with_groups(vec![group()]), 4).ok()?;
        let described = &described.groups[0];
        assert_eq!((&*described.group_state, described.members.len()), ("Stable", 1));
        assert_eq!(described.members[0].member_assignment, "mine");
        Some(now)
    })
}

#[test]
fn a_group_outlives_its_coordinators() {
    let overrides = [
        ("offsets.topic.replication.factor", "3"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("zookeeper.session.timeout.ms", "2000"),
    ];
    let mut cluster = Cluster::start(3, ZooKeeper::inside(), &overrides);
    eventually("the topic is created", || {
        let controller = cluster.zookeeper.controller()?;
        cluster.client(controller).create_topic("t", 1, &[]).ok()
    });
    let first = eventually("somebody coordinates the group", || coordinator(&cluster, 1));
    let member = eventually("a member is in", || join(&mut cluster.client(first)));
    eventually("an offset is committed", || {
        commit(&mut cluster.client(first), &member, 7).filter(|error| *error == NONE)
    });
    let other = cluster.ids().find(|id| *id != first).expect("another broker");
    assert_eq!(heartbeat(&mut cluster.client(other), &member), Some(NOT_COORDINATOR));

    cluster.kill(first);
    let second = moved(&cluster, first, &member, 7);
    eventually("the next coordinator takes a commit", || {
        commit(&mut cluster.client(second), &member, 8).filter(|error| *error == NONE)
    });
    cluster.restart(first);

    assert!(cluster.stop(second).success(), "{}", cluster.logs());
    let third = moved(&cluster, second, &member, 8);
    assert_ne!(third, second);
    eventually("the third coordinator takes a commit", || {
        commit(&mut cluster.client(third), &member, 9).filter(|error| *error == NONE)
    });
    assert_eq!(committed(&mut cluster.client(third)), Some(9));
}
