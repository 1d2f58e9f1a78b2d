//! The listeners and everything that hangs on them: bind, serve, drain, end.

use super::connection;
use super::limits::{Admission, Limits};
use super::listener::{self, Listener, NetError};
use crate::base::Millis;
use crate::config::BrokerConfig;
use crate::wire::frame::Connection;
use crate::wire::{Outcome, Request};
use socket2::SockRef;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// What handles a request. Called in the order of a connection's requests, on the connection's task.
pub type Dispatch = Arc<dyn Fn(Request) -> Outcome + Send + Sync>;

/// How long a listener pauses when the process has no descriptor or memory left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// `socket.send.buffer.bytes` of whoever leaves it alone, and what such a connection gets: every MiB of a fetch waits for room four times
/// as often with the former, which is a quarter of its CPU time.
const SEND_BUFFER_BYTES_DEFAULT: i32 = 100 << 10;
const SEND_BUFFER_BYTES: usize = 400 << 10;

/// `None` leaves it to the operating system.
fn send_buffer_bytes(configured: i32) -> Option<usize> {
    match configured {
        SEND_BUFFER_BYTES_DEFAULT => Some(SEND_BUFFER_BYTES),
        other => usize::try_from(other).ok().filter(|&size| size > 0),
    }
}

/// What all connections share.
pub(super) struct Shared {
    pub dispatch: Dispatch,
    pub frame_bytes_max: usize,
    pub idle_ms_max: Millis,
    send_buffer_bytes: Option<usize>,
    limits: Arc<Limits>,
    next_id: AtomicU64,
    /// Read no more requests; what is owed is still sent.
    pub drain: CancellationToken,
    /// Close now.
    pub abort: CancellationToken,
    tasks: TaskTracker,
}

/// Bound listeners. They answer nobody before [`Server::serve`].
pub struct Server {
    listeners: Vec<Listener>,
    addresses: Vec<(String, SocketAddr)>,
    config: Settings,
    running: Option<Arc<Shared>>,
}

struct Settings {
    frame_bytes_max: usize,
    idle_ms_max: Millis,
    send_buffer_bytes: Option<usize>,
    connections_max: i32,
    connections_per_ip_max: i32,
}

impl Server {
    /// Binds every listener of the configuration: the moment to find out that a port is taken.
    pub fn bind(config: &BrokerConfig) -> Result<Server, NetError> {
        let listeners: Vec<Listener> =
            config.listeners.iter().map(|endpoint| listener::bind(endpoint, config)).collect::<Result<_, _>>()?;
        let addresses = listeners.iter().map(|listener| (listener.name.clone(), listener.address)).collect();
        let config = Settings {
            frame_bytes_max: usize::try_from(config.socket_request_max_bytes).unwrap_or(0),
            idle_ms_max: config.connections_max_idle_ms,
            send_buffer_bytes: send_buffer_bytes(config.socket_send_buffer_bytes),
            connections_max: config.max_connections,
            connections_per_ip_max: config.max_connections_per_ip,
        };
        Ok(Server { listeners, addresses, config, running: None })
    }

