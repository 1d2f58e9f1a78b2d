//! The bridge to the client crate: sends an [`Operation`], and verifies writes whose answer was lost.
//!
//! Invariant: the only file that names the crate's operations. A write whose answer was lost may have been done; its retry
//! then fails on its own effect. [`verify`] looks whether the znodes are as the write leaves them before that failure is
//! believed.

use super::operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use std::future::Future;
use std::pin::Pin;
use zookeeper_client as crate_zk;
use zookeeper_client::{Acls, Client, MultiWriteError, MultiWriteResult, OneshotWatcher};

/// Why an operation has no answer.
pub enum Failure {
    /// The connection went away; whether a write was done is unknown.
    Lost,
    Answered(ZkError),
}

pub type Submitted<'a> = Pin<Box<dyn Future<Output = Result<(Answer, Option<OneshotWatcher>), Failure>> + Send + 'a>>;

impl From<ZkError> for Failure {
    fn from(error: ZkError) -> Failure {
        Failure::Answered(error)
    }
}

fn stat(stat: &crate_zk::Stat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        ctime_ms: stat.ctime,
        version: stat.version,
        owner: stat.ephemeral_owner,
        children: stat.num_children,
    }
}

/// The crate reports a time-out as a custom error, so everything that is not an answer of the server counts as lost; the
/// session's state decides what follows.
fn failure(error: crate_zk::Error) -> Failure {
    use crate_zk::Error;
    let answered = match error {
        Error::NoNode => ZkError::NoNode,
        Error::NodeExists => ZkError::NodeExists,
        Error::BadVersion => ZkError::BadVersion,
        Error::NotEmpty => ZkError::NotEmpty,
        Error::NoAuth => ZkError::NoAuth,
        Error::BadArguments(_)
        | Error::InvalidAcl
        | Error::NoChildrenForEphemerals
        | Error::QuotaExceeded
        | Error::Unimplemented
        | Error::MarshallingError
        | Error::UnmarshalError { .. }
        | Error::UnexpectedErrorCode(_) => ZkError::Other(error.to_string()),
        _ => return Failure::Lost,
    };
    Failure::Answered(answered)
}

/// Puts the request on the wire now, in the order of calls; the future is only the answer.
pub fn submit<'a>(client: &'a Client, operation: &'a Operation) -> Submitted<'a> {
    match operation {
        Operation::Get { path, watch: false } => {
            let reply = client.get_data(path);
            Box::pin(async move {
                let (data, at) = reply.await.map_err(failure)?;
                Ok((Answer::Data(data, stat(&at)), None))
            })
        }
        Operation::Get { path, watch: true } => {
            let reply = client.get_and_watch_data(path);
            Box::pin(async move {
                let (data, at, watcher) = reply.await.map_err(failure)?;
                Ok((Answer::Data(data, stat(&at)), Some(watcher)))
            })
        }
        Operation::Exists { path, watch: false } => {
            let reply = client.check_stat(path);
            Box::pin(async move { Ok((Answer::Exists(reply.await.map_err(failure)?.as_ref().map(stat)), None)) })
        }
        Operation::Exists { path, watch: true } => {
            let reply = client.check_and_watch_stat(path);
            Box::pin(async move {
                let (at, watcher) = reply.await.map_err(failure)?;
                Ok((Answer::Exists(at.as_ref().map(stat)), Some(watcher)))
            })
        }
        Operation::Children { path, watch: false } => {
            let reply = client.get_children(path);
            Box::pin(async move {
                let (children, at) = reply.await.map_err(failure)?;
                Ok((Answer::Children(children, stat(&at)), None))
            })
        }
        Operation::Children { path, watch: true } => {
            let reply = client.get_and_watch_children(path);
            Box::pin(async move {
                let (children, at, watcher) = reply.await.map_err(failure)?;
                Ok((Answer::Children(children, stat(&at)), Some(watcher)))
            })
        }
        Operation::Multi(writes) => submit_multi(client, writes),
    }
}

