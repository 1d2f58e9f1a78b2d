//! The life of one connection: read, dispatch, write, until something ends it.

use super::activity::Activity;
use super::limits::Admission;
use super::pipeline::Pipeline;
use super::reader::FrameReader;
use super::server::Shared;
use super::writer::ReplyWriter;
use crate::wire::frame::Connection;
use crate::wire::{Reply, Request, header};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tracing::debug;

/// Runs until the peer closes, breaks the protocol, is idle for too long, or the server ends. A panic in a handler unwinds this task
/// and thereby closes this connection only.
pub async fn run(stream: TcpStream, peer: Arc<Connection>, shared: Arc<Shared>, _admission: Admission) {
    let activity = Activity::new();
    let idle_ms_max = shared.idle_ms_max;
    let mut session = Session::new(&stream, peer, &shared, &activity);
    let end = tokio::select! {
        end = session.serve() => end,
        () = activity.idle(idle_ms_max) => Err(io::Error::new(io::ErrorKind::TimedOut, "idle for connections.max.idle.ms")),
        () = shared.abort.cancelled() => Ok(()),
    };
    if let Err(error) = end {
        debug!(connection = session.peer.id, client = %session.peer.client_address, "connection closed: {error}");
    }
}

struct Session<'a> {
    stream: &'a TcpStream,
    peer: Arc<Connection>,
    shared: &'a Shared,
    activity: &'a Activity,
    reader: FrameReader,
    writer: ReplyWriter,
    pipeline: Pipeline,
    /// Read, but must wait until everything owed has been sent.
    held: Option<Request>,
    client_id: Option<Arc<str>>,
}

impl<'a> Session<'a> {
    fn new(stream: &'a TcpStream, peer: Arc<Connection>, shared: &'a Shared, activity: &'a Activity) -> Session<'a> {
        Session {
            stream,
            peer,
            shared,
            activity,
            reader: FrameReader::new(shared.frame_bytes_max),
            writer: ReplyWriter::default(),
            pipeline: Pipeline::default(),
            held: None,
            client_id: None,
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let (mut closed, mut draining) = (false, false);
        loop {
            let may_read = !closed && !draining && self.held.is_none() && self.pipeline.has_room();
            if self.pipeline.is_empty() && !may_read {
                return Ok(());
            }
            tokio::select! {
                biased;
                reply = self.pipeline.next(), if !self.pipeline.is_empty() => {
                    if !self.send(reply).await? {
                        return Ok(());
                    }
                    self.release_held();
                }
                frame = self.reader.next(self.stream, self.activity), if may_read => match frame? {
                    Some(frame) => self.receive(frame)?,
                    None => closed = true,
                },
                () = self.shared.drain.cancelled(), if !draining => draining = true,
            }
        }
    }

    fn receive(&mut self, frame: bytes::Bytes) -> io::Result<()> {
        let request = header::parse(frame, &self.peer, &mut self.client_id)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if self.pipeline.admits(&request) {
            self.dispatch(request);
        } else {
            self.held = Some(request);
        }
        Ok(())
    }

    fn release_held(&mut self) {
        if let Some(request) = self.held.take_if(|request| self.pipeline.admits(request)) {
            self.dispatch(request);
        }
    }

    fn dispatch(&mut self, request: Request) {
        let api_key = request.header.api_key;
        let outcome = (self.shared.dispatch)(request);
        self.pipeline.push(api_key, outcome);
    }

    /// Whether the connection goes on.
    async fn send(&mut self, reply: Reply) -> io::Result<bool> {
        match reply {
            Reply::Close => return Ok(false),
            Reply::Nothing => {}
            Reply::Segments(segments) => {
                self.writer.push(segments)?;
                self.writer.flush(self.stream, self.activity).await?;
            }
        }
        Ok(true)
    }
}
