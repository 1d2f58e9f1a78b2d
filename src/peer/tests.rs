//! Peers against a server that answers, half answers, lies, is slow, and goes away.

use super::{Peer, PeerConfig, PeerError, Peers};
use crate::base::BrokerId;
use crate::wire::messages::api_versions_response::ApiVersion;
use crate::wire::messages::{
    AlterPartitionRequest, ApiVersionsResponse, ControlledShutdownRequest, ControlledShutdownResponse, HeartbeatRequest,
};
use crate::wire::{Encodable, encode};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const API_VERSIONS: i16 = 18;
const CONTROLLED_SHUTDOWN: i16 = 7;

/// A broker under the test's control: the test accepts, reads requests, and writes what it likes.
struct Server {
    listener: TcpListener,
    port: u16,
}

/// A request as the server sees it.
struct Seen {
    api_key: i16,
    version: i16,
    correlation_id: i32,
}

struct Accepted(TcpStream);

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Server { listener, port }
    }

    /// Accepts, and answers ApiVersions with ControlledShutdown 0 to 3.
    async fn accept(&self) -> Accepted {
        let mut accepted = self.accept_silently().await;
        let seen = accepted.read().await.unwrap();
        assert_eq!((seen.api_key, seen.version), (API_VERSIONS, 0));
        let key = ApiVersion::default().with_api_key(CONTROLLED_SHUTDOWN).with_min_version(0).with_max_version(3);
        accepted.answer(seen.correlation_id, 0, 0, &ApiVersionsResponse::default().with_api_keys(vec![key])).await;
        accepted
    }

    async fn accept_silently(&self) -> Accepted {
        Accepted(self.listener.accept().await.unwrap().0)
    }

    fn peer(&self, config: PeerConfig) -> Arc<Peer> {
        Arc::new(Peer::new(config, "127.0.0.1", self.port))
    }
}

impl Accepted {
    /// The next request, or `None` at the end of the connection.
    async fn read(&mut self) -> Option<Seen> {
        let size = self.0.read_u32().await.ok()?;
        let mut frame = vec![0; size as usize];
        self.0.read_exact(&mut frame).await.ok()?;
        let short = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        Some(Seen { api_key: short(0), version: short(2), correlation_id })
    }

    async fn answer<T: Encodable>(&mut self, correlation_id: i32, header: i16, version: i16, response: &T) {
        let frame = frame(correlation_id, header, &encode(response, version).unwrap());
        self.0.write_all(&frame).await.unwrap();
    }

    async fn answer_shutdown(&mut self, seen: &Seen, error: i16) {
        let response = ControlledShutdownResponse::default().with_error_code(error);
        self.answer(seen.correlation_id, i16::from(seen.version >= 3), seen.version, &response).await;
    }
}

fn frame(correlation_id: i32, header: i16, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(4 + header as u32 + body.len() as u32);
    frame.put_i32(correlation_id);
    if header > 0 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.freeze()
}

fn config() -> PeerConfig {
    PeerConfig { reconnect_backoff: Duration::from_millis(1), ..PeerConfig::new("7") }
}

/// Sends ControlledShutdown in the background; the result is its error code.
fn ask(peer: &Arc<Peer>, version: i16) -> tokio::task::JoinHandle<Result<i16, PeerError>> {
    let peer = peer.clone();
    tokio::spawn(async move {
        let answer = peer.send(version, &ControlledShutdownRequest::default()).await?;
        Ok(answer.error_code)
    })
}

#[tokio::test]
async fn requests_are_pipelined_and_answered_in_order() {
    let server = Server::start().await;
    let peer = server.peer(config());
    assert_eq!(peer.max_version(CONTROLLED_SHUTDOWN), None);
    let first = ask(&peer, 3);
    let mut accepted = server.accept().await;
    let one = accepted.read().await.unwrap();
    assert_eq!((one.api_key, one.version), (CONTROLLED_SHUTDOWN, 3));
    let second = ask(&peer, 2);
    let two = accepted.read().await.unwrap();
    accepted.answer_shutdown(&one, 11).await;
    accepted.answer_shutdown(&two, 41).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(11), Ok(41)));
    assert_eq!(peer.max_version(CONTROLLED_SHUTDOWN), Some(3));
}

#[tokio::test]
async fn answers_may_come_byte_by_byte() {
    let server = Server::start().await;
    let peer = server.peer(config());
    let asked = ask(&peer, 3);
    let mut accepted = server.accept().await;
    let seen = accepted.read().await.unwrap();
    accepted.0.set_nodelay(true).unwrap();
    let response = ControlledShutdownResponse::default().with_error_code(5);
    for byte in frame(seen.correlation_id, 1, &encode(&response, 3).unwrap()) {
        accepted.0.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.await.unwrap(), Ok(5));
}

