//! Every history of a small group, within a budget of joins, crashes, time-outs, failed appends and changes of the coordinator
//! (breadth first, each state once). In each state:
//!
//! - a partition has one owner in a generation, however often and wherever assignments are handed out;
//! - a committed offset is the one of the last accepted commit, or of one under way, also for the next coordinator;
//! - a commit is accepted from members of the current generation only;
//! - nobody waits for ever: when all fall silent every request is answered and the group empties;
//! - every rebalance ends: when all behave from here on, the group becomes stable with all of them.

use crate::harness::{GROUP, Harness, Joining, config, subscription};
use crate::mistake::Mistake;
use ottla::base::ErrorCode;
use ottla::group::message::Response;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

const TIMEOUT_MS: i32 = 10_000;
const PARTITIONS: usize = 2;

/// What may still happen.
#[derive(Clone, Copy, Debug)]
struct Budget {
    joins: u8,
    crashes: u8,
    leaves: u8,
    commits: u8,
    ticks: u8,
    failures: u8,
    failovers: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Crash(usize),
    Commit(usize),
    Appended,
    AppendFails,
    /// The replicas have it in the end, but nobody is told so.
    AppendTimesOut,
    Tick,
    Failover,
}

#[derive(Clone, Default, Debug)]
struct Client {
    instance: Option<String>,
    known_ids: bool,
    lives: u8,
    id: String,
    generation: i32,
    join: Option<u64>,
    sync: Option<u64>,
    /// The answer to a join: the members to assign to, if this one leads.
    joined: Option<Vec<String>>,
    assigned: bool,
    turned_away: bool,
}

impl Client {
    fn is_idle(&self) -> bool {
        self.join.is_none() && self.sync.is_none() && self.joined.is_none()
    }

    fn forget(&mut self) {
        *self = Client {
            instance: self.instance.take(),
            known_ids: self.known_ids,
            lives: self.lives,
            turned_away: self.turned_away,
            generation: -1,
            ..Client::default()
        };
    }

    fn owner(&self) -> String {
        self.instance.clone().unwrap_or_else(|| self.id.clone())
    }
}

#[derive(Clone)]
struct World {
    h: Harness,
    clients: Vec<Client>,
    budget: Budget,
    owners: BTreeMap<(i32, usize), String>,
    /// Offsets that readers may find: the last accepted one, and those of which nobody knows.
    committed: i64,
    unknown: Vec<i64>,
    commit: Option<(u64, i64)>,
    /// The commit under way came from somebody who is no member, or not of this generation.
    is_stale: bool,
    last_offset: i64,
}

impl World {
    fn new(clients: Vec<Client>, delay_ms: i64, max_size: usize, budget: Budget) -> World {
        let mut h =
            Harness::with(ottla::group::GroupConfig { initial_rebalance_delay_ms: delay_ms, max_size, ..config() });
        h.hold_appends = true;
        World {
            h,
            clients,
            budget,
            owners: BTreeMap::new(),
            committed: -1,
            unknown: Vec::new(),
            commit: None,
            is_stale: false,
            last_offset: 0,
        }
    }

