//! What goes into the controller machine and what comes out of it.

use super::commands::{Command, CommandReply};
use super::requests::{ControlRequest, ControlResponse};
use crate::base::{BrokerId, ControllerEpoch, Millis};
use crate::zookeeper::paths::BrokerInfo;
use crate::zookeeper::{Answer, Operation, ZkError};
use std::sync::Arc;

/// What a broker's configuration says to its controller.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub broker: BrokerId,
    pub inter_broker_listener: String,
    pub delete_topic_enable: bool,
    pub unclean_leader_election: bool,
    /// Whether `inter.broker.protocol.version` knows of leaders that recover from an unclean election.
    pub leader_recovery: bool,
    /// How often to look whether leadership has drifted from the preferred replicas, and the tolerated share per broker in
    /// percent; `None` is never.
    pub auto_rebalance: Option<(Millis, i32)>,
}

/// The answers to one [`Effect::Zk`].
pub type Answers = Vec<Result<Answer, ZkError>>;

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A session exists and the broker is registered in it.
    Session {
        id: i64,
    },
    /// The session is gone: so are the controller's znode and every watch.
    SessionExpired,
    /// A watch fired.
    Changed {
        path: String,
        children: bool,
    },
    Zk {
        token: u64,
        answers: Answers,
    },
    /// What a broker answered to what.
    Response {
        broker: BrokerId,
        request: ControlRequest,
        response: ControlResponse,
    },
    Timer(Timer),
    Command {
        token: u64,
        command: Command,
    },
    Unclean(UncleanChange),
    /// The broker is about to close its session.
    Stop,
}

/// What a dynamic config says of unclean elections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UncleanChange {
    /// A topic, or every one, allows them now.
    Allowed(Option<Arc<str>>),
    /// `unclean.leader.election.enable` of the brokers, for topics that do not say otherwise.
    Default(bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// Of the controller of this epoch.
    AutoRebalance(ControllerEpoch),
    RetryDeletions,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    Zk {
        token: u64,
        operations: Vec<Operation>,
    },
    OpenChannel {
        broker: BrokerId,
        info: BrokerInfo,
    },
    CloseChannel {
        broker: BrokerId,
    },
    Send {
        broker: BrokerId,
        request: ControlRequest,
    },
    Timer {
        timer: Timer,
        at: Millis,
    },
    Reply {
        token: u64,
        reply: CommandReply,
    },
    /// Which broker is the controller, and the epoch if it is this one.
    Controller {
        broker: Option<BrokerId>,
        active: Option<ControllerEpoch>,
    },
    /// The new controller has brought every broker in line with what it found.
    TakenOver {
        brokers: usize,
        partitions: usize,
        leaderless: usize,
    },
    /// Forget every watch: the machine has forgotten what they are for.
    ClearWatches,
    Warn(String),
}
