//! An answer of the coordinator: here already, or held until a rebalance or an append ends.

use super::message::{CommitResponse, JoinResponse, LeaveResponse, OffsetDeleteResponse, Response, SyncResponse};
use crate::base::ErrorCode;
use crate::wire::{Outcome, Reply};
use tokio::sync::oneshot;

/// One kind of [`Response`].
pub trait Kind: Sized + Send + 'static {
    fn of(response: Response) -> Option<Self>;
}

macro_rules! kind {
    ($kind:ty, $variant:ident) => {
        impl Kind for $kind {
            fn of(response: Response) -> Option<$kind> {
                match response {
                    Response::$variant(inner) => Some(inner),
                    _ => None,
                }
            }
        }
    };
}

kind!(JoinResponse, Join);
kind!(SyncResponse, Sync);
kind!(LeaveResponse, Leave);
kind!(CommitResponse, Commit);
kind!(OffsetDeleteResponse, OffsetDelete);

impl Kind for ErrorCode {
    fn of(response: Response) -> Option<ErrorCode> {
        match response {
            Response::Heartbeat(error) | Response::DeleteGroup(error) | Response::EndTransaction(error) => Some(error),
            _ => None,
        }
    }
}

pub enum Answer<T> {
    Now(T),
    Later(Held<T>),
}

/// An answer that comes later. If the coordinator is dropped before, `gone` is the answer.
pub struct Held<T> {
    pub(super) receiver: oneshot::Receiver<Response>,
    pub(super) gone: T,
}

impl<T: Kind> Held<T> {
    async fn get(self) -> T {
        self.receiver.await.ok().and_then(T::of).unwrap_or(self.gone)
    }
}

impl<T: Kind> Answer<T> {
    pub async fn get(self) -> T {
        match self {
            Answer::Now(answer) => answer,
            Answer::Later(held) => held.get().await,
        }
    }

    /// The reply to a request, made of the answer as soon as it is there.
    pub fn reply(self, make: impl FnOnce(T) -> Reply + Send + 'static) -> Outcome {
        match self {
            Answer::Now(answer) => make(answer).into(),
            Answer::Later(held) => Outcome::later(async move { make(held.get().await) }),
        }
    }
}
