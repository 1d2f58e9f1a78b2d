//! Mistakes that a coordinator could make, made for it at the edges of its shard: each of them must be noticed by a model.

use ottla::base::ErrorCode;
use ottla::group::GroupShard;
use ottla::group::message::{Event, Response};
use ottla::group::records::CoordinatorRecord;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// What is answered is not in the log.
    AnsweredUnwritten,
    /// An append that failed counts as one that did not.
    FailureTakenForSuccess,
    /// A new coordinator does not read the last record of the log.
    LastRecordForgotten,
    /// A new coordinator takes the oldest of the records of a key.
    OldestRecordWins,
    /// A new coordinator never says that it has loaded.
    LoadingNeverEnds,
    /// All members get the same assignment.
    OneAssignmentForAll,
    /// Members are told the same generation after each rebalance.
    GenerationStays,
    /// Who waited for an assignment is not told of it.
    WaitingSyncsForgotten,
    /// No timer ever fires.
    TimersStop,
    /// Nobody looks at who commits.
    AnyoneCommits,
    /// Commits lose the expiry that they have of their own.
    OwnExpiryForgotten,
    /// A group's record does not say since when it is empty.
    EmptySinceForgotten,
    /// Nobody knows what members are subscribed to.
    SubscriptionsForgotten,
}

/// What is about to reach the shard.
pub fn in_event(mistake: Option<Mistake>, shard: &GroupShard, event: Event) -> Event {
    match (mistake, event) {
        (Some(Mistake::AnyoneCommits), Event::Commit(token, mut request)) => {
            if let Some(group) = shard.group(&request.group)
                && let Some(member) = group.members().next()
            {
                (request.generation, request.member_id) = (group.generation, member.id.clone());
            }
            Event::Commit(token, request)
        }
        (Some(Mistake::OwnExpiryForgotten), Event::Commit(token, mut request)) => {
            let values = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            values.for_each(|(_, value)| value.expire_timestamp = None);
            Event::Commit(token, request)
        }
        (Some(Mistake::SubscriptionsForgotten), Event::Join(token, mut request)) => {
            let none = crate::harness::subscription(&[]);
            request.protocols.iter_mut().for_each(|protocol| protocol.metadata = none.clone());
            Event::Join(token, request)
        }
        (_, event) => event,
    }
}

/// What is about to be answered. `is_late`: to a request that had to wait. `None`: nothing is.
pub fn in_answer(mistake: Option<Mistake>, mut response: Response, is_late: bool) -> Option<Response> {
    match (mistake, &mut response) {
        (Some(Mistake::OneAssignmentForAll), Response::Sync(synced)) if !synced.assignment.is_empty() => {
            synced.assignment = "0".into();
        }
        (Some(Mistake::GenerationStays), Response::Join(joined)) => joined.generation = joined.generation.min(1),
        (Some(Mistake::WaitingSyncsForgotten), Response::Sync(_)) if is_late => return None,
        _ => {}
    }
    Some(response)
}

/// How an append has ended, and whether its records are in the log.
pub fn in_append(mistake: Option<Mistake>, result: Result<(), ErrorCode>) -> (Result<(), ErrorCode>, bool) {
    match (mistake, result) {
        (Some(Mistake::AnsweredUnwritten), Ok(())) => (Ok(()), false),
        (Some(Mistake::FailureTakenForSuccess), Err(_)) => (Ok(()), false),
        (_, result) => (result, result.is_ok()),
    }
}

/// What a new coordinator reads of the log.
pub fn in_loading(mistake: Option<Mistake>, log: &[(i64, CoordinatorRecord)]) -> Cow<'_, [(i64, CoordinatorRecord)]> {
    let Some(mistake) = mistake else { return log.into() };
    let mut log = log.to_vec();
    match mistake {
        Mistake::LastRecordForgotten => {
            log.pop();
        }
        // As one that compacts, and keeps the wrong ones.
        Mistake::OldestRecordWins => {
            let mut seen = std::collections::HashSet::new();
            log.retain(|(_, record)| seen.insert(key(record)));
        }
        Mistake::EmptySinceForgotten => log.iter_mut().for_each(|(_, record)| {
            if let CoordinatorRecord::Group { value: Some(value), .. } = record {
                value.state_timestamp = -1;
            }
        }),
        _ => {}
    }
    log.into()
}

fn key(record: &CoordinatorRecord) -> (Arc<str>, Option<(Arc<str>, i32)>) {
    match record {
        CoordinatorRecord::Offset { group, topic, partition, .. } => (group.clone(), Some((topic.clone(), *partition))),
        CoordinatorRecord::Group { group, .. } => (group.clone(), None),
    }
}
