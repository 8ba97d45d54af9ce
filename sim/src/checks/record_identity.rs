//! `protocol.md` section 1: `(epoch, LSN)` names one record for ever, in every region, and equal names mean equal
//! prefixes; no epoch is minted twice.

use std::collections::{BTreeMap, BTreeSet};

use types::{Body, Epoch, Lsn, Ordinal, Record};

/// As it is reported.
pub const NAME: &str = "record_identity";

/// Every record ever appended, with the epoch of the one before it.
#[derive(Debug, Default)]
pub struct Names {
    records: BTreeMap<(Ordinal, Epoch, Lsn), (Option<Epoch>, Body)>,
    minted: BTreeSet<(Ordinal, Epoch)>,
}

impl Names {
    /// The record of this name, if there was one.
    pub fn record(&self, ordinal: Ordinal, epoch: Epoch, lsn: Lsn) -> Option<Record> {
        let (_, body) = self.records.get(&(ordinal, epoch, lsn))?;
        Some(Record { epoch, lsn, body: body.clone() })
    }

    /// Takes note of an append.
    pub fn check(
        &mut self,
        ordinal: Ordinal,
        prev: Option<Epoch>,
        record: &Record,
        minted: bool,
    ) -> Result<(), String> {
        let name = (ordinal, record.epoch, record.lsn);
        let start = matches!(record.body, Body::EpochStart { .. });
        if minted && start && !self.minted.insert((ordinal, record.epoch)) {
            return Err(format!("epoch {} of {ordinal} is minted twice", record.epoch));
        }
        match self.records.get(&name) {
            None => {
                self.records.insert(name, (prev, record.body.clone()));
                Ok(())
            }
            Some(_) if minted => Err(format!("{ordinal} {}@{} is written a second time", record.epoch, record.lsn)),
            Some((known, body)) if *known == prev && *body == record.body => Ok(()),
            Some((known, body)) => Err(format!(
                "{ordinal} {}@{} names two records: {body:?} after {known:?}, {:?} after {prev:?}",
                record.epoch, record.lsn, record.body
            )),
        }
    }
}
