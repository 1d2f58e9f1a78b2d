//! Offsets in ZooKeeper, `/consumers/GROUP/offsets/TOPIC/PARTITION`: version 0 of OffsetCommit and OffsetFetch, which clients
//! of Kafka 0.8 speak.

use crate::base::ErrorCode;
use crate::group::is_too_long;
use crate::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::zookeeper::{Zk, ZkError};

/// A group's name is one component of a path.
fn path(group: &str, topic: &str, partition: i32) -> Option<String> {
    let is_component = !group.is_empty() && group != "." && group != ".." && !group.contains(['/', '\0']);
    is_component.then(|| format!("/consumers/{group}/offsets/{topic}/{partition}"))
}

/// Stores the partitions that have no error yet; codes go into `response`, which has the shape of the request.
pub async fn commit(
    zookeeper: &Zk,
    body: &OffsetCommitRequest,
    response: &mut OffsetCommitResponse,
    metadata_max: i32,
) {
    let metadata_max = usize::try_from(metadata_max).unwrap_or(0);
    for (topic, answered) in body.topics.iter().zip(&mut response.topics) {
        for (partition, answered) in topic.partitions.iter().zip(&mut answered.partitions) {
            if answered.error_code != 0 {
                continue;
            }
            let metadata = partition.committed_metadata.as_deref().unwrap_or("");
            let error = match path(&body.group_id, &topic.name, partition.partition_index) {
                _ if is_too_long(metadata, metadata_max) => ErrorCode::OffsetMetadataTooLarge,
                None => ErrorCode::InvalidGroupId,
                Some(path) => store(zookeeper, &path, partition.committed_offset).await,
            };
            answered.error_code = error.code();
        }
    }
}

async fn store(zookeeper: &Zk, path: &str, offset: i64) -> ErrorCode {
    let data = offset.to_string().into_bytes();
    let stored = match zookeeper.set(path, &data, None).await {
        Err(ZkError::NoNode) => zookeeper.create_with_parents(path, &data).await,
        other => other.map(|_| ()),
    };
    match stored {
        Ok(()) => ErrorCode::None,
        Err(error) => {
            tracing::warn!(path, %error, "an offset cannot be stored in ZooKeeper");
            ErrorCode::UnknownServerError
        }
    }
}

/// The offset, or -1 with the code that old consumers take for "none".
pub async fn fetch(zookeeper: &Zk, group: &str, topic: &str, partition: i32) -> (i64, ErrorCode) {
    const NONE: (i64, ErrorCode) = (-1, ErrorCode::UnknownTopicOrPartition);
    let Some(path) = path(group, topic, partition) else { return (-1, ErrorCode::InvalidGroupId) };
    match zookeeper.get(&path).await {
        Ok(Some((data, _))) => {
            let offset = std::str::from_utf8(&data).ok().and_then(|text| text.trim().parse().ok());
            offset.map_or(NONE, |offset| (offset, ErrorCode::None))
        }
        Ok(None) => NONE,
        Err(error) => {
            tracing::warn!(path, %error, "an offset cannot be read from ZooKeeper");
            (-1, ErrorCode::UnknownServerError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_cannot_leave_its_folder() {
        assert_eq!(path("g", "t", 3).as_deref(), Some("/consumers/g/offsets/t/3"));
        for group in ["", ".", "..", "a/b", "../brokers", "a\0b"] {
            assert_eq!(path(group, "t", 0), None, "{group:?}");
        }
    }
}
