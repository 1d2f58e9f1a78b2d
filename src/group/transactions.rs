//! Offsets inside transactions: who has some, and the end of it (KIP-98; `openGroupsForProducer` of class `GroupMetadataManager`).
//!
//! Invariant: a marker acts on all offsets of its producer that stand before it in the log: on those that are still being
//! replicated when the marker is reported it acts as soon as they are applied.

use super::message::{Batch, Effect, ReplyToken, Response, WriteToken};
use super::shard::GroupShard;
use crate::base::{ErrorCode, ProducerId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A marker that is in the log before memory has what it ends.
#[derive(Clone)]
struct EarlyMarker {
    after: WriteToken,
    producer: ProducerId,
    commit: bool,
    reply: ReplyToken,
}

#[derive(Clone, Default)]
pub(super) struct Transactions {
    /// Groups with offsets of an open transaction.
    groups: HashMap<ProducerId, BTreeSet<Arc<str>>>,
    early: Vec<EarlyMarker>,
}

impl Transactions {
    pub fn opened(&mut self, producer: ProducerId, group: &Arc<str>) {
        let groups = self.groups.entry(producer).or_default();
        if !groups.contains(group) {
            groups.insert(group.clone());
        }
    }

    /// Those who wait for a marker to act.
    pub fn waiting(&self) -> impl Iterator<Item = ReplyToken> {
        self.early.iter().map(|marker| marker.reply)
    }
}

impl GroupShard {
    /// A marker has been appended behind everything that was appended so far.
    pub(super) fn end_transaction(
        &mut self,
        effects: &mut Vec<Effect>,
        reply: ReplyToken,
        producer: ProducerId,
        commit: bool,
    ) {
        let is_of = |batch: &Arc<Batch>| batch.transaction.is_some_and(|(id, _)| id == producer);
        if let Some(after) = self.writes.last(is_of) {
            return self.transactions.early.push(EarlyMarker { after, producer, commit, reply });
        }
        self.replay_marker(producer, commit);
        effects.push(Effect::Reply(reply, Response::EndTransaction(ErrorCode::None)));
    }

    /// An append ended, which a marker may have waited for.
    pub(super) fn transaction_write_ended(&mut self, effects: &mut Vec<Effect>, token: WriteToken) {
        let due = self.transactions.early.extract_if(.., |marker| marker.after <= token).collect::<Vec<_>>();
        for marker in due {
            self.replay_marker(marker.producer, marker.commit);
            effects.push(Effect::Reply(marker.reply, Response::EndTransaction(ErrorCode::None)));
        }
    }

    /// Applies the marker that ends a transaction.
    pub fn replay_marker(&mut self, producer: ProducerId, commit: bool) {
        for id in self.transactions.groups.remove(&producer).into_iter().flatten() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.offsets.end_transaction(producer, commit);
            if group.is_void() {
                self.groups.remove(&id);
            }
        }
    }
}
