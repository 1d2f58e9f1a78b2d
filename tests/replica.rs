//! The broker's side of control requests, and the way of records through a partition: a real log, no network.

use ottla::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, LogManager};
use ottla::record::{BatchBuilder, ValidatedRecords};
use ottla::replica::fetch::{FetchLimits, Isolation};
use ottla::replica::fetch_session::FetchPartition;
use ottla::replica::fetcher::{LeaderEndpoint, Leaders};
use ottla::replica::partition::FollowerSays;
use ottla::replica::{
    AlterAnswer, AlterPartition, AlteredPartition, LeadershipListener, MetadataCache, PartitionAlterer, ReplicaError,
    ReplicaManager, ReplicaParts, TopicConfigs, wait_committed,
};
use ottla::wire::messages::leader_and_isr_request::{LeaderAndIsrPartitionState, LeaderAndIsrTopicState};
use ottla::wire::messages::stop_replica_request::{StopReplicaPartitionState, StopReplicaTopicState};
use ottla::wire::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataPartitionState, UpdateMetadataRequest, UpdateMetadataTopicState,
};
use ottla::wire::messages::{self, LeaderAndIsrRequest, StopReplicaRequest, TopicName};
use ottla::wire::text;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// No topic has settings of its own; which were asked for.
#[derive(Default)]
struct NoOverrides(Mutex<Vec<Arc<str>>>);

impl TopicConfigs for NoOverrides {
    fn log_configs(
        &self,
        topics: Vec<Arc<str>>,
    ) -> Pin<Box<dyn Future<Output = HashMap<Arc<str>, LogConfig>> + Send + '_>> {
        self.0.lock().expect("lock").extend(topics);
        Box::pin(async { HashMap::new() })
    }
}

/// Nobody else is there.
struct NoLeaders;