#[tokio::test]
async fn a_large_request_and_a_large_answer_pass_at_the_same_time() {
    let server = Server::start().await;
    let peer = server.peer(config());
    let sender = peer.clone();
    let body = vec![7; 20 << 20];
    let sent = tokio::spawn(async move { sender.send_bytes(CONTROLLED_SHUTDOWN, 2, &body).await });
    let accepted = server.accept().await;
    // The answer is larger than what the sockets hold, and begins before the request was read.
    let (mut read, mut write) = accepted.0.into_split();
    let answer = frame(0, 0, &vec![9; 20 << 20]);
    let writer = tokio::spawn(async move { write.write_all(&answer).await.map(|()| write) });
    let mut request = vec![0; 20 << 20];
    read.read_exact(&mut request).await.unwrap();
    assert_eq!(sent.await.unwrap().unwrap().len(), 20 << 20);
    drop(writer.await);
}

#[tokio::test]
async fn what_was_on_its_way_fails_with_the_connection_and_the_next_request_connects_again() {
    let server = Server::start().await;
    let peer = server.peer(config());
    let (first, second) = (ask(&peer, 3), ask(&peer, 3));
    let mut accepted = server.accept().await;
    let one = accepted.read().await.unwrap();
    accepted.read().await.unwrap();
    // Half an answer.
    let response = ControlledShutdownResponse::default();
    let bytes = frame(one.correlation_id, 1, &encode(&response, 3).unwrap());
    accepted.0.write_all(&bytes[..6]).await.unwrap();
    drop(accepted);
    assert!(matches!(first.await.unwrap(), Err(PeerError::Disconnected { .. })));
    assert!(matches!(second.await.unwrap(), Err(PeerError::Disconnected { .. })));
    let third = ask(&peer, 3);
    let mut accepted = server.accept().await;
    let seen = accepted.read().await.unwrap();
    accepted.answer_shutdown(&seen, 0).await;
    assert_eq!(third.await.unwrap(), Ok(0));
}

#[tokio::test]
async fn nobody_there_is_an_error_until_somebody_is() {
    let server = Server::start().await;
    let port = server.port;
    drop(server);
    let peer = Arc::new(Peer::new(config(), "127.0.0.1", port));
    for _ in 0..3 {
        assert!(matches!(ask(&peer, 3).await.unwrap(), Err(PeerError::Disconnected { .. })));
    }
    let server = Server { listener: TcpListener::bind(("127.0.0.1", port)).await.unwrap(), port };
    let asked = ask(&peer, 3);
    let mut accepted = server.accept().await;
    let seen = accepted.read().await.unwrap();
    accepted.answer_shutdown(&seen, 0).await;
    assert_eq!(asked.await.unwrap(), Ok(0));
}

