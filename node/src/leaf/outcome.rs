//! How a transaction of one partition ended, whose commit was sent and not answered.
//!
//! The log knows. What holds locks here and is not being committed is rolled back first, and never commits after that;
//! what is being committed is waited for. Then the transaction's record is among those that are committed and applied, or
//! nowhere: a primary serves when all that earlier ones may have acknowledged is committed, and what is not in its log
//! by then no other primary can commit.

use std::time::Duration;

use storage::log::{NodeLog, ReadError};
use types::txn::{Answer, Refusal, TxnRequest};
use types::{Body, Lsn, PartitionId, Timestamp, TxnId};

use super::partition::PartitionHandle;

/// Between two looks at a transaction that is being committed.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of the log that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Waits until a transaction is committed, or holds nothing. An answer that is none of these two: it is not known here.
pub async fn end(handle: &PartitionHandle, txn: TxnId) -> Option<Answer> {
    loop {
        match handle.txn(TxnRequest::Rollback { txn }).await? {
            // It is being committed.
            Answer::Refused(Refusal::Stale) => tokio::time::sleep(LOOK).await,
            answer => return Some(answer),
        }
    }
}

/// The commit time of a transaction whose record stands above `above` and no higher than `applied`; `None`: there is none.
pub fn committed(
    log: &NodeLog,
    partition: PartitionId,
    txn: TxnId,
    above: Lsn,
    applied: Lsn,
) -> Result<Option<Timestamp>, ReadError> {
    let mut next = above.next();
    while next <= applied {
        let records = log.read(partition, next, READ_BYTES)?;
        let Some(last) = records.last() else { break };
        next = last.lsn.next();
        let found = records.iter().take_while(|record| record.lsn <= applied).find_map(|record| match &record.body {
            Body::Commit { txn: of, ts, .. } if *of == txn => Some(*ts),
            _ => None,
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