    fn with(mut self, mistake: Option<Mistake>) -> World {
        self.h.mistake = mistake;
        self
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (n, client) in self.clients.iter().enumerate() {
            if client.is_idle() && self.budget.joins > 0 {
                actions.push(Action::Join(n));
            }
            if client.joined.is_some() {
                actions.push(Action::Sync(n));
            }
            if client.is_idle() && client.generation > 0 {
                actions.push(Action::Beat(n));
                if self.budget.leaves > 0 {
                    actions.push(Action::Leave(n));
                }
                if self.budget.commits > 0 && self.commit.is_none() {
                    actions.push(Action::Commit(n));
                }
            }
            let has_begun = !client.is_idle() || !client.id.is_empty();
            if has_begun && self.budget.crashes > 0 {
                actions.push(Action::Crash(n));
            }
        }
        if !self.h.pending.is_empty() {
            actions.push(Action::Appended);
            if self.budget.failures > 0 {
                actions.extend([Action::AppendFails, Action::AppendTimesOut]);
            }
        }
        let is_due_soon = self.h.shard.earliest_deadline().is_some_and(|at| at < self.h.now_ms + 400_000);
        if self.budget.ticks > 0 && is_due_soon {
            actions.push(Action::Tick);
        }
        if self.budget.failovers > 0 {
            actions.push(Action::Failover);
        }
        actions
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Join(n) => {
                self.budget.joins -= 1;
                self.join(n);
            }
            Action::Sync(n) => self.sync(n),
            Action::Beat(n) => self.beat(n),
            Action::Leave(n) => {
                self.budget.leaves -= 1;
                let id = self.clients[n].id.clone();
                self.h.leave(&[(&id, None)]);
                self.clients[n].forget();
            }
            Action::Crash(n) => {
                self.budget.crashes -= 1;
                self.clients[n].forget();
            }
            Action::Commit(n) => {
                self.budget.commits -= 1;
                self.last_offset += 1;
                let client = &self.clients[n];
                let (id, generation, offset) = (client.id.clone(), client.generation, self.last_offset);
                let current = self.h.shard.group(GROUP).map_or(-1, |group| group.generation);
                self.is_stale = generation != current || !self.h.members().contains(&id);
                self.commit = Some((self.h.send_commit(&id, generation, &[("t", 0, offset)]), offset));
            }
            Action::Appended => self.h.complete(Ok(())),
            Action::AppendFails => {
                self.budget.failures -= 1;
                self.h.complete(Err(ErrorCode::NotEnoughReplicas));
            }
            Action::AppendTimesOut => {
                self.budget.failures -= 1;
                self.unknown.extend(self.commit.map(|(_, offset)| offset));
                self.h.complete_unheard(ErrorCode::RequestTimedOut);
            }
            Action::Tick => {
                self.budget.ticks -= 1;
                let at = self.h.shard.earliest_deadline().expect("a deadline");
                self.h.advance((at - self.h.now_ms).max(0));
            }
            Action::Failover => {
                self.budget.failovers -= 1;
                self.h.reload();
                // Its generations were told to nobody who owns anything, unless they are in the log.
                let stored = self.h.shard.group(GROUP).map_or(0, |group| group.generation);
                self.owners.retain(|(generation, _), _| *generation <= stored);
            }
        }
        self.read_replies();
        self.check();
    }

    fn join(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if client.id.is_empty() {
            client.lives += 1;
        }
        client.assigned = false;
        let joining = Joining {
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            protocols: vec![("range".into(), subscription(&["t"]))],
            session_ms: TIMEOUT_MS,
            rebalance_ms: TIMEOUT_MS,
            require_known_id: client.known_ids,
            skip_assignment: true,
            new_id: format!("{n}-{}", client.lives),
            ..Joining::new()
        };
        client.join = Some(self.h.send_join(joining));
    }

    fn sync(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let members = client.joined.take().expect("a join was answered");
        let given: Vec<(String, String)> = members
            .iter()
            .enumerate()
            .map(|(at, id)| {
                let mine = (0..PARTITIONS).filter(|partition| partition % members.len() == at);
                (id.clone(), mine.map(|partition| partition.to_string()).collect())
            })
            .collect();
        let given: Vec<(&str, &str)> =
            given.iter().map(|(id, partitions)| (id.as_str(), partitions.as_str())).collect();
        client.sync = Some(self.h.send_sync(&client.id.clone(), client.generation, &given));
    }

    fn beat(&mut self, n: usize) {
        let client = &mut self.clients[n];
        match self.h.heartbeat_as(&client.id, client.instance.as_deref(), client.generation) {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.forget(),
            _ => client.assigned = false,
        }
    }

    fn read_replies(&mut self) {
        if let Some((token, offset)) = self.commit
            && let Some(response) = self.h.take(token)
        {
            let Response::Commit(response) = response else { panic!("{response:?} for a commit") };
            self.commit = None;
            if response.errors == [ErrorCode::None] {
                assert!(!self.is_stale, "a commit of nobody who may is accepted");
                self.committed = offset;
            }
        }
        for n in 0..self.clients.len() {
            self.read_join(n);
            self.read_sync(n);
        }
    }

    fn read_join(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let Some(token) = client.join.filter(|token| !self.h.is_held(*token)) else { return };
        client.join = None;
        let joined = self.h.joined(token);
        match joined.error {
            ErrorCode::None => {
                client.id = joined.member_id.to_string();
                client.generation = joined.generation;
                let leads = joined.leader == joined.member_id && !joined.skip_assignment;
                let members = joined.members.iter().filter(|_| leads).map(|member| member.member_id.to_string());
                client.joined = Some(members.collect());
            }
            ErrorCode::MemberIdRequired => client.id = joined.member_id.to_string(),
            ErrorCode::GroupMaxSizeReached => {
                client.forget();
                client.turned_away = true;
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.forget(),
            _ => {}
        }
    }

    fn read_sync(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let Some(token) = client.sync.filter(|token| !self.h.is_held(*token)) else { return };
        client.sync = None;
        let synced = self.h.synced(token);
        match synced.error {
            ErrorCode::None => {
                client.assigned = true;
                for digit in synced.assignment.iter() {
                    let partition = usize::from(digit - b'0');
                    let owner = self.owners.entry((client.generation, partition)).or_insert_with(|| client.owner());
                    assert_eq!(*owner, client.owner(), "two owners of {partition} in {}", client.generation);
                }
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.forget(),
            _ => {}
        }
    }

    fn check(&self) {
        let found = self.h.offsets().get(&("t".to_string(), 0)).copied().unwrap_or(-1);
        let is_open = self.commit.is_some_and(|(_, offset)| offset == found) || self.unknown.contains(&found);
        assert!(found == self.committed || (is_open && found > self.committed), "{found} after {}", self.committed);
    }

    /// Everybody falls silent.
    fn end_in_silence(mut self) {
        self.h.hold_appends = false;
        while !self.h.pending.is_empty() {
            self.h.complete(Ok(()));
        }
        self.h.advance(700_000);
        for token in self.clients.iter().flat_map(|client| [client.join, client.sync]).flatten() {
            assert!(!self.h.is_held(token), "a request is never answered");
        }
        assert!(self.h.members().is_empty(), "members who are gone stay");
        assert!(["Empty", "Dead"].contains(&self.h.state()), "{} without members", self.h.state());
    }

    /// Everybody does what a good client does.
    fn end_in_order(mut self, places: usize) {
        self.h.hold_appends = false;
        while !self.h.pending.is_empty() {
            self.h.complete(Ok(()));
        }
        self.read_replies();
        for _ in 0..120 {
            for n in 0..self.clients.len() {
                // Who found no place comes back.
                self.clients[n].turned_away = false;
                if self.clients[n].is_idle() && self.clients[n].assigned {
                    self.beat(n);
                }
                if self.clients[n].is_idle() && !self.clients[n].assigned {
                    self.join(n);
                }
                self.read_replies();
                if self.clients[n].joined.is_some() {
                    self.sync(n);
                }
                self.read_replies();
            }
            if self.is_settled(places) {
                return;
            }
            self.h.advance(3_000);
            self.read_replies();
        }
        panic!("no end of rebalances: {} {:?} {:?}", self.h.state(), self.h.members(), self.clients);
    }

    fn is_settled(&self, places: usize) -> bool {
        let generation = self.h.shard.group(GROUP).map_or(-1, |group| group.generation);
        let inside: Vec<&Client> = self.clients.iter().filter(|client| client.assigned).collect();
        let all = inside.len() == self.clients.len().min(places);
        let current = inside.iter().all(|client| client.generation == generation);
        all && current && self.h.state() == "Stable" && self.h.members().len() == inside.len()
    }

    /// All that decides what can happen from here on.
    fn digest(&self) -> u128 {
        let name = |token: u64| {
            let is_of = |client: &&Client| client.join == Some(token) || client.sync == Some(token);
            self.clients.iter().position(|client| is_of(&client)).map_or("nobody".into(), |n| n.to_string())
        };
        let mut text = self.h.shard.digest(self.h.now(), |token| name(token.0));
        for (_, batch) in &self.h.pending {
            let _ = write!(text, "\n{:?}", batch.records.iter().map(|record| record.group()).collect::<Vec<_>>());
        }
        for client in &self.clients {
            let waits =
                (client.join.is_some(), client.sync.is_some(), &client.joined, client.assigned, client.turned_away);
            let _ = write!(text, "\n{} {} {} {waits:?}", client.id, client.generation, client.lives);
        }
        let commits = (self.committed, &self.unknown, self.commit.is_some(), self.is_stale, self.last_offset);
        let _ = write!(text, "\n{:?} {commits:?} {:?}", self.budget, self.owners);
        if self.budget.failovers > 0 {
            text.push_str(&self.h.loaded().digest(self.h.now(), |_| String::new()));
        }
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, &text).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(1) << 64 | half(2)
    }
}

