//! How many connections there may be: `max.connections` and `max.connections.per.ip` (class `ConnectionQuotas`).
//!
//! Too many from one address: the new one is closed at once. Too many in all: the listener waits until one ends.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Limits {
    total: Arc<Semaphore>,
    per_ip_max: usize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's right to exist; given back when it is dropped.
pub struct Admission {
    limits: Arc<Limits>,
    address: IpAddr,
    _total: OwnedSemaphorePermit,
}

impl Limits {
    pub fn new(connections_max: i32, per_ip_max: i32) -> Arc<Limits> {
        let at_least_one = |limit: i32| usize::try_from(limit).unwrap_or(0).max(1);
        Arc::new(Limits {
            total: Arc::new(Semaphore::new(at_least_one(connections_max).min(Semaphore::MAX_PERMITS))),
            per_ip_max: usize::try_from(per_ip_max).unwrap_or(0),
            by_ip: Mutex::new(HashMap::new()),
        })
    }

    /// `None`: this address has its share already. Waits while all connections are taken.
    pub async fn admit(self: &Arc<Limits>, address: IpAddr) -> Option<Admission> {
        let address = address.to_canonical();
        if self.count(address) >= self.per_ip_max {
            return None;
        }
        let total = self.total.clone().acquire_owned().await.ok()?;
        *self.by_ip.lock().entry(address).or_default() += 1;
        Some(Admission { limits: self.clone(), address, _total: total })
    }

    fn count(&self, address: IpAddr) -> usize {
        self.by_ip.lock().get(&address).copied().unwrap_or(0)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut by_ip = self.limits.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn one_address_gets_its_share_and_no_more() {
        let limits = Limits::new(i32::MAX, 2);
        let first = limits.admit(ADDRESS).await;
        let mapped = limits.admit(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())).await;
        assert!(first.is_some() && mapped.is_some());
        assert!(limits.admit(ADDRESS).await.is_none());
        drop(first);
        assert!(limits.admit(ADDRESS).await.is_some());
        drop(mapped);
        assert!(limits.by_ip.lock().is_empty(), "an address without connections is forgotten");
    }

    #[tokio::test]
    async fn a_full_broker_makes_the_listener_wait() {
        let limits = Limits::new(1, i32::MAX);
        let first = limits.admit(ADDRESS).await;
        let waiting = tokio::spawn({
            let limits = limits.clone();
            async move { limits.admit(ADDRESS).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
