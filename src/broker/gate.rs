//! Who may already be answered: other brokers at once, clients when this broker knows what it leads (class `KafkaServer`, whose
//! processors start last).
//!
//! Invariant: requests that wait are handled in the order in which they came.

use crate::wire::{Outcome, Reply, Request};
use std::sync::Arc;
use tokio::sync::watch;

/// LeaderAndIsr, StopReplica, UpdateMetadata, ControlledShutdown, ApiVersions, AlterPartition, AllocateProducerIds: what the broker has
/// to hear before it can know anything, and what others cannot wait for.
const ALWAYS: &[i16] = &[4, 5, 6, 7, 18, 56, 67];

/// Shut until [`Gate::open`].
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Handles the request now or when the gate opens.
    pub fn pass(&self, request: Request, dispatch: impl FnOnce(Request) -> Outcome + Send + 'static) -> Outcome {
        if *self.0.borrow() || ALWAYS.contains(&request.header.api_key) {
            return dispatch(request);
        }
        let mut opened = self.0.subscribe();
        Outcome::later(async move {
            if opened.wait_for(|open| *open).await.is_err() {
                return Reply::Close;
            }
            dispatch(request).reply().await
        })
    }
}
