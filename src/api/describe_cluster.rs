//! DescribeCluster (KIP-700, KIP-919): brokers, as the client's listener reaches them, and the controller.

use super::{Services, authorized};
use crate::base::ErrorCode;
use crate::wire::messages::describe_cluster_response::DescribeClusterBroker;
use crate::wire::messages::{self, DescribeClusterRequest, DescribeClusterResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::sync::Arc;

/// `endpoint_type` of brokers and of KRaft controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DescribeClusterRequest = request.decode()?;
    let response = match refusal(&body, request.header.version) {
        Some((code, message)) => {
            DescribeClusterResponse::default().with_error_code(code.code()).with_error_message(Some(text(message)))
        }
        None => describe(services, &body, &request.connection.listener),
    };
    Ok(Reply::message(&request.header, &response)?.into())
}

fn refusal(body: &DescribeClusterRequest, version: i16) -> Option<(ErrorCode, &'static str)> {
    match body.endpoint_type {
        BROKERS => None,
        _ if version < 1 => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of the wrong type: this is a broker, not a controller.",
        )),
        _ => Some((ErrorCode::UnsupportedEndpointType, "The endpoint type is not known.")),
    }
}

fn describe(services: &Services, body: &DescribeClusterRequest, listener: &str) -> DescribeClusterResponse {
    let image = services.metadata.image();
    let brokers = image.brokers.values().filter_map(|broker| {
        let endpoint = broker.endpoint(listener)?;
        let described = DescribeClusterBroker::default()
            .with_broker_id(messages::BrokerId(broker.id.0))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_rack(broker.rack.as_deref().map(text));
        Some(described)
    });
    let operations = if body.include_cluster_authorized_operations { authorized::CLUSTER } else { authorized::UNKNOWN };
    DescribeClusterResponse::default()
        .with_cluster_id(text(&services.cluster_id))
        .with_controller_id(messages::BrokerId(services.controller_id().0))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}
