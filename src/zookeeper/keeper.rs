//! Opens connections to the ensemble and replaces the client whenever it ends.
//!
//! Invariant: a session that ended by the client's own clock is resumed; a new one begins only when the server says that the
//! old one has expired.

use super::operation::ZkError;
use super::session::{Current, SessionEvent, Shared, ZkConfig};
use std::sync::Arc;
use std::time::Duration;
use zookeeper_client::{Acls, Client, CreateMode, Error, SessionState};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why there is no connection.
pub enum OpenError {
    /// The server does not know the session that was to be resumed.
    Expired,
    Fatal(ZkError),
    Again(Error),
}

/// Opens a connection: to the session of `resume`, or to a new one.
pub async fn open(config: &ZkConfig, resume: Option<&Client>) -> Result<Client, OpenError> {
    let unusable =
        |reason: String| OpenError::Fatal(ZkError::ConnectString { connect: config.connect.clone(), reason });
    let (hosts, chroot) = match config.connect.find('/') {
        Some(at) => config.connect.split_at(at),
        None => (config.connect.as_str(), ""),
    };
    if hosts.is_empty() {
        return Err(unusable("it names no host".into()));
    }
    let mut connector = Client::connector().with_session_timeout(config.session_timeout);
    if let Some(client) = resume {
        connector = connector.with_session(client.session().clone()).with_fail_eagerly();
    }
    let client = connector.connect(hosts).await.map_err(|error| match error {
        Error::SessionExpired if resume.is_some() => OpenError::Expired,
        Error::BadArguments(reason) => unusable((*reason).to_owned()),
        error => OpenError::Again(error),
    })?;
    let chroot = chroot.trim_end_matches('/');
    if chroot.is_empty() {
        return Ok(client);
    }
    if client
        .check_stat(chroot)
        .await
        .map_err(|error| match error {
            Error::BadArguments(reason) => unusable((*reason).to_owned()),
            error => OpenError::Again(error),
        })?
        .is_none()
    {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        client.mkdir(chroot, &options).await.map_err(OpenError::Again)?;
    }
    client.chroot(chroot.to_owned()).map_err(|_| unusable("its chroot is no path".into()))
}

/// Replaces the client whenever it ends, until the handle is closed.
pub async fn keep(shared: Arc<Shared>, mut client: Client) {
    let mut generation = 1;
    loop {
        let mut state = client.state_watcher();
        let mut current = shared.current.subscribe();
        loop {
            let now = client.state();
            if now.is_terminated() {
                break;
            }
            tokio::select! {
                now = state.changed() => log_state(now),
                closed = current.wait_for(|current| matches!(current, Current::Closed)) => {
                    let _ = closed;
                    return;
                }
            }
        }
        if !replace(&shared, Current::Away) {
            return;
        }
        let Some(next) = reopen(&shared, &client, &mut generation).await else { return };
        client = next;
    }
}

fn log_state(state: SessionState) {
    match state {
        SessionState::Disconnected => tracing::warn!("connection to ZooKeeper lost"),
        SessionState::SyncConnected => tracing::info!("connected to ZooKeeper again"),
        other => tracing::warn!(state = %other, "state of the ZooKeeper session"),
    }
}

/// Sets the current client unless the handle was closed meanwhile.
fn replace(shared: &Shared, next: Current) -> bool {
    shared.current.send_if_modified(|current| {
        let open = !matches!(current, Current::Closed);
        if open {
            *current = next;
        }
        open
    })
}

/// Resumes the session, or opens the next one, for as long as it takes. `None` when the handle was closed.
async fn reopen(shared: &Arc<Shared>, ended: &Client, generation: &mut u64) -> Option<Client> {
    let mut resume = (ended.state() != SessionState::AuthFailed).then_some(ended);
    loop {
        if matches!(*shared.current.borrow(), Current::Closed) {
            return None;
        }
        match open(&shared.config, resume).await {
            Ok(client) => {
                let resumed = resume.is_some();
                *generation += u64::from(!resumed);
                if !replace(shared, Current::Connected { client: client.clone(), generation: *generation }) {
                    return None;
                }
                tracing::info!(session = %client.session_id(), resumed, "ZooKeeper session established");
                if !resumed {
                    let _ = shared.events.send(SessionEvent::Established { generation: *generation });
                }
                return Some(client);
            }
            Err(OpenError::Expired) => {
                tracing::warn!(session = %ended.session_id(), "ZooKeeper session expired");
                let _ = shared.events.send(SessionEvent::Expired);
                resume = None;
                continue;
            }
            Err(OpenError::Again(error)) => tracing::debug!(%error, "no ZooKeeper server answers"),
            Err(OpenError::Fatal(error)) => tracing::error!(%error, "ZooKeeper session lost"),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}
