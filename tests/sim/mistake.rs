//! Mistakes that a broker could make, made for it at the edges of its parts: each of them must be noticed.

use super::keeper::Keeper;
use super::world::{TOPIC, World, partitions};
use bytes::{Bytes, BytesMut};
use ottla::base::{BrokerEpoch, BrokerId, ControllerEpoch, ErrorCode, LeaderEpoch, PartitionEpoch};
use ottla::controller::ControlRequest;
use ottla::log::AbortedTransaction;
use ottla::record::{BatchHeader, HEADER_SIZE, ValidatedBatch, batches, crc};
use ottla::replica::fetch::Isolation;
use ottla::replica::fetch_session::{FetchPartition, Said};
use ottla::replica::fetcher::{LeaderFetch, PartitionAnswer};
use ottla::replica::partition::FollowerSays;
use ottla::replica::{AlterAnswer, AlterPartition, AlteredPartition, ReplicaManager};
use ottla::wire::messages::{self, LeaderAndIsrResponse};
use ottla::zookeeper::paths::{self, PartitionState};
use ottla::zookeeper::{Operation, Write};
use std::path::Path;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// acks=all is answered after the leader's append.
    AcknowledgedBeforeReplicated,
    /// acks=all is taken whatever `min.insync.replicas` says.
    MinIsrIgnored,
    /// Consumers are served up to the end of the log.
    UncommittedIsRead,
    /// A follower is believed to have what the leader has.
    FollowerTakenAhead,
    /// A follower is told that everything is committed.
    HighWatermarkIsLogEnd,
    /// Followers do not say the epoch of their last record (as before KIP-595).
    NoDivergenceCheck,
    /// A new follower cuts its log to its high watermark (as before KIP-101).
    TruncatedToHighWatermark,
    /// A record changes on the way to a follower.
    ReplicaCorrupted,
    /// A leader goes on as if the controller had agreed to its ISR.
    IsrNotWritten,
    /// A controller elects whoever is there.
    UncleanElection,
    /// A new leader has the epoch of the one before it.
    LeaderEpochStays,
    /// A new controller has the epoch of the one before it.
    ControllerEpochStays,
    /// A controller does not hear that its session is over, and writes without a look at what it writes over.
    ControllerUnfenced,
    /// A member of the ISR that is no replica.
    IsrBeyondReplicas,
    /// A broker forgets its last records when it starts.
    TailForgotten,
    /// A leader does not look whether it has a batch already.
    DuplicatesTaken,
    /// A leader takes a batch that is not the next one of its producer.
    GapsTaken,
    /// Followers are not told who produced a batch.
    ProducersNotReplicated,
    /// Consumers of committed data are served like others.
    OpenTransactionsRead,
    /// Consumers of committed data are not told what was aborted.
    AbortsNotListed,
    /// A transaction counts as ended in a partition when the leader has the marker.
    MarkerNotReplicated,
    /// In a fetch session what a follower asks for stays what it was at first.
    SessionChangesLost,
    /// In a fetch session a leader says nothing of partitions without new records.
    HighWatermarkNotSaid,
    /// A log that is being recovered is taken for one that is not there.
    RecoveringTakenForMissing,
    /// A replica whose log is being recovered is refused as one on a failed disk.
    RecoveringRefused,
    /// Of what the controller says of a log that is being recovered only the first counts.
    LaterWordsLost,
    /// A broker does not understand from UpdateMetadata that a partition is not its own any more.
    LeadsOnAfterMove,
}

pub const ALL: &[Mistake] = &[
    Mistake::AcknowledgedBeforeReplicated,
    Mistake::MinIsrIgnored,
    Mistake::UncommittedIsRead,
    Mistake::FollowerTakenAhead,
    Mistake::HighWatermarkIsLogEnd,
    Mistake::NoDivergenceCheck,
    Mistake::TruncatedToHighWatermark,
    Mistake::ReplicaCorrupted,
    Mistake::IsrNotWritten,
    Mistake::UncleanElection,
    Mistake::LeaderEpochStays,
    Mistake::ControllerEpochStays,
    Mistake::ControllerUnfenced,
    Mistake::IsrBeyondReplicas,
    Mistake::TailForgotten,
    Mistake::DuplicatesTaken,
    Mistake::GapsTaken,
    Mistake::ProducersNotReplicated,
    Mistake::OpenTransactionsRead,
    Mistake::AbortsNotListed,
    Mistake::MarkerNotReplicated,
    Mistake::SessionChangesLost,
    Mistake::HighWatermarkNotSaid,
    Mistake::RecoveringTakenForMissing,
    Mistake::RecoveringRefused,
    Mistake::LaterWordsLost,
    Mistake::LeadsOnAfterMove,
];

