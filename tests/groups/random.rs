//! Random histories of a few members against a few invariants, by seed.
//!
//! - a generation of a group has at most one assignment, and a partition one owner in it;
//! - the generation that clients see never goes back while a coordinator lives;
//! - a committed offset changes only by an accepted commit, also over a change of the coordinator;
//! - every request is answered once in the end.

use crate::harness::{Harness, Joining, subscription};
use ottla::base::ErrorCode;
use ottla::group::message::Response;
use std::collections::{BTreeMap, HashMap};

/// xorshift64*: a failure is replayed by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// A client as the Java consumer is one, with its one request in flight.
#[derive(Default)]
struct Client {
    instance: Option<String>,
    id: String,
    generation: i32,
    join: Option<u64>,
    sync: Option<u64>,
    is_leader: bool,
    members: Vec<String>,
}

struct World {
    h: Harness,
    clients: Vec<Client>,
    /// Assignments that were handed out, by generation and member.
    seen: HashMap<(i32, String), String>,
    highest_generation: i32,
    /// What the last accepted commit of each partition said; commits under way.
    committed: BTreeMap<(String, i32), i64>,
    commits: Vec<(u64, i32, i64)>,
    next_offset: i64,
}

impl World {
    fn new(members: usize, statics: usize) -> World {
        let clients = (0..members)
            .map(|n| Client { instance: (n < statics).then(|| format!("i{n}")), generation: -1, ..Client::default() })
            .collect();
        World {
            h: Harness::new(),
            clients,
            seen: HashMap::new(),
            highest_generation: 0,
            committed: BTreeMap::new(),
            commits: Vec::new(),
            next_offset: 0,
        }
    }

    fn joining(&self, n: usize, dice: &mut Dice) -> Joining {
        let client = &self.clients[n];
        let topics: &[&str] = if dice.roll(8) == 0 { &["t", "u"] } else { &["t"] };
        Joining {
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            protocols: vec![("range".into(), subscription(topics)), ("sticky".into(), subscription(topics))],
            require_known_id: dice.roll(2) == 0,
            skip_assignment: dice.roll(2) == 0,
            ..Joining::new()
        }
    }

    fn act(&mut self, dice: &mut Dice) {
        let n = dice.roll(self.clients.len() as u64) as usize;
        let busy = self.clients[n].join.is_some() || self.clients[n].sync.is_some();
        match dice.roll(20) {
            0..=5 if !busy => {
                let joining = self.joining(n, dice);
                self.clients[n].join = Some(self.h.send_join(joining));
            }
            6..=8 if !busy && self.clients[n].generation > 0 => {
                let client = &self.clients[n];
                let (id, generation) = (client.id.clone(), client.generation);
                match self.h.heartbeat_as(&id, client.instance.clone().as_deref(), generation) {
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(n),
                    _ => {}
                }
            }
            9 if !busy => {
                let id = self.clients[n].id.clone();
                self.h.leave(&[(&id, None)]);
                self.forget(n);
            }
            // Crashes: the client forgets its id, its requests are never read.
            10 => self.forget(n),
            11..=13 if !busy && self.clients[n].generation > 0 => {
                self.next_offset += 1;
                let (id, generation, offset) =
                    (self.clients[n].id.clone(), self.clients[n].generation, self.next_offset);
                let partition = dice.roll(3) as i32;
                let token = self.h.send_commit(&id, generation, &[("t", partition, offset)]);
                self.commits.push((token, partition, offset));
            }
            14 => self.h.hold_appends = dice.roll(2) == 0,
            15..=16 if !self.h.pending.is_empty() => {
                let result = if dice.roll(6) == 0 { Err(ErrorCode::NotEnoughReplicas) } else { Ok(()) };
                self.h.complete(result);
            }
            17 => self.h.advance(dice.roll(20_000) as i64),
            18 if dice.roll(10) == 0 => {
                // What was not acknowledged yet may or may not have reached the log.
                while !self.h.pending.is_empty() && dice.roll(2) == 0 {
                    self.h.complete(Ok(()));
                }
                self.read_replies();
                self.h.reload();
                self.highest_generation = 0;
            }
            _ => self.h.advance(dice.roll(500) as i64),
        }
        if !self.h.hold_appends {
            while !self.h.pending.is_empty() {
                self.h.complete(Ok(()));
            }
        }
        self.read_replies();
        self.check();
    }

