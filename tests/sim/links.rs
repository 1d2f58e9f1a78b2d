//! What a broker reaches over the network: leaders that it follows, and the controller.

use super::clock::now_ms;
use super::mistake;
use super::process::Process;
use super::world::{TOPIC, World};
use ottla::api::error;
use ottla::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, TopicPartition};
use ottla::config::LogConfig;
use ottla::controller::commands::{Command, CommandReply};
use ottla::controller::{Alteration, TopicKey};
use ottla::replica::fetch::{FetchLimits, Isolation, PartitionData};
use ottla::replica::fetch_session::{FetchPartition, Said, SessionRequest};
use ottla::replica::fetcher::{
    Asked, FetchWant, LeaderAnswer, LeaderEndpoint, LeaderError, LeaderFetch, Leaders, LogSide, PartitionAnswer,
};
use ottla::replica::{AlterAnswer, AlterPartition, AlteredPartition, PartitionAlterer, ReplicaManager, TopicConfigs};
use ottla::zookeeper::paths::LeaderRecoveryState;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub struct NoOverrides(pub LogConfig);

impl TopicConfigs for NoOverrides {
    fn log_configs(
        &self,
        topics: Vec<Arc<str>>,
    ) -> Pin<Box<dyn Future<Output = HashMap<Arc<str>, LogConfig>> + Send + '_>> {
        let configs = topics.into_iter().map(|topic| (topic, self.0.clone())).collect();
        Box::pin(std::future::ready(configs))
    }
}

pub struct Endpoints(pub Weak<Process>);

impl Leaders for Endpoints {
    fn connect(&self, leader: BrokerId) -> Arc<dyn LeaderEndpoint> {
        Arc::new(Endpoint { follower: self.0.clone(), leader: leader.0 })
    }
}

struct Endpoint {
    follower: Weak<Process>,
    leader: i32,
}

fn no_answer() -> LeaderError {
    LeaderError("no answer".into())
}

impl LeaderEndpoint for Endpoint {
    fn fetch(&self, fetch: LeaderFetch) -> Asked<'_, LeaderAnswer> {
        Box::pin(async move {
            let follower = self.follower.upgrade().filter(|follower| follower.is_alive()).ok_or_else(no_answer)?;
            let (world, id) = (follower.world().clone(), follower.id);
            let fetch = mistake::in_fetch(&world, fetch);
            let at_leader = world.clone();
            let epoch = follower.replicas().map_or(BrokerEpoch::UNKNOWN, |replicas| replicas.broker_epoch());
            let serve = |leader: Arc<Process>| async move { serve_fetch(&at_leader, &leader, id, epoch, fetch).await };
            world.call(&follower, self.leader, serve).await.flatten().ok_or_else(no_answer)
        })
    }

    fn offsets(
        &self,
        side: LogSide,
        partitions: Vec<(TopicPartition, LeaderEpoch)>,
    ) -> Asked<'_, Vec<Result<i64, ErrorCode>>> {
        Box::pin(async move {
            let follower = self.follower.upgrade().filter(|follower| follower.is_alive()).ok_or_else(no_answer)?;
            let serve = |leader: Arc<Process>| async move { serve_offsets(&leader, side, &partitions) };
            let world = follower.world().clone();
            world.call(&follower, self.leader, serve).await.flatten().ok_or_else(no_answer)
        })
    }

    fn hang_up(&self) {}
}

async fn serve_fetch(
    world: &World,
    leader: &Process,
    follower: i32,
    replica_epoch: BrokerEpoch,
    fetch: LeaderFetch,
) -> Option<LeaderAnswer> {
    let replicas = leader.replicas()?;
    let request = SessionRequest {
        session_id: fetch.session_id,
        session_epoch: fetch.session_epoch,
        uses_topic_ids: fetch.by_id,
        from_follower: true,
    };
    let forgotten = fetch.forgotten.iter();
    let forgotten: Vec<_> = forgotten.map(|(name, id)| (name.topic.clone(), *id, name.partition)).collect();
    let wanted = fetch.wants.iter().map(|want| wanted(&replicas, want)).collect();
    let begun = leader.sessions.begin(now_ms(), request, wanted, &forgotten, |id| replicas.topic_name(id));
    let (context, wanted) = match begun {
        Ok(begun) => begun,
        Err(error) => return Some(LeaderAnswer { error, ..LeaderAnswer::default() }),
    };
    let limits = FetchLimits {
        isolation: Isolation::ReadUncommitted,
        replica_id: follower,
        replica_epoch,
        rack: None,
        listener: "PLAINTEXT".into(),
        from_follower_allowed: true,
        max_wait: Duration::from_millis(fetch.wait_ms_max.map_or(300, |wait_ms| wait_ms.clamp(1, 300) as u64)),
        min_bytes: 1,
        max_bytes: 2048,
        hard_limit: false,
    };
    mistake::at_leader(world, &replicas, follower, &wanted);
    let read = match replicas.fetch_now(&limits, &wanted) {
        Some(read) => read,
        None => replicas.fetch(limits, &wanted).await,
    };
    let answers = wanted.iter().zip(read).map(|(wanted, read)| {
        // Answers name the topic by its id alone; there is but one.
        let name = TopicPartition::new(TOPIC, wanted.partition);
        let has_hint = read.as_ref().is_ok_and(|data| data.diverging_epoch.is_some());
        let answer = answered(name, read.map_err(|why| error::of_replica(&why)));
        let said = Said {
            error: answer.error,
            has_records: !answer.records.is_empty(),
            high_watermark: answer.high_watermark,
            log_start_offset: answer.log_start_offset,
            has_hint,
        };
        ((wanted.clone(), said), mistake::in_answer(world, &replicas, answer))
    });
    let (said, answers): (Vec<_>, Vec<_>) = answers.unzip();
    let (session_id, is_said) = leader.sessions.finish(now_ms(), &context, &said, || world.below(1 << 31) as i32);
    let partitions = answers.into_iter().zip(said.iter().zip(is_said));
    let partitions = partitions
        .filter(|(_, ((_, said), is_said))| mistake::in_said(world, said, *is_said))
        .map(|(answer, _)| answer);
    Some(LeaderAnswer { error: ErrorCode::None, session_id, partitions: partitions.collect() })
}

