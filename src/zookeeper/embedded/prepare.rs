//! From a change that a client asks for to the transaction that does it, or the code that says why not.
//!
//! Invariant: nothing is changed here; what earlier changes of the same multi did is kept in an overlay. The order of the
//! checks is that of `PrepRequestProcessor`, since clients see the first one that fails.

use std::collections::HashMap;

use super::acl::{self, AclList, Id, perm};
use super::codes::{KeeperCode, op};
use super::path;
use super::request::Change;
use super::stat::{CONTAINER_OWNER, Owner, TTL_MS_MAX};
use super::tree::Tree;
use super::txn::{CreateTxn, Txn};

/// Who asks, and what this server allows.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub session: i64,
    pub identities: &'a [Id],
    pub extended_types: bool,
}

/// What the checks need to know of a node.
#[derive(Clone, Debug)]
struct Facts {
    version: i32,
    cversion: i32,
    aversion: i32,
    owner: Owner,
    children: usize,
    acl: AclList,
}

/// Checks changes one after the other, each seeing those before it.
#[derive(Debug)]
pub struct Preparation<'a> {
    tree: &'a Tree,
    asker: Asker<'a>,
    /// Nodes that earlier changes touched; `None` is deleted.
    changed: HashMap<String, Option<Facts>>,
}

impl<'a> Preparation<'a> {
    pub fn new(tree: &'a Tree, asker: Asker<'a>) -> Self {
        Self { tree, asker, changed: HashMap::new() }
    }

    /// All or nothing: after the first failure the rest is not tried, and the transaction records it as failed.
    pub fn multi(mut self, changes: Vec<Change>) -> Txn {
        let mut failed = false;
        let mut one = |change| {
            if failed {
                return Txn::Error(KeeperCode::RuntimeInconsistency.code());
            }
            self.change(change).unwrap_or_else(|code| {
                failed = true;
                Txn::Error(code.code())
            })
        };
        Txn::Multi(changes.into_iter().map(&mut one).collect())
    }

    pub fn change(&mut self, change: Change) -> Result<Txn, KeeperCode> {
        match change {
            Change::Create { op, path, data, acl, flags, ttl_ms } => {
                let mode = Mode::of(flags)?;
                let ttl_ms = self.ttl(mode, ttl_ms)?;
                let (path, acl, parent_cversion) = self.create(path, &acl, op, mode, ttl_ms)?;
                let ephemeral = mode.ephemeral && matches!(op, op::CREATE | op::CREATE2);
                Ok(Txn::Create(CreateTxn { op, path, data, acl, ephemeral, parent_cversion, ttl_ms }))
            }
            Change::Delete { path, version } => self.delete(path, version),
            Change::SetData { path, data, version } => {
                let mut facts = self.existing(&path, perm::WRITE)?;
                facts.version = next_version(facts.version, version)?;
                let version = facts.version;
                self.note(&path, Some(facts));
                Ok(Txn::SetData { path, data, version })
            }
            Change::SetAcl { path, acl, version } => {
                path::validate(&path)?;
                let acl = acl::fix_up(&acl, self.asker.identities)?;
                let mut facts = self.existing(&path, perm::ADMIN)?;
                facts.aversion = next_version(facts.aversion, version)?;
                let version = facts.aversion;
                self.note(&path, Some(facts));
                Ok(Txn::SetAcl { path, acl, version })
            }
            Change::Check { path, version } => {
                let facts = self.existing(&path, perm::READ)?;
                Ok(Txn::Check { path, version: next_version(facts.version, version)? })
            }
            Change::DeleteContainer => Err(KeeperCode::BadArguments),
            Change::Reconfig => Err(KeeperCode::ReconfigDisabled),
        }
    }

    fn ttl(&self, mode: Mode, ttl_ms: Option<i64>) -> Result<i64, KeeperCode> {
        match (mode.ttl, ttl_ms) {
            (true, _) if !self.asker.extended_types => Err(KeeperCode::Unimplemented),
            (true, Some(ms)) if (1..=TTL_MS_MAX).contains(&ms) => Ok(ms),
            (false, None) => Ok(0),
            _ => Err(KeeperCode::BadArguments),
        }
    }

