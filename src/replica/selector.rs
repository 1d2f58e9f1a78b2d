//! Which replica a consumer should read from (KIP-392, class `RackAwareReplicaSelector`): pure.

use super::follower::Follower;
use crate::base::BrokerId;

/// A replica that could serve the read.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: BrokerId,
    pub rack: Option<String>,
    pub log_end: i64,
    pub caught_up_ms: i64,
}

impl Candidate {
    pub fn follower(id: BrokerId, rack: Option<String>, follower: &Follower) -> Candidate {
        Candidate { id, rack, log_end: follower.log_end, caught_up_ms: follower.caught_up_ms }
    }
}

/// The replica of the reader's rack that has most; `None` is the leader: it is in that rack, or nobody is.
pub fn in_rack(rack: &str, leader_rack: Option<&str>, followers: &[Candidate]) -> Option<BrokerId> {
    if rack.is_empty() || leader_rack == Some(rack) {
        return None;
    }
    let near = followers.iter().filter(|candidate| candidate.rack.as_deref() == Some(rack));
    near.max_by_key(|candidate| (candidate.log_end, candidate.caught_up_ms, -candidate.id.0)).map(|nearest| nearest.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: i32, rack: &str, log_end: i64) -> Candidate {
        Candidate { id: BrokerId(id), rack: Some(rack.to_owned()), log_end, caught_up_ms: 0 }
    }

    #[test]
    fn the_nearest_replica_with_most_records() {
        let followers = [candidate(2, "b", 5), candidate(3, "b", 9), candidate(4, "c", 7)];
        assert_eq!(in_rack("b", Some("a"), &followers), Some(BrokerId(3)));
        assert_eq!(in_rack("c", Some("a"), &followers), Some(BrokerId(4)));
        assert_eq!(in_rack("d", Some("a"), &followers), None);
        assert_eq!(in_rack("a", Some("a"), &followers), None);
        assert_eq!(in_rack("", None, &followers), None);
    }
}
