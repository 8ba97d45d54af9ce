//! What an aggregator asks of the master for its clients. At the master itself it is the same, without a call.

use std::sync::Arc;
use std::time::Duration;

use sql::cluster::Sheet;
use sql::scalar::Ty;
use sql::{Error, Result};
use types::{DatabaseId, Timestamp};

use crate::mysql::Client;
use crate::protocol::{FrontAnswer, FrontRequest, MasterAnswer, MasterRequest, SheetOf, Table};
use crate::region::Region;

/// How long the master may take for what it knows.
const KNOWN_TIME: Duration = Duration::from_secs(2);
/// How long it may take for a plan: it waits for leaves that are starting.
const PLAN_TIME: Duration = Duration::from_secs(15);
/// How long it may take for an order: a copy of a large database takes hours. Its loss is noticed by other means.
const ORDER_TIME: Duration = Duration::from_secs(7 * 86_400);

impl Region {
    /// Asks the master, wherever it is, again and again until one has answered or there has been none for a while (9005).
    pub(crate) async fn ask(self: &Arc<Region>, request: FrontRequest) -> Result<FrontAnswer> {
        let limit = match request {
            FrontRequest::Replicate(_) | FrontRequest::Stop(_) => ORDER_TIME,
            FrontRequest::Plan(_) => PLAN_TIME,
            _ => KNOWN_TIME,
        };
        let message = MasterRequest::Front(Box::new(request.clone()));
        let here = || async {
            match self.master().front(request.clone()).await {
                MasterAnswer::Front(answer) => Some(*answer),
                _ => None,
            }
        };
        let take = |answer| match answer {
            MasterAnswer::Front(answer) => Ok(*answer),
            other => Err(Box::new(other)),
        };
        let asked = self.catalog.at_master(&message, limit, here, take).await;
        asked.map_err(|error| Error::new(9005, error.to_string()))
    }

    /// Up to where a database that follows another region may be read. Zero: not at all.
    pub(crate) async fn cut(self: &Arc<Region>, database: DatabaseId) -> Result<Timestamp> {
        match self.ask(FrontRequest::Cut(database)).await? {
            FrontAnswer::Cut(cut) => Ok(cut),
            other => Err(unexpected(&other)),
        }
    }

    /// Partitions of a database that do not serve yet.
    pub(crate) async fn late(self: &Arc<Region>, database: DatabaseId) -> Result<Vec<String>> {
        match self.ask(FrontRequest::Late(database)).await? {
            FrontAnswer::Late(late) => Ok(late),
            other => Err(unexpected(&other)),
        }
    }

    /// A table of what the master has heard.
    pub(crate) async fn sheet(self: &Arc<Region>, client: &Client, of: SheetOf) -> Result<Sheet> {
        let (user, host, address) = (client.user.clone(), client.host.clone(), client.address);
        match self.ask(FrontRequest::Sheet { of, user, host, address }).await? {
            FrontAnswer::Sheet(table) => table.map(Sheet::from),
            other => Err(unexpected(&other)),
        }
    }
}

/// 1105: an answer to another question.
pub(crate) fn unexpected(answer: &FrontAnswer) -> Error {
    Error::new(1105, format!("the master answers {answer:?}"))
}

impl From<Sheet> for Table {
    fn from(sheet: Sheet) -> Table {
        let columns = sheet.columns.into_iter().map(|(name, ty)| (name, ty == Ty::Int));
        Table { columns: columns.collect(), rows: sheet.rows }
    }
}

impl From<Table> for Sheet {
    fn from(table: Table) -> Sheet {
        let columns = table.columns.into_iter().map(|(name, number)| (name, if number { Ty::Int } else { Ty::Text }));
        Sheet { columns: columns.collect(), rows: table.rows }
    }
}
