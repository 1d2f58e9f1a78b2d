//! Every history of commits, members that come and go, and time that passes, in steps of half an interval between sweeps, against the
//! rules of `offsets.retention.minutes` said once more: offsets of an empty group expire since it became empty, those of simple
//! consumers since their commit, those of a stable group since their commit if nobody is subscribed to the topic, and those with an
//! expiry of their own then. A group without members and offsets is gone.

use crate::harness::{GROUP, Harness, Joining, config, subscription};
use crate::mistake::Mistake;
use ottla::base::ErrorCode;
use ottla::group::GroupConfig;
use ottla::group::records::OffsetValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

const SWEEP_MS: i64 = 10_000;
const RETENTION_MS: i64 = SWEEP_MS * 3 / 2;
const OWN_MS: i64 = SWEEP_MS;
/// Members are subscribed to the first one.
const TOPICS: [&str; 2] = ["t", "u"];
const STEPS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Join,
    Leave,
    /// By the member, or by a simple consumer if there is none.
    Commit(usize),
    /// The same with an expiry of its own, as old clients may ask for.
    CommitForAWhile(usize),
    Pass,
    Failover,
}

const ACTIONS: [Action; 8] = [
    Action::Join,
    Action::Leave,
    Action::Commit(0),
    Action::Commit(1),
    Action::CommitForAWhile(0),
    Action::CommitForAWhile(1),
    Action::Pass,
    Action::Failover,
];

/// What must be there.
#[derive(Clone, Default)]
struct Expected {
    /// By topic: offset, when it was committed, and its own expiry.
    offsets: BTreeMap<usize, (i64, i64, Option<i64>)>,
    has_member: bool,
    /// When the last member left; groups of simple consumers never had one.
    empty_since: Option<i64>,
}

impl Expected {
    fn sweep(&mut self, now: i64) {
        let (has_member, empty_since) = (self.has_member, self.empty_since);
        self.offsets.retain(|topic, (_, committed_at, own)| {
            if has_member && TOPICS[*topic] == "t" {
                return true;
            }
            let since = if has_member { *committed_at } else { empty_since.unwrap_or(*committed_at) };
            own.map_or(now - since < RETENTION_MS, |at| now < at)
        });
        if !has_member && self.offsets.is_empty() {
            self.empty_since = None;
        }
    }
}

#[derive(Clone)]
struct World {
    h: Harness,
    expected: Expected,
    member: Option<(String, i32)>,
    next_sweep: i64,
}

impl World {
    fn new(mistake: Option<Mistake>) -> World {
        let config = GroupConfig {
            initial_rebalance_delay_ms: 0,
            offsets_retention_ms: RETENTION_MS,
            offsets_retention_check_interval_ms: SWEEP_MS,
            ..config()
        };
        let mut h = Harness::with(config);
        h.mistake = mistake;
        let next_sweep = h.now_ms + SWEEP_MS;
        World { h, expected: Expected::default(), member: None, next_sweep }
    }

    fn can(&self, action: Action) -> bool {
        match action {
            Action::Join => self.member.is_none(),
            Action::Leave => self.member.is_some(),
            _ => true,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Join => self.join(),
            Action::Leave => {
                let (id, _) = self.member.take().expect("a member");
                assert_eq!(self.h.leave(&[(&id, None)]), [ErrorCode::None]);
                (self.expected.has_member, self.expected.empty_since) = (false, Some(self.h.now_ms));
            }
            Action::Commit(topic) => self.commit(topic, None),
            Action::CommitForAWhile(topic) => self.commit(topic, Some(self.h.now_ms + OWN_MS)),
            Action::Pass => {
                self.h.advance(SWEEP_MS / 2);
                if let Some((id, generation)) = &self.member {
                    assert_eq!(self.h.heartbeat_as(id, None, *generation), ErrorCode::None);
                }
                if self.h.now_ms >= self.next_sweep {
                    self.expected.sweep(self.next_sweep);
                    self.next_sweep += SWEEP_MS;
                }
            }
            Action::Failover => {
                self.h.reload();
                self.next_sweep = self.h.now_ms + SWEEP_MS;
            }
        }
        self.check();
    }

