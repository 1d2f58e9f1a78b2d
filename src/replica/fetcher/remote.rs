//! A leader in another process: Fetch and ListOffsets over a connection of the fetcher's own (class `RemoteLeaderEndPoint`).

use super::{
    Asked, FetchWant, LeaderAnswer, LeaderEndpoint, LeaderError, LeaderFetch, Leaders, LogSide, PartitionAnswer,
};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, TopicId, TopicPartition};
use crate::peer::{Peer, PeerConfig};
use crate::replica::metadata_cache::MetadataCache;
use crate::wire::fetch::{FetchPartition, FetchRequest, FetchTopic, FetchedPartition, ForgottenTopic, read_response};
use crate::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use crate::wire::messages::{self, ListOffsetsRequest, TopicName};
use crate::wire::text;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const FETCH: i16 = 1;
/// Highest version in which topics go by name.
const FETCH_BY_NAME: i16 = 12;

/// What all fetchers of a broker have in common.
pub struct RemoteSettings {
    pub local: BrokerId,
    pub broker_epoch: Arc<AtomicI64>,
    pub metadata: Arc<MetadataCache>,
    pub inter_broker_listener: String,
    pub fetch_version: i16,
    pub list_offsets_version: i16,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    pub peer: PeerConfig,
}

pub struct RemoteLeaders(pub Arc<RemoteSettings>);

impl Leaders for RemoteLeaders {
    fn connect(&self, leader: BrokerId) -> Arc<dyn LeaderEndpoint> {
        let names = Mutex::default();
        Arc::new(RemoteLeader { settings: self.0.clone(), leader, peer: Mutex::new(None), names })
    }
}

struct RemoteLeader {
    settings: Arc<RemoteSettings>,
    leader: BrokerId,
    peer: Mutex<Option<Arc<Peer>>>,
    /// Topics of the fetch session by id: answers name them by id alone.
    names: Mutex<HashMap<TopicId, Arc<str>>>,
}

fn failed(error: impl std::fmt::Display) -> LeaderError {
    LeaderError(error.to_string())
}

impl RemoteLeader {
    /// The connection to where the leader is now.
    fn peer(&self) -> Result<Arc<Peer>, LeaderError> {
        let image = self.settings.metadata.image();
        let broker = image.brokers.get(&self.leader);
        let endpoint = broker.and_then(|broker| broker.endpoint(&self.settings.inter_broker_listener));
        let place = endpoint.and_then(|endpoint| Some((endpoint.host.clone(), u16::try_from(endpoint.port).ok()?)));
        let mut peer = self.peer.lock();
        let Some((host, port)) = place else {
            *peer = None;
            return Err(LeaderError(format!("broker {} is not alive, as far as this broker knows", self.leader)));
        };
        match &*peer {
            Some(open) if open.host() == host && open.port() == port => Ok(open.clone()),
            _ => Ok(peer.insert(Arc::new(Peer::new(self.settings.peer.clone(), host, port))).clone()),
        }
    }

    async fn try_fetch(&self, fetch: LeaderFetch) -> Result<LeaderAnswer, LeaderError> {
        let peer = self.peer()?;
        let wanted = self.settings.fetch_version;
        let version = if fetch.by_id { wanted } else { wanted.min(FETCH_BY_NAME) };
        self.remember(&fetch);
        let body = self.request(&fetch).write(version);
        let answer = peer.send_bytes(FETCH, version, &body).await.map_err(failed)?;
        let response = read_response(&answer, version).map_err(failed)?;
        let names = self.names.lock();
        let mut partitions = Vec::new();
        for topic in response.topics {
            let name = if fetch.by_id { names.get(&topic.topic_id).cloned() } else { Some(topic.name) };
            // A topic that was not asked for is nobody's.
            let Some(name) = name else { continue };
            partitions.extend(topic.partitions.into_iter().map(|one| partition_answer(&name, one)));
        }
        Ok(LeaderAnswer { error: response.error, session_id: response.session_id, partitions })
    }

    fn remember(&self, fetch: &LeaderFetch) {
        let mut names = self.names.lock();
        if fetch.session_epoch <= 0 {
            names.clear();
        }
        for want in &fetch.wants {
            names.entry(want.topic_id).or_insert_with(|| want.partition.topic.clone());
        }
    }

