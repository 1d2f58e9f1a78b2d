//! An answer of the coordinator: here already, or held until an append ends.

use super::message::Response;
use crate::wire::{Outcome, Reply};
use tokio::sync::oneshot;

pub enum Answer {
    Now(Response),
    /// If the coordinator is dropped before it comes, the second is the answer.
    Later(oneshot::Receiver<Response>, Response),
}

impl Answer {
    pub async fn get(self) -> Response {
        match self {
            Answer::Now(response) => response,
            Answer::Later(receiver, gone) => receiver.await.unwrap_or(gone),
        }
    }

    /// The reply to a request, made of the answer as soon as it is there.
    pub fn reply(self, make: impl FnOnce(Response) -> Reply + Send + 'static) -> Outcome {
        match self {
            Answer::Now(response) => make(response).into(),
            later => Outcome::later(async move { make(later.get().await) }),
        }
    }
}
