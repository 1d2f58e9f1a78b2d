//! What this broker does with the controller's requests: LeaderAndIsr, UpdateMetadata, StopReplica.
//!
//! Fences, in order: a broker epoch older than this registration is answered STALE_BROKER_EPOCH, a controller epoch older
//! than the newest seen STALE_CONTROLLER_EPOCH; then each partition by its leader epoch. One lock serialises all three.

use super::fetcher::Following;
use super::leadership::Leadership;
use super::manager::ReplicaManager;
use super::metadata_cache::PartitionMetadata;
use super::partition::Partition;
use crate::base::{BrokerId, ControllerEpoch, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use crate::log::Log;
use crate::wire::messages;
use crate::wire::messages::leader_and_isr_request::{LeaderAndIsrPartitionState, LeaderAndIsrTopicState};
use crate::wire::messages::leader_and_isr_response::{LeaderAndIsrPartitionError, LeaderAndIsrTopicError};
use crate::wire::messages::stop_replica_request::{StopReplicaPartitionState, StopReplicaTopicState};
use crate::wire::messages::stop_replica_response::StopReplicaPartitionError;
use crate::wire::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse, UpdateMetadataRequest,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Leader epochs in StopReplica that pass every fence: a topic that is being deleted, and a sender that knows none.
const EPOCH_DURING_DELETE: i32 = -2;
const EPOCH_UNKNOWN: i32 = -1;

/// What became of one partition of a LeaderAndIsr request.
pub(super) enum Outcome {
    /// The state was taken.
    Taken(Arc<Partition>, Role),
    /// The state is older than ours, and needs no answer.
    Skipped,
    /// Kept until the log is recovered.
    Awaited,
    Refused(ErrorCode),
}

/// What a broker is to a partition from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Leader,
    Follower,
    /// It led until now and is about to stop: the controller has taken it out of the ISR and lets it in no more, so that fetching would
    /// only have the new leader ask for it again and again.
    Leaving,
}

impl ReplicaManager {
    fn fence(&self, seen: &mut ControllerEpoch, broker_epoch: i64, controller_epoch: i32) -> Result<(), ErrorCode> {
        if broker_epoch != -1 && broker_epoch < self.broker_epoch.load(Ordering::SeqCst) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if controller_epoch < seen.0 {
            return Err(ErrorCode::StaleControllerEpoch);
        }
        *seen = ControllerEpoch(controller_epoch);
        Ok(())
    }

    /// Takes over leadership of the listed partitions, creating their logs.
    pub async fn leader_and_isr(&self, request: &LeaderAndIsrRequest) -> LeaderAndIsrResponse {
        let mut seen = self.control.lock().await;
        if let Err(error) = self.fence(&mut seen, request.broker_epoch, request.controller_epoch) {
            return LeaderAndIsrResponse::default().with_error_code(error.code());
        }
        let configs = self.topic_configs.log_configs(self.topics_of_new_logs(request)).await;
        let mut answer = Vec::new();
        let mut added = Vec::new();
        let mut told = Vec::new();
        for topic in &request.topic_states {
            let id = TopicId(topic.topic_id);
            let name: Arc<str> = Arc::from(&**topic.topic_name);
            let mut errors = Vec::new();
            for state in &topic.partition_states {
                let code = match self.take(&name, id, state, configs.get(&name), &mut added) {
                    Outcome::Taken(partition, role) => {
                        told.push((partition, role));
                        ErrorCode::None
                    }
                    Outcome::Awaited => ErrorCode::None,
                    Outcome::Skipped => continue,
                    Outcome::Refused(code) => code,
                };
                let index = state.partition_index;
                errors.push(
                    LeaderAndIsrPartitionError::default().with_partition_index(index).with_error_code(code.code()),
                );
            }
            answer.push(LeaderAndIsrTopicError::default().with_topic_id(topic.topic_id).with_partition_errors(errors));
        }
        self.settle(added, told);
        LeaderAndIsrResponse::default().with_topics(answer)
    }

    /// Puts new partitions in their place, and tells everybody who leads what was taken.
    pub(super) fn settle(&self, added: Vec<Arc<Partition>>, told: Vec<(Arc<Partition>, Role)>) {
        self.insert(added);
        self.follow(&told);
        for (partition, role) in told {
            let topic_partition = partition.topic_partition();
            let epoch = partition.leader_epoch();
            self.tell(|listener| match role {
                Role::Leader => listener.on_leader(topic_partition, epoch),
                Role::Follower | Role::Leaving => listener.on_resigned(topic_partition),
            });
        }
    }

    /// Topics whose settings are needed: a leader that moves must not wait for ZooKeeper, which may be what has just failed.
    fn topics_of_new_logs(&self, request: &LeaderAndIsrRequest) -> Vec<Arc<str>> {
        let is_new = |topic: &&LeaderAndIsrTopicState| {
            let mut partitions = topic.partition_states.iter().map(|state| state.partition_index);
            partitions.any(|partition| self.hosted(&topic.topic_name, partition).is_none())
        };
        request.topic_states.iter().filter(is_new).map(|topic| Arc::from(&**topic.topic_name)).collect()
    }

