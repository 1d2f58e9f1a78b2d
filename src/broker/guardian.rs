//! The session guardian: a child process that ends the ZooKeeper session of a broker that has died.
//!
//! It reads a pipe from the broker: who the session is, and its next one whenever there is one. When the broker dies, of
//! whatever cause, the kernel closes the pipe; the guardian then resumes the session and closes it, so that the controller moves
//! leadership at once and not after the session time-out. Apache Kafka has nothing like it.
//!
//! Invariant: it acts on the end of the process only. A broker that is paused, slow or cut off keeps its pipe open, and its
//! session is ZooKeeper's to judge. Signals do not end the guardian, since they are often sent to both; the pipe does.

use crate::config::zookeeper::ZookeeperSecurity;
use crate::zookeeper::client::{PASSWORD_BYTES, SessionKey};
use crate::zookeeper::{Ended, SessionEvent, Zk, ZkConfig, ZkSecurity, end_session};
use serde_json::{Value, json};
use std::io::{self, BufRead};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

/// What `main` recognises a guardian by.
pub const FLAG: &str = "--session-guardian";

/// The broker has closed its session itself.
const DONE: &str = "done";

const RESPAWN_AFTER: Duration = Duration::from_secs(5);

/// The broker's end.
pub struct Guardian {
    done: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Guardian {
    /// Starts a guardian, and another one if it ends before the broker does.
    pub fn start(zookeeper: Zk, config: ZkConfig, security: ZookeeperSecurity) -> Guardian {
        let (done, told) = oneshot::channel();
        let task = tokio::spawn(keep(zookeeper, config, security, told));
        Guardian { done, task }
    }

    /// The session is closed: there is nothing left to guard.
    pub async fn dismiss(self) {
        let _ = self.done.send(());
        let _ = self.task.await;
    }
}

async fn keep(zookeeper: Zk, config: ZkConfig, security: ZookeeperSecurity, mut told: oneshot::Receiver<()>) {
    loop {
        match guarded(&zookeeper, &config, &security, &mut told).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(
                %error,
                "no session guardian: if this broker dies, its cluster notices it only after the ZooKeeper session time-out"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(RESPAWN_AFTER) => {}
            _ = &mut told => return,
        }
    }
}

/// One life of a guardian. Returns when it is dismissed.
async fn guarded(
    zookeeper: &Zk,
    config: &ZkConfig,
    security: &ZookeeperSecurity,
    told: &mut oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut events = zookeeper.events();
    let (mut child, mut pipe) = spawn()?;
    loop {
        // Writing must not wait for a session that comes back only after the broker is told to stop.
        let key = tokio::select! {
            key = zookeeper.session_key() => key.ok(),
            _ = &mut *told => return dismiss(pipe, child).await,
        };
        let Some(key) = key else { return Ok(()) };
        pipe.write_all(format!("{}\n", Charge::to_json(config, security, &key)).as_bytes()).await?;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(SessionEvent::Established { .. }) | Err(RecvError::Lagged(_)) => break,
                    Ok(SessionEvent::Expired) => {}
                    Err(RecvError::Closed) => return Ok(()),
                },
                status = child.wait() => return Err(io::Error::other(format!("it has ended: {}", status?))),
                _ = &mut *told => return dismiss(pipe, child).await,
            }
        }
    }
}

fn spawn() -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(FLAG).stdin(Stdio::piped()).stdout(Stdio::null());
    command.as_std_mut().env_remove("RUST_BACKTRACE");
    let mut child = command.spawn()?;
    let pipe = child.stdin.take().ok_or_else(|| io::Error::other("it has no pipe"))?;
    Ok((child, pipe))
}

async fn dismiss(mut pipe: ChildStdin, mut child: Child) -> io::Result<()> {
    pipe.write_all(format!("{DONE}\n").as_bytes()).await?;
    drop(pipe);
    child.wait().await.map(drop)
}

/// What a guardian is told: how to reach ZooKeeper, and which session to end.
struct Charge {
    config: ZkConfig,
    key: SessionKey,
}

impl Charge {
    fn to_json(config: &ZkConfig, security: &ZookeeperSecurity, key: &SessionKey) -> Value {
        json!({
            "connect": config.connect,
            "session_timeout_ms": config.session_timeout.as_millis() as u64,
            "security": security.to_json(),
            "session": key.id,
            "password": key.password,
        })
    }

    fn parse(line: &str) -> Option<Charge> {
        let json: Value = serde_json::from_str(line).ok()?;
        let password: Option<Vec<u8>> =
            json["password"].as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
        let password = <[u8; PASSWORD_BYTES]>::try_from(password?).ok()?;
        let config = ZkConfig {
            connect: json["connect"].as_str()?.to_owned(),
            session_timeout: Duration::from_millis(json["session_timeout_ms"].as_u64()?),
            security: ZkSecurity::open(&ZookeeperSecurity::from_json(&json["security"])).ok()?,
            ..ZkConfig::default()
        };
        Some(Charge { config, key: SessionKey { id: json["session"].as_i64()?, password } })
    }
}

/// The guardian itself: waits for the end of the broker, and of its session.
pub fn run() -> io::Result<()> {
    // A Ctrl-C in the terminal is for the broker.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _deaf = {
        let _in_runtime = runtime.enter();
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        kinds.map(signal).into_iter().collect::<io::Result<Vec<_>>>()?
    };
    let mut last = None;
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            DONE => return Ok(()),
            line => last = Charge::parse(line),
        }
    }
    let Some(Charge { config, key }) = last else { return Ok(()) };
    match runtime.block_on(end_session(config, key.clone())) {
        Ok(Ended::Now) => tracing::warn!(?key, "the broker has died: its ZooKeeper session is ended"),
        Ok(Ended::Before) => tracing::debug!(?key, "the broker has died after its ZooKeeper session"),
        Err(error) => tracing::error!(?key, %error, "the broker has died, and its ZooKeeper session cannot be ended"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_goes_through_the_pipe() {
        let key = SessionKey { id: -5, password: *b"0123456789abcdef" };
        let config =
            ZkConfig { connect: "a:1,b:2/c".into(), session_timeout: Duration::from_secs(7), ..ZkConfig::default() };
        let line = Charge::to_json(&config, &ZookeeperSecurity::default(), &key).to_string();
        let charge = Charge::parse(&line).expect("readable");
        assert_eq!((charge.key, charge.config.connect), (key, config.connect));
        assert_eq!(charge.config.session_timeout, config.session_timeout);
        assert!(Charge::parse("{}").is_none());
    }
}
