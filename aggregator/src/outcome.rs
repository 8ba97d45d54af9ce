//! A commit whose answer was lost, and how it is found out what became of it.
//!
//! A commit in one record is asked for at the partition's present primary, whose log has it or will never have it. A
//! two-phase commit is asked for at the first participant, which decides: one that had not is aborted by the question.
//! Where nobody can tell in time the client gets error 1180 with the commit's name, for SHOW TRANSACTION.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sql::Error;
use types::txn::{Answer, TxnRequest};
use types::{DatabaseId, Lsn, Ordinal, PartitionId, Timestamp, TxnId};

use crate::leaves::LeavesError;
use crate::protocol::{LeafAnswer, LeafRequest};
use crate::region::Region;

/// How long a primary may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Names a commit. As text: transaction, database, partition, and where its record stands, with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The transaction.
    pub txn: TxnId,
    /// Where it commits.
    pub partition: PartitionId,
    /// Its record stands above this; `None`: it is a two-phase commit that the partition decides.
    pub above: Option<Lsn>,
}

/// Nobody can tell how it ended: not now, or not any more.
#[derive(Clone, Debug)]
pub struct Untold(pub String);

impl Sent {
    /// When it was committed; `None`: it was not, and never is.
    pub async fn outcome(&self, region: &Region) -> Result<Option<Timestamp>, Untold> {
        let Sent { txn, partition, above } = *self;
        let request = match above {
            Some(above) => LeafRequest::Outcome { partition, txn, above },
            None => LeafRequest::Txn { partition, request: TxnRequest::Inquire { txn, history: None } },
        };
        match region.leaves.ask(partition, &request, ANSWER_TIME, true).await {
            Ok(LeafAnswer::Txn(Answer::Decided { decision })) => Ok(decision),
            Ok(LeafAnswer::Refused(refusal)) => Err(Untold(format!("{refusal:?}"))),
            Ok(other) => Err(Untold(format!("a leaf answers {other:?}"))),
            Err(error @ (LeavesError::Gone(_) | LeavesError::NoPrimary { .. } | LeavesError::Unknown { .. })) => {
                Err(Untold(error.to_string()))
            }
        }
    }

    /// 1180.
    pub fn unknown(&self, why: &Untold) -> Error {
        let text = format!(
            "The outcome of this commit is unknown: its answer was lost, and nobody can tell it now ({}); ask later: SHOW TRANSACTION '{self}'",
            why.0
        );
        Error::new(1180, text)
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sent { txn, partition: PartitionId { database, ordinal }, above } = self;
        write!(f, "{:032x}:{database}:{ordinal}:", txn.0)?;
        match above {
            Some(above) => write!(f, "{above}"),
            None => f.write_str("decides"),
        }
    }
}

impl FromStr for Sent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Sent, Error> {
        let no_name = || Error::new(1231, format!("'{text}' is no transaction that error 1180 has named"));
        let parts: Vec<&str> = text.split(':').collect();
        let [txn, database, ordinal, above] = parts[..] else { return Err(no_name()) };
        let above = match above {
            "decides" => None,
            lsn => Some(Lsn(lsn.parse().map_err(|_| no_name())?)),
        };
        Ok(Sent {
            txn: TxnId(u128::from_str_radix(txn, 16).map_err(|_| no_name())?),
            partition: PartitionId {
                database: DatabaseId(database.parse().map_err(|_| no_name())?),
                ordinal: Ordinal(ordinal.parse().map_err(|_| no_name())?),
            },
            above,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_name_is_read_back() {
        let partition = PartitionId { database: DatabaseId(7), ordinal: Ordinal(-1) };
        for above in [None, Some(Lsn(900))] {
            let sent = Sent { txn: TxnId(5 << 100), partition, above };
            assert_eq!(sent.to_string().parse::<Sent>(), Ok(sent));
        }
        for text in ["", "x", "1:2:3", "g:1:2:3", "1:2:3:4:5", "1:-1:0:3"] {
            assert_eq!(text.parse::<Sent>().unwrap_err().code, 1231, "{text}");
        }
    }
}
