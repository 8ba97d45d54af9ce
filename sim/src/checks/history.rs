//! What the checks between regions compare with: a tree of terms.
//!
//! A promotion starts a term; its list of promotions names it. The rows of a term at a view are its own commits at or
//! below the view, over the rows of its parent at the smaller of the view and the promotion's cut. A commit belongs to
//! the term of its epoch, from the instant at which its decision is committed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::{Epoch, Ordinal, Promotion, PromotionId, Timestamp, TxnId};

/// Rows by partition and key, each the transaction that wrote it.
pub type Rows = BTreeMap<(Ordinal, Bytes), TxnId>;

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    /// When.
    pub ts: Timestamp,
    /// Its rows.
    pub keys: Vec<(Ordinal, Bytes)>,
}

/// Whether what was committed in the term `of` at `ts` is a part of the term `term`.
pub fn holds(term: &[Promotion], of: &[Promotion], ts: Timestamp) -> bool {
    term.starts_with(of) && term[of.len()..].iter().all(|promotion| ts <= promotion.cut)
}

/// All terms.
#[derive(Debug, Default)]
pub struct History {
    commits: BTreeMap<Vec<Promotion>, BTreeMap<TxnId, Commit>>,
    epochs: BTreeMap<(Ordinal, Epoch), Vec<Promotion>>,
    /// Every promotion: its list, itself last.
    pub lists: BTreeMap<PromotionId, Vec<Promotion>>,
    /// Those that a person ordered, or a recovery; the others came with a token.
    pub forced: BTreeSet<PromotionId>,
}

impl History {
    /// An epoch starts in a term.
    pub fn start(&mut self, ordinal: Ordinal, epoch: Epoch, term: Vec<Promotion>) {
        self.epochs.insert((ordinal, epoch), term);
    }

    /// The term of an epoch.
    pub fn term(&self, ordinal: Ordinal, epoch: Epoch) -> Option<&Vec<Promotion>> {
        self.epochs.get(&(ordinal, epoch))
    }

    /// A decision is committed.
    pub fn commit(&mut self, ordinal: Ordinal, epoch: Epoch, txn: TxnId, commit: Commit) {
        let term = self.epochs.get(&(ordinal, epoch)).cloned().unwrap_or_default();
        self.commits.entry(term).or_default().insert(txn, commit);
    }

    /// Transactions that are visible in a term at a view, each once.
    pub fn visible(&self, term: &[Promotion], view: Timestamp) -> BTreeMap<TxnId, &Commit> {
        let mut view = view;
        let mut found = BTreeMap::new();
        for length in (0..=term.len()).rev() {
            if let Some(commits) = self.commits.get(&term[..length]) {
                found
                    .extend(commits.iter().filter(|(_, commit)| commit.ts <= view).map(|(txn, commit)| (*txn, commit)));
            }
            if length > 0 {
                view = view.min(term[length - 1].cut);
            }
        }
        found
    }

    /// The rows of a term at a view.
    pub fn rows(&self, term: &[Promotion], view: Timestamp) -> Rows {
        let visible = self.visible(term, view);
        let mut commits: Vec<_> = visible.into_iter().map(|(txn, commit)| (commit.ts, txn, commit)).collect();
        commits.sort_by_key(|(ts, txn, _)| (*ts, *txn));
        commits.into_iter().flat_map(|(_, txn, commit)| commit.keys.iter().map(move |key| (key.clone(), txn))).collect()
    }

    /// Whether two terms differ by nothing but hand-overs.
    pub fn only_handed_over(&self, one: &[Promotion], other: &[Promotion]) -> bool {
        let shared = one.iter().zip(other).take_while(|(a, b)| a == b).count();
        one[shared..].iter().chain(&other[shared..]).all(|promotion| !self.forced.contains(&promotion.id))
    }
}