fn submit_multi<'a>(client: &'a Client, writes: &'a [Write]) -> Submitted<'a> {
    let mut writer = client.new_multi_writer();
    for write in writes {
        let added = match write {
            Write::Create { path, data, mode } => {
                let mode = match mode {
                    CreateMode::Persistent => crate_zk::CreateMode::Persistent,
                    CreateMode::PersistentSequential => crate_zk::CreateMode::PersistentSequential,
                    CreateMode::Ephemeral => crate_zk::CreateMode::Ephemeral,
                };
                writer.add_create(path, data, &mode.with_acls(Acls::anyone_all()))
            }
            Write::Set { path, data, version } => writer.add_set_data(path, data, *version),
            Write::Delete { path, version } => writer.add_delete(path, *version),
            Write::Check { path, version } => writer.add_check_version(path, *version),
        };
        if let Err(error) = added {
            return Box::pin(std::future::ready(Err(Failure::Answered(ZkError::Other(error.to_string())))));
        }
    }
    let reply = writer.commit();
    Box::pin(async move {
        match reply.await {
            Ok(results) => Ok((Answer::Multi(results.into_iter().map(written).collect()), None)),
            Err(MultiWriteError::RequestFailed { source }) => Err(failure(source)),
            Err(MultiWriteError::OperationFailed { index, source }) => match failure(source) {
                Failure::Answered(error) => Err(ZkError::Multi { index, error: Box::new(error) }.into()),
                lost => Err(lost),
            },
        }
    })
}

fn written(result: MultiWriteResult) -> Written {
    match result {
        MultiWriteResult::Create { path, .. } => Written::Created(path),
        MultiWriteResult::SetData { stat: at } => Written::Set(stat(&at)),
        MultiWriteResult::Delete => Written::Deleted,
        _ => Written::Checked,
    }
}

/// Whether a repeated write failed only because its first try had been done. If so, returns what it answered then.
pub async fn verify(client: &Client, writes: &[Write], session_id: i64) -> Result<Option<Answer>, Failure> {
    let mut answers = Vec::with_capacity(writes.len());
    for (at, write) in writes.iter().enumerate() {
        // A create and a later set of the same znode in one transaction: the set decides.
        let overwritten = |path: &str| {
            writes.iter().skip(at + 1).any(|later| matches!(later, Write::Set { path: other, .. } if other == path))
        };
        let done = match write {
            Write::Check { .. } => Some(Written::Checked),
            Write::Delete { path, .. } => {
                client.check_stat(path).await.map_err(failure)?.is_none().then_some(Written::Deleted)
            }
            Write::Create { mode: CreateMode::PersistentSequential, .. } => None,
            Write::Create { path, data, mode } => {
                let owner = if *mode == CreateMode::Ephemeral { session_id } else { 0 };
                read(client, path).await?.and_then(|(found, at)| {
                    let same = at.owner == owner && (found == *data || overwritten(path));
                    same.then(|| Written::Created(path.clone()))
                })
            }
            Write::Set { path, data, version } => read(client, path).await?.and_then(|(found, at)| {
                let next = version.is_none_or(|version| at.version == version.wrapping_add(1));
                (found == *data && next).then_some(Written::Set(at))
            }),
        };
        let Some(answer) = done else { return Ok(None) };
        answers.push(answer);
    }
    Ok(Some(Answer::Multi(answers)))
}

async fn read(client: &Client, path: &str) -> Result<Option<(Vec<u8>, Stat)>, Failure> {
    match client.get_data(path).await {
        Ok((data, at)) => Ok(Some((data, stat(&at)))),
        Err(crate_zk::Error::NoNode) => Ok(None),
        Err(error) => Err(failure(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zookeeper::embedded::{EmbeddedConfig, Server};

    async fn run(client: &Client, writes: &[Write]) -> Result<Answer, ZkError> {
        match submit_multi(client, writes).await {
            Ok((answer, _)) => Ok(answer),
            Err(Failure::Answered(error)) => Err(error),
            Err(Failure::Lost) => panic!("connection lost"),
        }
    }

    async fn verified(client: &Client, writes: &[Write]) -> bool {
        let session = client.session_id().0;
        match verify(client, writes, session).await {
            Ok(found) => found.is_some(),
            Err(_) => panic!("connection lost"),
        }
    }

    /// Each write is done, fails when it is sent again, and is known to have been done all the same; one that somebody else
    /// did is not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_finds_its_own_effect() {
        let dir = tempfile::tempdir().expect("temp folder");
        let config = EmbeddedConfig { address: "127.0.0.1".into(), port: 0, ..EmbeddedConfig::new(dir.path()) };
        let server = Server::start(config).await.expect("a ZooKeeper server");
        let (own, other) = (
            Client::connect(&server.local_addr().to_string()).await.expect("connected"),
            Client::connect(&server.local_addr().to_string()).await.expect("connected"),
        );
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