    fn request(&self, fetch: &LeaderFetch) -> FetchRequest {
        let settings = &self.settings;
        FetchRequest {
            replica_id: settings.local,
            replica_epoch: BrokerEpoch(settings.broker_epoch.load(Ordering::SeqCst)),
            cluster_id: None,
            max_wait_ms: match fetch.wait_ms_max {
                Some(wait_ms) => i64::from(settings.max_wait_ms).min(wait_ms) as i32,
                None => settings.max_wait_ms,
            },
            min_bytes: settings.min_bytes,
            max_bytes: settings.max_bytes,
            isolation_level: 0,
            session_id: fetch.session_id,
            session_epoch: fetch.session_epoch,
            topics: self.topics(&fetch.wants),
            forgotten: forgotten(&fetch.forgotten),
            rack_id: Arc::default(),
        }
    }

    fn topics(&self, wants: &[FetchWant]) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for want in wants {
            let partition = FetchPartition {
                partition: want.partition.partition,
                current_leader_epoch: want.leader_epoch,
                fetch_offset: want.offset,
                last_fetched_epoch: want.last_epoch,
                log_start_offset: want.log_start_offset,
                max_bytes: self.settings.partition_max_bytes,
            };
            match topics.last_mut() {
                Some(last) if last.name == want.partition.topic => last.partitions.push(partition),
                _ => topics.push(FetchTopic {
                    name: want.partition.topic.clone(),
                    topic_id: want.topic_id,
                    partitions: vec![partition],
                }),
            }
        }
        topics
    }

    async fn try_offsets(
        &self,
        side: LogSide,
        partitions: Vec<(TopicPartition, LeaderEpoch)>,
    ) -> Result<Vec<Result<i64, ErrorCode>>, LeaderError> {
        let timestamp = match side {
            LogSide::Latest => -1,
            LogSide::Earliest => -2,
        };
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (partition, epoch) in &partitions {
            topics.entry(&partition.topic).or_default().push(
                ListOffsetsPartition::default()
                    .with_partition_index(partition.partition)
                    .with_current_leader_epoch(epoch.0)
                    .with_timestamp(timestamp),
            );
        }
        let topic = |(name, partitions): (&str, Vec<_>)| {
            ListOffsetsTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
        };
        let request = ListOffsetsRequest::default()
            .with_replica_id(messages::BrokerId(self.settings.local.0))
            .with_topics(topics.into_iter().map(topic).collect());
        let response = self.peer()?.send(self.settings.list_offsets_version, &request).await.map_err(failed)?;
        let mut found = HashMap::new();
        for topic in response.topics {
            for one in topic.partitions {
                let answer = if one.error_code == 0 { Ok(one.offset) } else { Err(ErrorCode::of(one.error_code)) };
                found.insert(TopicPartition::new(&**topic.name, one.partition_index), answer);
            }
        }
        let answer = |(partition, _): &(TopicPartition, LeaderEpoch)| {
            found.remove(partition).unwrap_or(Err(ErrorCode::UnknownServerError))
        };
        Ok(partitions.iter().map(answer).collect())
    }
}

impl LeaderEndpoint for RemoteLeader {
    fn fetch(&self, fetch: LeaderFetch) -> Asked<'_, LeaderAnswer> {
        Box::pin(self.try_fetch(fetch))
    }

    fn offsets(
        &self,
        side: LogSide,
        partitions: Vec<(TopicPartition, LeaderEpoch)>,
    ) -> Asked<'_, Vec<Result<i64, ErrorCode>>> {
        Box::pin(self.try_offsets(side, partitions))
    }

    fn hang_up(&self) {
        *self.peer.lock() = None;
    }
}

fn forgotten(list: &[(TopicPartition, TopicId)]) -> Vec<ForgottenTopic> {
    let topic = |(partition, topic_id): &(TopicPartition, TopicId)| ForgottenTopic {
        name: partition.topic.clone(),
        topic_id: *topic_id,
        partitions: vec![partition.partition],
    };
    list.iter().map(topic).collect()
}

fn partition_answer(topic: &Arc<str>, answer: FetchedPartition) -> PartitionAnswer {
    PartitionAnswer {
        partition: TopicPartition::new(topic.clone(), answer.partition),
        error: answer.error,
        high_watermark: answer.high_watermark,
        log_start_offset: answer.log_start_offset,
        diverging_epoch: answer.diverging_epoch.map(|diverging| (diverging.epoch, diverging.end_offset)),
        records: answer.records,
    }
}
