//! Who may do what to a znode: permissions, schemes, and the digest that names a user.
//!
//! Invariant: a stored list holds no `auth` entry and only schemes that this server can check. Classes
//! `PrepRequestProcessor.fixupACL`, `ZooKeeperServer.checkACL`, `DigestAuthenticationProvider`, `IPAuthenticationProvider`.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use sha1::{Digest as _, Sha1};

use super::codes::KeeperCode;
use super::jute::{JuteError, JuteReader, JuteWriter};

/// Permission bits (`ZooDefs.Perms`).
pub mod perm {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// An identity: of a connection, or in an entry of a list.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

impl Id {
    pub fn new(scheme: &str, id: &str) -> Self {
        Self { scheme: scheme.to_owned(), id: id.to_owned() }
    }
}

/// One entry of a list.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Acl {
    pub perms: i32,
    pub id: Id,
}

/// A node's list, shared by all nodes with the same one.
pub type AclList = Arc<[Acl]>;

static OPEN: LazyLock<AclList> =
    LazyLock::new(|| Arc::from(vec![Acl { perms: perm::ALL, id: Id::new("world", "anyone") }]));
static READ_ONLY: LazyLock<AclList> =
    LazyLock::new(|| Arc::from(vec![Acl { perms: perm::READ, id: Id::new("world", "anyone") }]));

/// Anyone may do anything.
pub fn open() -> AclList {
    OPEN.clone()
}

/// Anyone may read.
pub fn read_only() -> AclList {
    READ_ONLY.clone()
}

/// A list as it is; the open one is shared by all who have it.
pub fn shared(list: Vec<Acl>) -> AclList {
    if list == **OPEN { open() } else { AclList::from(list) }
}

/// The list a node gets for the list a client gave: duplicates dropped, `auth` replaced by the client's identities.
pub fn fix_up(given: &[Acl], identities: &[Id]) -> Result<AclList, KeeperCode> {
    if given.is_empty() {
        return Err(KeeperCode::InvalidAcl);
    }
    if *given == **OPEN {
        return Ok(open());
    }
    let mut fixed: Vec<Acl> = Vec::with_capacity(given.len());
    for (at, entry) in given.iter().enumerate() {
        if given.iter().take(at).any(|earlier| earlier == entry) {
            continue;
        }
        match entry.id.scheme.as_str() {
            "world" if entry.id.id == "anyone" => fixed.push(entry.clone()),
            "auth" => {
                let before = fixed.len();
                let authenticated = identities.iter().filter(|id| is_authenticating(&id.scheme));
                fixed.extend(authenticated.map(|id| Acl { perms: entry.perms, id: id.clone() }));
                if fixed.len() == before {
                    return Err(KeeperCode::InvalidAcl);
                }
            }
            "digest" if is_digest_id(&entry.id.id) => fixed.push(entry.clone()),
            "ip" if parse_ip_rule(&entry.id.id).is_some() => fixed.push(entry.clone()),
            _ => return Err(KeeperCode::InvalidAcl),
        }
    }
    Ok(Arc::from(fixed))
}

/// Whether someone with these identities may do it.
pub fn permits(list: &[Acl], perms: i32, identities: &[Id]) -> bool {
    list.is_empty()
        || list.iter().any(|entry| entry.perms & perms != 0 && entry.id.scheme == "world" && entry.id.id == "anyone")
        || identities.iter().any(|id| id.scheme == "super")
        || list.iter().any(|entry| entry.perms & perms != 0 && identities.iter().any(|id| matches(&entry.id, id)))
}

/// The list as shown to one who may read but not administer: whose it is, without the hashes.
pub fn masked(list: &[Acl]) -> Vec<Acl> {
    let mask = |entry: &Acl| match entry.id.id.split_once(':') {
        Some((user, _)) if entry.id.scheme == "digest" => {
            Acl { perms: entry.perms, id: Id::new("digest", &format!("{user}:x")) }
        }
        _ => entry.clone(),
    };
    list.iter().map(mask).collect()
}

/// The digest identity of `user:password`.
pub fn digest_id(user_password: &[u8]) -> String {
    let text = String::from_utf8_lossy(user_password);
    let user = text.split(':').next().unwrap_or_default();
    let hash = Sha1::digest(text.as_bytes());
    format!("{user}:{}", base64::engine::general_purpose::STANDARD.encode(hash))
}

