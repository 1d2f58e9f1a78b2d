//! ListGroups: all groups of this broker, by state (KIP-518) and type (KIP-848).

use super::Services;
use crate::base::ErrorCode;
use crate::group::message::GroupListing;
use crate::wire::messages::list_groups_response::ListedGroup;
use crate::wire::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use crate::wire::{Outcome, Reply, Request, StrBytes, WireError, text};
use std::sync::Arc;

/// The only type of group that there is in ZooKeeper mode.
const TYPE: &str = "classic";

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: ListGroupsRequest = request.decode()?;
    let (error, groups) = services.groups.list();
    let groups = if allows(&body.types_filter, TYPE) { groups } else { Vec::new() };
    let groups: Vec<_> = groups.into_iter().filter(|group| allows(&body.states_filter, group.state)).collect();
    Ok(Reply::message(&request.header, &response(request.header.version, error, &groups))?.into())
}

/// An empty filter lets everything pass.
fn allows(filter: &[StrBytes], word: &str) -> bool {
    filter.is_empty() || filter.iter().any(|allowed| allowed.eq_ignore_ascii_case(word))
}

fn response(version: i16, error: ErrorCode, groups: &[GroupListing]) -> ListGroupsResponse {
    let groups = groups.iter().map(|group| {
        ListedGroup::default()
            .with_group_id(GroupId(text(&group.group)))
            .with_protocol_type(text(&group.protocol_type))
            .with_group_state(if version >= 4 { text(group.state) } else { StrBytes::default() })
            .with_group_type(if version >= 5 { text(TYPE) } else { StrBytes::default() })
    });
    ListGroupsResponse::default().with_error_code(error.code()).with_groups(groups.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        let groups = [GroupListing { group: "g".into(), protocol_type: "consumer".into(), state: "Stable" }];
        for version in 0..=5 {
            let made = response(version, ErrorCode::CoordinatorLoadInProgress, &groups);
            assert!(encode(&made, version).is_ok(), "version {version}");
        }
    }

    #[test]
    fn filters_ignore_case() {
        assert!(allows(&[], "Stable"));
        assert!(allows(&[text("empty"), text("STABLE")], "Stable"));
        assert!(!allows(&[text("Empty")], "Stable"));
        assert!(!allows(&[text("consumer")], TYPE));
    }
}
