//! Requests that wait for partitions: acks=all for the high watermark, DeleteRecords for the low one (classes `DelayedProduce`,
//! `DelayedDeleteRecords`).

use super::error::ReplicaError;
use super::partition::Partition;
use super::waiters::Registration;
use std::sync::Arc;
use std::time::Duration;

/// Waits until each partition has committed what is below its offset, or the time is over: `None` for those still pending.
pub async fn wait_committed(
    pending: Vec<(Arc<Partition>, i64)>,
    timeout: Duration,
) -> Vec<Option<Result<(), ReplicaError>>> {
    wait(pending, timeout, Partition::committed).await
}

/// Waits until all live replicas of each partition have deleted what is below its offset: the low watermarks.
pub async fn wait_deleted(
    pending: Vec<(Arc<Partition>, i64)>,
    timeout: Duration,
) -> Vec<Option<Result<i64, ReplicaError>>> {
    wait(pending, timeout, Partition::deleted).await
}

async fn wait<T>(
    pending: Vec<(Arc<Partition>, i64)>,
    timeout: Duration,
    is_done: impl Fn(&Partition, i64) -> Option<T>,
) -> Vec<Option<T>> {
    let look = || pending.iter().map(|(partition, offset)| is_done(partition, *offset)).collect::<Vec<_>>();
    let now = look();
    if now.iter().all(Option::is_some) {
        return now;
    }
    let registration = Registration::new(pending.iter().map(|(partition, _)| partition.clone()).collect());
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let now = look();
        if now.iter().all(Option::is_some) {
            return now;
        }
        if tokio::time::timeout_at(deadline, registration.woken()).await.is_err() {
            return look();
        }
    }
}