    fn create(
        &mut self,
        mut path: String,
        given: &[acl::Acl],
        op: i32,
        mode: Mode,
        ttl_ms: i64,
    ) -> Result<(String, AclList, i32), KeeperCode> {
        let (parent_key, _) = path::split(&path).ok_or(KeeperCode::BadArguments)?;
        if path.contains('\0') {
            return Err(KeeperCode::BadArguments);
        }
        let parent_key = parent_key.to_owned();
        let acl = acl::fix_up(given, self.asker.identities)?;
        let mut parent = self.facts(&parent_key).ok_or(KeeperCode::NoNode)?;
        self.permit(&parent, perm::CREATE)?;
        if mode.sequential {
            path.push_str(&sequence(parent.cversion));
        }
        path::validate(&path)?;
        if self.facts(path::key(&path)).is_some() {
            return Err(KeeperCode::NodeExists);
        }
        if matches!(parent.owner, Owner::Session(_)) {
            return Err(KeeperCode::NoChildrenForEphemerals);
        }
        let parent_cversion = parent.cversion.wrapping_add(1);
        parent.cversion = parent_cversion;
        parent.children += 1;
        self.note(&parent_key, Some(parent));
        let owner = match op {
            op::CREATE_CONTAINER => Owner::of(CONTAINER_OWNER),
            op::CREATE_TTL => Owner::Ttl(ttl_ms),
            _ if mode.ephemeral => Owner::Session(self.asker.session),
            _ => Owner::None,
        };
        self.note(&path, Some(Facts { version: 0, cversion: 0, aversion: 0, owner, children: 0, acl: acl.clone() }));
        Ok((path, acl, parent_cversion))
    }

    fn delete(&mut self, path: String, version: i32) -> Result<Txn, KeeperCode> {
        let (parent_key, _) = path::split(&path).ok_or(KeeperCode::BadArguments)?;
        if path.contains('\0') || path::is_special(&path) {
            return Err(KeeperCode::BadArguments);
        }
        let parent_key = parent_key.to_owned();
        let mut parent = self.facts(&parent_key).ok_or(KeeperCode::NoNode)?;
        self.permit(&parent, perm::DELETE)?;
        let facts = self.facts(&path).ok_or(KeeperCode::NoNode)?;
        next_version(facts.version, version)?;
        if facts.children > 0 {
            return Err(KeeperCode::NotEmpty);
        }
        parent.children = parent.children.saturating_sub(1);
        self.note(&parent_key, Some(parent));
        self.note(&path, None);
        Ok(Txn::Delete { path, container: false })
    }

    /// A node with a proper path that the asker may treat so.
    fn existing(&self, path: &str, perms: i32) -> Result<Facts, KeeperCode> {
        path::validate(path)?;
        let facts = self.facts(path::key(path)).ok_or(KeeperCode::NoNode)?;
        self.permit(&facts, perms)?;
        Ok(facts)
    }

    fn permit(&self, facts: &Facts, perms: i32) -> Result<(), KeeperCode> {
        let permitted = acl::permits(&facts.acl, perms, self.asker.identities);
        if permitted { Ok(()) } else { Err(KeeperCode::NoAuth) }
    }

    fn facts(&self, key: &str) -> Option<Facts> {
        if let Some(changed) = self.changed.get(key) {
            return changed.clone();
        }
        self.tree.get(key).map(|node| Facts {
            version: node.stat.version,
            cversion: node.stat.cversion,
            aversion: node.stat.aversion,
            owner: node.stat.owner(),
            children: node.children.len(),
            acl: node.acl.clone(),
        })
    }

    fn note(&mut self, path: &str, facts: Option<Facts>) {
        self.changed.insert(path::key(path).to_owned(), facts);
    }
}

/// `CreateMode.fromFlag`.
#[derive(Clone, Copy, Debug)]
struct Mode {
    ephemeral: bool,
    sequential: bool,
    ttl: bool,
}

impl Mode {
    fn of(flags: i32) -> Result<Self, KeeperCode> {
        match flags {
            0..=6 => Ok(Self {
                ephemeral: matches!(flags, 1 | 3),
                sequential: matches!(flags, 2 | 3 | 6),
                ttl: matches!(flags, 5 | 6),
            }),
            _ => Err(KeeperCode::BadArguments),
        }
    }
}

/// Java's `%010d`.
fn sequence(number: i32) -> String {
    if number < 0 { format!("-{:09}", number.unsigned_abs()) } else { format!("{number:010}") }
}

fn next_version(current: i32, expected: i32) -> Result<i32, KeeperCode> {
    if expected != -1 && expected != current {
        return Err(KeeperCode::BadVersion);
    }
    Ok(current.wrapping_add(1))
}
