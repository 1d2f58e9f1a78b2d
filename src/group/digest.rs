//! A shard as text, for models: they must know a state again.
//!
//! Invariant: two shards with the same digest do the same from here on, under the same names and after the same time. Left out is
//! what only retention looks at (times of commits and of states).

use super::message::{Now, ReplyToken};
use super::shard::GroupShard;
use super::state::Group;
use crate::base::Millis;
use std::fmt::Write;

impl GroupShard {
    /// `name` says whose a held reply is. Times count from `now`.
    pub fn digest(&self, now: Now, name: impl Fn(ReplyToken) -> String) -> String {
        let mut out = String::new();
        let mut groups: Vec<&Group> = self.groups().collect();
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        for group in groups {
            let _ = write!(
                out,
                "{} {:?} {:?} ",
                group.id,
                group.state(),
                (group.generation, &group.protocol, &group.leader)
            );
            let _ = write!(out, "{:?} {} ", group.join_wait, group.member_added);
            let _ = write!(out, "{} {:?} [", group.assignment_write.is_some(), group.pending_members);
            for member in group.members() {
                let held = [member.awaiting_join, member.awaiting_sync].map(|token| token.map(&name));
                let marks = (member.is_new, member.pending_sync, held);
                let _ = write!(out, "{} {:?} {marks:?} {:?} ", member.id, member.instance_id, member.assignment);
                let _ =
                    write!(out, "{:?}; ", (&member.protocols, member.session_timeout_ms, member.rebalance_timeout_ms));
            }
            let mut offsets = Vec::new();
            for (topic, partitions) in group.offsets.iter() {
                offsets.extend(partitions.iter().map(|(index, committed)| (topic, index, committed.value.offset)));
            }
            offsets.sort();
            let _ = writeln!(out, "] {offsets:?} {}", group.offsets.pending().len());
        }
        let mut timers: Vec<(Millis, String)> =
            self.timers.iter().map(|(key, at)| (at - now.monotonic_ms, format!("{key:?}"))).collect();
        timers.sort();
        let _ = write!(out, "{timers:?}");
        out
    }

    /// The earliest deadline, to the millisecond ([`next_deadline`](GroupShard::next_deadline) may be early).
    pub fn earliest_deadline(&self) -> Option<Millis> {
        self.timers.iter().map(|(_, at)| at).min()
    }
}