/// The name that whoAmI shows for an identity.
pub fn shown_user(id: &Id) -> &str {
    match id.scheme.as_str() {
        "digest" => id.id.split(':').next().unwrap_or_default(),
        _ => &id.id,
    }
}

fn is_authenticating(scheme: &str) -> bool {
    matches!(scheme, "digest" | "sasl" | "x509")
}

/// `user:hash` with a hash; an empty user passes, as in Java's `split`.
fn is_digest_id(id: &str) -> bool {
    let mut parts: Vec<&str> = id.split(':').collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts.len() == 2
}

fn matches(rule: &Id, id: &Id) -> bool {
    if rule.scheme != id.scheme {
        return false;
    }
    match rule.scheme.as_str() {
        "ip" => parse_ip_rule(&rule.id)
            .zip(id.id.parse::<Ipv4Addr>().ok())
            .is_some_and(|((net, bits), address)| same_net(net, address, bits)),
        _ => rule.id == id.id,
    }
}

fn same_net(a: Ipv4Addr, b: Ipv4Addr, bits: u32) -> bool {
    (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
}

fn parse_ip_rule(rule: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, bits) = match rule.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok().filter(|bits| *bits <= 32)?),
        None => (rule, 32),
    };
    Some((address.parse().ok()?, bits))
}

pub fn read_list(from: &mut JuteReader<'_>) -> Result<Vec<Acl>, JuteError> {
    let count = from.count(12)?;
    (0..count).map(|_| Ok(Acl { perms: from.i32()?, id: Id { scheme: from.string()?, id: from.string()? } })).collect()
}

pub fn write_list(list: &[Acl], to: &mut JuteWriter) {
    to.count(list.len());
    for entry in list {
        to.i32(entry.perms).string(&entry.id.scheme).string(&entry.id.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    #[test]
    fn the_digest_is_that_of_the_java_provider() {
        // DigestAuthenticationProvider.generateDigest("super:test"), as printed in ZooKeeper's own documentation of it.
        assert_eq!(digest_id(b"super:test"), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
    }

    #[test]
    fn lists_are_fixed_up() {
        let user = Id::new("digest", "u:hash");
        let me = [Id::new("ip", "127.0.0.1"), user.clone()];
        let cases: [(&[Acl], Option<&[Acl]>); 9] = [
            (&[], None),
            (&[acl(31, "world", "anyone"), acl(31, "world", "anyone")], Some(&[acl(31, "world", "anyone")])),
            (&[acl(1, "auth", "")], Some(&[Acl { perms: 1, id: user }])),
            (&[acl(1, "world", "me")], None),
            (&[acl(1, "sasl", "kafka")], None),
            (&[acl(1, "digest", "nohash")], None),
            (&[acl(1, "digest", "a:b:c")], None),
            (&[acl(1, "ip", "10.0.0.0/8")], Some(&[acl(1, "ip", "10.0.0.0/8")])),
            (&[acl(1, "ip", "::1")], None),
        ];
        for (given, fixed) in cases {
            assert_eq!(fix_up(given, &me).ok().as_deref(), fixed, "{given:?}");
        }
        assert!(fix_up(&[acl(1, "auth", "")], &me[..1]).is_err());
    }

    #[test]
    fn permissions_follow_scheme_and_bits() {
        let local = [Id::new("ip", "10.1.2.3")];
        assert!(permits(&[acl(1, "ip", "10.1.0.0/16")], perm::READ, &local));
        assert!(permits(&[acl(1, "ip", "0.0.0.0/0")], perm::READ, &local));
        assert!(!permits(&[acl(1, "ip", "10.1.0.0/16")], perm::WRITE, &local));
        assert!(!permits(&[acl(1, "ip", "10.2.0.0/16")], perm::READ, &local));
        assert!(permits(&[acl(1, "ip", "10.2.0.0/16")], perm::READ, &[Id::new("super", "")]));
        assert!(permits(&[], perm::ADMIN, &[]));
    }

    #[test]
    fn hashes_are_masked() {
        assert_eq!(masked(&[acl(1, "digest", "u:abc")]), [acl(1, "digest", "u:x")]);
    }
}
