//! AlterConfigs (KIP-133): replaces all dynamic configs of a topic or a broker. IncrementalAlterConfigs is its successor.

use super::Services;
use super::config_resource::{Refusal, alterable, ended, write};
use crate::config::alter;
use crate::wire::messages::alter_configs_request::AlterConfigsResource;
use crate::wire::messages::alter_configs_response::AlterConfigsResourceResponse;
use crate::wire::messages::{AlterConfigsRequest, AlterConfigsResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AlterConfigsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let mut seen = BTreeSet::new();
        let mut responses = Vec::new();
        for resource in &body.resources {
            let is_new = seen.insert((resource.resource_type, resource.resource_name.clone()));
            let outcome = match is_new {
                true => replace(&services, resource, body.validate_only).await,
                false => Err(Refusal::repeated()),
            };
            let (code, message) = ended(&outcome);
            let response = AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message.map(text))
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            responses.push(response);
        }
        let response = AlterConfigsResponse::default().with_responses(responses);
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "AlterConfigs");
            Reply::Close
        })
    }))
}

async fn replace(services: &Services, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let (subject, entity) = alterable(services, resource.resource_type, resource.resource_name.as_str())?;
    let entries: Vec<(&str, Option<&str>)> =
        resource.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref())).collect();
    write(services, subject, &entity, alter::replacement(&entries)?, validate_only).await
}