/// The number of states, or the first history that ends badly.
fn explore(world: World, places: usize) -> Result<usize, String> {
    let mut seen = HashSet::from([world.digest()]);
    let mut queue = VecDeque::from([(world, Vec::<Action>::new())]);
    while let Some((world, path)) = queue.pop_front() {
        for action in world.actions() {
            let mut path = path.clone();
            path.push(action);
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut next = world.clone();
                next.act(action);
                if !seen.insert(next.digest()) {
                    return None;
                }
                next.clone().end_in_silence();
                next.clone().end_in_order(places);
                Some(next)
            }));
            match played {
                Ok(Some(next)) => queue.push_back((next, path)),
                Ok(None) => {}
                Err(_) => return Err(format!("after {path:?}")),
            }
        }
    }
    Ok(seen.len())
}

/// Every history is good, and there are more of them than that.
fn check(world: World, places: usize, more_than: usize) {
    let states = explore(world, places).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(states > more_than, "only {states} states");
}

fn dynamic() -> Client {
    Client { generation: -1, known_ids: true, ..Client::default() }
}

fn fixed(instance: &str) -> Client {
    Client { generation: -1, instance: Some(instance.into()), ..Client::default() }
}

const NOTHING: Budget = Budget { joins: 0, crashes: 0, leaves: 0, commits: 0, ticks: 0, failures: 0, failovers: 0 };

