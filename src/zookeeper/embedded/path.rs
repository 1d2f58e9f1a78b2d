//! The rules for znode paths (`PathUtils`).

use super::codes::KeeperCode;

/// The nodes that every tree has and nobody deletes.
pub const ZOOKEEPER: &str = "/zookeeper";
pub const QUOTA: &str = "/zookeeper/quota";
pub const CONFIG: &str = "/zookeeper/config";

/// The root is kept under the empty string, as in ZooKeeper's files and digests.
pub fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

/// The path of a key, as events and listings show it.
pub fn shown(key: &str) -> &str {
    if key.is_empty() { "/" } else { key }
}

/// Parent and last component of a key.
pub fn split(key: &str) -> Option<(&str, &str)> {
    key.rsplit_once('/')
}

pub fn is_special(path: &str) -> bool {
    matches!(path, "/" | ZOOKEEPER | QUOTA | CONFIG)
}

/// Whether a node may have this path.
pub fn validate(path: &str) -> Result<(), KeeperCode> {
    let components = match path.strip_prefix('/') {
        None => return Err(KeeperCode::BadArguments),
        Some("") => return Ok(()),
        Some(components) => components,
    };
    let fine = components.split('/').all(|part| !matches!(part, "" | "." | "..") && part.chars().all(is_allowed));
    if fine { Ok(()) } else { Err(KeeperCode::BadArguments) }
}

/// Java looks at UTF-16 units, so everything beyond the basic plane counts as a surrogate and is refused.
fn is_allowed(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_validated() {
        for good in ["/", "/a", "/a/b", "/a.b", "/...", "/.a", "/a..", "/ä", "/a b"] {
            assert!(validate(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "a/b", "/a/", "//", "//a", "/a//b", "/.", "/..", "/a/.", "/a/../b", "/a\0", "/\u{1}"] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
        for bad in ["/\u{7f}", "/\u{9f}", "/\u{e000}", "/\u{ffff}", "/\u{fffd}", "/\u{1f600}"] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }
}
