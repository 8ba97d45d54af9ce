//! A node's disk: log, notes and state, with what a process and what power may take away.

use std::collections::BTreeMap;

use bytes::Bytes;
use replication::{Life, Note, Recovered};
use types::state::{self, Get, Outcome, Prepared};
use types::{Lineage, Lsn, Mark, Record, Reign, StartKind, TxnId};

/// Log, notes, state.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The records above `trimmed`.
    pub records: Vec<Record>,
    pub trimmed: Lsn,
    /// Of the trimmed part, too.
    pub lineage: Lineage,
    pub written: Lsn,
    pub durable: Lsn,
    notes: Vec<Note>,
    notes_written: u64,
    notes_durable: u64,
    promised: Reign,
    mark: Mark,
    pub intent: Option<(Lsn, Lineage)>,
    pub incomplete: bool,
    pub state: State,
    pub applied: Lsn,
}

/// The state as a map of bytes.
#[derive(Clone, Debug, Default)]
pub struct State(pub BTreeMap<Bytes, Bytes>);

impl Get for State {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).cloned()
    }
}

impl State {
    fn change(&mut self, mutations: Vec<types::state::Mutation>) {
        for mutation in mutations {
            match mutation.value {
                Some(value) => self.0.insert(mutation.key, value),
                None => self.0.remove(&mutation.key),
            };
        }
    }
}

impl Disk {
    pub fn end(&self) -> Lsn {
        self.records.last().map_or(self.trimmed, |record| record.lsn)
    }

    pub fn append(&mut self, records: &[Record]) {
        for record in records {
            assert_eq!(record.lsn, self.end().next(), "the host is told to append with a gap");
            self.records.push(record.clone());
            if let Some(entry) = record.lineage_entry() {
                self.lineage.push(entry);
            }
        }
    }

    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    pub fn notes(&self) -> u64 {
        self.notes.len() as u64
    }

    pub fn write(&mut self, end: Lsn) {
        self.written = self.written.max(end);
        self.notes_written = self.notes();
    }

    /// The records and notes are synced; returns how many notes are.
    pub fn sync(&mut self, end: Lsn, notes: Option<u64>) -> u64 {
        self.written = self.written.max(end);
        self.durable = self.durable.max(end);
        self.notes_durable = self.notes_durable.max(notes.unwrap_or(self.notes()));
        self.notes_written = self.notes_written.max(self.notes_durable);
        self.notes_durable
    }

    pub fn unsynced(&self) -> bool {
        self.durable < self.end() || self.notes_durable < self.notes()
    }

    pub fn read(&self, from: Lsn, to: Lsn) -> Vec<Record> {
        self.records.iter().filter(|record| from <= record.lsn && record.lsn <= to).cloned().collect()
    }

    pub fn apply(&mut self, to: Lsn) {
        for record in self.read(self.applied.next(), to) {
            let changes = state::apply(&record, &self.state);
            self.state.change(changes);
        }
        self.applied = self.applied.max(to);
    }

    /// Undoes and cuts everything above `to`: steps 3 to 6 of a rewind.
    pub fn rewind(&mut self, to: Lsn) {
        self.cut(to);
        self.intent = None;
    }

    fn cut(&mut self, to: Lsn) {
        while let Some(record) = self.records.pop_if(|record| record.lsn > to) {
            if record.lsn <= self.applied {
                let changes = state::undo(&record, &self.state);
                self.state.change(changes);
                self.applied = record.lsn.prev();
            }
        }
        self.lineage.cut(to);
        self.written = self.written.min(to);
        self.durable = self.durable.min(to);
    }

    /// Log and state become a copy: the state of another node as it stood at `end`, and no records. The mark is forgotten.
    pub fn install(&mut self, mut lineage: Lineage, end: Lsn, state: State) {
        lineage.cut(end);
        (self.records, self.trimmed, self.lineage) = (vec![], end, lineage);
        (self.written, self.durable, self.applied) = (end, end, end);
        (self.state, self.incomplete) = (state, false);
        self.mark = Mark::default();
        for note in self.notes.iter_mut().filter(|note| matches!(note, Note::Mark(_))) {
            *note = Note::Mark(Mark::default());
        }
    }

    pub fn trim(&mut self, to: Lsn) {
        self.trimmed = self.trimmed.max(to);
        self.records.retain(|record| record.lsn > to);
    }

    /// The process ends; with the power, what was not synced goes too.
    pub fn restart(&mut self, power: bool) -> Recovered {
        self.cut(if power { self.durable } else { self.written });
        let kept = if power { self.notes_durable } else { self.notes_written };
        for note in self.notes.drain(..).take(kept as usize) {
            match note {
                Note::Promise(reign) => self.promised = reign,
                Note::Mark(mark) => self.mark = mark,
            }
        }
        (self.notes_written, self.notes_durable) = (0, 0);
        (self.written, self.durable) = (self.end(), self.end());
        self.mark.lsn = self.mark.lsn.min(self.end());
        Recovered {
            life: Life::default(),
            lineage: self.lineage.clone(),
            end: self.end(),
            trimmed: self.trimmed,
            applied: self.applied,
            promised: self.promised,
            mark: self.mark.clone(),
            intent: self.intent.clone(),
            incomplete: self.incomplete,
        }
    }

    /// Prepared transactions without an outcome, and without a promotion above their Prepare.
    pub fn open_prepared(&self) -> Vec<Prepared> {
        let promoted = self.lineage.entries().iter().filter(|entry| entry.kind != StartKind::Failover);
        let aborted_below = promoted.map(|entry| entry.start_lsn).filter(|lsn| *lsn <= self.applied).max();
        let mut open = vec![];
        for key in self.state.0.keys().filter(|key| key[0] == state::Space::Prepared as u8) {
            let txn = TxnId(u128::from_be_bytes(key[1..].try_into().expect("a transaction's key has its id")));
            let prepared = state::prepared(&self.state, txn).expect("its key was just read");
            if state::outcome(&self.state, txn).is_none() && aborted_below.is_none_or(|lsn| lsn < prepared.lsn) {
                open.push(prepared);
            }
        }
        open
    }

    pub fn outcome(&self, txn: TxnId) -> Option<Outcome> {
        let outcome = state::outcome(&self.state, txn)?;
        let dead = outcome.decision.is_some_and(|ts| self.lineage.is_dead(ts, outcome.lsn));
        Some(Outcome { decision: outcome.decision.filter(|_| !dead), ..outcome })
    }
}
