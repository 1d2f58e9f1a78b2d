//! What can be wrong with a configuration. Every message is one line that says where, what and what to do.

use std::path::{Path, PathBuf};

/// Longest value that a message shows.
const SHOWN_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("line {line}: {reason}")]
    Malformed { line: usize, reason: String },
    #[error("--override {argument}: must be key=value")]
    BadOverride { argument: String },
    #[error("{name}={value}: must be {allowed}")]
    BadValue { name: String, value: String, allowed: String },
    /// Two values that do not go together.
    #[error("{0}")]
    Conflict(String),
    #[error("{name}={value}: not supported, and to go on without it would be unsafe: {advice}")]
    Unsupported { name: String, value: String, advice: String },
    #[error("Unknown topic config name: {0}")]
    UnknownTopicConfig(String),
    #[error("{origin}: {error}")]
    Located { origin: String, error: Box<ConfigError> },
}

impl ConfigError {
    pub fn bad_value(name: &str, value: &str, allowed: &str) -> ConfigError {
        ConfigError::BadValue { name: shown(name), value: shown(value), allowed: allowed.to_owned() }
    }

    pub fn unsupported(name: &str, value: &str, advice: &str) -> ConfigError {
        ConfigError::Unsupported { name: shown(name), value: shown(value), advice: advice.to_owned() }
    }

    pub fn unreadable(path: &Path, reason: impl ToString) -> ConfigError {
        ConfigError::Unreadable { path: path.to_owned(), reason: reason.to_string() }
    }

    /// Says which file the property stands in.
    pub fn located(self, origin: &str) -> ConfigError {
        match self {
            ConfigError::Located { .. } | ConfigError::Unreadable { .. } => self,
            error => ConfigError::Located { origin: origin.to_owned(), error: Box::new(error) },
        }
    }
}

/// `text` on one line and not too long, so that a file can put nothing else than its own words into a message.
pub fn shown(text: &str) -> String {
    let mut line: String = text.chars().take(SHOWN_MAX).flat_map(escape).collect();
    if text.chars().count() > SHOWN_MAX {
        line.push_str("...");
    }
    line
}

fn escape(letter: char) -> Box<dyn Iterator<Item = char>> {
    if letter.is_control() { Box::new(letter.escape_default()) } else { Box::new(std::iter::once(letter)) }
}
