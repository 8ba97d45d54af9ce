//! Commands about transactions: the world is the coordinator, and keeps what it was told.

use bytes::Bytes;
use replication::{Answer, Input, Ticket, Touch, TxnRequest};
use types::{Ordinal, PromotionId, Revision, SchemaVersion, Timestamp, TxnId, Write};

use super::command::{Command, Txn};
use super::{Done, World};

impl World {
    pub(super) fn obey_transaction(&mut self, command: &Command) -> Done {
        use Command::*;
        match command {
            Lock { node, txn, keys, stamp, count, epoch, schema } => {
                if let Some(schema) = schema {
                    self.touches.entry((*node, txn.0)).or_default().schema = Some(SchemaVersion(*schema));
                }
                let mut touch = self.touch(*node, *txn);
                touch.count = count.unwrap_or(touch.count);
                match epoch.as_deref() {
                    Some("none") => touch.epoch = None,
                    Some(_) => {
                        touch.epoch = touch.epoch.map(|epoch| types::Epoch { number: epoch.number + 99, ..epoch })
                    }
                    None => {}
                }
                let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
                let stamp = Revision(stamp.unwrap_or(0));
                self.request(*node, txn.0, TxnRequest::Lock { txn: txn.0, touch, stamp, keys })
            }
            Buffer { node, txn, writes } => {
                self.request(*node, txn.0, TxnRequest::Buffer { txn: txn.0, writes: rows(writes) })
            }
            Commit { node, txn } => {
                let touch = self.touch(*node, *txn);
                self.request(*node, txn.0, TxnRequest::Commit { txn: txn.0, touch })
            }
            Write { node, txn, writes } => {
                self.lock_and_buffer(*node, *txn, writes)?;
                self.obey_transaction(&Commit { node: *node, txn: *txn })
            }
            Prepare { node, txn, first, writes } => {
                self.lock_and_buffer(*node, *txn, writes)?;
                self.obey_transaction(&PrepareBuffered { node: *node, txn: *txn, first: *first })
            }
            PrepareBuffered { node, txn, first } => {
                let touch = self.touch(*node, *txn);
                self.request(*node, txn.0, TxnRequest::Prepare { txn: txn.0, touch, first: Ordinal(*first) })
            }
            Decide { node, txn, ts } => {
                self.request(*node, txn.0, TxnRequest::Decide { txn: txn.0, decision: ts.map(Timestamp) })
            }
            Finish { node, txn, first, ts } => {
                let first = Ordinal(*first);
                self.request(*node, txn.0, TxnRequest::Finish { txn: txn.0, first, decision: ts.map(Timestamp) })
            }
            Inquire { node, txn, history } => self.inquire(*node, txn.0, history.map(PromotionId)),
            Alive { node, txn } => self.request(*node, txn.0, TxnRequest::Alive { txn: txn.0 }),
            Withdraw { node, txn } => self.request(*node, txn.0, TxnRequest::Withdraw { txn: txn.0 }),
            Rollback { node, txn } => self.request(*node, txn.0, TxnRequest::Rollback { txn: txn.0 }),
            Forget { node, txns } => {
                let txns: Vec<TxnId> = txns.iter().map(|txn| txn.0).collect();
                self.request(*node, txns[0], TxnRequest::Forget { txns })
            }
            Settle { node, view, schema } => {
                let view = view.map_or(Timestamp::MAX, Timestamp);
                let schema = schema.map(SchemaVersion);
                self.request(*node, TxnId(0), TxnRequest::Settle { view, schema })
            }
            Require { node, schema, history } => {
                let (version, history) = (SchemaVersion(*schema), history.map(PromotionId));
                self.request(*node, TxnId(0), TxnRequest::Require { version, history })
            }
            Cancel { node, ticket } => self.step(*node, Input::Cancel { ticket: Ticket(*ticket) }),
            Publish { node, ts } => self.step(*node, Input::Publish { ts: Timestamp(*ts) }),
            Final { node, ts } => self.step(*node, Input::Final { ts: Timestamp(*ts) }),
            other => Err(format!("{other:?} is not known here").into()),
        }
    }

    fn lock_and_buffer(&mut self, node: u64, txn: Txn, writes: &[(String, String)]) -> Done {
        let keys = writes.iter().map(|(key, _)| key.clone()).collect();
        self.obey_transaction(&Command::Lock { node, txn, keys, stamp: None, count: None, epoch: None, schema: None })?;
        self.obey_transaction(&Command::Buffer { node, txn, writes: writes.to_vec() })
    }

    fn touch(&self, node: u64, txn: Txn) -> Touch {
        self.touches.get(&(node, txn.0)).copied().unwrap_or_default()
    }

    fn inquire(&mut self, node: u64, txn: TxnId, history: Option<PromotionId>) -> Done {
        self.request(node, txn, TxnRequest::Inquire { txn, history })
    }

    fn request(&mut self, node: u64, txn: TxnId, request: TxnRequest) -> Done {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket.0, (node, txn));
        self.step(node, Input::Txn { ticket, request })
    }

    /// The coordinator learns where its transaction stands.
    pub(super) fn note_answer(&mut self, ticket: Ticket, answer: &Answer) {
        let Some(at) = self.tickets.remove(&ticket.0) else { return };
        let touch = self.touches.entry(at).or_default();
        match answer {
            Answer::Locked { epoch } => touch.epoch = Some(touch.epoch.unwrap_or(*epoch)),
            Answer::Buffered { count } => touch.count = *count,
            _ => {}
        }
    }
}

/// `key=value`; a value of `-` deletes.
fn rows(writes: &[(String, String)]) -> Vec<Write> {
    let bytes = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    let value = |text: &String| (text != "-").then(|| bytes(text));
    writes.iter().map(|(key, text)| Write { key: bytes(key), value: value(text) }).collect()
}