impl Leaders for NoLeaders {
    fn connect(&self, leader: BrokerId) -> Arc<dyn LeaderEndpoint> {
        panic!("nothing follows broker {leader} here")
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl LeadershipListener for Heard {
    fn on_leader(&self, partition: &TopicPartition, epoch: LeaderEpoch) {
        self.0.lock().expect("lock").push(format!("leader {partition} {epoch}"));
    }

    fn on_resigned(&self, partition: &TopicPartition) {
        self.0.lock().expect("lock").push(format!("resigned {partition}"));
    }
}

struct Fixture {
    replicas: Arc<ReplicaManager>,
    configs: Arc<NoOverrides>,
    heard: Arc<Heard>,
    id: TopicId,
    folder: tempfile::TempDir,
}

fn config(folder: &tempfile::TempDir) -> BrokerConfig {
    BrokerConfig { log_dirs: vec![folder.path().join("logs")], ..BrokerConfig::default() }
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("temp folder");
    let logs = LogManager::open(&config(&folder), &|_| LogConfig::default()).expect("logs");
    fixture_with(folder, logs, TopicId::random())
}

fn fixture_with(folder: tempfile::TempDir, logs: Arc<LogManager>, id: TopicId) -> Fixture {
    let metadata = Arc::new(MetadataCache::new());
    let configs = Arc::new(NoOverrides::default());
    let replicas = Arc::new(ReplicaManager::new(ReplicaParts {
        local: BrokerId(1),
        broker_epoch: Arc::default(),
        logs,
        metadata,
        topic_configs: configs.clone(),
        leaders: Arc::new(NoLeaders),
        replication: config(&folder).replication,
    }));
    replicas.set_broker_epoch(BrokerEpoch(10));
    let heard = Arc::new(Heard::default());
    replicas.add_listener(heard.clone());
    Fixture { replicas, configs, heard, id, folder }
}

struct Lead {
    broker_epoch: i64,
    controller_epoch: i32,
    leader_epoch: i32,
    partition_epoch: i32,
    leader: i32,
    replicas: Vec<i32>,
}

const LEAD: Lead = Lead {
    broker_epoch: 10,
    controller_epoch: 1,
    leader_epoch: 0,
    partition_epoch: 0,
    leader: 1,
    replicas: Vec::new(),
};

impl Fixture {
    /// The top-level error, or that of the one partition.
    async fn lead(&self, lead: Lead) -> i16 {
        let ids = |ids: &[i32]| ids.iter().map(|id| messages::BrokerId(*id)).collect::<Vec<_>>();
        let replicas = if lead.replicas.is_empty() { vec![1] } else { lead.replicas };
        let state = LeaderAndIsrPartitionState::default()
            .with_partition_index(0)
            .with_leader(messages::BrokerId(lead.leader))
            .with_leader_epoch(lead.leader_epoch)
            .with_partition_epoch(lead.partition_epoch)
            .with_isr(ids(&[lead.leader]))
            .with_replicas(ids(&replicas));
        let topic = LeaderAndIsrTopicState::default()
            .with_topic_name(TopicName(text("t")))
            .with_topic_id(self.id.0)
            .with_partition_states(vec![state]);
        let request = LeaderAndIsrRequest::default()
            .with_controller_epoch(lead.controller_epoch)
            .with_broker_epoch(lead.broker_epoch)
            .with_topic_states(vec![topic]);
        let response = self.replicas.leader_and_isr(&request).await;
        match response.topics.first().and_then(|topic| topic.partition_errors.first()) {
            Some(partition) => partition.error_code,
            None => response.error_code,
        }
    }

    async fn stop(&self, leader_epoch: i32, delete: bool) -> i16 {
        let state = StopReplicaPartitionState::default()
            .with_partition_index(0)
            .with_leader_epoch(leader_epoch)
            .with_delete_partition(delete);
        let topic =
            StopReplicaTopicState::default().with_topic_name(TopicName(text("t"))).with_partition_states(vec![state]);
        let request =
            StopReplicaRequest::default().with_controller_epoch(1).with_broker_epoch(10).with_topic_states(vec![topic]);
        self.replicas.stop_replica(&request).await.partition_errors[0].error_code
    }

    /// The controller says which brokers live.
    async fn brokers(&self, ids: &[i32]) {
        let broker = |id: &i32| UpdateMetadataBroker::default().with_id(messages::BrokerId(*id));
        let request = UpdateMetadataRequest::default()
            .with_controller_epoch(1)
            .with_broker_epoch(10)
            .with_live_brokers(ids.iter().map(broker).collect());
        assert_eq!(self.replicas.update_metadata(&request).await, Ok(Vec::new()));
    }

    fn append(&self, value: &str) -> Result<i64, ReplicaError> {
        let mut batch = BatchBuilder::new();
        batch.append(1, None, Some(value.as_bytes()), []);
        let records = ValidatedRecords::from_batch(batch.build().expect("batch"));
        let partition = self.replicas.partition("t", 0)?;
        Ok(partition.append(records, AppendOrigin::Client, true)?.first_offset)
    }
}

/// KIP-380 (KAFKA-7235): what was meant for an earlier life of the broker, or comes from a controller of before.
#[tokio::test]
async fn control_requests_are_fenced_by_broker_controller_and_leader_epochs() {
    let fixture = fixture();
    let code = |code: ErrorCode| code.code();
    assert_eq!(fixture.lead(Lead { broker_epoch: 9, ..LEAD }).await, code(ErrorCode::StaleBrokerEpoch));
    assert_eq!(fixture.lead(Lead { replicas: vec![2], ..LEAD }).await, code(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(fixture.lead(Lead { controller_epoch: 5, leader_epoch: 3, ..LEAD }).await, 0);
    assert_eq!(fixture.lead(Lead { controller_epoch: 4, ..LEAD }).await, code(ErrorCode::StaleControllerEpoch));
    let again = Lead { controller_epoch: 5, leader_epoch: 3, ..LEAD };
    assert_eq!(fixture.lead(again).await, code(ErrorCode::StaleControllerEpoch));
    let older = Lead { controller_epoch: 5, leader_epoch: 2, ..LEAD };
    assert_eq!(fixture.lead(older).await, code(ErrorCode::StaleControllerEpoch));
    assert_eq!(fixture.lead(Lead { controller_epoch: 5, leader_epoch: 4, ..LEAD }).await, 0);
    assert_eq!(*fixture.heard.0.lock().expect("lock"), ["leader t-0 3", "leader t-0 4"]);
    let stale = UpdateMetadataRequest::default().with_controller_epoch(4).with_broker_epoch(10);
    assert_eq!(fixture.replicas.update_metadata(&stale).await, Err(ErrorCode::StaleControllerEpoch));
}

#[tokio::test]
async fn a_topic_of_the_same_name_with_another_id_is_refused() {
    let mut fixture = fixture();
    assert_eq!(fixture.lead(LEAD).await, 0);
    fixture.id = TopicId::random();
    assert_eq!(fixture.lead(Lead { leader_epoch: 1, ..LEAD }).await, ErrorCode::InconsistentTopicId.code());
}

#[tokio::test]
async fn a_stopped_replica_answers_nobody_and_a_deleted_one_leaves_no_directory() {
    let fixture = fixture();
    assert_eq!(fixture.lead(Lead { leader_epoch: 2, ..LEAD }).await, 0);
    assert_eq!(fixture.append("a").expect("append"), 0);
    assert_eq!(fixture.stop(1, false).await, ErrorCode::FencedLeaderEpoch.code());
    assert_eq!(fixture.stop(-2, true).await, 0);
    assert!(matches!(fixture.append("b"), Err(ReplicaError::UnknownPartition)));
    assert!(!fixture.folder.path().join("logs/t-0").exists());
    assert_eq!(fixture.heard.0.lock().expect("lock").last().map(String::as_str), Some("resigned t-0"));
    assert_eq!(fixture.stop(-2, true).await, 0, "stopping what is gone is not an error");
}

#[tokio::test]
async fn acks_all_needs_the_minimum_of_in_sync_replicas() {
    let fixture = fixture();
    assert_eq!(fixture.lead(Lead { replicas: vec![1, 2], ..LEAD }).await, 0);
    let config = LogConfig { min_insync_replicas: 2, ..LogConfig::default() };
    fixture.replicas.set_topic_config("t", &config);
    assert!(matches!(fixture.append("a"), Err(ReplicaError::NotEnoughReplicas { isr: 1, required: 2 })));
    // With one replica assigned, one is all that can be asked for.
    assert_eq!(fixture.lead(Lead { leader_epoch: 1, ..LEAD }).await, 0);
    assert_eq!(fixture.append("a").expect("append"), 0);
}

/// A controller whose answers come when the test has them come.
struct Held(mpsc::UnboundedSender<(AlterPartition, oneshot::Sender<AlterAnswer>)>);

impl PartitionAlterer for Held {
    fn alter(
        &self,
        _epoch: BrokerEpoch,
        mut changes: Vec<AlterPartition>,
    ) -> Pin<Box<dyn Future<Output = AlterAnswer> + Send + '_>> {
        let (sender, answer) = oneshot::channel();
        assert_eq!(changes.len(), 1);
        self.0.send((changes.remove(0), sender)).expect("the test listens");
        Box::pin(async { answer.await.unwrap_or(Err(ErrorCode::NetworkException)) })
    }
}

fn altered(leader_epoch: i32, isr: &[i32], partition_epoch: i32) -> AlteredPartition {
    AlteredPartition {
        leader: BrokerId(1),
        leader_epoch: LeaderEpoch(leader_epoch),
        isr: isr.iter().copied().map(BrokerId).collect(),
        is_recovering: false,
        partition_epoch: PartitionEpoch(partition_epoch),
    }
}

impl Fixture {
    /// Broker 2 lives, and what the controller says of the partition, whose replicas are 1 and 2.
    async fn update(&self, news: &AlteredPartition) {
        self.update_replicas(news, &[BrokerId(1), BrokerId(2)]).await;
    }

    async fn update_replicas(&self, news: &AlteredPartition, replicas: &[BrokerId]) {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| messages::BrokerId(id.0)).collect::<Vec<_>>();
        let live = |id: i32| UpdateMetadataBroker::default().with_id(messages::BrokerId(id));
        let state = UpdateMetadataPartitionState::default()
            .with_leader(messages::BrokerId(news.leader.0))
            .with_leader_epoch(news.leader_epoch.0)
            .with_isr(ids(&news.isr))
            .with_zk_version(news.partition_epoch.0)
            .with_replicas(ids(replicas));
        let topic = UpdateMetadataTopicState::default()
            .with_topic_name(TopicName(text("t")))
            .with_topic_id(self.id.0)
            .with_partition_states(vec![state]);
        let request = UpdateMetadataRequest::default()
            .with_controller_epoch(1)
            .with_broker_epoch(10)
            .with_live_brokers(vec![live(1), live(2)])
            .with_topic_states(vec![topic]);
        self.replicas.update_metadata(&request).await.expect("taken");
    }

    /// Broker 2 fetches at the log's end, and so may join the ISR.
    fn follower_catches_up(&self, leader_epoch: i32) {
        let partition = self.replicas.partition("t", 0).expect("a partition");
        let offset = partition.log().log_end_offset();
        let said = FollowerSays { broker_epoch: BrokerEpoch(20), offset, log_start_offset: 0 };
        partition.follower_fetched(BrokerId(2), LeaderEpoch(leader_epoch), said);
    }

    /// Leader epoch, partition epoch and ISR, once they are these.
    async fn becomes(&self, wanted: (i32, i32, &[i32])) {
        for _ in 0..1000 {
            let now = self.replicas.partition("t", 0).expect("a partition").leadership();
            let isr: Vec<i32> = now.isr.iter().map(|id| id.0).collect();
            if (now.leader_epoch.0, now.partition_epoch.0, &*isr) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {wanted:?}: {:?}", self.replicas.partition("t", 0).expect("a partition").leadership());
    }
}

/// KAFKA-13790: what AlterPartition answers and what LeaderAndIsr and UpdateMetadata say come on different ways, and may overtake each
/// other. Leader epochs come first, then partition epochs; nothing goes back, and no ISR is stuck.
#[tokio::test]
async fn kafka_13790_answers_that_come_after_later_words_of_the_controller() {
    let fixture = fixture();
    let (sender, mut proposals) = mpsc::unbounded_channel();
    fixture.replicas.start(Arc::new(Held(sender)), || {});
    let lead = |leader_epoch, partition_epoch| Lead { leader_epoch, partition_epoch, replicas: vec![1, 2], ..LEAD };
    assert_eq!(fixture.lead(lead(1, 10)).await, 0);
    fixture.update(&altered(1, &[1], 10)).await;
    fixture.follower_catches_up(1);
    let (asked, answer) = proposals.recv().await.expect("a proposal");
    assert_eq!((asked.change.leader_epoch, asked.change.partition_epoch), (LeaderEpoch(1), PartitionEpoch(10)));

    // The controller agrees, and then elects this broker again; its second word comes first.
    assert_eq!(fixture.lead(lead(2, 12)).await, 0);
    answer.send(Ok(vec![Ok(altered(1, &[1, 2], 11))])).expect("awaited");
    fixture.follower_catches_up(2);
    let (asked, answer) = proposals.recv().await.expect("a proposal in the new epoch");
    assert_eq!((asked.change.leader_epoch, asked.change.partition_epoch), (LeaderEpoch(2), PartitionEpoch(12)));
    fixture.becomes((2, 12, &[1])).await;

    // A LeaderAndIsr of before, in the epoch of now and with a partition epoch of the past, changes nothing.
    assert_eq!(fixture.lead(lead(2, 9)).await, ErrorCode::StaleControllerEpoch.code());
    // The proposal is refused, for the ISR has changed; and UpdateMetadata has told of this already.
    fixture.update(&altered(2, &[1, 2], 13)).await;
    fixture.becomes((2, 12, &[1])).await;
    answer.send(Ok(vec![Err(ErrorCode::InvalidUpdateVersion)])).expect("awaited");
    fixture.becomes((2, 13, &[1, 2])).await;
    // UpdateMetadata of before the change.
    fixture.update(&altered(2, &[1], 12)).await;
    fixture.becomes((2, 13, &[1, 2])).await;
}

/// A replica that has just caught up is waited for, so that it can join the ISR. When its broker is gone nothing else may ever happen on the
/// partition: a producer sends no more before it is answered.
#[tokio::test]
async fn a_broker_that_is_gone_is_waited_for_no_longer() {
    let fixture = fixture();
    assert_eq!(fixture.lead(Lead { replicas: vec![1, 2], ..LEAD }).await, 0);
    let partition = fixture.replicas.partition("t", 0).expect("a partition");
    let says = FollowerSays { broker_epoch: BrokerEpoch(20), offset: 0, log_start_offset: 0 };
    partition.follower_fetched(BrokerId(2), LeaderEpoch(0), says);
    fixture.brokers(&[1, 2]).await;
    assert_eq!(fixture.append("a").expect("append"), 0);
    assert!(partition.committed(1).is_none(), "2 may join with offset 0");
    let waiting = wait_committed(vec![(partition.clone(), 1)], Duration::from_secs(60));
    let (waited, ()) = tokio::join!(waiting, fixture.brokers(&[1]));
    assert!(matches!(waited[..], [Some(Ok(()))]), "{waited:?}");
}

/// The controller takes a stopping broker out of every ISR: to follow what it has led would only have the new leader ask for it back.
#[tokio::test]
async fn a_stopping_broker_does_not_follow_what_it_has_led() {
    let fixture = fixture();
    let replicas = vec![1, 2];
    assert_eq!(fixture.lead(Lead { replicas: replicas.clone(), ..LEAD }).await, 0);
    fixture.replicas.begin_stopping();
    // `NoLeaders` knows nobody who could be followed.
    let moved = Lead { leader: 2, leader_epoch: 1, replicas, ..LEAD };
    assert_eq!(fixture.lead(moved).await, 0);
    assert!(matches!(fixture.append("a"), Err(ReplicaError::NotLeader)));
    assert_eq!(*fixture.heard.0.lock().expect("lock"), ["leader t-0 0", "resigned t-0"]);
    // Its clients are sent on at once, before UpdateMetadata says the same.
    assert_eq!(fixture.replicas.current_leader("t", 0), Some((BrokerId(2), LeaderEpoch(1))));
}

/// A partition was moved while this broker had no session, when nobody could tell it to stop: the first word of it is UpdateMetadata.
#[tokio::test]
async fn a_leader_whose_partition_was_moved_away_meanwhile_stops_when_it_hears_of_it() {
    let fixture = fixture();
    assert_eq!(fixture.lead(Lead { leader_epoch: 3, replicas: vec![1, 2], ..LEAD }).await, 0);
    assert_eq!(fixture.append("a").expect("append"), 0);
    let led_by_two = |leader_epoch| AlteredPartition { leader: BrokerId(2), ..altered(leader_epoch, &[2, 3], 20) };
    // A word of before, and one that LeaderAndIsr is to follow: it is a replica.
    fixture.update_replicas(&led_by_two(3), &[BrokerId(2), BrokerId(3)]).await;
    fixture.update(&led_by_two(5)).await;
    assert_eq!(fixture.append("b").expect("append"), 1);
    fixture.update_replicas(&led_by_two(5), &[BrokerId(2), BrokerId(3)]).await;
    assert!(matches!(fixture.append("c"), Err(ReplicaError::NotLeader)));
    assert_eq!(*fixture.heard.0.lock().expect("lock"), ["leader t-0 3", "resigned t-0"]);
    assert_eq!(fixture.replicas.current_leader("t", 0), Some((BrokerId(2), LeaderEpoch(5))));
    // The log stays, and serves when the partition comes back.
    assert_eq!(fixture.lead(Lead { leader_epoch: 6, replicas: vec![1, 2], ..LEAD }).await, 0);
    assert_eq!(fixture.append("d").expect("append"), 2);
}

/// A leader that moves does not wait for ZooKeeper: only logs that are made need their topics' settings.
#[tokio::test]
async fn settings_of_topics_are_read_when_a_log_is_made() {
    let fixture = fixture();
    for leader_epoch in 0..3 {
        assert_eq!(fixture.lead(Lead { leader_epoch, ..LEAD }).await, 0);
    }
    assert_eq!(*fixture.configs.0.lock().expect("lock"), ["t".into()]);
}

fn wanted(fetch_offset: i64, epoch: i32) -> FetchPartition {
    FetchPartition {
        topic: "t".into(),
        topic_id: TopicId::ZERO,
        partition: 0,
        current_leader_epoch: LeaderEpoch(epoch),
        fetch_offset,
        last_fetched_epoch: LeaderEpoch::NONE,
        log_start_offset: -1,
        max_bytes: 1 << 20,
    }
}

fn limits(max_wait: Duration) -> FetchLimits {
    FetchLimits {
        isolation: Isolation::ReadUncommitted,
        replica_id: -1,
        replica_epoch: BrokerEpoch::UNKNOWN,
        rack: None,
        listener: "PLAINTEXT".into(),
        from_follower_allowed: true,
        max_wait,
        min_bytes: 1,
        max_bytes: 1 << 20,
        hard_limit: false,
    }
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_the_append_that_satisfies_it() {
    let fixture = fixture();
    assert_eq!(fixture.lead(LEAD).await, 0);
    let replicas = fixture.replicas.clone();
    assert!(replicas.fetch_now(&limits(Duration::from_secs(600)), &[wanted(0, -1)]).is_none());
    let waiting = tokio::spawn(async move {
        replicas.fetch(limits(Duration::from_secs(600)), &[wanted(0, -1)]).await.pop().expect("one partition")
    });
    tokio::task::yield_now().await;
    fixture.append("a").expect("append");
    let read = waiting.await.expect("task").expect("read");
    assert_eq!((read.high_watermark, read.log_start_offset), (1, 0));
    assert!(!read.is_empty());
}

/// KIP-320
#[tokio::test]
async fn fetches_are_judged_by_leader_epoch_and_offset() {
    let fixture = fixture();
    assert_eq!(fixture.lead(Lead { leader_epoch: 5, ..LEAD }).await, 0);
    fixture.append("a").expect("append");
    let read = |wanted: FetchPartition| {
        let results = fixture.replicas.fetch_now(&limits(Duration::ZERO), &[wanted]).expect("no wait");
        results.into_iter().next().expect("one partition")
    };
    assert!(matches!(read(wanted(0, 4)), Err(ReplicaError::FencedLeaderEpoch { .. })));
    assert!(matches!(read(wanted(0, 6)), Err(ReplicaError::UnknownLeaderEpoch { .. })));
    assert!(read(wanted(0, 5)).is_ok_and(|data| !data.is_empty()));
    assert!(read(wanted(1, 5)).is_ok_and(|data| data.is_empty()));
    assert!(matches!(read(wanted(2, 5)), Err(ReplicaError::Log(_))));
    let diverged = FetchPartition { last_fetched_epoch: LeaderEpoch(5), ..wanted(1, 5) };
    assert!(read(diverged).is_ok_and(|data| data.diverging_epoch.is_none()));
}

/// Since version 3 of Fetch nobody gets a part of one batch and nothing else: a follower could not tell it from a damaged one.
#[tokio::test]
async fn what_is_left_of_the_size_limit_is_not_filled_with_a_part_of_a_batch() {
    let fixture = fixture();
    assert_eq!(fixture.lead(LEAD).await, 0);
    fixture.append("a").expect("append");
    let size = |limits: FetchLimits, wanted: &[FetchPartition]| -> Vec<usize> {
        let results = fixture.replicas.fetch_now(&limits, wanted).expect("no wait");
        results.into_iter().map(|read| read.expect("read").len()).collect()
    };
    let whole = size(limits(Duration::ZERO), &[wanted(0, -1)])[0];
    let twice = [wanted(0, -1), wanted(0, -1)];
    for (max_bytes, expected) in [(1, [whole, 0]), (whole + 10, [whole, 0]), (2 * whole, [whole, whole])] {
        let limits = FetchLimits { max_bytes, ..limits(Duration::ZERO) };
        assert_eq!(size(limits.clone(), &twice), expected, "{max_bytes}");
        let old = FetchLimits { hard_limit: true, ..limits };
        assert_eq!(size(old, &twice).iter().sum::<usize>(), max_bytes, "before version 3 the limit is filled");
    }
}

/// A log of 50 records that is long in recovery, as a kill left it.
fn recovering() -> Fixture {
    let (folder, id) = (tempfile::tempdir().expect("temp folder"), TopicId::random());
    let logs = LogManager::open(&config(&folder), &|_| LogConfig::default()).expect("logs");
    let log = logs.create(&TopicPartition::new("t", 0), Some(id), LogConfig::default()).expect("a log");
    for _ in 0..50 {
        let mut batch = BatchBuilder::new();
        batch.append(1, None, Some(&[b'x'; 64 << 10]), []);
        let records = ValidatedRecords::from_batch(batch.build().expect("batch"));
        log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client).expect("appended");
    }
    logs.shutdown();
    drop((log, logs));
    for name in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
        std::fs::remove_file(folder.path().join("logs").join(name)).expect(name);
    }
    let config = BrokerConfig { log_recovery_io_max_bytes_per_second: 1.0, ..config(&folder) };
    let logs = LogManager::open_early(&config, &|_| LogConfig::default()).expect("logs");
    fixture_with(folder, logs, id)
}

struct NoController;

impl PartitionAlterer for NoController {
    fn alter(
        &self,
        _broker_epoch: BrokerEpoch,
        _changes: Vec<AlterPartition>,
    ) -> Pin<Box<dyn Future<Output = AlterAnswer> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Until it holds; what is waited for comes from a thread.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn lead(leader_epoch: i32) -> Lead {
    Lead { leader_epoch, ..LEAD }
}

#[tokio::test]
async fn what_the_controller_says_of_a_log_that_is_recovered_is_done_when_it_is_there() {
    let fixture = recovering();
    let failures = Arc::new(Mutex::new(0));
    let count = failures.clone();
    fixture.replicas.start(Arc::new(NoController), move || *count.lock().expect("lock") += 1);
    fixture.replicas.logs().start_background().expect("threads");
    let (stale, fenced, not_here) = (11, 74, 3);
    assert_eq!(fixture.lead(lead(3)).await, 0, "an error would make the controller give the replica up");
    assert!(matches!(fixture.append("too early"), Err(ReplicaError::NotLeader)));
    assert!(fixture.replicas.hosted("t", 0).is_none() && fixture.replicas.is_awaited("t", 0));
    // It is judged as any other partition.
    for epoch in [2, 3] {
        assert_eq!(fixture.lead(lead(epoch)).await, stale, "{epoch}");
    }
    assert_eq!(fixture.lead(Lead { replicas: vec![2, 3], ..lead(4) }).await, not_here);
    assert_eq!(fixture.stop(2, false).await, fenced);
    assert!(fixture.replicas.is_awaited("t", 0));
    assert_eq!(fixture.stop(4, false).await, 0);
    assert!(!fixture.replicas.is_awaited("t", 0));
    assert_eq!(fixture.lead(lead(5)).await, 0);
    fixture.update_replicas(&altered(5, &[2], 20), &[BrokerId(2)]).await;
    assert!(fixture.replicas.is_awaited("t", 0));
    fixture.update_replicas(&altered(6, &[2], 20), &[BrokerId(2)]).await;
    assert!(!fixture.replicas.is_awaited("t", 0), "it was moved away");
    assert_eq!(fixture.lead(lead(7)).await, 0);
    assert!(fixture.heard.0.lock().expect("lock").is_empty(), "nobody is told before");
    fixture.replicas.logs().limit_recovery(0.0);
    eventually("it leads", || fixture.replicas.hosted("t", 0).is_some_and(|partition| partition.is_leader())).await;
    let partition = fixture.replicas.partition("t", 0).expect("a partition");
    assert_eq!(partition.leader_epoch(), LeaderEpoch(7));
    assert_eq!(partition.log().log_end_offset(), 50);
    eventually("the listeners know", || *fixture.heard.0.lock().expect("lock") == ["leader t-0 7"]).await;
    assert_eq!(fixture.append("after").expect("appended"), 50);
    assert!(!fixture.replicas.is_awaited("t", 0));
    assert_eq!(*failures.lock().expect("lock"), 0);
    fixture.replicas.logs().shutdown();
}

#[tokio::test]
async fn a_topic_that_was_made_anew_does_not_get_the_log_of_the_old_one() {
    let mut fixture = recovering();
    fixture.id = TopicId::random();
    let inconsistent = 103;
    assert_eq!(fixture.lead(lead(3)).await, inconsistent);
    assert!(!fixture.replicas.is_awaited("t", 0));
}

#[tokio::test]
async fn the_controller_hears_of_a_log_that_cannot_be_recovered() {
    let fixture = recovering();
    let failures = Arc::new(Mutex::new(0));
    let count = failures.clone();
    fixture.replicas.start(Arc::new(NoController), move || *count.lock().expect("lock") += 1);
    assert_eq!(fixture.lead(lead(3)).await, 0);
    std::fs::write(fixture.folder.path().join("logs/t-0/partition.metadata"), "neither").expect("written");
    fixture.replicas.logs().start_background().expect("threads");
    eventually("it is said", || *failures.lock().expect("lock") == 1).await;
    assert!(!fixture.replicas.is_awaited("t", 0));
    let storage_error = 56;
    assert_eq!(fixture.lead(lead(3)).await, storage_error, "whatever the epoch: it is asked again for this");
    assert_eq!(fixture.stop(4, true).await, 0);
    assert_eq!(fixture.lead(lead(5)).await, 0, "and a new one may be made");
    fixture.replicas.logs().shutdown();
}
