//! What a topic may be called, and which topics are Kafka's own (class `Topic`).

const LENGTH_MAX: usize = 249;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// Whether only brokers write the topic.
pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, "__share_group_state"].contains(&name)
}

/// The reason why `name` cannot be a topic's, in words for the client.
pub fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a topic name must not be empty".into());
    }
    if name == "." || name == ".." {
        return Err(format!("a topic cannot be called '{name}'"));
    }
    if name.len() > LENGTH_MAX {
        return Err(format!("a topic name has at most {LENGTH_MAX} characters, this one has {}", name.chars().count()));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(format!(
            "topic name '{}' contains characters other than ASCII letters, digits, '.', '_' and '-'",
            name.escape_debug()
        ));
    }
    Ok(())
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
}