#[test]
fn two_dynamic_members() {
    let budget = Budget { joins: 5, crashes: 1, ticks: 1, leaves: 1, ..NOTHING };
    check(World::new(vec![dynamic(), dynamic()], 0, usize::MAX, budget), usize::MAX, 4038);
}

#[test]
fn two_dynamic_members_with_an_initial_delay() {
    let budget = Budget { joins: 5, crashes: 1, ticks: 2, ..NOTHING };
    check(World::new(vec![dynamic(), dynamic()], 3_000, usize::MAX, budget), usize::MAX, 2289);
}

#[test]
fn a_static_and_a_dynamic_member_with_failing_appends() {
    let budget = Budget { joins: 4, crashes: 1, ticks: 1, failures: 1, ..NOTHING };
    check(World::new(vec![fixed("i"), dynamic()], 0, usize::MAX, budget), usize::MAX, 4618);
}

#[test]
fn a_static_member_over_changes_of_the_coordinator() {
    let budget = Budget { joins: 3, crashes: 1, ticks: 1, failures: 1, failovers: 1, ..NOTHING };
    check(World::new(vec![fixed("i"), fixed("j")], 0, usize::MAX, budget), usize::MAX, 16795);
}

#[test]
fn commits_over_changes_of_the_coordinator() {
    let budget = Budget { joins: 4, commits: 2, failures: 1, failovers: 1, ..NOTHING };
    check(World::new(vec![dynamic(), dynamic()], 0, usize::MAX, budget), usize::MAX, 1892);
}

#[test]
fn a_group_with_one_place() {
    let budget = Budget { joins: 5, crashes: 1, ticks: 1, leaves: 1, ..NOTHING };
    check(World::new(vec![dynamic(), dynamic()], 0, 1, budget), 1, 3645);
}

#[test]
fn commits_of_members_that_are_gone() {
    let budget = Budget { joins: 4, commits: 2, ticks: 2, ..NOTHING };
    check(World::new(vec![dynamic(), dynamic()], 0, usize::MAX, budget), usize::MAX, 1000);
}

#[test]
fn every_mistake_is_noticed() {
    let all = [
        Mistake::AnsweredUnwritten,
        Mistake::FailureTakenForSuccess,
        Mistake::LastRecordForgotten,
        Mistake::OldestRecordWins,
        Mistake::LoadingNeverEnds,
        Mistake::OneAssignmentForAll,
        Mistake::GenerationStays,
        Mistake::WaitingSyncsForgotten,
        Mistake::TimersStop,
        Mistake::AnyoneCommits,
    ];
    let budgets = [
        Budget { joins: 4, commits: 2, failures: 1, failovers: 1, ..NOTHING },
        Budget { joins: 4, commits: 2, ticks: 2, ..NOTHING },
    ];
    for mistake in all {
        let noticed = budgets.iter().find_map(|budget| {
            let world = World::new(vec![dynamic(), dynamic()], 0, usize::MAX, *budget);
            explore(world.with(Some(mistake)), usize::MAX).err()
        });
        println!("{mistake:?}: {}", noticed.unwrap_or_else(|| panic!("{mistake:?} is not noticed")));
    }
}
