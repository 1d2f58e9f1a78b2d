//! UpdateMetadata: the controller says what the cluster looks like.

use super::Services;
use super::stop_replica::done;
use crate::base::ErrorCode;
use crate::group::GroupCoordinator;
use crate::replica::ReplicaManager;
use crate::wire::messages::update_metadata_request::UpdateMetadataEndpoint;
use crate::wire::messages::{UpdateMetadataRequest, UpdateMetadataResponse};
use crate::wire::{Outcome, Request, WireError, text};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let mut body: UpdateMetadataRequest = request.decode()?;
    let (replicas, groups) = (services.replicas.clone(), services.groups.clone());
    let version = request.header.version;
    Ok(done(request.header, async move {
        name_listeners(&mut body, version);
        apply(&replicas, &groups, &body).await
    }))
}

/// Version 0 has one PLAINTEXT endpoint for each broker, and versions before 3 call a listener by its security protocol.
fn name_listeners(body: &mut UpdateMetadataRequest, version: i16) {
    for broker in &mut body.live_brokers {
        if version == 0 {
            let endpoint =
                UpdateMetadataEndpoint::default().with_host(broker.v0_host.clone()).with_port(broker.v0_port);
            broker.endpoints = vec![endpoint];
        }
        for endpoint in broker.endpoints.iter_mut().filter(|_| version < 3) {
            endpoint.listener = text(match endpoint.security_protocol {
                1 => "SSL",
                2 => "SASL_PLAINTEXT",
                3 => "SASL_SSL",
                _ => "PLAINTEXT",
            });
        }
    }
}

/// Takes the news, and has the groups forget offsets of partitions that are gone.
pub async fn apply(
    replicas: &ReplicaManager,
    groups: &GroupCoordinator,
    body: &UpdateMetadataRequest,
) -> UpdateMetadataResponse {
    let updated = replicas.update_metadata(body).await;
    let error = updated.map(|deleted| groups.on_partitions_deleted(&deleted)).err();
    UpdateMetadataResponse::default().with_error_code(error.unwrap_or(ErrorCode::None).code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::update_metadata_request::UpdateMetadataBroker;

    #[test]
    fn old_versions_have_listeners_too() {
        let broker = UpdateMetadataBroker::default().with_v0_host(text("h")).with_v0_port(9);
        let mut body = UpdateMetadataRequest::default().with_live_brokers(vec![broker]);
        name_listeners(&mut body, 0);
        let endpoint = &body.live_brokers[0].endpoints[0];
        assert_eq!((endpoint.listener.as_str(), endpoint.host.as_str(), endpoint.port), ("PLAINTEXT", "h", 9));
        let ssl = UpdateMetadataEndpoint::default().with_security_protocol(1);
        let broker = UpdateMetadataBroker::default().with_endpoints(vec![ssl.clone()]);
        let mut body = UpdateMetadataRequest::default().with_live_brokers(vec![broker]);
        name_listeners(&mut body, 2);
        assert_eq!(body.live_brokers[0].endpoints[0].listener.as_str(), "SSL");
    }
}