fn wanted(replicas: &ReplicaManager, want: &FetchWant) -> FetchPartition {
    let by_id = || replicas.topic_name(want.topic_id).unwrap_or_default();
    FetchPartition {
        topic: if want.topic_id.is_zero() { want.partition.topic.clone() } else { by_id() },
        topic_id: want.topic_id,
        partition: want.partition.partition,
        current_leader_epoch: want.leader_epoch,
        fetch_offset: want.offset,
        last_fetched_epoch: want.last_epoch,
        log_start_offset: want.log_start_offset,
        max_bytes: 1024,
    }
}

fn answered(partition: TopicPartition, read: Result<PartitionData, ErrorCode>) -> PartitionAnswer {
    let mut answer = PartitionAnswer {
        partition,
        error: ErrorCode::None,
        high_watermark: -1,
        log_start_offset: -1,
        diverging_epoch: None,
        records: bytes::Bytes::new(),
    };
    match read {
        Err(code) => answer.error = code,
        Ok(data) => {
            answer.high_watermark = data.high_watermark;
            answer.log_start_offset = data.log_start_offset;
            answer.diverging_epoch = data.diverging_epoch;
            let slices = data.slices.iter().map(|slice| slice.read().expect("what was found can be read"));
            answer.records = slices
                .fold(Vec::new(), |mut all, slice| {
                    all.extend_from_slice(&slice);
                    all
                })
                .into();
        }
    }
    answer
}

fn serve_offsets(
    leader: &Process,
    side: LogSide,
    partitions: &[(TopicPartition, LeaderEpoch)],
) -> Option<Vec<Result<i64, ErrorCode>>> {
    let replicas = leader.replicas()?;
    let offset = |replicas: &ReplicaManager, name: &TopicPartition, epoch: LeaderEpoch| {
        let partition = replicas.partition(&name.topic, name.partition)?;
        partition.check_leader(epoch)?;
        Ok(match side {
            LogSide::Latest => partition.log().log_end_offset(),
            LogSide::Earliest => partition.log().log_start_offset(),
        })
    };
    let answers = partitions.iter().map(|(name, epoch)| {
        offset(&replicas, name, *epoch).map_err(|why: ottla::replica::ReplicaError| error::of_replica(&why))
    });
    Some(answers.collect())
}

pub struct Alterer(pub Weak<Process>);

impl PartitionAlterer for Alterer {
    fn alter(
        &self,
        broker_epoch: BrokerEpoch,
        changes: Vec<AlterPartition>,
    ) -> Pin<Box<dyn Future<Output = AlterAnswer> + Send + '_>> {
        Box::pin(async move {
            let leader = self.0.upgrade().filter(|leader| leader.is_alive()).ok_or(ErrorCode::NotController)?;
            let controller = leader.controller().ok_or(ErrorCode::NotController)?;
            let world = leader.world().clone();
            if let Some(answer) = mistake::in_alteration(&world, BrokerId(leader.id), &changes) {
                return answer;
            }
            let alterations = changes.iter().map(alteration).collect();
            let command = Command::AlterPartitions { broker: BrokerId(leader.id), epoch: broker_epoch, alterations };
            let serve = |target: Arc<Process>| async move { target.command(command).await };
            match world.call(&leader, controller, serve).await.flatten() {
                Some(CommandReply::AlterPartitions(reply)) => {
                    Ok(reply?.into_iter().map(|altered| altered.map(|one| of(&one))).collect())
                }
                _ => Err(ErrorCode::NetworkException),
            }
        })
    }
}

fn alteration(alter: &AlterPartition) -> Alteration {
    Alteration {
        topic: TopicKey::Id(alter.topic_id),
        partition: alter.partition.partition,
        leader_epoch: alter.change.leader_epoch,
        isr: alter.change.isr.iter().copied().zip(alter.change.member_epochs.iter().copied()).collect(),
        recovery: LeaderRecoveryState::Recovered,
        partition_epoch: alter.change.partition_epoch,
    }
}

fn of(leadership: &ottla::controller::context::Leadership) -> AlteredPartition {
    AlteredPartition {
        leader: leadership.state.leader,
        leader_epoch: leadership.state.leader_epoch,
        isr: leadership.state.isr.clone(),
        is_recovering: leadership.state.recovery == LeaderRecoveryState::Recovering,
        partition_epoch: leadership.epoch,
    }
}
