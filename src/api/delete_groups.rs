//! DeleteGroups: groups without members, with all their offsets.

use super::Services;
use super::group_fields::shared;
use crate::wire::messages::delete_groups_response::DeletableGroupResult;
use crate::wire::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DeleteGroupsRequest = request.decode()?;
    let names: BTreeSet<Arc<str>> = body.groups_names.iter().map(|name| shared(name)).collect();
    let answers: Vec<_> = names.into_iter().map(|name| (name.clone(), services.groups.delete_group(name))).collect();
    let header = request.header;
    Ok(Outcome::later(async move {
        let mut results = Vec::with_capacity(answers.len());
        for (name, answer) in answers {
            let error = answer.get().await;
            results.push(
                DeletableGroupResult::default().with_group_id(GroupId(text(&name))).with_error_code(error.code()),
            );
        }
        Reply::or_close(&header, &DeleteGroupsResponse::default().with_results(results))
    }))
}
