//! What a topic may be called, and which topics are Kafka's own (class `Topic`).

const LENGTH_MAX: usize = 249;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// KRaft's; nobody may create it.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// Whether only brokers write the topic.
pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, "__share_group_state"].contains(&name)
}

/// The reason why `name` cannot be a topic's, in words for the client.
pub fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    let shown = name.escape_debug();
    if name.len() > LENGTH_MAX {
        return Err(format!(
            "Topic name is invalid: the length of '{shown}' is longer than the max allowed length {LENGTH_MAX}"
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(format!(
            "Topic name is invalid: '{shown}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

pub fn is_legal(name: &str) -> bool {
    check(name).is_ok()
}

/// Two topics whose names differ only in `.` and `_` would share a metric's name, so Kafka refuses the second.
pub fn collides(a: &str, b: &str) -> bool {
    let unify = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(unify).eq(b.bytes().map(unify))
}

/// Whether a name holds a character that can collide at all.
pub fn may_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for name in ["", ".", "..", "../../etc", "a/b", "a b", "ä", &"x".repeat(250)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        for name in ["a", "...", "A.b_c-9", &"x".repeat(249)] {
            assert!(check(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(collides("a.b", "a_b"));
        assert!(collides("a.b", "a.b"));
        assert!(!collides("a.b", "a.c"));
        assert!(!collides("a.b", "a..b"));
    }
}