    /// Listener names with the addresses that they are bound to; port 0 has become a real port.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Begins to answer. Must run on the runtime that the connections shall run on.
    pub fn serve(&mut self, dispatch: Dispatch) {
        let shared = Arc::new(Shared {
            dispatch,
            frame_bytes_max: self.config.frame_bytes_max,
            idle_ms_max: self.config.idle_ms_max,
            send_buffer_bytes: self.config.send_buffer_bytes,
            limits: Limits::new(self.config.connections_max, self.config.connections_per_ip_max),
            next_id: AtomicU64::new(0),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        for listener in self.listeners.drain(..) {
            shared.tasks.spawn(accept_loop(listener, shared.clone()));
        }
        self.running = Some(shared);
    }

    /// Stops accepting and reading, gives replies in flight `grace` to leave, then closes everything.
    pub async fn shutdown(self, grace: Duration) {
        let Some(shared) = self.running else { return };
        shared.drain.cancel();
        shared.tasks.close();
        if tokio::time::timeout(grace, shared.tasks.wait()).await.is_err() {
            shared.abort.cancel();
            shared.tasks.wait().await;
        }
    }
}

async fn accept_loop(listener: Listener, shared: Arc<Shared>) {
    let name: Arc<str> = listener.name.as_str().into();
    let drain = shared.drain.clone();
    let accepting = async {
        loop {
            match listener.socket.accept().await {
                Ok((stream, peer)) => welcome(stream, peer, &name, &shared).await,
                Err(error) => pause_after(&error, &listener).await,
            }
        }
    };
    tokio::select! {
        () = drain.cancelled() => {}
        () = accepting => {}
    }
}

async fn welcome(stream: TcpStream, peer: SocketAddr, listener: &Arc<str>, shared: &Arc<Shared>) {
    match shared.limits.admit(peer.ip()).await {
        Some(admission) => start(stream, peer, listener, shared, admission),
        None => debug!(client = %peer.ip(), "refused: max.connections.per.ip reached"),
    }
}

fn start(stream: TcpStream, peer: SocketAddr, listener: &Arc<str>, shared: &Arc<Shared>, admission: Admission) {
    // A peer that is gone already makes these fail; its first read says so.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_keepalive(true);
    if let Some(size) = shared.send_buffer_bytes {
        let _ = SockRef::from(&stream).set_send_buffer_size(size);
    }
    let connection = Arc::new(Connection {
        id: shared.next_id.fetch_add(1, Ordering::Relaxed),
        listener: listener.clone(),
        client_address: peer.ip().to_canonical(),
        principal: "User:ANONYMOUS".to_owned(),
    });
    shared.tasks.spawn(connection::run(stream, connection, shared.clone(), admission));
}

/// A connection that died in the backlog is nothing; no descriptors left is a reason to wait, and never one to stop.
async fn pause_after(error: &std::io::Error, listener: &Listener) {
    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) {
        return;
    }
    warn!(listener = listener.name, "cannot accept a connection: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoint;
    use crate::wire::{Reply, Segment};
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HEARTBEAT: i16 = 12;
    const LEAVE_GROUP: i16 = 13;
    const METADATA: i16 = 3;

    fn answer(request: &Request) -> Reply {
        Reply::Segments(vec![Segment::Bytes(Bytes::copy_from_slice(&request.header.correlation_id.to_be_bytes()))])
    }

    /// Metadata is answered at once, Heartbeat later, LeaveGroup panics.
    fn dispatch(request: Request) -> Outcome {
        match request.header.api_key {
            METADATA => answer(&request).into(),
            HEARTBEAT => Outcome::later(async move {
                tokio::task::yield_now().await;
                answer(&request)
            }),
            LEAVE_GROUP => panic!("a handler's mistake"),
            _ => Outcome::later(std::future::pending()),
        }
    }

    fn server(change: impl FnOnce(&mut BrokerConfig)) -> (Server, SocketAddr) {
        let endpoint = Endpoint {
            listener: "PLAINTEXT".into(),
            host: "127.0.0.1".into(),
            port: 0,
            security_protocol: "PLAINTEXT".into(),
        };
        let mut config = BrokerConfig { listeners: vec![endpoint], ..BrokerConfig::default() };
        change(&mut config);
        let mut server = Server::bind(&config).unwrap();
        server.serve(Arc::new(dispatch));
        let address = server.addresses()[0].1;
        (server, address)
    }

    fn frame(api_key: i16, correlation_id: i32) -> Vec<u8> {
        let mut frame = vec![0, 0, 0, 10];
        frame.extend(api_key.to_be_bytes());
        frame.extend(1i16.to_be_bytes());
        frame.extend(correlation_id.to_be_bytes());
        frame.extend((-1i16).to_be_bytes());
        frame
    }

    async fn read_reply(client: &mut TcpStream) -> Option<i32> {
        let mut reply = [0; 8];
        client.read_exact(&mut reply).await.ok()?;
        assert_eq!(reply[..4], [0, 0, 0, 4]);
        Some(i32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]))
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let (server, address) = server(|_| {});
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut sent = Vec::new();
        for id in 0..200 {
            sent.extend(frame(if id % 3 == 0 { HEARTBEAT } else { METADATA }, id));
        }
        client.write_all(&sent).await.unwrap();
        for id in 0..200 {
            assert_eq!(read_reply(&mut client).await, Some(id));
        }
        server.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn a_panic_and_a_bad_frame_end_only_their_own_connection() {
        let (server, address) = server(|_| {});
        let mut bystander = TcpStream::connect(address).await.unwrap();
        for bad in
            [frame(LEAVE_GROUP, 1), frame(999, 1), vec![0, 0, 0, 0], vec![255; 4], vec![0x7f; 4], vec![0, 0, 0, 1, 9]]
        {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&bad).await.unwrap();
            assert_eq!(read_reply(&mut client).await, None, "{bad:?}");
            bystander.write_all(&frame(METADATA, 7)).await.unwrap();
            assert_eq!(read_reply(&mut bystander).await, Some(7));
        }
        server.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let (server, address) = server(|config| config.connections_max_idle_ms = 20);
        let mut client = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_reply(&mut client).await, None);
        server.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn an_address_beyond_its_share_is_refused() {
        let (server, address) = server(|config| config.max_connections_per_ip = 1);
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(&frame(METADATA, 1)).await.unwrap();
        assert_eq!(read_reply(&mut first).await, Some(1));
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_reply(&mut second).await, None);
        server.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn shutdown_ends_replies_that_never_come() {
        let (server, address) = server(|_| {});
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&frame(11, 1)).await.unwrap();
        tokio::task::yield_now().await;
        server.shutdown(Duration::from_millis(50)).await;
        assert_eq!(read_reply(&mut client).await, None);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
