//! Replies onto a socket: bytes in memory by one vectored send, file ranges by sendfile (class `NetworkSend`, `TransferableRecords`).
//!
//! A file range that is small is read into memory instead, so that it leaves in the same call as the bytes around it. One
//! sendfile moves at most 1 MiB, for fairness between the connections of a thread. A slow reader stops here: nothing else is read from
//! its connection, and nothing is buffered for it, until the socket takes more. A range that is not in the page cache is read by
//! [`cold_read`] first.

use super::activity::Activity;
use super::cold_read;
use crate::wire::Segment;
use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::TcpStream;

const SENDFILE_BYTES_MAX: usize = 1 << 20;
/// File ranges below this are read and sent with the bytes around them.
const SMALL_RANGE_BYTES: usize = 16 << 10;
const SLICES_MAX: usize = 64;
/// What one vectored send may gather from small file ranges.
const GATHER_BYTES_MAX: usize = 256 << 10;

enum Part {
    Length([u8; 4], usize),
    Bytes(Bytes),
    File(Range),
}

struct Range {
    file: Arc<File>,
    position: u64,
    len: usize,
    /// Bytes from `position` on that were in the page cache when last looked at.
    cached: usize,
    /// They were brought there for this reply alone.
    was_cold: bool,
}

impl Range {
    /// Sees to it that the next bytes, [`SENDFILE_BYTES_MAX`] at most, are in the page cache.
    async fn warm(&mut self) -> io::Result<()> {
        if self.cached > 0 {
            return Ok(());
        }
        let len = self.len.min(SENDFILE_BYTES_MAX);
        self.was_cold = !cold_read::is_cached(&self.file, self.position, len);
        if self.was_cold {
            cold_read::read(&self.file, self.position, len).await?;
        }
        self.cached = len;
        Ok(())
    }

    async fn send(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.warm().await?;
        let sent = send_file(stream, &self.file, self.position, self.cached).await?;
        if self.was_cold {
            cold_read::drop_behind(&self.file, self.position, sent);
        }
        self.position += sent as u64;
        self.len -= sent;
        self.cached -= sent;
        Ok(())
    }
}

/// Parts on their way out. Empty between replies.
#[derive(Default)]
pub struct ReplyWriter {
    parts: VecDeque<Part>,
}

impl ReplyWriter {
    /// Puts a reply behind what is still to be sent, with its length in front.
    pub fn push(&mut self, segments: Vec<Segment>) -> io::Result<()> {
        let size: usize = segments.iter().map(Segment::len).sum();
        let Ok(length) = i32::try_from(size) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("reply of {size} bytes")));
        };
        self.parts.push_back(Part::Length(length.to_be_bytes(), 0));
        self.parts.extend(segments.into_iter().filter(|segment| !segment.is_empty()).map(|segment| match segment {
            Segment::Bytes(bytes) => Part::Bytes(bytes),
            Segment::File { file, position, len } => {
                Part::File(Range { file, position, len, cached: 0, was_cold: false })
            }
        }));
        Ok(())
    }

    /// Sends everything.
    pub async fn flush(&mut self, stream: &TcpStream, activity: &Activity) -> io::Result<()> {
        while let Some(front) = self.parts.front_mut() {
            match front {
                Part::File(range) if range.len >= SMALL_RANGE_BYTES => {
                    range.send(stream).await?;
                    if range.len == 0 {
                        self.parts.pop_front();
                    }
                }
                _ => {
                    self.read_small_ranges().await?;
                    let sent = stream.async_io(Interest::WRITABLE, || self.send_memory(stream)).await?;
                    self.advance(sent);
                }
            }
            activity.touch();
        }
        if self.parts.capacity() > SLICES_MAX {
            self.parts = VecDeque::new();
        }
        Ok(())
    }

    /// Reads the small file ranges that the next vectored send can take along.
    async fn read_small_ranges(&mut self) -> io::Result<()> {
        let mut gathered = 0;
        for part in self.parts.iter_mut().take(SLICES_MAX) {
            match part {
                Part::File(range) if range.len < SMALL_RANGE_BYTES => {
                    if gathered > 0 && gathered + range.len > GATHER_BYTES_MAX {
                        break;
                    }
                    gathered += range.len;
                    range.warm().await?;
                    let mut bytes = vec![0; range.len];
                    range.file.read_exact_at(&mut bytes, range.position)?;
                    *part = Part::Bytes(Bytes::from(bytes));
                }
                Part::File(_) => break,
                Part::Length(..) | Part::Bytes(_) => {}
            }
        }
        Ok(())
    }

    fn send_memory(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = match part {
                Part::Length(bytes, sent) => IoSlice::new(bytes.get(*sent..).unwrap_or_default()),
                Part::Bytes(bytes) => IoSlice::new(bytes),
                Part::File(_) => break,
            };
            count += 1;
        }
        let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if count < self.parts.len() {
            flags |= SendFlags::MORE;
        }
        let slices = slices.get(..count).unwrap_or_default();
        Ok(rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let (left, taken) = match self.parts.front_mut() {
                Some(Part::Length(bytes, already)) => {
                    let taken = sent.min(bytes.len() - *already);
                    *already += taken;
                    (bytes.len() - *already, taken)
                }
                Some(Part::Bytes(bytes)) => {
                    let taken = sent.min(bytes.len());
                    bytes.advance(taken);
                    (bytes.len(), taken)
                }
                Some(Part::File(_)) | None => return,
            };
            sent -= taken;
            if left == 0 {
                self.parts.pop_front();
            }
        }
    }
}

