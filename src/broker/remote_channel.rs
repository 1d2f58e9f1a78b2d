//! The controller's way to the broker of another process, Ottla's or Apache Kafka's: a connection to its inter-broker listener.
//!
//! Requests go at the versions of `inter.broker.protocol.version`, whatever the other side supports besides. What a version does not
//! have is left out: topic ids before LeaderAndIsr 5 and UpdateMetadata 7, leader recovery before LeaderAndIsr 6.

use crate::config::InterBrokerProtocol;
use crate::controller::channel::Sent;
use crate::controller::{ChannelError, ControlChannel, ControlRequest, ControlResponse};
use crate::peer::{Peer, PeerError};
use crate::wire::messages::leader_and_isr_response::LeaderAndIsrTopicError;
use crate::wire::messages::{LeaderAndIsrRequest, LeaderAndIsrResponse, UpdateMetadataRequest};
use std::sync::Arc;

pub struct Remote {
    pub peer: Arc<Peer>,
    pub protocol: InterBrokerProtocol,
}

impl ControlChannel for Remote {
    fn send(&self, request: ControlRequest) -> Sent {
        let (peer, protocol) = (self.peer.clone(), self.protocol);
        Box::pin(async move {
            let sent = send(&peer, protocol, request).await;
            sent.map_err(|error| ChannelError(error.to_string()))
        })
    }
}

async fn send(
    peer: &Peer,
    protocol: InterBrokerProtocol,
    request: ControlRequest,
) -> Result<ControlResponse, PeerError> {
    Ok(match request {
        ControlRequest::LeaderAndIsr(mut request) => {
            let version = protocol.leader_and_isr();
            let asked = request.clone();
            leave_out(&mut request, version);
            let response = peer.send(version, &request).await?;
            ControlResponse::LeaderAndIsr(by_topic_id(&asked, response))
        }
        ControlRequest::UpdateMetadata(mut request) => {
            let version = protocol.update_metadata();
            leave_out_ids(&mut request, version);
            ControlResponse::UpdateMetadata(peer.send(version, &request).await?)
        }
        ControlRequest::StopReplica(request) => {
            ControlResponse::StopReplica(peer.send(protocol.stop_replica(), &request).await?)
        }
    })
}

fn leave_out(request: &mut LeaderAndIsrRequest, version: i16) {
    for topic in &mut request.topic_states {
        if version < 5 {
            topic.topic_id = uuid::Uuid::nil();
        }
        for state in topic.partition_states.iter_mut().filter(|_| version < 6) {
            state.leader_recovery_state = 0;
        }
    }
}

fn leave_out_ids(request: &mut UpdateMetadataRequest, version: i16) {
    for topic in request.topic_states.iter_mut().filter(|_| version < 7) {
        topic.topic_id = uuid::Uuid::nil();
    }
}

/// Before version 5 an answer names topics; the controller goes by ids.
fn by_topic_id(asked: &LeaderAndIsrRequest, mut response: LeaderAndIsrResponse) -> LeaderAndIsrResponse {
    let errors = std::mem::take(&mut response.partition_errors);
    if errors.is_empty() {
        return response;
    }
    for topic in &asked.topic_states {
        let own = errors.iter().filter(|error| error.topic_name == topic.topic_name).cloned().collect();
        response
            .topics
            .push(LeaderAndIsrTopicError::default().with_topic_id(topic.topic_id).with_partition_errors(own));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::TopicName;
    use crate::wire::messages::leader_and_isr_request::{LeaderAndIsrPartitionState, LeaderAndIsrTopicState};
    use crate::wire::messages::leader_and_isr_response::LeaderAndIsrPartitionError;
    use crate::wire::messages::update_metadata_request::UpdateMetadataTopicState;
    use crate::wire::{encode, text};

    #[test]
    fn requests_encode_at_every_protocol_and_answers_come_by_id() {
        let id = uuid::Uuid::from_u128(7);
        let state = LeaderAndIsrPartitionState::default().with_leader_recovery_state(1);
        let topic = LeaderAndIsrTopicState::default()
            .with_topic_name(TopicName(text("t")))
            .with_topic_id(id)
            .with_partition_states(vec![state]);
        let asked = LeaderAndIsrRequest::default().with_topic_states(vec![topic]).with_broker_epoch(9);
        let topic = UpdateMetadataTopicState::default().with_topic_name(TopicName(text("t"))).with_topic_id(id);
        let update = UpdateMetadataRequest::default().with_topic_states(vec![topic]).with_broker_epoch(9);
        for protocol in ["2.8-IV0", "2.8", "3.1", "3.2", "3.4", "3.9"] {
            let protocol = InterBrokerProtocol::parse(protocol).unwrap();
            let mut request = asked.clone();
            leave_out(&mut request, protocol.leader_and_isr());
            encode(&request, protocol.leader_and_isr()).unwrap_or_else(|error| panic!("{protocol}: {error}"));
            let mut request = update.clone();
            leave_out_ids(&mut request, protocol.update_metadata());
            encode(&request, protocol.update_metadata()).unwrap_or_else(|error| panic!("{protocol}: {error}"));
        }
        let error = LeaderAndIsrPartitionError::default().with_topic_name(TopicName(text("t"))).with_error_code(56);
        let response = by_topic_id(&asked, LeaderAndIsrResponse::default().with_partition_errors(vec![error]));
        assert_eq!((response.topics[0].topic_id, response.topics[0].partition_errors[0].error_code), (id, 56));
    }
}
