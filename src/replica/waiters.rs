//! Requests that wait for a partition to move (class `DelayedOperationPurgatory`): no thread, no poll.
//!
//! A waiting request has one [`Signal`] and registers it with every partition that could complete it. What happens on a
//! partition rings the bell; the request then looks for itself whether it is done. Invariant: a request registers before
//! it looks, so no event falls between.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The bell of one waiting request.
pub type Signal = Arc<Notify>;

/// The requests that wait for one partition.
#[derive(Default)]
pub struct Waiters {
    signals: Mutex<Vec<Signal>>,
    /// Length of `signals`, to keep the common append without waiters free of the lock.
    count: AtomicUsize,
}

impl Waiters {
    fn add(&self, signal: &Signal) {
        let mut signals = self.signals.lock();
        signals.push(signal.clone());
        self.count.store(signals.len(), Ordering::SeqCst);
    }

    fn remove(&self, signal: &Signal) {
        let mut signals = self.signals.lock();
        if let Some(at) = signals.iter().position(|other| Arc::ptr_eq(other, signal)) {
            signals.swap_remove(at);
        }
        self.count.store(signals.len(), Ordering::SeqCst);
    }

    /// Wakes every registered request. They stay registered until they go away themselves.
    pub fn wake_all(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            for signal in self.signals.lock().iter() {
                signal.notify_one();
            }
        }
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that has waiters.
pub trait Watched {
    fn waiters(&self) -> &Waiters;
}

/// A request's registrations: gone when this is dropped.
pub struct Registration<W: Watched> {
    signal: Signal,
    watched: Vec<Arc<W>>,
}

impl<W: Watched> Registration<W> {
    pub fn new(watched: Vec<Arc<W>>) -> Registration<W> {
        let signal = Signal::default();
        for one in &watched {
            one.waiters().add(&signal);
        }
        Registration { signal, watched }
    }

    /// Until the next event since the last call (or since registration).
    pub async fn woken(&self) {
        self.signal.notified().await;
    }
}

impl<W: Watched> Drop for Registration<W> {
    fn drop(&mut self) {
        for one in &self.watched {
            one.waiters().remove(&self.signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Thing(Waiters);

    impl Watched for Thing {
        fn waiters(&self) -> &Waiters {
            &self.0
        }
    }

    /// KAFKA-14334: what completes a request may come before the request waits for it.
    #[tokio::test]
    async fn an_event_between_registration_and_wait_is_not_lost() {
        let things = vec![Arc::new(Thing::default()), Arc::new(Thing::default())];
        let registration = Registration::new(things.clone());
        things[1].0.wake_all();
        registration.woken().await;
        drop(registration);
        assert!(things.iter().all(|thing| thing.0.is_empty()));
    }
}
