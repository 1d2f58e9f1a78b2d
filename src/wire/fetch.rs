//! Fetch, versions 0 to 17: a light request, and a response that is a list of segments around ranges of log files.
//!
//! Invariant: the bytes of records are never copied, and a field that the version lacks is left out without a word, so that
//! handlers fill in what they know.

mod follower;
mod request;
mod response;

pub use follower::{FetchedPartition, FetchedResponse, FetchedTopic, read_response};
pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
pub use response::{
    AbortedTransaction, CurrentLeader, EpochEndOffset, FetchResponse, NodeEndpoint, PartitionData, SnapshotId,
    TopicData,
};

const FIRST_FLEXIBLE: i16 = 12;
/// From here on topics are named by id only.
const FIRST_TOPIC_ID: i16 = 13;