    fn join(&mut self) {
        let joining = Joining {
            protocols: vec![("range".into(), subscription(&["t"]))],
            session_ms: 1_800_000,
            new_id: "m".into(),
            ..Joining::new()
        };
        let token = self.h.send_join(joining);
        self.h.advance(0);
        let joined = self.h.joined(token);
        assert_eq!(joined.error, ErrorCode::None);
        let id = joined.member_id.to_string();
        let token = self.h.send_sync(&id, joined.generation, &[(&id, "0")]);
        assert_eq!(self.h.synced(token).error, ErrorCode::None);
        self.member = Some((id, joined.generation));
        (self.expected.has_member, self.expected.empty_since) = (true, None);
    }

    fn commit(&mut self, topic: usize, own: Option<i64>) {
        // Another one than there is; small numbers, so that states come back.
        let offset = self.expected.offsets.get(&topic).map_or(0, |(offset, ..)| (offset + 1) % 3);
        let value = OffsetValue { expire_timestamp: own, ..self.h.value(offset) };
        let (id, generation) = self.member.clone().unwrap_or((String::new(), -1));
        let token = self.h.send_commit_values(&id, generation, vec![(TOPICS[topic], 0, value)]);
        assert_eq!(self.h.committed(token), [ErrorCode::None]);
        self.expected.offsets.insert(topic, (offset, self.h.now_ms, own));
    }

    fn check(&self) {
        let expected =
            self.expected.offsets.iter().map(|(topic, (offset, ..))| ((TOPICS[*topic].to_string(), 0), *offset));
        assert_eq!(self.h.offsets(), expected.collect());
        let expected = &self.expected;
        let is_there = expected.has_member || !expected.offsets.is_empty() || expected.empty_since.is_some();
        assert_eq!(self.h.shard.group(GROUP).is_some(), is_there, "the group itself");
    }

    /// All that decides what can happen from here on, with times as distances from now.
    fn digest(&self) -> String {
        let now = self.h.now_ms;
        let mut text = self.h.shard.digest(self.h.now(), |_| String::new());
        let mut describe = |shard: &ottla::group::GroupShard| {
            let Some(group) = shard.group(GROUP) else { return };
            let mut values: Vec<_> = group.offsets.iter().collect();
            values.sort_by_key(|(topic, _)| (*topic).clone());
            for (topic, partitions) in values {
                for value in partitions.values().map(|committed| &committed.value) {
                    let own = value.expire_timestamp.map(|at| at - now);
                    let _ = write!(text, "\n{topic} {} {} {own:?}", value.offset, value.commit_timestamp - now);
                }
            }
            let _ = write!(text, "\n{:?} {:?}", group.state_since.map(|at| at - now), group.protocol_type);
        };
        describe(&self.h.shard);
        describe(&self.h.loaded());
        for (topic, (offset, committed_at, own)) in &self.expected.offsets {
            let _ = write!(text, "\n{topic} {offset} {} {:?}", committed_at - now, own.map(|at| at - now));
        }
        let empty_since = self.expected.empty_since.map(|at| at - now);
        let _ = write!(text, "\n{} {} {empty_since:?}", self.next_sweep - now, self.expected.has_member);
        text
    }
}

/// Histories so long, or the first one that ends badly.
fn explore(world: World, steps: usize) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut front = vec![(world, Vec::new())];
    for _ in 0..steps {
        let mut next_front = Vec::new();
        for (world, path) in front {
            for action in ACTIONS.into_iter().filter(|action| world.can(*action)) {
                let path: Vec<Action> = path.iter().copied().chain([action]).collect();
                let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let mut next = world.clone();
                    next.act(action);
                    next
                }));
                let next = played.map_err(|_| format!("after {path:?}"))?;
                if seen.insert(next.digest()) {
                    next_front.push((next, path));
                }
            }
        }
        front = next_front;
    }
    Ok(seen.len())
}

#[test]
fn offsets_expire_by_all_rules() {
    let states = explore(World::new(None), STEPS).unwrap_or_else(|fault| panic!("{fault}"));
    println!("{states} states");
    assert!(states > 6_000, "only {states} states");
}

#[test]
fn mistakes_of_expiry_are_noticed() {
    let all = [
        Mistake::OwnExpiryForgotten,
        Mistake::EmptySinceForgotten,
        Mistake::SubscriptionsForgotten,
        Mistake::AnsweredUnwritten,
        Mistake::OldestRecordWins,
    ];
    for mistake in all {
        let Err(noticed) = explore(World::new(Some(mistake)), STEPS) else { panic!("{mistake:?} is not noticed") };
        println!("{mistake:?}: {noticed}");
    }
}
