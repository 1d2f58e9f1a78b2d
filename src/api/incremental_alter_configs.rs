//! IncrementalAlterConfigs (KIP-339): sets, deletes, and adds to or takes from lists, config by config.

use super::Services;
use super::config_resource::{Refusal, alterable, dynamic_of, ended, write};
use crate::config::alter::{self, Change, Operation};
use crate::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: IncrementalAlterConfigsRequest = request.decode()?;
    let services = services.clone();
    Ok(Outcome::later(async move {
        let mut seen = BTreeSet::new();
        let mut responses = Vec::new();
        for resource in &body.resources {
            let is_new = seen.insert((resource.resource_type, resource.resource_name.clone()));
            let outcome = match is_new {
                true => change(&services, resource, body.validate_only).await,
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
        let response = IncrementalAlterConfigsResponse::default().with_responses(responses);
        Reply::message(&request.header, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "IncrementalAlterConfigs");
            Reply::Close
        })
    }))
}

async fn change(services: &Services, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let (subject, entity) = alterable(services, resource.resource_type, resource.resource_name.as_str())?;
    let changes: Vec<Change> = resource.configs.iter().map(change_of).collect::<Result<_, _>>()?;
    let current = dynamic_of(services, &entity).await?;
    let altered = alter::apply(subject, &current, &changes)?;
    write(services, subject, &entity, altered, validate_only).await
}

fn change_of(config: &AlterableConfig) -> Result<Change<'_>, Refusal> {
    let id = config.config_operation;
    let operation = Operation::from_id(id).ok_or_else(|| Refusal::request(format!("operation {id} does not exist")))?;
    Ok(Change { name: config.name.as_str(), operation, value: config.value.as_deref() })
}