    fn forget(&mut self, n: usize) {
        let instance = self.clients[n].instance.clone();
        self.clients[n] = Client { instance, generation: -1, ..Client::default() };
    }

    fn read_replies(&mut self) {
        let commits = std::mem::take(&mut self.commits);
        for (token, partition, offset) in commits {
            match self.h.take(token) {
                Some(Response::Commit(response)) => {
                    if response.errors == [ErrorCode::None] {
                        self.committed.insert(("t".into(), partition), offset);
                    }
                }
                None => self.commits.push((token, partition, offset)),
                other => panic!("{other:?} for a commit"),
            }
        }
        for n in 0..self.clients.len() {
            self.read_join(n);
            self.read_sync(n);
        }
    }

    fn read_join(&mut self, n: usize) {
        let Some(token) = self.clients[n].join.filter(|token| !self.h.is_held(*token)) else { return };
        let joined = self.h.joined(token);
        self.clients[n].join = None;
        match joined.error {
            ErrorCode::None => {
                assert!(joined.generation >= self.highest_generation, "a generation comes back");
                self.highest_generation = joined.generation;
                let client = &mut self.clients[n];
                client.id = joined.member_id.to_string();
                client.generation = joined.generation;
                client.is_leader = joined.leader == joined.member_id && !joined.skip_assignment;
                client.members = joined.members.iter().map(|member| member.member_id.to_string()).collect();
                let assignments: Vec<(String, String)> = if client.is_leader {
                    client.members.iter().map(|id| (id.clone(), format!("{}/{id}", client.generation))).collect()
                } else {
                    Vec::new()
                };
                let given: Vec<(&str, &str)> = assignments.iter().map(|(id, a)| (id.as_str(), a.as_str())).collect();
                let (id, generation) = (client.id.clone(), client.generation);
                self.clients[n].sync = Some(self.h.send_sync(&id, generation, &given));
            }
            ErrorCode::MemberIdRequired => self.clients[n].id = joined.member_id.to_string(),
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(n),
            _ => {}
        }
    }

    fn read_sync(&mut self, n: usize) {
        let Some(token) = self.clients[n].sync.filter(|token| !self.h.is_held(*token)) else { return };
        let synced = self.h.synced(token);
        self.clients[n].sync = None;
        match synced.error {
            ErrorCode::None => {
                let client = &self.clients[n];
                let text = String::from_utf8(synced.assignment.to_vec()).expect("text");
                // An assignment names the member it was made for: nobody else may hold it, except the same instance.
                let before = self.seen.insert((client.generation, text.clone()), owner(client));
                assert!(text.is_empty() || before.is_none_or(|before| before == owner(client)), "two owners of {text}");
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(n),
            _ => {}
        }
    }

    fn check(&mut self) {
        let open: Vec<((String, i32), i64)> =
            self.commits.iter().map(|(_, partition, offset)| (("t".to_string(), *partition), *offset)).collect();
        for (partition, offset) in self.h.offsets() {
            let expected = self.committed.get(&partition);
            let is_open = open.contains(&(partition.clone(), offset));
            assert!(expected == Some(&offset) || is_open, "{partition:?} is {offset}, not {expected:?}");
        }
        if open.is_empty() {
            assert_eq!(self.h.offsets().len(), self.committed.len(), "an accepted commit is lost");
        }
    }
}

fn owner(client: &Client) -> String {
    client.instance.clone().unwrap_or_else(|| client.id.clone())
}

#[test]
fn random_histories_keep_the_invariants() {
    for seed in 1..=300u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = World::new(1 + (seed % 4) as usize, (seed % 3) as usize);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..400 {
                world.act(&mut dice);
            }
        }));
        assert!(played.is_ok(), "seed {seed} fails");
    }
}
