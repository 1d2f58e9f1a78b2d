//! Appends of a shard that are under way, each with its batch and what it is for.
//!
//! Invariant: tokens rise, so that the order of the appends is the order of the log.

use super::shard::WriteToken;
use std::collections::BTreeMap;

/// Batches `B`, for purposes `P`.
#[derive(Clone)]
pub struct Writes<B, P> {
    last_token: u64,
    open: BTreeMap<WriteToken, (B, P)>,
}

impl<B, P> Default for Writes<B, P> {
    fn default() -> Writes<B, P> {
        Writes { last_token: 0, open: BTreeMap::new() }
    }
}

impl<B, P> Writes<B, P> {
    pub fn begin(&mut self, batch: B, purpose: P) -> WriteToken {
        let token = WriteToken(self.next_token());
        self.open.insert(token, (batch, purpose));
        token
    }

    /// A number that no append has.
    pub fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    pub fn end(&mut self, token: WriteToken) -> Option<(B, P)> {
        self.open.remove(&token)
    }

    pub fn batch(&self, token: WriteToken) -> Option<&B> {
        self.open.get(&token).map(|(batch, _)| batch)
    }

    /// The newest append of those that `wanted` wants.
    pub fn last(&self, wanted: impl Fn(&B) -> bool) -> Option<WriteToken> {
        self.open.iter().rev().find(|(_, (batch, _))| wanted(batch)).map(|(token, _)| *token)
    }

    /// All that is under way, when nobody will hear of it any longer.
    pub fn abandon(self) -> impl Iterator<Item = P> {
        self.open.into_values().map(|(_, purpose)| purpose)
    }
}