async fn send_file(stream: &TcpStream, file: &File, position: u64, len: usize) -> io::Result<usize> {
    let send = || {
        let mut offset = position;
        Ok(rustix::fs::sendfile(stream, file, Some(&mut offset), len.min(SENDFILE_BYTES_MAX))?)
    };
    match stream.async_io(Interest::WRITABLE, send).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a segment file became shorter under a reply")),
        sent => Ok(sent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn file_of(size: usize) -> (Arc<File>, Vec<u8>) {
        let content: Vec<u8> = (0..size).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        (Arc::new(file), content)
    }

    #[tokio::test]
    async fn memory_and_files_leave_in_order_whatever_their_sizes() {
        let (file, content) = file_of(3 << 20);
        let mut segments = Vec::new();
        let mut expected = Vec::new();
        let ranges = [(0, 10), (5, 16_383), (9, 16_384), (100, 2 << 20), (1, 0), (3, 1), (50, 700_000)];
        for round in 0..20 {
            for (position, len) in ranges {
                segments.push(Segment::Bytes(Bytes::from(vec![round; 3 * usize::from(round)])));
                segments.push(Segment::File { file: file.clone(), position, len });
                expected.extend(std::iter::repeat_n(round, 3 * usize::from(round)));
                expected.extend_from_slice(&content[position as usize..position as usize + len]);
            }
        }
        let (mut client, server) = pair().await;
        let sending = tokio::spawn(async move {
            let mut writer = ReplyWriter::default();
            writer.push(segments).unwrap();
            writer.push(vec![Segment::Bytes(Bytes::from_static(b"next"))]).unwrap();
            writer.flush(&server, &Activity::new()).await.unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        sending.await.unwrap();
        let mut all = (expected.len() as i32).to_be_bytes().to_vec();
        all.extend(expected);
        all.extend(b"\0\0\0\x04next");
        assert!(received == all, "{} bytes came, {} were meant", received.len(), all.len());
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error_and_no_endless_loop() {
        let (file, _) = file_of(20_000);
        for (position, len) in [(15_000, 6_000), (1_000, 30_000)] {
            let (_client, server) = pair().await;
            let mut writer = ReplyWriter::default();
            writer.push(vec![Segment::File { file: file.clone(), position, len }]).unwrap();
            assert!(writer.flush(&server, &Activity::new()).await.is_err());
        }
    }
}
