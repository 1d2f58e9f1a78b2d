//! A plain Kafka client for tests: one blocking connection, one request at a time.

use bytes::{BufMut, Bytes, BytesMut};
use ottla::wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use ottla::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla::wire::messages::fetch_response::PartitionData;
use ottla::wire::messages::metadata_request::MetadataRequestTopic;
use ottla::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla::wire::messages::produce_response::PartitionProduceResponse;
use ottla::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, CreateTopicsRequest, FetchRequest, MetadataRequest,
    MetadataResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use ottla::wire::{Decodable, Encodable, HeaderVersion, RequestMessage, text};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// Sends a request and reads its response.
    pub fn call<R: RequestMessage>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        let correlation_id = self.send(request, version)?;
        self.receive::<R>(correlation_id, version)
    }

    /// Sends a request; its correlation id comes back.
    pub fn send<R: RequestMessage>(&mut self, request: &R, version: i16) -> io::Result<i32> {
        self.correlation_id += 1;
        let frame = frame(request, version, self.correlation_id)?;
        self.stream.write_all(&frame)?;
        Ok(self.correlation_id)
    }

    /// Reads the response to a request that was sent before.
    pub fn receive<R: RequestMessage>(&mut self, correlation_id: i32, version: i16) -> io::Result<R::Response> {
        let mut reply = self.read_frame()?;
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut reply, header_version).map_err(invalid)?;
        if header.correlation_id != correlation_id {
            return Err(invalid(format!("reply {} for request {correlation_id}", header.correlation_id)));
        }
        let response = R::Response::decode(&mut reply, version).map_err(invalid)?;
        if reply.is_empty() { Ok(response) } else { Err(invalid(format!("{} bytes left in the reply", reply.len()))) }
    }

    pub fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).map_err(invalid)?];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    pub fn api_versions(&mut self) -> io::Result<ApiVersionsResponse> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("ottla-test"))
            .with_client_software_version(text("1"));
        self.call(&request, 3)
    }

    /// Broker ids, hosts and ports.
    pub fn brokers(&mut self) -> io::Result<Vec<(i32, String, i32)>> {
        let response: MetadataResponse = self.call(&MetadataRequest::default().with_topics(Some(vec![])), 9)?;
        Ok(response.brokers.iter().map(|broker| (broker.node_id.0, broker.host.to_string(), broker.port)).collect())
    }
}

impl Client {
    /// Creates a topic and waits until each of its partitions has a leader.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> io::Result<()> {
        self.create_replicated(name, partitions, 1, configs)
    }

    /// The same with more replicas than one.
    pub fn create_replicated(
        &mut self,
        name: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(&str, &str)],
    ) -> io::Result<()> {
        let config = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let response = self.call(&request, 5)?;
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        if codes != [0] {
            return Err(invalid(format!("CreateTopics {name}: {codes:?}")));
        }
        self.wait_for_leaders(name, partitions)
    }

    /// Creates a topic with these replicas for each partition, and waits for its leaders. Only the controller can.
    pub fn create_assigned(&mut self, name: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) -> io::Result<()> {
        let assigned = |(index, replicas): (usize, &&[i32])| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index as i32)
                .with_broker_ids(replicas.iter().map(|id| BrokerId(*id)).collect())
        };
        let config = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(replicas.iter().enumerate().map(assigned).collect())
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let response = self.call(&request, 5)?;
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        if codes != [0] {
            return Err(invalid(format!("CreateTopics {name}: {codes:?}")));
        }
        self.wait_for_leaders(name, replicas.len() as i32)
    }

    fn wait_for_leaders(&mut self, name: &str, partitions: i32) -> io::Result<()> {
        for _ in 0..3000 {
            if self.leaders(name)?.iter().filter(|leader| **leader >= 0).count() == partitions as usize {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(invalid(format!("{name} has no leaders")))
    }

    /// Leader of each partition of a topic, -1 for none; empty while the topic is unknown.
    pub fn leaders(&mut self, name: &str) -> io::Result<Vec<i32>> {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let response = self.call(&request, 9)?;
        let topic = response.topics.first().ok_or_else(|| invalid("no topic in the reply"))?;
        Ok(topic.partitions.iter().map(|partition| partition.leader_id.0).collect())
    }

    /// Produces record batches to one partition with acks=all.
    pub fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> io::Result<PartitionProduceResponse> {
        self.produce_version(9, topic, partition, records)
    }

    pub fn produce_version(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> io::Result<PartitionProduceResponse> {
        let partition = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![partition]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        let response = self.call(&request, version)?;
        let first =
            response.responses.into_iter().next().and_then(|topic| topic.partition_responses.into_iter().next());
        first.ok_or_else(|| invalid("no partition in the reply"))
    }

    /// Fetches from one partition, waiting at most a second for one byte.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> io::Result<PartitionData> {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(1000)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.call(&request, 12)?;
        let first = response.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        first.ok_or_else(|| invalid(format!("no partition in the reply, error {}", response.error_code)))
    }
}

/// A whole frame: length, header at the version that belongs to the request, body.
pub fn frame<R: RequestMessage>(request: &R, version: i16, correlation_id: i32) -> io::Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("ottla-test")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).map_err(invalid)?;
    request.encode(&mut frame, version).map_err(invalid)?;
    let size = i32::try_from(frame.len() - 4).map_err(invalid)?;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    Ok(frame)
}