pub fn allows_unclean_elections(world: &World) -> bool {
    world.makes(Mistake::UncleanElection)
}

/// Whether a controller hears of sessions.
pub fn reaches_controller(world: &World, active: Option<ControllerEpoch>) -> bool {
    !world.makes(Mistake::ControllerUnfenced) || active.is_none()
}

/// What a controller is about to ask of ZooKeeper.
pub fn in_controller(world: &World, operations: Vec<Operation>) -> Vec<Operation> {
    let Some(mistake) = world.mistake else { return operations };
    let keeper = world.keeper.lock();
    operations
        .into_iter()
        .map(|operation| match operation {
            Operation::Multi(writes) => {
                let writes = writes.into_iter().filter_map(|write| in_write(mistake, &keeper, write)).collect();
                Operation::Multi(writes)
            }
            read => read,
        })
        .collect()
}

fn in_write(mistake: Mistake, keeper: &Keeper, write: Write) -> Option<Write> {
    match (mistake, write) {
        (Mistake::ControllerUnfenced, Write::Check { .. }) => None,
        (Mistake::ControllerUnfenced, Write::Set { path, data, .. }) if path.ends_with("/state") => {
            Some(Write::Set { path, data, version: None })
        }
        (Mistake::ControllerEpochStays, Write::Set { path, version, .. }) if path == paths::CONTROLLER_EPOCH => {
            Some(Write::Set { path, data: b"1".to_vec(), version })
        }
        (Mistake::LeaderEpochStays | Mistake::IsrBeyondReplicas, Write::Set { path, data, version })
            if path.ends_with("/state") =>
        {
            let mut state = PartitionState::parse(&data).expect("a state");
            let before = keeper.text(&path).and_then(|(data, _)| PartitionState::parse(&data).ok());
            match (mistake, before) {
                (Mistake::IsrBeyondReplicas, _) => state.isr.push(BrokerId(9)),
                (_, Some(before)) => state.leader_epoch = before.leader_epoch,
                _ => {}
            }
            Some(Write::Set { path, data: state.to_json(), version })
        }
        (_, write) => Some(write),
    }
}

/// What a leader is about to append.
pub fn in_produce(world: &World, mut batch: ValidatedBatch) -> ValidatedBatch {
    if world.makes(Mistake::DuplicatesTaken) && !batch.header.is_transactional() {
        forget_producer(&mut batch.header, &batch.payload);
    }
    batch
}

fn forget_producer(header: &mut BatchHeader, payload: &[u8]) {
    header.set_producer_id(-1);
    header.set_producer_epoch(-1);
    header.set_base_sequence(-1);
    header.set_crc(crc::crc32c_of_parts(&header.as_bytes()[21..], payload));
}

/// How a consumer is served.
pub fn in_isolation(world: &World, isolation: Isolation) -> Isolation {
    if world.makes(Mistake::OpenTransactionsRead) { Isolation::ReadUncommitted } else { isolation }
}

/// What a consumer is told of aborted transactions.
pub fn in_aborted(world: &World, aborted: Vec<AbortedTransaction>) -> Vec<AbortedTransaction> {
    if world.makes(Mistake::AbortsNotListed) { Vec::new() } else { aborted }
}

/// What a follower is about to ask.
pub fn in_fetch(world: &World, mut fetch: LeaderFetch) -> LeaderFetch {
    match world.mistake {
        Some(Mistake::NoDivergenceCheck) => {
            fetch.wants.iter_mut().for_each(|want| want.last_epoch = LeaderEpoch::NONE);
        }
        Some(Mistake::SessionChangesLost) if fetch.session_epoch > 0 => fetch.wants.clear(),
        _ => {}
    }
    fetch
}

/// Whether a leader says what it is about to say of a partition.
pub fn in_said(world: &World, said: &Said, is_said: bool) -> bool {
    is_said
        && (!world.makes(Mistake::HighWatermarkNotSaid) || said.has_records || said.error.is_error() || said.has_hint)
}

/// Before a leader looks at a fetch.
pub fn at_leader(world: &World, replicas: &ReplicaManager, follower: i32, wanted: &[FetchPartition]) {
    if !world.makes(Mistake::FollowerTakenAhead) {
        return;
    }
    for wanted in wanted {
        if let Some(partition) = replicas.hosted(&wanted.topic, wanted.partition) {
            let end = partition.log().log_end_offset();
            let said = FollowerSays { broker_epoch: BrokerEpoch::UNKNOWN, offset: end, log_start_offset: 0 };
            partition.follower_fetched(BrokerId(follower), wanted.current_leader_epoch, said);
        }
    }
}

