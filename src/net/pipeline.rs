//! Replies that a connection owes, in the order of its requests.
//!
//! Kafka mutes a connection until the reply to its one request in flight has been sent, and clients rely on what follows from
//! that: a request sees the effects of the one before it. So a request is dispatched only when nothing is owed. Produce after
//! Produce is the exception: appends happen during dispatch, in order, and only the waiting for replicas overlaps. One that
//! must ask a transaction coordinator before it appends holds the others back.

use crate::wire::{Outcome, Reply, Request};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

const PRODUCE_KEY: i16 = 0;

/// Produce requests of one connection that may wait for their replicas at the same time.
const PRODUCES_IN_FLIGHT_MAX: usize = 32;

#[derive(Default)]
pub struct Pipeline {
    owed: VecDeque<Owed>,
    /// Whether everything owed is for Produce.
    only_produce: bool,
}

enum Owed {
    Ready(Reply),
    Waiting(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Pipeline {
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether it is worth reading another request: it may be one that can be dispatched now.
    pub fn has_room(&self) -> bool {
        self.is_empty() || (self.only_produce && self.owed.len() < PRODUCES_IN_FLIGHT_MAX)
    }

    /// Whether `request` may be dispatched before everything owed has been sent.
    pub fn admits(&self, request: &Request) -> bool {
        self.is_empty() || (self.has_room() && request.header.api_key == PRODUCE_KEY)
    }

    pub fn push(&mut self, api_key: i16, outcome: Outcome) {
        let may_be_overtaken = api_key == PRODUCE_KEY && !matches!(outcome, Outcome::Alone(_));
        self.only_produce = may_be_overtaken && (self.only_produce || self.is_empty());
        self.owed.push_back(match outcome {
            Outcome::Now(reply) => Owed::Ready(reply),
            Outcome::Later(future) | Outcome::Alone(future) => Owed::Waiting(future),
        });
    }

    /// The reply to the oldest request, once it is there. Every waiting reply makes progress, not only the oldest.
    pub async fn next(&mut self) -> Reply {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Reply> {
        for owed in &mut self.owed {
            if let Owed::Waiting(future) = owed
                && let Poll::Ready(reply) = future.as_mut().poll(context)
            {
                *owed = Owed::Ready(reply);
            }
        }
        match self.owed.front() {
            Some(Owed::Ready(_)) => {}
            _ => return Poll::Pending,
        }
        match self.owed.pop_front() {
            Some(Owed::Ready(reply)) => Poll::Ready(reply),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Segment;
    use crate::wire::frame::{Connection, RequestHeader};
    use bytes::Bytes;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use tokio::sync::oneshot;

    fn request(api_key: i16) -> Request {
        let connection = Connection {
            id: 1,
            listener: "PLAINTEXT".into(),
            client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            principal: String::new(),
        };
        let header = RequestHeader { api_key, version: 0, correlation_id: 0, client_id: None };
        Request { header, body: Bytes::new(), connection: Arc::new(connection) }
    }

    fn reply(text: &'static str) -> Reply {
        Reply::Segments(vec![Segment::Bytes(Bytes::from_static(text.as_bytes()))])
    }

    fn text(reply: Reply) -> Bytes {
        match reply {
            Reply::Segments(mut segments) => match segments.remove(0) {
                Segment::Bytes(bytes) => bytes,
                Segment::File { .. } => panic!("a file"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn later(pipeline: &mut Pipeline, api_key: i16) -> oneshot::Sender<Reply> {
        let (sender, receiver) = oneshot::channel();
        pipeline.push(api_key, Outcome::later(async { receiver.await.unwrap_or(Reply::Close) }));
        sender
    }

    #[tokio::test]
    async fn replies_come_in_the_order_of_the_requests() {
        let mut pipeline = Pipeline::default();
        let first = later(&mut pipeline, 0);
        let second = later(&mut pipeline, 0);
        pipeline.push(0, Outcome::Now(reply("third")));
        second.send(reply("second")).unwrap();
        assert!(futures_now(&mut pipeline).is_none(), "the first is not there yet");
        first.send(reply("first")).unwrap();
        for expected in ["first", "second", "third"] {
            assert_eq!(text(pipeline.next().await), expected);
        }
        assert!(pipeline.is_empty());
    }

    fn futures_now(pipeline: &mut Pipeline) -> Option<Reply> {
        match pipeline.poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(reply) => Some(reply),
            Poll::Pending => None,
        }
    }

    #[test]
    fn only_produce_overtakes_the_waiting_of_produce() {
        let mut pipeline = Pipeline::default();
        assert!(pipeline.admits(&request(0)) && pipeline.admits(&request(3)));
        let _first = later(&mut pipeline, 0);
        assert!(pipeline.has_room() && pipeline.admits(&request(0)) && !pipeline.admits(&request(3)));
        let mut pipeline = Pipeline::default();
        pipeline.push(0, Outcome::Alone(Box::pin(std::future::pending())));
        assert!(!pipeline.has_room() && !pipeline.admits(&request(0)), "it has not appended yet");
        let mut pipeline = Pipeline::default();
        let _first = later(&mut pipeline, 11);
        assert!(!pipeline.has_room() && !pipeline.admits(&request(0)) && !pipeline.admits(&request(12)));
    }

    #[test]
    fn the_number_in_flight_is_bounded() {
        let mut pipeline = Pipeline::default();
        let senders: Vec<_> = (0..PRODUCES_IN_FLIGHT_MAX).map(|_| later(&mut pipeline, 0)).collect();
        assert!(!pipeline.has_room() && !pipeline.admits(&request(0)));
        drop(senders);
    }
}
