//! Start-up and shutdown, step by step. What each step touches in ZooKeeper is in `zookeeper::registration`.

use crate::api::{self, Services};
use crate::base::BrokerId;
use crate::config::BrokerConfig;
use crate::net::{NetError, Server};
use crate::replica::MetadataCache;
use crate::replica::fetch_session::FetchSessionCache;
use crate::zookeeper::embedded::{self, EmbeddedConfig, EmbeddedError};
use crate::zookeeper::registration::{self, Leftover, Registrar, RegistrationError};
use crate::zookeeper::{Zk, ZkConfig, ZkError};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long replies in flight may take to leave at shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// Why the broker does not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the operating system refuses: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    ZooKeeper(#[from] ZkError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
}

/// A broker that answers.
pub struct Running {
    server: Server,
    zookeeper: Zk,
    embedded: Option<embedded::Server>,
    _registrar: Registrar,
}

pub async fn start(config: BrokerConfig, data: &Handle) -> Result<Running, BrokerError> {
    let mut server = {
        let _on_data = data.enter();
        Server::bind(&config)?
    };
    let (embedded, connect) = embedded(&config).await?;
    let zookeeper = Zk::connect(ZkConfig {
        connect,
        session_timeout: millis(config.zookeeper_session_timeout_ms),
        connection_timeout: millis(config.zookeeper_connection_timeout_ms),
    })
    .await?;
    registration::create_persistent_paths(&zookeeper).await?;
    let cluster_id = registration::cluster_id(&zookeeper).await?;
    let id = match config.broker_id {
        given @ 0.. => BrokerId(given),
        _ => registration::generate_broker_id(&zookeeper, config.reserved_broker_max_id).await?,
    };
    registration::check_features(&zookeeper).await?;
    let leftover = match embedded {
        Some(_) => Leftover::Remove,
        None => Leftover::Wait(millis(config.zookeeper_session_timeout_ms) + Duration::from_secs(2)),
    };
    let info = registration::broker_info(&config, crate::base::time::wall_ms());
    let registrar = Registrar::start(&zookeeper, id, info, leftover).await?;
    let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let services = Arc::new(Services {
        config: Arc::new(config),
        cluster_id: cluster_id.into(),
        metadata: Arc::new(MetadataCache::new()),
        fetch_sessions: FetchSessionCache::new(slots),
        zookeeper: zookeeper.clone(),
    });
    {
        let _on_data = data.enter();
        server.serve(Arc::new(move |request| api::dispatch(&services, request)));
    }
    Ok(Running { server, zookeeper, embedded, _registrar: registrar })
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}

/// The server inside, if no other is configured, and where to connect to.
async fn embedded(config: &BrokerConfig) -> Result<(Option<embedded::Server>, String), BrokerError> {
    if let Some(connect) = &config.zookeeper_connect {
        return Ok((None, connect.clone()));
    }
    let server = embedded::Server::start(EmbeddedConfig {
        address: config.zookeeper_embedded_address.clone(),
        port: config.zookeeper_embedded_port,
        ..EmbeddedConfig::new(&config.zookeeper_embedded_data_dir)
    })
    .await?;
    let connect = server.local_addr().to_string();
    Ok((Some(server), connect))
}

impl Running {
    /// Where it listens, for the log.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> =
            self.server.addresses().iter().map(|(listener, address)| format!("{listener}://{address}")).collect();
        if let Some(embedded) = &self.embedded {
            parts.push(format!("ZooKeeper inside on {}", embedded.local_addr()));
        }
        parts.join(", ")
    }

    /// Stops in the order that loses nothing: requests, logs, registration, ZooKeeper.
    pub async fn stop(self) {
        self.server.shutdown(DRAIN).await;
        self.zookeeper.close().await;
        if let Some(embedded) = self.embedded {
            embedded.shutdown().await;
        }
    }
}