/// What a leader is about to answer.
pub fn in_answer(world: &World, replicas: &ReplicaManager, mut answer: PartitionAnswer) -> PartitionAnswer {
    match world.mistake {
        Some(Mistake::HighWatermarkIsLogEnd) => {
            let log = replicas.logs().log(&answer.partition);
            answer.high_watermark = log.map_or(answer.high_watermark, |log| log.log_end_offset());
        }
        Some(Mistake::ReplicaCorrupted) if world.dice.lock().one_in(20) => {
            answer.records = with_other_values(&answer.records);
        }
        Some(Mistake::ProducersNotReplicated) => answer.records = without_producers(&answer.records),
        _ => {}
    }
    answer
}

/// The same batches with the last byte of the value of each last record changed, and a checksum that fits.
fn with_other_values(records: &Bytes) -> Bytes {
    let mut changed = BytesMut::new();
    for batch in batches(records).map_while(Result::ok) {
        let mut bytes = batch.bytes().to_vec();
        let end = bytes.len();
        // The count of headers follows the value.
        bytes[end - 2] ^= 1;
        let sum = crc::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&sum.to_be_bytes());
        changed.extend_from_slice(&bytes);
    }
    changed.freeze()
}

/// The same batches, but for those of transactions as if nobody in particular had produced them.
fn without_producers(records: &Bytes) -> Bytes {
    let mut changed = BytesMut::new();
    for batch in batches(records).map_while(Result::ok) {
        let Some(mut header) = batch.header().filter(|header| !header.is_transactional()) else {
            changed.extend_from_slice(batch.bytes());
            continue;
        };
        let payload = &batch.bytes()[HEADER_SIZE..];
        forget_producer(&mut header, payload);
        changed.extend_from_slice(header.as_bytes());
        changed.extend_from_slice(payload);
    }
    changed.freeze()
}

/// An answer to a proposal that no controller has given.
pub fn in_alteration(world: &World, leader: BrokerId, changes: &[AlterPartition]) -> Option<AlterAnswer> {
    if !world.makes(Mistake::IsrNotWritten) {
        return None;
    }
    let agreed = |alter: &AlterPartition| {
        Ok(AlteredPartition {
            leader,
            leader_epoch: alter.change.leader_epoch,
            isr: alter.change.isr.clone(),
            is_recovering: false,
            partition_epoch: PartitionEpoch(alter.change.partition_epoch.0 + 1),
        })
    };
    Some(Ok(changes.iter().map(agreed).collect()))
}

/// What a broker understands of what the controller says.
pub fn in_control(world: &World, replicas: &ReplicaManager, request: ControlRequest) -> ControlRequest {
    let mut request = match request {
        ControlRequest::LeaderAndIsr(request) => request,
        ControlRequest::UpdateMetadata(mut request) if world.makes(Mistake::LeadsOnAfterMove) => {
            let states = request.topic_states.iter_mut().flat_map(|topic| &mut topic.partition_states);
            states.for_each(|state| state.replicas.push(messages::BrokerId(replicas.local().0)));
            return ControlRequest::UpdateMetadata(request);
        }
        request => return request,
    };
    let logs = replicas.logs();
    match world.mistake {
        Some(Mistake::TruncatedToHighWatermark) => {
            for name in partitions() {
                if let Some(log) = logs.log(&name) {
                    let _ = logs.truncate_to(&[(name, log.high_watermark())]);
                }
            }
        }
        Some(Mistake::RecoveringTakenForMissing) => {
            for name in partitions().filter(|name| logs.unready(name).is_some()) {
                let _ = logs.delete(&name);
            }
        }
        Some(Mistake::LaterWordsLost) => {
            for topic in &mut request.topic_states {
                topic.partition_states.retain(|state| !replicas.is_awaited(TOPIC, state.partition_index));
            }
        }
        _ => {}
    }
    ControlRequest::LeaderAndIsr(request)
}

/// What it says then.
pub fn in_control_answer(
    world: &World,
    replicas: &ReplicaManager,
    mut response: LeaderAndIsrResponse,
) -> LeaderAndIsrResponse {
    if world.makes(Mistake::RecoveringRefused) {
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partition_errors);
        for partition in partitions.filter(|partition| replicas.is_awaited(TOPIC, partition.partition_index)) {
            partition.error_code = ErrorCode::KafkaStorageError.code();
        }
    }
    response
}

/// Before a broker opens its logs.
pub fn before_start(world: &World, folder: &Path) {
    if !world.makes(Mistake::TailForgotten) {
        return;
    }
    for partition in partitions() {
        let files = std::fs::read_dir(folder.join(partition.to_string())).into_iter().flatten().flatten();
        let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "log"));
        if let Some(newest) = logs.max() {
            let file = std::fs::OpenOptions::new().write(true).open(newest).expect("a segment");
            let size = file.metadata().expect("its size").len();
            file.set_len(size.saturating_sub(300)).expect("cut");
        }
    }
}