    /// Has the fetchers follow the leaders of those partitions that this broker does not lead now.
    fn follow(&self, taken: &[(Arc<Partition>, Role)]) {
        let mut followings = Vec::new();
        let mut leaderless = Vec::new();
        for (partition, role) in taken.iter().filter(|(_, role)| *role != Role::Leader) {
            let leadership = partition.leadership();
            if leadership.leader == BrokerId::NONE || *role == Role::Leaving {
                leaderless.push(partition.topic_partition());
                continue;
            }
            let following = Following {
                partition: partition.topic_partition().clone(),
                topic_id: partition.log().topic_id().unwrap_or_default(),
                epoch: leadership.leader_epoch,
                replica: partition.clone(),
            };
            followings.push((leadership.leader, following));
        }
        self.fetchers.stop(leaderless);
        if !followings.is_empty() {
            self.fetchers.follow(followings);
        }
    }

    pub(super) fn take(
        &self,
        topic: &Arc<str>,
        id: TopicId,
        state: &LeaderAndIsrPartitionState,
        config: Option<&crate::config::LogConfig>,
        added: &mut Vec<Arc<Partition>>,
    ) -> Outcome {
        let known = self.hosted(topic, state.partition_index);
        if let Some(partition) = &known {
            if partition.is_offline() {
                return Outcome::Refused(ErrorCode::KafkaStorageError);
            }
            if let Some(local) = partition.log().topic_id().filter(|local| !id.is_zero() && *local != id) {
                tracing::error!(partition = %partition.topic_partition(), ours = %local, theirs = %id, "topic id differs");
                return Outcome::Refused(ErrorCode::InconsistentTopicId);
            }
            let current = partition.leadership();
            if state.leader_epoch == current.leader_epoch.0 && partition.log().topic_id().is_none() && !id.is_zero() {
                return match partition.log().set_topic_id(id) {
                    Ok(()) => Outcome::Refused(ErrorCode::None),
                    Err(error) => self.storage_error(partition.topic_partition(), &error),
                };
            }
            if let Some(outcome) = judge(current.leader_epoch, current.partition_epoch, state) {
                return outcome;
            }
        } else {
            let topic_partition = TopicPartition::new(topic.clone(), state.partition_index);
            if let Some(outcome) = self.take_unready(&topic_partition, id, state) {
                return outcome;
            }
        }
        if !state.replicas.iter().any(|replica| replica.0 == self.local.0) {
            return Outcome::Refused(ErrorCode::UnknownTopicOrPartition);
        }
        let partition = match known {
            Some(partition) => partition,
            None => match self.open(topic, id, state, config) {
                Ok(partition) => {
                    added.push(partition.clone());
                    partition
                }
                Err(outcome) => return outcome,
            },
        };
        let role = match state.leader.0 == self.local.0 {
            true => Role::Leader,
            false if self.is_stopping() && partition.is_leader() => Role::Leaving,
            false => Role::Follower,
        };
        if role == Role::Leader {
            self.fetchers.stop([partition.topic_partition()]);
        }
        match partition.apply(leadership(state)) {
            Ok(()) => Outcome::Taken(partition, role),
            Err(error) => self.storage_error(partition.topic_partition(), &error),
        }
    }

    fn open(
        &self,
        topic: &Arc<str>,
        id: TopicId,
        state: &LeaderAndIsrPartitionState,
        config: Option<&crate::config::LogConfig>,
    ) -> Result<Arc<Partition>, Outcome> {
        let topic_partition = TopicPartition::new(topic.clone(), state.partition_index);
        let log: Arc<Log> = match self.logs.log(&topic_partition) {
            Some(log) => log,
            None if !state.is_new && self.logs.has_offline_dirs() => {
                // It may lie in the directory that failed: an empty log in another one must not take its place.
                tracing::error!(partition = %topic_partition, "no log, while a log directory is offline");
                return Err(Outcome::Refused(ErrorCode::KafkaStorageError));
            }
            None => {
                let config = config.cloned().unwrap_or_default();
                let id = (!id.is_zero()).then_some(id);
                self.logs
                    .create(&topic_partition, id, config)
                    .map_err(|error| self.storage_error(&topic_partition, &error))?
            }
        };
        match log.topic_id() {
            Some(ours) if !id.is_zero() && ours != id => {
                tracing::error!(partition = %topic_partition, %ours, theirs = %id, "topic id differs");
                return Err(Outcome::Refused(ErrorCode::InconsistentTopicId));
            }
            None if !id.is_zero() => {
                log.set_topic_id(id).map_err(|error| self.storage_error(&topic_partition, &error))?;
            }
            _ => {}
        }
        Ok(Arc::new(Partition::new(self.around.clone(), log)))
    }

    fn storage_error(&self, partition: &TopicPartition, error: &dyn std::fmt::Display) -> Outcome {
        tracing::error!(%partition, %error, "the log cannot be used");
        Outcome::Refused(ErrorCode::KafkaStorageError)
    }

