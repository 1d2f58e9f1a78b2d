//! One connection to one server: handshake, login, and the task that sends requests and hands answers out.
//!
//! Invariant: answers come in the order of requests; anything else ends the connection, and every request without an answer is
//! dropped with it, which its caller sees as lost.

use super::codec::{self, code};
use super::link::{Reply, Request};
use super::sasl;
use super::watch_table::{Arm, WatchTable};
use super::{SessionKey, codec::framed};
use crate::config::jaas::Login;
use crate::zookeeper::ZkError;
use crate::zookeeper::embedded::codes::{XID_NOTIFICATION, XID_PING, op};
use crate::zookeeper::embedded::jute::{JuteError, JuteReader};
use crate::zookeeper::session::ZkConfig;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

const XID_SET_WATCHES: i32 = -8;

/// Longest answer: the children of a hundred thousands of topics. It is reserved only as its bytes arrive.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What outlives connections.
pub struct Session {
    pub key: SessionKey,
    /// As the server grants it.
    pub timeout: Duration,
    pub last_zxid: i64,
    pub watches: WatchTable,
}

impl Session {
    pub fn new(timeout: Duration) -> Session {
        Session { key: SessionKey::NONE, timeout, last_zxid: 0, watches: WatchTable::default() }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum OpenError {
    /// The server does not know the session that was to be resumed.
    Expired,
    Fatal(ZkError),
    Again(String),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Again(error.to_string())
    }
}

impl From<JuteError> for OpenError {
    fn from(error: JuteError) -> OpenError {
        OpenError::Again(format!("a malformed answer: {error}"))
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    Lost(String),
    /// The session was closed on request.
    Closed,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection in a session.
pub struct Connection {
    frames: Frames,
    writer: WriteHalf<Box<dyn Stream>>,
    next_xid: i32,
}

impl Connection {
    /// Connects to one server and resumes the session, or begins one.
    pub async fn open(
        config: &ZkConfig,
        server: &(String, u16),
        session: &mut Session,
    ) -> Result<Connection, OpenError> {
        let tcp = TcpStream::connect((server.0.as_str(), server.1)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &config.security.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.connect(&server.0, tcp).await?),
        };
        let (reader, writer) = tokio::io::split(stream);
        let mut connection = Connection { frames: Frames { reader, buffer: BytesMut::new() }, writer, next_xid: 1 };
        connection.shake_hands(config, session).await?;
        if let Some(login) = &config.security.sasl {
            connection.log_in(login).await?;
        }
        for body in session.watches.set_again(session.last_zxid) {
            connection.write(&framed(XID_SET_WATCHES, op::SET_WATCHES, &body)).await?;
        }
        Ok(connection)
    }

    async fn shake_hands(&mut self, config: &ZkConfig, session: &mut Session) -> Result<(), OpenError> {
        let timeout_ms = i32::try_from(config.session_timeout.as_millis()).unwrap_or(i32::MAX);
        self.write(&codec::connect(&session.key, session.last_zxid, timeout_ms)).await?;
        let answer = self.frames.next().await?;
        let Some((key, timeout_ms)) = codec::connected(&answer)? else { return Err(OpenError::Expired) };
        session.key = key;
        session.timeout = Duration::from_millis(timeout_ms.unsigned_abs().into());
        Ok(())
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), OpenError> {
        let refused = |reason: String| OpenError::Fatal(ZkError::AuthFailed(reason));
        let mistrusted = |error: sasl::SaslError| refused(error.to_string());
        let (_, challenge) = self.say_token(b"").await?;
        let cnonce: String = (0..32).map(|_| format!("{:x}", rand::random::<u8>() & 15)).collect();
        let (response, expected) = sasl::respond(login, &challenge, &cnonce).map_err(mistrusted)?;
        match self.say_token(&response).await? {
            (code::OK, last) => expected.check(&last).map_err(mistrusted),
            (error, _) => Err(refused(format!("the server refuses user {} (error {error})", login.username))),
        }
    }

    async fn say_token(&mut self, token: &[u8]) -> Result<(i32, Vec<u8>), OpenError> {
        let mut body = crate::zookeeper::embedded::jute::JuteWriter::new();
        body.buffer(Some(token));
        let Reply { code, body } = self.call(op::SASL, body.as_slice()).await?;
        let token =
            if code == code::OK { JuteReader::new(&body).buffer()?.unwrap_or_default().to_vec() } else { vec![] };
        Ok((code, token))
    }

    /// One request and its answer, before the connection has a task.
    pub async fn call(&mut self, op: i32, body: &[u8]) -> Result<Reply, OpenError> {
        let xid = self.xid();
        self.write(&framed(xid, op, body)).await?;
        loop {
            let mut frame = self.frames.next().await?;
            let header = Header::take(&mut frame)?;
            if header.xid == xid {
                return Ok(Reply { code: header.error, body: frame });
            }
        }
    }

    fn xid(&mut self) -> i32 {
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(1);
        xid
    }

    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(frame.len() + 4);
        put(&mut bytes, frame);
        self.writer.write_all(&bytes).await?;
        self.writer.flush().await
    }

    /// Sends requests and hands answers out until the connection ends.
    pub async fn serve(self, session: &mut Session, requests: &mut mpsc::UnboundedReceiver<Request>) -> End {
        let (to_writer, outgoing) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write_all(self.writer, outgoing));
        let now = Instant::now();
        let serving = Serving {
            session,
            to_writer,
            waiting: VecDeque::new(),
            next_xid: self.next_xid,
            heard: now,
            sent: now,
            closing: false,
        };
        let end = serving.run(self.frames, requests).await;
        writer.abort();
        end
    }
}

