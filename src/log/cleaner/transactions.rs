//! Which batches belong to aborted transactions, and when a marker is of no use any more (class `CleanedTransactionMetadata`).
//!
//! Invariant: batches are shown in the order of the log. The data of an aborted transaction goes at once; its marker and its
//! entry in the transaction index stay as long as a pass still meets a batch of it.

use crate::log::transaction_index::AbortedTransaction;
use crate::record::{BatchHeader, EndTxnMarker};
use std::collections::{HashMap, HashSet, VecDeque};

#[derive(Clone, Copy)]
struct OpenAborted {
    transaction: AbortedTransaction,
    /// A batch of it was met in this pass.
    is_seen: bool,
}

#[derive(Default)]
pub struct Transactions {
    /// Those that have not begun yet, by first offset.
    coming: VecDeque<AbortedTransaction>,
    aborted: HashMap<i64, OpenAborted>,
    /// Producers with a transaction that commits, of which a batch was met.
    committed: HashSet<i64>,
    retained: Vec<AbortedTransaction>,
}

/// What a batch is, as far as transactions go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Live,
    /// Data of an aborted transaction.
    Aborted,
    /// A marker of which no data is left: it goes when its horizon has passed.
    UselessMarker,
}

impl Transactions {
    pub fn new(mut aborted: Vec<AbortedTransaction>) -> Transactions {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        Transactions { coming: aborted.into(), ..Transactions::default() }
    }

    /// Takes note of a batch of format 2; `marker` of a control batch, `None` if it has no record any more.
    pub fn see(&mut self, header: &BatchHeader, marker: Option<EndTxnMarker>) -> Standing {
        self.begin_up_to(header.last_offset());
        match (header.is_control(), marker) {
            (true, marker) => self.see_control(header, marker),
            (false, _) if header.is_transactional() => self.see_data(header),
            (false, _) => Standing::Live,
        }
    }

    fn begin_up_to(&mut self, offset: i64) {
        while self.coming.front().is_some_and(|next| next.first_offset <= offset) {
            let Some(transaction) = self.coming.pop_front() else { return };
            let open = OpenAborted { transaction, is_seen: false };
            self.aborted.entry(transaction.producer_id.0).or_insert(open);
        }
    }

    fn see_data(&mut self, header: &BatchHeader) -> Standing {
        let id = header.producer_id();
        match self.aborted.get_mut(&id) {
            Some(open) if header.base_offset() <= open.transaction.last_offset => {
                open.is_seen = true;
                Standing::Aborted
            }
            _ => {
                // A transaction whose marker is gone does not reach further than the marker did.
                self.aborted.remove(&id);
                self.committed.insert(id);
                Standing::Live
            }
        }
    }

    fn see_control(&mut self, header: &BatchHeader, marker: Option<EndTxnMarker>) -> Standing {
        let Some(marker) = marker else { return Standing::UselessMarker };
        let id = header.producer_id();
        let is_used = if marker.commit {
            self.committed.remove(&id)
        } else {
            let ended = self.aborted.remove(&id).filter(|open| open.is_seen);
            self.retained.extend(ended.map(|open| open.transaction));
            ended.is_some()
        };
        if is_used { Standing::Live } else { Standing::UselessMarker }
    }

    /// Entries for the new transaction index, of the markers seen since the last call.
    pub fn take_retained(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.retained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProducerId;

    fn aborted(id: i64, first: i64, last: i64) -> AbortedTransaction {
        let producer_id = ProducerId(id);
        AbortedTransaction { producer_id, first_offset: first, last_offset: last, last_stable_offset: last + 1 }
    }

    fn header(id: i64, offset: i64, is_control: bool) -> BatchHeader {
        let mut header = BatchHeader::new();
        header.set_producer_id(id);
        header.set_base_offset(offset);
        header.set_transactional(true);
        header.set_control(is_control);
        header
    }

    #[test]
    fn data_and_markers() {
        let mut transactions = Transactions::new(vec![aborted(1, 20, 25), aborted(1, 0, 4), aborted(2, 1, 5)]);
        let abort = Some(EndTxnMarker { commit: false, coordinator_epoch: 0 });
        let commit = Some(EndTxnMarker { commit: true, coordinator_epoch: 0 });
        let mut plain = header(-1, 3, false);
        plain.set_transactional(false);
        // Producer 1 aborts with data left, producer 2 with none; then 1 commits, and a commit comes without data.
        let steps = [
            ("data of an aborted one", header(1, 0, false), None, Standing::Aborted),
            ("plain", plain, None, Standing::Live),
            ("its marker", header(1, 4, true), abort, Standing::Live),
            ("marker without data", header(2, 5, true), abort, Standing::UselessMarker),
            ("data of a committed one", header(1, 6, false), None, Standing::Live),
            ("its marker", header(1, 7, true), commit, Standing::Live),
            ("marker without data", header(1, 8, true), commit, Standing::UselessMarker),
            ("marker without record", header(1, 9, true), None, Standing::UselessMarker),
            ("aborted once more", header(1, 21, false), None, Standing::Aborted),
            ("beyond a marker that is gone", header(1, 26, false), None, Standing::Live),
        ];
        for (name, header, marker, expected) in steps {
            assert_eq!(transactions.see(&header, marker), expected, "{name}");
        }
        assert_eq!(transactions.take_retained(), [aborted(1, 0, 4)]);
        assert!(transactions.take_retained().is_empty());
    }
}
