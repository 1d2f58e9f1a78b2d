//! Metadata: brokers, topics and who leads their partitions, for the listener that the client came in on. Creates topics on
//! demand if `auto.create.topics.enable` and the client allow it.

use super::{Services, authorized};
use crate::base::topic_name::{self, is_internal};
use crate::base::{BrokerId, ErrorCode, TopicId};
use crate::replica::MetadataImage;
use crate::replica::metadata_cache::{PartitionMetadata, TopicMetadata};
use crate::wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::messages::{self, MetadataRequest, MetadataResponse, TopicName};
use crate::wire::{Outcome, Reply, Request, RequestHeader, WireError, text};
use std::collections::HashSet;
use std::sync::Arc;

/// First version with topic ids in the reply, and first with which a client may ask by id.
const TOPIC_ID_IN_REPLY: i16 = 10;
const TOPIC_ID_IN_REQUEST: i16 = 12;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: MetadataRequest = request.decode()?;
    let view = View {
        image: services.metadata.image(),
        listener: &request.connection.listener,
        version: request.header.version,
    };
    let topics = match topics_asked(&body, view.version) {
        Asked::Refused(topics) => topics,
        Asked::All => view.all_topics(&body),
        Asked::These => {
            let (known, missing) = view.these_topics(&body);
            if may_create(services, &body, view.version) && !missing.is_empty() {
                return Ok(create_then_answer(services.clone(), request.clone(), body.clone(), missing));
            }
            known.into_iter().chain(missing.iter().map(|name| view.missing(name, &body, unknown(name)))).collect()
        }
    };
    Ok(view.reply(services, &request.header, &body, topics)?.into())
}
fn may_create(services: &Services, body: &MetadataRequest, version: i16) -> bool {
    services.config.auto_create_topics_enable && (body.allow_auto_topic_creation || version < 4)
}

