//! An answer of a coordinator: here already, or held until what it says is safe.

use crate::wire::{Outcome, Reply};
use tokio::sync::oneshot;

/// One kind of the responses `R` of a shard.
pub trait Kind<R>: Sized + Send + 'static {
    fn of(response: R) -> Option<Self>;
}

/// Which variants of a shard's response carry which kind.
macro_rules! kinds {
    ($response:ident { $($($variant:ident)|+ => $kind:ty,)+ }) => {
        $(impl $crate::coordinator::Kind<$response> for $kind {
            fn of(response: $response) -> Option<$kind> {
                match response {
                    $($response::$variant(inner))|+ => Some(inner),
                    _ => None,
                }
            }
        })+
    };
}
pub(crate) use kinds;

pub enum Answer<T, R> {
    Now(T),
    Later(Held<T, R>),
}

/// An answer that comes later. If the coordinator is dropped before, `gone` is the answer.
pub struct Held<T, R> {
    pub(super) receiver: oneshot::Receiver<R>,
    pub(super) gone: T,
}

impl<R, T: Kind<R>> Held<T, R> {
    async fn get(self) -> T {
        self.receiver.await.ok().and_then(T::of).unwrap_or(self.gone)
    }
}

impl<R: Send + 'static, T: Kind<R>> Answer<T, R> {
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
