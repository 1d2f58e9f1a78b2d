//! Frames off a socket: an `i32` length and that many bytes (class `NetworkReceive`).
//!
//! Small frames go through a scratch buffer that all connections of a thread share, so an idle connection holds nothing and a half
//! frame costs the bytes that came. A large frame gets a buffer that grows with what has been received, at most fourfold
//! ahead of it, and is frozen without a copy.

use super::activity::Activity;
use bytes::Bytes;
use rustix::net::RecvFlags;
use std::cell::RefCell;
use std::io;
use tokio::io::Interest;
use tokio::net::TcpStream;

const PREFIX_BYTES: usize = 4;
const SCRATCH_BYTES: usize = 64 << 10;
const GROWTH: usize = 4;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

pub struct FrameReader {
    /// Received and not yet given out, from `consumed` on. No allocation when empty.
    buffer: Vec<u8>,
    consumed: usize,
    frame_bytes_max: usize,
}

impl FrameReader {
    pub fn new(frame_bytes_max: usize) -> FrameReader {
        FrameReader { buffer: Vec::new(), consumed: 0, frame_bytes_max }
    }

    /// The next frame without its length; `None` when the peer has closed. May be dropped and called again.
    pub async fn next(&mut self, stream: &TcpStream, activity: &Activity) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            if self.fill(stream).await? == 0 {
                return Ok(None);
            }
            activity.touch();
        }
    }

    /// Size of the frame at the front with its prefix, once the prefix is there.
    fn front_size(&self) -> io::Result<Option<usize>> {
        let Some(prefix) = self.buffer.get(self.consumed..).and_then(<[u8]>::first_chunk::<PREFIX_BYTES>) else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*prefix);
        match usize::try_from(size) {
            Ok(size) if size > 0 && size <= self.frame_bytes_max => Ok(Some(PREFIX_BYTES + size)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {size} bytes"))),
        }
    }

    fn take_frame(&mut self) -> io::Result<Option<Bytes>> {
        let Some(size) = self.front_size()? else { return Ok(None) };
        let received = self.buffer.len() - self.consumed;
        if received < size {
            return Ok(None);
        }
        if self.consumed == 0 && (received == size || size > SCRATCH_BYTES) {
            let rest = self.buffer.split_off(size);
            let frame = Bytes::from(std::mem::replace(&mut self.buffer, rest));
            return Ok(Some(frame.slice(PREFIX_BYTES..)));
        }
        let start = self.consumed + PREFIX_BYTES;
        self.consumed += size;
        let frame = Bytes::copy_from_slice(self.buffer.get(start..self.consumed).unwrap_or_default());
        if self.consumed == self.buffer.len() {
            (self.buffer, self.consumed) = (Vec::new(), 0);
        }
        Ok(Some(frame))
    }

    async fn fill(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let size = self.front_size()?;
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        match size {
            Some(size) if size - self.buffer.len() > SCRATCH_BYTES / 2 => self.fill_directly(stream, size).await,
            _ => self.fill_by_scratch(stream).await,
        }
    }

    async fn fill_by_scratch(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let buffer = &mut self.buffer;
        let receive = || {
            SCRATCH.with_borrow_mut(|scratch| {
                let (received, _) = rustix::net::recv(stream, &mut scratch[..], RecvFlags::DONTWAIT)?;
                if buffer.is_empty() {
                    buffer.reserve_exact(received);
                }
                buffer.extend_from_slice(scratch.get(..received).unwrap_or_default());
                Ok(received)
            })
        };
        stream.async_io(Interest::READABLE, receive).await
    }

    async fn fill_directly(&mut self, stream: &TcpStream, size: usize) -> io::Result<usize> {
        if self.buffer.len() == self.buffer.capacity() {
            let target = size.min(self.buffer.len().max(SCRATCH_BYTES / GROWTH) * GROWTH);
            self.buffer.reserve_exact(target - self.buffer.len());
        }
        let buffer = &mut self.buffer;
        let receive = || {
            let spare = rustix::buffer::spare_capacity(buffer);
            let (received, _) = rustix::net::recv(stream, spare, RecvFlags::DONTWAIT)?;
            Ok(received)
        };
        stream.async_io(Interest::READABLE, receive).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    fn body(size: usize, salt: usize) -> Vec<u8> {
        (0..size).map(|at| (at * 31 + salt) as u8).collect()
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_out_whole_and_in_order() {
        let sizes = [1, 5, 3, 16_384, 65_532, 65_536, 1, 100_000, 3_000_000, 7, 40_000, 40_000, 70_000, 2];
        let (mut client, server) = pair().await;
        let sender = tokio::spawn(async move {
            for (salt, size) in sizes.into_iter().enumerate() {
                client.write_all(&framed(&body(size, salt))).await.unwrap();
            }
        });
        let (mut reader, activity) = (FrameReader::new(4 << 20), Activity::new());
        for (salt, size) in sizes.into_iter().enumerate() {
            let frame = reader.next(&server, &activity).await.unwrap().unwrap();
            assert!(frame == body(size, salt), "frame {salt} of {size} bytes");
        }
        sender.await.unwrap();
        assert!(reader.next(&server, &activity).await.unwrap().is_none());
        assert_eq!(reader.buffer.capacity(), 0, "an idle connection holds no buffer");
    }

    #[tokio::test]
    async fn a_frame_that_comes_byte_by_byte_is_read() {
        let (mut client, server) = pair().await;
        client.set_nodelay(true).unwrap();
        let reading =
            tokio::spawn(async move { FrameReader::new(100).next(&server, &Activity::new()).await.unwrap().unwrap() });
        for byte in framed(b"hello") {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(reading.await.unwrap(), &b"hello"[..]);
    }

    #[tokio::test]
    async fn impossible_lengths_are_errors() {
        for length in [0, -1, i32::MIN, i32::MAX, 101] {
            let (mut client, server) = pair().await;
            client.write_all(&length.to_be_bytes()).await.unwrap();
            assert!(FrameReader::new(100).next(&server, &Activity::new()).await.is_err(), "{length}");
        }
    }

    #[tokio::test]
    async fn a_half_frame_costs_what_has_come_of_it() {
        let (mut client, server) = pair().await;
        let mut reader = FrameReader::new(100 << 20);
        client.write_all(&(100i32 << 20).to_be_bytes()).await.unwrap();
        client.write_all(&body(1000, 0)).await.unwrap();
        client.shutdown().await.unwrap();
        assert!(reader.next(&server, &Activity::new()).await.unwrap().is_none());
        assert!(reader.buffer.capacity() <= SCRATCH_BYTES, "{}", reader.buffer.capacity());
    }
}