fn unknown(name: &str) -> ErrorCode {
    match topic_name::check(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

/// Writes the znodes of the missing topics, and answers without waiting for their leaders, as Kafka does.
fn create_then_answer(
    services: Arc<Services>,
    request: Request,
    body: MetadataRequest,
    missing: Vec<String>,
) -> Outcome {
    Outcome::later(async move {
        let mut created = Vec::with_capacity(missing.len());
        for name in &missing {
            created.push(services.auto_creation.create(name).await);
        }
        let view = View::new(&services, &request);
        let (mut topics, still_missing) = view.these_topics(&body);
        let still_missing: HashSet<String> = still_missing.into_iter().collect();
        for (name, error) in missing.iter().zip(created).filter(|(name, _)| still_missing.contains(*name)) {
            topics.push(view.missing(name, &body, error));
        }
        view.reply(&services, &request.header, &body, topics).unwrap_or_else(|error| {
            tracing::error!(%error, "a Metadata reply cannot be encoded");
            Reply::Close
        })
    })
}

enum Asked {
    All,
    These,
    Refused(Vec<MetadataResponseTopic>),
}

fn topics_asked(body: &MetadataRequest, version: i16) -> Asked {
    let Some(topics) = &body.topics else { return Asked::All };
    if topics.is_empty() && version == 0 {
        return Asked::All;
    }
    let by_id_too_early =
        |topic: &messages::metadata_request::MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_nil();
    if version < TOPIC_ID_IN_REQUEST && topics.iter().any(by_id_too_early) {
        let refused = topics.iter().map(|topic| {
            let name = topic.name.clone().unwrap_or_default();
            MetadataResponseTopic::default().with_name(Some(name)).with_error_code(ErrorCode::InvalidRequest.code())
        });
        return Asked::Refused(refused.collect());
    }
    Asked::These
}

/// The cluster as one client sees it.
struct View<'a> {
    image: Arc<MetadataImage>,
    listener: &'a str,
    version: i16,
}

impl<'a> View<'a> {
    fn new(services: &Services, request: &'a Request) -> View<'a> {
        let image = services.metadata.image();
        View { image, listener: &request.connection.listener, version: request.header.version }
    }

    fn reply(
        &self,
        services: &Services,
        header: &RequestHeader,
        body: &MetadataRequest,
        topics: Vec<MetadataResponseTopic>,
    ) -> Result<Reply, WireError> {
        let mut response = MetadataResponse::default()
            .with_brokers(self.brokers())
            .with_cluster_id(Some(text(&services.cluster_id)))
            .with_controller_id(messages::BrokerId(services.controller_id().0))
            .with_topics(topics);
        if body.include_cluster_authorized_operations && (8..=10).contains(&self.version) {
            response.cluster_authorized_operations = authorized::CLUSTER;
        }
        Reply::message(header, &response)
    }

    /// The topics of the request that there are, and the names of those that there are not, each once: a request could otherwise ask
    /// for a reply of any size.
    fn these_topics(&self, body: &MetadataRequest) -> (Vec<MetadataResponseTopic>, Vec<String>) {
        let mut known = Vec::new();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for topic in body.topics.iter().flatten() {
            // With an id the name does not count: the Java client leaves it empty, others null.
            let name = topic.name.as_deref().filter(|_| topic.topic_id.is_nil());
            if !seen.insert((name, topic.topic_id)) {
                continue;
            }
            match name {
                Some(name) => match self.image.topics.get_key_value(&**name) {
                    Some((name, topic)) => known.push(self.topic(name, topic, body)),
                    None => missing.push(name.to_string()),
                },
                None => known.push(self.topic_by_id(TopicId(topic.topic_id), body)),
            }
        }
        (known, missing)
    }

    fn missing(&self, name: &str, body: &MetadataRequest, error: ErrorCode) -> MetadataResponseTopic {
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(name))))
            .with_is_internal(is_internal(name) && self.version >= 1)
            .with_error_code(error.code())
            .with_topic_authorized_operations(self.authorized(body))
    }

    fn authorized(&self, body: &MetadataRequest) -> i32 {
        match body.include_topic_authorized_operations && self.version >= 8 {
            true => authorized::TOPIC,
            false => authorized::UNKNOWN,
        }
    }

    fn brokers(&self) -> Vec<MetadataResponseBroker> {
        let seen = self.image.brokers.values().filter_map(|broker| Some((broker, broker.endpoint(self.listener)?)));
        seen.map(|(broker, endpoint)| {
            MetadataResponseBroker::default()
                .with_node_id(messages::BrokerId(broker.id.0))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
                .with_rack(broker.rack.as_deref().filter(|_| self.version >= 1).map(text))
        })
        .collect()
    }

    fn all_topics(&self, body: &MetadataRequest) -> Vec<MetadataResponseTopic> {
        self.image.topics.iter().map(|(name, topic)| self.topic(name, topic, body)).collect()
    }

    fn topic_by_id(&self, id: TopicId, body: &MetadataRequest) -> MetadataResponseTopic {
        let found = self.image.topic_name(id).and_then(|name| self.image.topics.get_key_value(name));
        match found {
            Some((name, topic)) => self.topic(name, topic, body),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(id.0)
                .with_error_code(ErrorCode::UnknownTopicId.code()),
        }
    }

    fn topic(&self, name: &str, topic: &TopicMetadata, body: &MetadataRequest) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().map(|(index, partition)| self.partition(*index, partition)).collect();
        let mut answer = MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(name))))
            .with_is_internal(is_internal(name) && self.version >= 1)
            .with_partitions(partitions)
            .with_topic_authorized_operations(self.authorized(body));
        if self.version >= TOPIC_ID_IN_REPLY {
            answer.topic_id = topic.id.0;
        }
        answer
    }

    fn partition(&self, index: i32, partition: &PartitionMetadata) -> MetadataResponsePartition {
        let (leader, mut error) = self.leader(partition.leader);
        let live = |ids: &[BrokerId]| {
            let seen = |id: &&BrokerId| self.version > 0 || self.image.brokers.contains_key(id);
            ids.iter().filter(seen).map(|id| messages::BrokerId(id.0)).collect::<Vec<_>>()
        };
        let (replicas, isr) = (live(&partition.replicas), live(&partition.isr));
        let some_unavailable = replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len();
        if !error.is_error() && some_unavailable {
            error = ErrorCode::ReplicaNotAvailable;
        }
        let offline = |id: &&BrokerId| partition.offline_replicas.contains(id) || !self.image.brokers.contains_key(id);
        let mut answer = MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(index)
            .with_leader_id(messages::BrokerId(leader.0))
            .with_replica_nodes(replicas)
            .with_isr_nodes(isr);
        if self.version >= 5 {
            answer.offline_replicas =
                partition.replicas.iter().filter(offline).map(|id| messages::BrokerId(id.0)).collect();
        }
        if self.version >= 7 {
            answer.leader_epoch = partition.leader_epoch.0;
        }
        answer
    }

    fn leader(&self, leader: BrokerId) -> (BrokerId, ErrorCode) {
        match self.image.brokers.get(&leader) {
            None => (BrokerId::NONE, ErrorCode::LeaderNotAvailable),
            Some(broker) if broker.endpoint(self.listener).is_none() => match self.version {
                6.. => (BrokerId::NONE, ErrorCode::ListenerNotFound),
                _ => (BrokerId::NONE, ErrorCode::LeaderNotAvailable),
            },
            Some(_) => (leader, ErrorCode::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ControllerEpoch, LeaderEpoch, PartitionEpoch};
    use crate::replica::metadata_cache::{BrokerEndpoint, BrokerMetadata};
    use crate::wire::encode;
    use crate::wire::messages::metadata_request::MetadataRequestTopic;

    fn image() -> Arc<MetadataImage> {
        let endpoint =
            BrokerEndpoint { listener: "PLAINTEXT".into(), host: "h".into(), port: 9092, security_protocol: 0 };
        let broker = BrokerMetadata { id: BrokerId(1), endpoints: vec![endpoint], rack: Some("r".into()) };
        let partition = |leader| PartitionMetadata {
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(3),
            controller_epoch: ControllerEpoch(1),
            partition_epoch: PartitionEpoch(0),
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(1)],
            offline_replicas: vec![],
        };
        let topic = TopicMetadata { id: TopicId::random(), partitions: [(0, partition(1)), (1, partition(-1))].into() };
        let mut image = MetadataImage { controller_id: Some(BrokerId(1)), ..MetadataImage::default() };
        image.brokers.insert(BrokerId(1), Arc::new(broker));
        image.topic_names.insert(topic.id, "t".into());
        image.topics.insert("t".into(), Arc::new(topic));
        Arc::new(image)
    }

    #[test]
    fn every_version_can_say_all_of_it() {
        for version in 0..=12 {
            let body = MetadataRequest::default().with_include_topic_authorized_operations(true);
            let view = View { image: image(), listener: "PLAINTEXT", version };
            let mut topics = view.all_topics(&body);
            if version == 12 {
                topics.push(view.topic_by_id(TopicId::random(), &body));
            }
            let response = MetadataResponse::default().with_brokers(view.brokers()).with_topics(topics);
            let bytes = encode(&response, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
            assert!(!bytes.is_empty());
        }
    }

    #[test]
    fn a_topic_named_many_times_is_answered_once() {
        let named = |name| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
        let topics = ["t", "gone", "t", "gone"].map(named).to_vec();
        let view = View { image: image(), listener: "PLAINTEXT", version: 12 };
        let (known, missing) = view.these_topics(&MetadataRequest::default().with_topics(Some(topics)));
        assert_eq!((known.len(), missing), (1, vec!["gone".to_owned()]));
    }

    #[test]
    fn partitions_say_what_is_wrong_with_them() {
        let errors = |version, listener| {
            let view = View { image: image(), listener, version };
            let topics = view.all_topics(&MetadataRequest::default());
            topics[0]
                .partitions
                .iter()
                .map(|partition| (partition.leader_id.0, partition.error_code))
                .collect::<Vec<_>>()
        };
        assert_eq!(errors(12, "PLAINTEXT"), [(1, 0), (-1, 5)]);
        assert_eq!(errors(0, "PLAINTEXT"), [(1, 9), (-1, 5)]);
        assert_eq!(errors(6, "OTHER"), [(-1, 72), (-1, 5)]);
        assert_eq!(errors(5, "OTHER"), [(-1, 5), (-1, 5)]);
    }
}