/// Appends a frame with its length.
fn put(to: &mut Vec<u8>, frame: &[u8]) {
    to.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(frame);
}

/// A task of its own, so that a server that does not read for a while is still listened to.
async fn write_all(mut writer: WriteHalf<Box<dyn Stream>>, mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(mut bytes) = outgoing.recv().await {
        while let Ok(more) = outgoing.try_recv() {
            bytes.extend_from_slice(&more);
        }
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

struct Frames {
    reader: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
}

impl Frames {
    /// The next frame. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize) {
                if length > FRAME_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")));
                }
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server has closed the connection"));
            }
        }
    }
}

struct Header {
    xid: i32,
    zxid: i64,
    error: i32,
}

impl Header {
    fn take(frame: &mut Bytes) -> Result<Header, JuteError> {
        let header = {
            let mut from = JuteReader::new(frame);
            Header { xid: from.i32()?, zxid: from.i64()?, error: from.i32()? }
        };
        frame.advance(16);
        Ok(header)
    }
}

struct Waiting {
    xid: i32,
    op: i32,
    arm: Option<Arm>,
    reply: oneshot::Sender<Reply>,
}

struct Serving<'a> {
    session: &'a mut Session,
    to_writer: mpsc::UnboundedSender<Vec<u8>>,
    waiting: VecDeque<Waiting>,
    next_xid: i32,
    heard: Instant,
    sent: Instant,
    closing: bool,
}

impl Serving<'_> {
    async fn run(mut self, mut frames: Frames, requests: &mut mpsc::UnboundedReceiver<Request>) -> End {
        loop {
            let (ping_at, lost_at) = (self.sent + self.session.timeout / 3, self.heard + self.session.timeout * 2 / 3);
            tokio::select! {
                frame = frames.next() => {
                    let handled = match frame {
                        Ok(frame) => self.handle(frame),
                        Err(_) if self.closing => return End::Closed,
                        Err(error) => Err(error.to_string()),
                    };
                    if let Err(reason) = handled {
                        return End::Lost(reason);
                    }
                    if self.closing && self.waiting.is_empty() {
                        return End::Closed;
                    }
                }
                request = requests.recv(), if !self.closing => match request {
                    Some(request) => self.send(request, requests),
                    None => return End::Closed,
                },
                () = sleep_until(ping_at.min(lost_at)) => {
                    let now = Instant::now();
                    if now >= lost_at {
                        return End::Lost(format!("nothing heard for {} ms", (now - self.heard).as_millis()));
                    }
                    if now >= ping_at {
                        self.write(framed(XID_PING, op::PING, &[]));
                    }
                }
            }
        }
    }

    /// Sends a request, and those behind it in one piece.
    fn send(&mut self, first: Request, requests: &mut mpsc::UnboundedReceiver<Request>) {
        let (mut bytes, mut next) = (Vec::new(), Some(first));
        while let Some(Request { op, body, arm, reply }) = next {
            let xid = self.next_xid;
            self.next_xid = xid.checked_add(1).unwrap_or(1);
            put(&mut bytes, &framed(xid, op, &body));
            self.waiting.push_back(Waiting { xid, op, arm, reply });
            self.closing = op == op::CLOSE_SESSION;
            next = if self.closing { None } else { requests.try_recv().ok() };
        }
        self.sent = Instant::now();
        let _ = self.to_writer.send(bytes);
    }

    fn write(&mut self, frame: Vec<u8>) {
        let mut bytes = Vec::with_capacity(frame.len() + 4);
        put(&mut bytes, &frame);
        self.sent = Instant::now();
        // A writer that has ended shows as a connection that has.
        let _ = self.to_writer.send(bytes);
    }

    fn handle(&mut self, mut frame: Bytes) -> Result<(), String> {
        self.heard = Instant::now();
        let header = Header::take(&mut frame).map_err(|error| error.to_string())?;
        self.session.last_zxid = self.session.last_zxid.max(header.zxid);
        match header.xid {
            XID_PING | XID_SET_WATCHES => return Ok(()),
            XID_NOTIFICATION => {
                let mut from = JuteReader::new(&frame);
                let event = (|| Ok((from.i32()?, from.i32()?, from.string()?)))();
                let (event, _state, path) = event.map_err(|error: JuteError| error.to_string())?;
                self.session.watches.fire(event, &path);
                return Ok(());
            }
            _ => {}
        }
        if matches!(header.error, code::SESSION_EXPIRED | code::SESSION_MOVED | code::AUTH_FAILED | code::SASL_REQUIRED)
        {
            return Err(format!("the server ends the connection with error {}", header.error));
        }
        let waiting = self.waiting.pop_front().filter(|waiting| waiting.xid == header.xid);
        let Some(Waiting { op: kind, arm, reply, .. }) = waiting else {
            return Err(format!("an answer to request {}, which is not the next one", header.xid));
        };
        if let Some(arm) = arm {
            let absent = kind == op::EXISTS && header.error == code::NO_NODE;
            if absent || header.error == code::OK {
                self.session.watches.arm(arm, absent);
            }
        }
        let _ = reply.send(Reply { code: header.error, body: frame });
        Ok(())
    }
}

/// Runs an attempt to connect for at most so long.
pub async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, OpenError>>) -> Result<T, OpenError> {
    timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| Err(OpenError::Again(format!("no answer in {} ms", limit.as_millis()))))
}
