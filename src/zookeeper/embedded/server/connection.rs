//! One connection: frames in, frames out, and the handshake in time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::super::watches::ConnectionId;
use super::outbox::Outbox;
use super::{Shared, four_letters, now};

/// How long a client may take to say who it is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to close after us.
const LINGER: Duration = Duration::from_secs(1);
/// What is read at once; the buffer grows only with bytes that arrived.
const READ_BYTES: usize = 8 << 10;

/// Requests taken between two looks at what waits for the disk.
const REQUESTS_AT_ONCE: usize = 64;

/// A length that no request has; the connection cannot go on after it.
struct BadLength;

pub async fn serve(shared: Arc<Shared>, id: ConnectionId, outbox: Arc<Outbox>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off delayed sending");
    }
    let (from, to) = stream.into_split();
    let reading = read(&shared, id, &outbox, from);
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        () = write(&outbox, to) => {
            // Closing while the peer still sends would take back what it has not read yet.
            tokio::select! {
                () = reading => {}
                () = tokio::time::sleep(LINGER) => {}
                () = shared.stop.cancelled() => {}
            }
        }
        () = outbox.expired() => {}
        () = shared.stop.cancelled() => {}
    }
    shared.core.lock().gone(id);
}

/// Returns when the peer is gone or sent what cannot be. After the server closed, what still comes is thrown away.
async fn read(shared: &Shared, id: ConnectionId, outbox: &Outbox, mut from: OwnedReadHalf) {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(shared, id, outbox, &mut from, &mut buffer)).await;
    if !matches!(first, Ok(true)) {
        return;
    }
    while outbox.room().await {
        shared.uncongested().await;
        let Ok(taken) = requests(shared, id, outbox, &mut buffer) else { return };
        if taken < REQUESTS_AT_ONCE && outbox.is_open() && !fill(&mut from, &mut buffer).await {
            return;
        }
    }
    while fill(&mut from, &mut buffer).await {
        buffer.clear();
    }
    // The peer has said all it will; what is left for it still goes out.
    if !outbox.is_finished() {
        std::future::pending().await
    }
}

async fn handshake(
    shared: &Shared,
    id: ConnectionId,
    outbox: &Outbox,
    from: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
) -> bool {
    let peer = from.peer_addr();
    loop {
        if let (Some(word), Ok(peer)) = (buffer.first_chunk::<4>(), &peer)
            && let Some(answer) = four_letters::answer(shared, *word, *peer)
        {
            // Who asks again right after the answer is not to find this connection still counted.
            shared.core.lock().gone(id);
            outbox.push(answer.as_bytes());
            outbox.close();
            return true;
        }
        match take_frame(buffer, shared.config.jute_max_buffer) {
            Ok(Some(frame)) => {
                shared.core.lock().connect(id, &frame, now());
                shared.timer.notify_one();
                return true;
            }
            Ok(None) if fill(from, buffer).await => {}
            _ => return false,
        }
    }
}

/// Hands over whole frames, as long as there is room for the replies; returns how many.
fn requests(shared: &Shared, id: ConnectionId, outbox: &Outbox, buffer: &mut BytesMut) -> Result<usize, BadLength> {
    let mut taken = 0;
    while taken < REQUESTS_AT_ONCE && outbox.is_open() {
        let Some(frame) = take_frame(buffer, shared.config.jute_max_buffer)? else { break };
        shared.core.lock().request(id, &frame, now());
        taken += 1;
    }
    Ok(taken)
}

async fn fill(from: &mut OwnedReadHalf, buffer: &mut BytesMut) -> bool {
    buffer.reserve(READ_BYTES);
    matches!(from.read_buf(buffer).await, Ok(len) if len > 0)
}

fn take_frame(buffer: &mut BytesMut, len_max: usize) -> Result<Option<BytesMut>, BadLength> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(i32::from_be_bytes(*prefix)).ok().filter(|len| *len <= len_max).ok_or(BadLength)?;
    if buffer.len() < 4 + len {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(len)))
}

async fn write(outbox: &Outbox, mut to: OwnedWriteHalf) {
    while let Some(bytes) = outbox.next().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
