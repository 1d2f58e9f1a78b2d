//! The callers' end of a connection: operations go in, answers come out.
//!
//! Invariant: what is submitted first is sent first; an answer that never comes is [`Failure::Lost`], never a wait for ever.

use super::codec::{self, Naming, code};
use super::watch_table::Arm;
use crate::zookeeper::embedded::codes::op;
use crate::zookeeper::operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use crate::zookeeper::watches::Watches;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Why an operation has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection went away; whether a write was done is unknown.
    Lost,
    Answered(ZkError),
}

/// What came back for a request.
#[derive(Debug)]
pub struct Reply {
    pub code: i32,
    pub body: Bytes,
}

/// What goes to the task of the connection.
#[derive(Debug)]
pub struct Request {
    pub op: i32,
    pub body: Vec<u8>,
    pub arm: Option<Arm>,
    pub reply: oneshot::Sender<Reply>,
}

/// One connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    /// Of this connection among all of the handle.
    pub number: u64,
    pub session: i64,
    pub naming: Arc<Naming>,
    pub requests: mpsc::UnboundedSender<Request>,
}

impl Link {
    fn request(&self, op: i32, body: Vec<u8>, arm: Option<Arm>) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        // A connection that has ended drops the request, and its answer with it.
        let _ = self.requests.send(Request { op, body, arm, reply });
        answer
    }

    /// Puts the request on the wire now, in the order of calls; the future is only the answer.
    pub fn submit<'a>(
        &'a self,
        operation: &'a Operation,
        watches: Option<&Watches>,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send + 'a {
        let (op, body) = codec::request(operation, &self.naming);
        let arm = watches.and_then(|watches| watches.of(operation, &self.naming));
        let answer = self.request(op, body, arm);
        async move {
            let Reply { code, body } = answer.await.map_err(|_| Failure::Lost)?;
            match code {
                code::CONNECTION_LOSS | code::OPERATION_TIMEOUT => Err(Failure::Lost),
                code => codec::answer(operation, &self.naming, code, &body).map_err(Failure::Answered),
            }
        }
    }

    /// Ends the session. Whether the server has confirmed it.
    pub async fn close_session(&self) -> bool {
        self.request(op::CLOSE_SESSION, Vec::new(), None).await.is_ok()
    }

    /// Whether a repeated write failed only because its first try had been done. If so, returns what it answered then.
    pub async fn verify(&self, writes: &[Write]) -> Result<Option<Answer>, Failure> {
        let mut answers = Vec::with_capacity(writes.len());
        for (at, write) in writes.iter().enumerate() {
            // A create and a later set of the same znode in one transaction: the set decides.
            let overwritten = |path: &str| {
                writes.iter().skip(at + 1).any(|later| matches!(later, Write::Set { path: other, .. } if other == path))
            };
            let done = match write {
                Write::Check { .. } => Some(Written::Checked),
                Write::Delete { path, .. } => self.read(path).await?.is_none().then_some(Written::Deleted),
                Write::Create { mode: CreateMode::PersistentSequential, .. } => None,
                Write::Create { path, data, mode } => {
                    let owner = if *mode == CreateMode::Ephemeral { self.session } else { 0 };
                    self.read(path).await?.and_then(|(found, at)| {
                        let same = at.owner == owner && (found == *data || overwritten(path));
                        same.then(|| Written::Created(path.clone()))
                    })
                }
                Write::Set { path, data, version } => self.read(path).await?.and_then(|(found, at)| {
                    let next = version.is_none_or(|version| at.version == version.wrapping_add(1));
                    (found == *data && next).then_some(Written::Set(at))
                }),
            };
            let Some(answer) = done else { return Ok(None) };
            answers.push(answer);
        }
        Ok(Some(Answer::Multi(answers)))
    }

    async fn read(&self, path: &str) -> Result<Option<(Vec<u8>, Stat)>, Failure> {
        match self.submit(&Operation::get(path), None).await {
            Ok(Answer::Data(data, stat)) => Ok(Some((data, stat))),
            Err(Failure::Answered(ZkError::NoNode)) => Ok(None),
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zookeeper::embedded::{EmbeddedConfig, Server};
    use crate::zookeeper::session::ZkConfig;
    use crate::zookeeper::{Zk, keeper};

    async fn run(link: &Link, writes: &[Write]) -> Result<Answer, ZkError> {
        match link.submit(&Operation::Multi(writes.to_vec()), None).await {
            Ok(answer) => Ok(answer),
            Err(Failure::Answered(error)) => Err(error),
            Err(Failure::Lost) => panic!("connection lost"),
        }
    }

    async fn verified(link: &Link, writes: &[Write]) -> bool {
        link.verify(writes).await.expect("an answer").is_some()
    }

    /// Each write is done, fails when it is sent again, and is known to have been done all the same; one that somebody else
    /// did is not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_finds_its_own_effect() {
        let dir = tempfile::tempdir().expect("temp folder");
        let config = EmbeddedConfig { address: "127.0.0.1".into(), port: 0, ..EmbeddedConfig::new(dir.path()) };
        let server = Server::start(config).await.expect("a ZooKeeper server");
        let config = ZkConfig { connect: server.local_addr().to_string(), ..ZkConfig::default() };
        let links = [keeper::first(config.clone()).await, keeper::first(config).await];
        let [own, other] = links.map(|opened| {
            let (keeper, opened) = opened.expect("connected");
            let link = opened.link.clone();
            tokio::spawn(Zk::hold(keeper, opened));
            link
        });
        let registration = [Write::create_ephemeral("/e", ""), Write::set("/e", "data", Some(0))];
        let changed = [Write::check("/e", 1), Write::create("/p", "x"), Write::set("/p", "y", Some(0))];
        let deleted = [Write::check("/e", 1), Write::delete("/p", None)];
        for writes in [registration.as_slice(), &changed, &deleted] {
            assert!(!verified(&own, writes).await, "{writes:?}");
            run(&own, writes).await.expect("done");
            assert!(run(&own, writes).await.is_err(), "{writes:?}");
            assert!(verified(&own, writes).await, "{writes:?}");
        }
        assert!(!verified(&other, &registration).await, "another session owns the znode");
        run(&other, &[Write::set("/e", "data", None)]).await.expect("done");
        assert!(!verified(&own, &registration).await, "the same data, but written once more");
    }
}
