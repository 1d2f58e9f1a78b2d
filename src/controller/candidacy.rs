//! Becoming and ceasing to be the controller (spec: `/controller` and `/controller_epoch`).

use super::commands::CommandReply;
use super::context::Context;
use super::machine::{Active, Answers, Controller, Effect, Task, Waiting};
use crate::base::{BrokerId, ControllerEpoch};
use crate::zookeeper::paths::{self, ControllerInfo};
use crate::zookeeper::{Answer, Operation, Stat, Write, Written, ZkError};

#[derive(Clone, PartialEq, Debug)]
pub(super) enum CandidacyWait {
    Read,
    EpochCreated,
    Elected(ControllerEpoch),
    /// What was deleted or refused is read again.
    Again,
}

impl Controller {
    /// Reads who is the controller, and arms the watch that says when that changes.
    pub(super) fn read_controller(&mut self) {
        let operations = vec![
            Operation::exists_and_watch(paths::CONTROLLER),
            Operation::get(paths::CONTROLLER),
            Operation::get(paths::CONTROLLER_EPOCH),
        ];
        self.ask(operations, Waiting::Candidacy(CandidacyWait::Read));
    }

    pub(super) fn candidacy_answered(&mut self, wait: CandidacyWait, answers: Answers) {
        match wait {
            CandidacyWait::Read => self.controller_read(answers),
            CandidacyWait::EpochCreated | CandidacyWait::Again => self.first(Task::ReadController),
            CandidacyWait::Elected(epoch) => self.elected(epoch, answers),
        }
    }

    fn controller_read(&mut self, answers: Answers) {
        let mut answers = answers.into_iter();
        let (_, controller, epoch) = (answers.next(), answers.next(), answers.next());
        match controller {
            Some(Ok(Answer::Data(data, stat))) => match ControllerInfo::parse(&data) {
                Ok(info) => self.somebody_leads(info.broker, &stat),
                Err(error) => {
                    self.warn(error.to_string());
                    self.somebody_leads(BrokerId::NONE, &stat);
                }
            },
            Some(Err(ZkError::NoNode)) => {
                if self.active.is_some() {
                    self.resign();
                }
                self.run_for_election(epoch);
            }
            other => self.warn(format!("cannot read the controller: {other:?}")),
        }
    }

    fn somebody_leads(&mut self, broker: BrokerId, stat: &Stat) {
        let own = Some(stat.owner) == self.session;
        if self.active.is_some() && own {
            return;
        }
        if self.active.is_some() {
            self.resign();
            // The resignation has forgotten the watch on the controller.
            self.first(Task::ReadController);
            return;
        }
        if own {
            // Elected, but given up half way: make room for the next election.
            let delete = Operation::from(Write::delete(paths::CONTROLLER, Some(stat.version)));
            self.ask(vec![delete], Waiting::Candidacy(CandidacyWait::Again));
            return;
        }
        self.emit(Effect::Controller { broker: Some(broker), active: None });
    }

    fn run_for_election(&mut self, epoch: Option<Result<Answer, ZkError>>) {
        let (current, version) = match epoch {
            Some(Ok(Answer::Data(data, stat))) => match paths::parse_controller_epoch(&data) {
                Ok(epoch) => (epoch, stat.version),
                Err(error) => return self.warn(format!("no election: {error}")),
            },
            Some(Err(ZkError::NoNode)) => {
                let create = Operation::from(Write::create(paths::CONTROLLER_EPOCH, "0"));
                return self.ask(vec![create], Waiting::Candidacy(CandidacyWait::EpochCreated));
            }
            other => return self.warn(format!("cannot read the controller epoch: {other:?}")),
        };
        let Some(next) = current.checked_add(1) else { return self.warn("no election: controller epochs are used up") };
        let json = ControllerInfo { broker: self.settings.broker, kraft_epoch: -1 }.to_json(self.wall_ms);
        let election = Operation::Multi(vec![
            Write::create_ephemeral(paths::CONTROLLER, json),
            Write::set(paths::CONTROLLER_EPOCH, next.to_string(), Some(version)),
        ]);
        self.ask(vec![election], Waiting::Candidacy(CandidacyWait::Elected(ControllerEpoch(next))));
    }

    fn elected(&mut self, epoch: ControllerEpoch, answers: Answers) {
        match answers.into_iter().next() {
            Some(Ok(Answer::Multi(written))) => match written.last() {
                Some(Written::Set(stat)) => {
                    self.active = Some(Active { epoch, version: stat.version });
                    let broker = Some(self.settings.broker);
                    self.emit(Effect::Controller { broker, active: Some(epoch) });
                    self.first(Task::Load);
                }
                _ => self.first(Task::ReadController),
            },
            // Somebody else was faster: read who.
            _ => self.first(Task::ReadController),
        }
    }

    /// Forgets everything that makes a controller. The znode is left as it is.
    pub(super) fn resign(&mut self) {
        self.give_up();
        let brokers: Vec<BrokerId> = self.context.brokers.keys().copied().collect();
        for broker in brokers {
            self.emit(Effect::CloseChannel { broker });
        }
        self.context = Context::default();
        self.active = None;
        self.emit(Effect::ClearWatches);
        self.emit(Effect::Controller { broker: None, active: None });
        for (token, command) in self.drain_commands() {
            self.emit(Effect::Reply { token, reply: CommandReply::not_controller(&command) });
        }
    }

    /// Gives the office up so that another broker, or this one, is elected.
    pub(super) fn abdicate(&mut self, reason: impl Into<String>) {
        self.warn(reason);
        let delete = self.fenced([Write::delete(paths::CONTROLLER, None)]);
        self.resign();
        self.ask(vec![delete], Waiting::Candidacy(CandidacyWait::Again));
    }

    /// The broker stops: the session's end removes the znode.
    pub(super) fn stop(&mut self) {
        self.resign();
        self.session = None;
    }
}
