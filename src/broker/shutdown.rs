//! Controlled shutdown: a broker that stops hands its leaderships on first (`KafkaServer.controlledShutdown`, KIP-143's fences).
//!
//! Invariant: stopping never depends on it. After the attempts that `controlled.shutdown.max.retries` allows the broker stops all
//! the same, and the controller then moves what is left, as for a broker that has died.

use crate::base::{BrokerEpoch, ErrorCode, TopicPartition};
use crate::config::ControlledShutdownConfig;
use crate::controller::ControllerClient;
use std::time::Duration;

/// The longest list of partitions in a log line.
const SHOWN_MAX: usize = 10;

/// Asks the controller, again when it changes or after the backoff, until it has moved everything that can be moved.
pub async fn hand_over(config: &ControlledShutdownConfig, client: &ControllerClient, epoch: BrokerEpoch) {
    let backoff = Duration::from_millis(u64::try_from(config.retry_backoff_ms).unwrap_or(0));
    let mut controller = client.controller.subscribe();
    for left in (0..config.max_retries.max(0)).rev() {
        let asked = *controller.borrow_and_update();
        match client.controlled_shutdown(epoch).await {
            Ok(remaining) if remaining.is_empty() => {
                tracing::info!("controlled shutdown: no partition is led here any more");
                return;
            }
            Ok(remaining) => {
                let shown: Vec<String> = remaining.iter().take(SHOWN_MAX).map(TopicPartition::to_string).collect();
                tracing::warn!(
                    partitions = remaining.len(),
                    attempts_left = left,
                    "controlled shutdown: still led here, since nobody else is in sync: {}",
                    shown.join(", ")
                );
            }
            // The controller knows a newer registration, or none: there is nothing that it could move.
            Err(ErrorCode::StaleBrokerEpoch) => {
                tracing::warn!("controlled shutdown: the controller knows another registration of this broker");
                return;
            }
            Err(error) => {
                tracing::warn!(?error, attempts_left = left, "controlled shutdown: the controller is not reached")
            }
        }
        if left > 0 {
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                _ = controller.wait_for(|now| now.broker.is_some() && now.broker != asked.broker) => {}
            }
        }
    }
    tracing::warn!("controlled shutdown was not complete; stopping all the same");
}
