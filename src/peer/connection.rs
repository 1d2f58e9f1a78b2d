//! One open connection: frames in and out, and what the peer says it supports.
//!
//! Invariant: a frame is not larger than the limit, and memory for it grows with what has arrived, not with what was announced.

use crate::wire::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{self, codec, guard, header};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is reserved at most before bytes have come.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// Versions of each API that a broker supports.
pub(super) type Versions = HashMap<i16, RangeInclusive<i16>>;

pub(super) struct Connection {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    frame_bytes_max: usize,
}

/// What happened on a connection.
pub(super) enum Io {
    /// A whole frame, without its length.
    Frame(Bytes),
    Written,
}

fn malformed(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Connection {
    /// Connects and asks for the peer's versions.
    pub async fn open(
        host: &str,
        port: u16,
        client_id: &str,
        frame_bytes_max: usize,
    ) -> io::Result<(Connection, Versions)> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let (incoming, outgoing) = (BytesMut::new(), BytesMut::new());
        let mut connection = Connection { stream, incoming, outgoing, frame_bytes_max };
        let versions = connection.versions(client_id).await?;
        Ok((connection, versions))
    }

    /// Version 0 is understood by every broker since 0.10.
    async fn versions(&mut self, client_id: &str) -> io::Result<Versions> {
        const KEY: i16 = ApiKey::ApiVersions as i16;
        let request = ApiVersionsRequest::default();
        let frame = header::request_frame(KEY, 0, 0, client_id, |frame| codec::encode_into(frame, &request, 0));
        self.put(&frame.map_err(malformed)?);
        let frame = loop {
            if let Io::Frame(frame) = self.io().await? {
                break frame;
            }
        };
        let (_, body) = header::parse_response(frame, KEY, 0).map_err(malformed)?;
        guard::check_response(KEY, 0, &body).map_err(malformed)?;
        let response: ApiVersionsResponse = wire::decode(body, 0).map_err(malformed)?;
        if response.error_code != 0 {
            return Err(malformed(format!("its versions were refused with error {}", response.error_code)));
        }
        Ok(response.api_keys.iter().map(|key| (key.api_key, key.min_version..=key.max_version)).collect())
    }

    /// Queues a frame; [`Self::io`] writes it.
    pub fn put(&mut self, frame: &[u8]) {
        self.outgoing.extend_from_slice(frame);
    }

    /// Bytes that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.outgoing.len()
    }

    /// Reads and writes until a frame is whole or everything queued is written. Cancelling it loses nothing.
    pub async fn io(&mut self) -> io::Result<Io> {
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(Io::Frame(frame));
            }
            let (mut read, mut write) = self.stream.split();
            let has_outgoing = !self.outgoing.is_empty();
            tokio::select! {
                count = read.read_buf(&mut self.incoming) => {
                    if count? == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection"));
                    }
                }
                written = write.write_buf(&mut self.outgoing), if has_outgoing => {
                    written?;
                    if self.outgoing.is_empty() {
                        return Ok(Io::Written);
                    }
                }
            }
        }
    }

    fn whole_frame(&mut self) -> io::Result<Option<Bytes>> {
        let Some(announced) = self.incoming.first_chunk::<4>() else {
            self.incoming.reserve(4096);
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*announced);
        let size = usize::try_from(announced).ok().filter(|size| *size <= self.frame_bytes_max);
        let Some(size) = size else { return Err(malformed(format!("a frame of {announced} bytes"))) };
        if self.incoming.len() < 4 + size {
            let missing = 4 + size - self.incoming.len();
            self.incoming.reserve(missing.min(self.incoming.len().max(RESERVE_BYTES_MAX)));
            return Ok(None);
        }
        self.incoming.advance(4);
        Ok(Some(self.incoming.split_to(size).freeze()))
    }
}