#[tokio::test]
async fn what_is_no_answer_ends_the_connection() {
    let good = encode(&ControlledShutdownResponse::default(), 3).unwrap();
    // correlation id of the request, whether only this request fails
    type Lie = Box<dyn Fn(i32) -> Bytes + Send>;
    let lies: Vec<Lie> = vec![
        Box::new(|_| Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        Box::new(|_| Bytes::from_static(&[0xff, 0xff, 0xff, 0xff])),
        Box::new(|_| Bytes::from_static(&[0, 0, 0, 2, 0, 0])),
        Box::new({
            let good = good.clone();
            move |id| frame(id + 1, 1, &good)
        }),
        Box::new(|id| frame(id, 0, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
    ];
    let server = Server::start().await;
    let peer = server.peer(config());
    for lie in lies {
        let asked = ask(&peer, 3);
        let mut accepted = server.accept().await;
        let seen = accepted.read().await.unwrap();
        accepted.0.write_all(&lie(seen.correlation_id)).await.unwrap();
        assert!(matches!(asked.await.unwrap(), Err(PeerError::Malformed { .. })));
        assert!(accepted.read().await.is_none(), "the connection is closed");
    }
    // A body that cannot be decoded harms only its own request: the counts in it are checked before memory is reserved.
    let asked = ask(&peer, 3);
    let mut accepted = server.accept().await;
    for body in [&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], &[0, 0, 1], &[0, 0, 1, 0, 0]] {
        let asked = ask(&peer, 3);
        let seen = accepted.read().await.unwrap();
        accepted.0.write_all(&frame(seen.correlation_id, 1, body)).await.unwrap();
        drop(asked);
    }
    assert!(matches!(asked.await.unwrap(), Err(PeerError::Malformed { .. })));
    let last = ask(&peer, 3);
    let seen = accepted.read().await.unwrap();
    accepted.answer_shutdown(&seen, 0).await;
    let seen = accepted.read().await.unwrap();
    accepted.answer_shutdown(&seen, 9).await;
    assert_eq!(last.await.unwrap(), Ok(9));
}

#[tokio::test]
async fn silence_is_a_time_out_and_ends_the_connection() {
    let server = Server::start().await;
    let config = PeerConfig { request_timeout: Duration::from_millis(50), ..config() };
    let peer = server.peer(config);
    let (first, second) = (ask(&peer, 3), ask(&peer, 3));
    let mut accepted = server.accept().await;
    let results = (first.await.unwrap(), second.await.unwrap());
    assert!(matches!(results.0, Err(PeerError::TimedOut { timeout_ms: 50, .. })), "{results:?}");
    assert!(results.1.is_err());
    while accepted.read().await.is_some() {}
}

#[tokio::test]
async fn a_server_that_never_says_its_versions_is_no_broker() {
    let server = Server::start().await;
    let config = PeerConfig { connect_timeout: Duration::from_millis(50), ..config() };
    let peer = server.peer(config);
    let asked = ask(&peer, 3);
    let _accepted = server.accept_silently().await;
    assert!(matches!(asked.await.unwrap(), Err(PeerError::Disconnected { .. })));
}

#[tokio::test]
async fn versions_that_the_peer_does_not_have_are_not_sent() {
    let server = Server::start().await;
    let peer = server.peer(config());
    let asker = peer.clone();
    let negotiated = tokio::spawn(async move { asker.negotiate(CONTROLLED_SHUTDOWN, 1..=9).await });
    let mut accepted = server.accept().await;
    assert_eq!(negotiated.await.unwrap(), Ok(3));
    assert!(matches!(peer.negotiate(CONTROLLED_SHUTDOWN, 4..=9).await, Err(PeerError::UnsupportedVersion { .. })));
    let refused = peer.send(4, &HeartbeatRequest::default()).await;
    assert!(matches!(refused, Err(PeerError::UnsupportedVersion { api_key: 12, version: 4, .. })));
    // A field that this version does not have.
    let request = AlterPartitionRequest::default();
    assert!(matches!(peer.send(99, &request).await, Err(PeerError::Request(_))));
    let asked = ask(&peer, 3);
    let seen = accepted.read().await.unwrap();
    accepted.answer_shutdown(&seen, 0).await;
    assert_eq!(asked.await.unwrap(), Ok(0));
}

#[tokio::test]
async fn a_sender_that_gave_up_is_not_missed() {
    let server = Server::start().await;
    let peer = server.peer(config());
    let first = ask(&peer, 3);
    let mut accepted = server.accept().await;
    let one = accepted.read().await.unwrap();
    first.abort();
    let _ = first.await;
    let second = ask(&peer, 3);
    let two = accepted.read().await.unwrap();
    accepted.answer_shutdown(&one, 1).await;
    accepted.answer_shutdown(&two, 2).await;
    assert_eq!(second.await.unwrap(), Ok(2));
}

#[tokio::test]
async fn a_peer_that_is_dropped_closes_its_connection() {
    let server = Server::start().await;
    let peer = server.peer(config());
    let asked = ask(&peer, 3);
    let mut accepted = server.accept().await;
    let seen = accepted.read().await.unwrap();
    accepted.answer_shutdown(&seen, 0).await;
    asked.await.unwrap().unwrap();
    drop(peer);
    assert!(accepted.read().await.is_none());
}

#[tokio::test]
async fn a_broker_that_moved_gets_a_new_connection() {
    let address = Arc::new(parking_lot::Mutex::new(None));
    let seen = address.clone();
    let lookup = move |id: BrokerId| if id == BrokerId(2) { *seen.lock() } else { None };
    let lookup = move |id| lookup(id).map(|port| ("127.0.0.1".to_owned(), port));
    let peers = Peers::new(config(), tokio::runtime::Handle::current(), lookup);
    assert!(matches!(peers.get(BrokerId(2)), Err(PeerError::Unknown(BrokerId(2)))));
    *address.lock() = Some(1);
    let old = peers.get(BrokerId(2)).unwrap();
    assert!(Arc::ptr_eq(&old, &peers.get(BrokerId(2)).unwrap()));
    *address.lock() = Some(2);
    assert_eq!(peers.get(BrokerId(2)).unwrap().port(), 2);
    assert!(peers.get(BrokerId(3)).is_err());
}