    /// Takes over what the controller says of the cluster, and returns the partitions that are gone. Errors:
    /// STALE_BROKER_EPOCH, STALE_CONTROLLER_EPOCH.
    pub async fn update_metadata(&self, request: &UpdateMetadataRequest) -> Result<Vec<TopicPartition>, ErrorCode> {
        let mut seen = self.control.lock().await;
        self.fence(&mut seen, request.broker_epoch, request.controller_epoch)?;
        let before = self.metadata.image();
        let deleted = self.metadata.update(request);
        let image = self.metadata.image();
        if before.brokers.keys().any(|broker| !image.brokers.contains_key(broker)) {
            self.all().iter().for_each(|partition| partition.broker_gone());
        }
        for topic in &request.topic_states {
            for state in &topic.partition_states {
                if let Some(news) = image.partition(&topic.topic_name, state.partition_index) {
                    self.told(&topic.topic_name, state.partition_index, news);
                }
            }
        }
        Ok(deleted)
    }

    /// What UpdateMetadata says of a partition that may be here.
    fn told(&self, topic: &str, partition: i32, news: &PartitionMetadata) {
        let is_replica = news.replicas.contains(&self.local);
        match self.hosted(topic, partition) {
            Some(hosted) if is_replica || news.leader_epoch <= hosted.leader_epoch() => hosted.told(news),
            Some(hosted) => {
                // It was moved while the controller could not send StopReplica here. Apache Kafka goes on with it until its next start,
                // as a leader of clients that know no better.
                tracing::warn!(partition = %hosted.topic_partition(), epoch = %news.leader_epoch, "the replica is elsewhere by now");
                self.take_away(&hosted);
            }
            None if !is_replica => {
                let moved = TopicPartition::new(topic, partition);
                self.forget_awaited(&moved, |known| news.leader_epoch.0 > known);
            }
            None => {}
        }
    }

    /// Out of service; the log stays.
    fn take_away(&self, partition: &Partition) {
        let topic_partition = partition.topic_partition();
        self.fetchers.stop([topic_partition]);
        self.remove(&topic_partition.topic, topic_partition.partition);
        partition.retire();
        self.tell(|listener| listener.on_resigned(topic_partition));
    }

    /// Stops the listed replicas, and deletes those marked so.
    pub async fn stop_replica(&self, request: &StopReplicaRequest) -> StopReplicaResponse {
        let mut seen = self.control.lock().await;
        if let Err(error) = self.fence(&mut seen, request.broker_epoch, request.controller_epoch) {
            return StopReplicaResponse::default().with_error_code(error.code());
        }
        let mut errors = Vec::new();
        for topic in &request.topic_states {
            for state in &topic.partition_states {
                let code = self.stop(topic, state);
                errors.push(
                    StopReplicaPartitionError::default()
                        .with_topic_name(messages::TopicName(topic.topic_name.0.clone()))
                        .with_partition_index(state.partition_index)
                        .with_error_code(code.code()),
                );
            }
        }
        StopReplicaResponse::default().with_partition_errors(errors)
    }

    fn stop(&self, topic: &StopReplicaTopicState, state: &StopReplicaPartitionState) -> ErrorCode {
        let topic_partition = TopicPartition::new(&*topic.topic_name.0, state.partition_index);
        let is_always = state.leader_epoch == EPOCH_UNKNOWN || state.leader_epoch == EPOCH_DURING_DELETE;
        if let Some(partition) = self.hosted(&topic_partition.topic, topic_partition.partition) {
            if !is_always && state.leader_epoch < partition.leader_epoch().0 {
                return ErrorCode::FencedLeaderEpoch;
            }
            self.take_away(&partition);
        } else if !self.forget_awaited(&topic_partition, |known| is_always || state.leader_epoch >= known) {
            return ErrorCode::FencedLeaderEpoch;
        }
        if !state.delete_partition {
            return ErrorCode::None;
        }
        match self.logs.delete(&topic_partition) {
            Ok(()) => ErrorCode::None,
            Err(error) => {
                tracing::error!(partition = %topic_partition, %error, "the log cannot be deleted");
                ErrorCode::KafkaStorageError
            }
        }
    }
}

/// What becomes of a word of the controller by its epochs; `None`: it is news.
pub(super) fn judge(
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    state: &LeaderAndIsrPartitionState,
) -> Option<Outcome> {
    if state.leader_epoch <= leader_epoch.0 {
        return Some(Outcome::Refused(ErrorCode::StaleControllerEpoch));
    }
    (state.partition_epoch < partition_epoch.0).then_some(Outcome::Skipped)
}

fn ids(ids: &[messages::BrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(id.0)).collect()
}

fn leadership(state: &LeaderAndIsrPartitionState) -> Leadership {
    Leadership {
        leader: BrokerId(state.leader.0),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        controller_epoch: ControllerEpoch(state.controller_epoch),
        partition_epoch: PartitionEpoch(state.partition_epoch),
        isr: ids(&state.isr),
        replicas: ids(&state.replicas),
        adding_replicas: ids(&state.adding_replicas),
        removing_replicas: ids(&state.removing_replicas),
        is_recovering: state.leader_recovery_state != 0,
    }
}
