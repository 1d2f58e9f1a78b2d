//! What the rest of the broker sees of the controller: who it is, and the administration of topics (class `ZkAdminManager`).
//!
//! Invariant: topics are created, grown and deleted by writing their znodes; the controller - this broker or another - acts
//! when it sees them. The configuration is written before the topic, since no notification follows.

use super::alter_partition::{Alteration, Altered};
use super::channel::Channels;
use super::commands::{Command, CommandReply};
use super::driver::{ControllerState, Driver, Input, Sources};
use super::event::UncleanChange;
use super::machine::Settings;
use super::reassignment::Wishes;
use super::topic_plan::{TopicError, TopicPlan};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, TopicId, TopicPartition};
use crate::zookeeper::paths::{self, ConfigEntity, EntityConfig, ProducerIdBlock, ReplicaAssignment, TopicZnode};
use crate::zookeeper::registration::{self, Registrar};
use crate::zookeeper::{CreateMode, Zk, ZkError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Cloneable handle to the controller of this broker.
#[derive(Clone)]
pub struct ControllerHandle {
    zk: Zk,
    inputs: mpsc::UnboundedSender<Input>,
    state: watch::Receiver<ControllerState>,
}

impl From<ZkError> for TopicError {
    fn from(error: ZkError) -> TopicError {
        TopicError::new(ErrorCode::UnknownServerError, error.to_string())
    }
}

impl ControllerHandle {
    /// Starts to run for the office, now and after every lost session. On the current tokio runtime.
    pub fn start(zk: &Zk, registrar: &Registrar, settings: Settings, channels: Arc<dyn Channels>) -> ControllerHandle {
        let (inputs, received) = mpsc::unbounded_channel();
        let (sender, state) = watch::channel(ControllerState::default());
        let sources = Sources { inputs: received, sessions: zk.events(), registrations: registrar.subscribe() };
        Driver::spawn(zk.clone(), settings, channels, sources, sender);
        ControllerHandle { zk: zk.clone(), inputs, state }
    }

    pub fn state(&self) -> ControllerState {
        *self.state.borrow()
    }

    /// Whether this broker is the controller.
    pub fn is_active(&self) -> bool {
        self.state().active.is_some()
    }

    pub fn controller_id(&self) -> Option<BrokerId> {
        self.state().broker
    }

    /// Who is the controller, from now on.
    pub fn subscribe(&self) -> watch::Receiver<ControllerState> {
        self.state.clone()
    }

    /// Resigns. The znode goes with the session, which is to be closed next.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inputs.send(Input::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
    }

    async fn command(&self, command: Command) -> Option<CommandReply> {
        let (sender, reply) = oneshot::channel();
        self.inputs.send(Input::Command(command, sender)).ok()?;
        reply.await.ok()
    }

    /// Moves leadership away from a broker that is about to stop. Returns the partitions that it still leads.
    pub async fn controlled_shutdown(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Vec<TopicPartition>, ErrorCode> {
        match self.command(Command::ControlledShutdown { broker, epoch }).await {
            Some(CommandReply::ControlledShutdown(remaining)) => remaining,
            _ => Err(ErrorCode::NotController),
        }
    }

    /// `partitions` of `None`: all that need it.
    pub async fn elect_leaders(
        &self,
        partitions: Option<Vec<TopicPartition>>,
        unclean: bool,
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>, ErrorCode> {
        match self.command(Command::ElectLeaders { partitions, unclean }).await {
            Some(CommandReply::ElectLeaders(outcomes)) => outcomes,
            _ => Err(ErrorCode::NotController),
        }
    }

    /// Changes ISRs, as the leader `broker` asks. One answer for each alteration, in their order.
    pub async fn alter_partitions(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        alterations: Vec<Alteration>,
    ) -> Result<Altered, ErrorCode> {
        match self.command(Command::AlterPartitions { broker, epoch, alterations }).await {
            Some(CommandReply::AlterPartitions(altered)) => altered,
            _ => Err(ErrorCode::NotController),
        }
    }

    /// Begins to move partitions to other replicas, or cancels such moves.
    pub async fn alter_reassignments(&self, wishes: Wishes) -> Result<BTreeMap<TopicPartition, ErrorCode>, ErrorCode> {
        match self.command(Command::AlterReassignments(wishes)).await {
            Some(CommandReply::AlterReassignments(outcomes)) => outcomes,
            _ => Err(ErrorCode::NotController),
        }
    }

    /// Partitions that are on the move.
    pub async fn reassignments(&self) -> Result<BTreeMap<TopicPartition, ReplicaAssignment>, ErrorCode> {
        match self.command(Command::ListReassignments).await {
            Some(CommandReply::ListReassignments(moving)) => moving,
            _ => Err(ErrorCode::NotController),
        }
    }

    /// Refuses a broker that is not registered in this epoch.
    pub async fn check_broker(&self, broker: BrokerId, epoch: BrokerEpoch) -> Result<(), ErrorCode> {
        match self.command(Command::CheckBroker { broker, epoch }).await {
            Some(CommandReply::CheckBroker(checked)) => checked,
            _ => Err(ErrorCode::NotController),
        }
    }

    /// Unclean elections are allowed from now on, for a topic or for all: partitions without a leader may get one.
    pub fn unclean_elections_allowed(&self, topic: Option<&str>) {
        let _ = self.inputs.send(Input::Unclean(UncleanChange::Allowed(topic.map(Arc::from))));
    }

    /// What `unclean.leader.election.enable` of the brokers is from now on.
    pub fn set_unclean_default(&self, allowed: bool) {
        let _ = self.inputs.send(Input::Unclean(UncleanChange::Default(allowed)));
    }

    /// Names of all topics, those being created and deleted included.
    pub async fn topic_names(&self) -> Result<Vec<String>, ZkError> {
        self.zk.children(paths::BROKER_TOPICS).await
    }

    /// Writes a new topic's znodes. Any broker may; the controller does the rest.
    pub async fn create_topic(&self, name: &str, plan: &TopicPlan) -> Result<TopicId, TopicError> {
        let config = EntityConfig(plan.configs.clone());
        let path = ConfigEntity::Topic(name.to_owned()).path();
        match self.zk.create_with_parents(&path, &config.to_json()).await {
            // Left by a creation that went no further, or by an operator.
            Err(ZkError::NodeExists) => {
                if self.zk.exists(&paths::topic(name)).await?.is_some() {
                    return Err(already_exists(name));
                }
                self.zk.set(&path, &config.to_json(), None).await?;
            }
            other => other?,
        }
        let topic_id = TopicId::random();
        let znode = TopicZnode { topic_id: Some(topic_id), partitions: plan.assignment.clone() };
        match self.zk.create(&paths::topic(name), &znode.to_json(), CreateMode::Persistent).await {
            Ok(_) => Ok(topic_id),
            Err(ZkError::NodeExists) => Err(already_exists(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Marks a topic for deletion; the controller deletes it.
    pub async fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        if self.zk.exists(&paths::topic(name)).await?.is_none() {
            let message = "This server does not host this topic-partition.";
            return Err(TopicError::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        match self.zk.create_with_parents(&paths::delete_topic(name), b"").await {
            Ok(()) | Err(ZkError::NodeExists) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A topic's znode with its version; `None` if there is no such topic.
    pub async fn topic(&self, name: &str) -> Result<Option<(TopicZnode, i32)>, ZkError> {
        match self.zk.get(&paths::topic(name)).await? {
            None => Ok(None),
            Some((data, stat)) => Ok(Some((TopicZnode::parse(&data)?, stat.version))),
        }
    }

    /// Whether a topic is marked for deletion.
    pub async fn is_marked_for_deletion(&self, name: &str) -> Result<bool, ZkError> {
        Ok(self.zk.exists(&paths::delete_topic(name)).await?.is_some())
    }

    /// Writes the partitions that a topic is to have, if nobody has changed it since `version`.
    pub async fn set_partitions(
        &self,
        name: &str,
        topic_id: Option<TopicId>,
        partitions: BTreeMap<i32, ReplicaAssignment>,
        version: i32,
    ) -> Result<(), TopicError> {
        let znode = TopicZnode { topic_id, partitions };
        match self.zk.set(&paths::topic(name), &znode.to_json(), Some(version)).await {
            Ok(_) => Ok(()),
            Err(ZkError::BadVersion) => {
                Err(TopicError::new(ErrorCode::UnknownServerError, "The topic was changed at the same time."))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next block of producer ids for a broker.
    pub async fn allocate_producer_ids(&self, broker: BrokerId) -> Result<ProducerIdBlock, ZkError> {
        registration::allocate_producer_id_block(&self.zk, broker).await
    }
}

fn already_exists(name: &str) -> TopicError {
    TopicError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."))
}
