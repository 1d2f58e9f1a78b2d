//! Heartbeat: a member is alive, and learns whether the group rebalances.

use super::Services;
use super::group_fields::{shared, shared_option};
use crate::group::message::HeartbeatRequest as Beat;
use crate::wire::messages::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: HeartbeatRequest = request.decode()?;
    let beat = Beat {
        group: shared(&body.group_id),
        generation: body.generation_id,
        member_id: shared(&body.member_id),
        instance_id: shared_option(&body.group_instance_id),
    };
    let header = request.header;
    Ok(services
        .groups
        .heartbeat(beat)
        .reply(move |error| Reply::or_close(&header, &HeartbeatResponse::default().with_error_code(error.code()))))
}
