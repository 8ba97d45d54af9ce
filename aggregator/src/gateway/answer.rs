//! Results of the SQL layer as the wire wants them.

use futures::StreamExt;
use sql::answer::{Answer, Done, ResultColumn, Rows};
use sql::scalar::SessionZone;
use types::Datum;
use types::value::{ColumnType, Zone};

use super::run::interrupted;
use super::{ClientSession, wire};
use crate::mysql::constants::{Capabilities, column_flag};
use crate::mysql::{Column, ColumnKind, Completion, ResultSink, Session, SqlError, Value};

/// A column as the client is told of it.
pub fn column(column: &ResultColumn) -> Column {
    let mut made = Column::new(column.name.clone(), ColumnKind::from(column.ty));
    made.table = column.table.clone();
    if !column.nullable {
        made.flags |= column_flag::NOT_NULL;
    }
    made
}

/// What is told of the parameters of a prepared statement: their number.
pub fn parameters(count: usize) -> Vec<Column> {
    (0..count).map(|_| Column::new("?", ColumnKind::VarChar(255))).collect()
}

/// Rows that are there already.
pub fn table(columns: Vec<ResultColumn>, rows: Vec<Vec<Datum>>) -> Answer {
    Answer::Rows(Rows::of(columns, rows))
}

/// A value in its column's type.
fn value<'a>(datum: &'a Datum, column: &ResultColumn, zone: &SessionZone) -> Value<'a> {
    match (datum, column.ty) {
        (Datum::Timestamp(micros), ColumnType::Timestamp(_)) => Value::DateTime((zone as &dyn Zone).to_local(*micros)),
        _ => Value::of_datum(datum, zone),
    }
}

impl ClientSession {
    /// Sends an answer.
    pub(super) async fn send(&mut self, answer: Answer, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        match answer {
            Answer::Rows(rows) => self.send_rows(rows, more, out).await,
            Answer::Done(done) => self.send_done(done, more, out).await,
        }
    }

    async fn send_rows(&mut self, rows: Rows, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let Rows { columns, mut rows, env } = rows;
        let zone = self.variables.zone();
        let mut first = Some(self.until_killed(rows.next()).await?.transpose().map_err(wire)?.unwrap_or_default());
        out.columns(columns.iter().map(column).collect()).await?;
        let mut count = 0u64;
        loop {
            let portion = match first.take() {
                Some(portion) => portion,
                None => match self.until_killed(rows.next()).await?.transpose().map_err(wire)? {
                    Some(portion) => portion,
                    None => break,
                },
            };
            if self.stop.is_cancelled() {
                return Err(wire(interrupted()));
            }
            for row in &portion {
                let values: Vec<Value<'_>> =
                    row.iter().zip(&columns).map(|(datum, column)| value(datum, column, &zone)).collect();
                out.row(&values).await?;
                count += 1;
            }
        }
        self.variables.warnings = env.take_warnings();
        self.variables.found_rows = count;
        self.variables.row_count = -1;
        let completion = self.completion(more);
        out.end(completion).await
    }

    async fn until_killed<T>(&self, run: impl Future<Output = T>) -> Result<T, SqlError> {
        tokio::select! {
            done = run => Ok(done),
            () = self.stop.cancelled() => Err(wire(interrupted())),
        }
    }

    async fn send_done(&mut self, done: Done, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let found = self.client.capabilities.has(Capabilities::FOUND_ROWS);
        self.variables.row_count = i64::try_from(done.affected).unwrap_or(i64::MAX);
        if done.last_insert_id > 0 {
            self.variables.last_insert_id = done.last_insert_id;
        }
        self.variables.warnings = done.warnings;
        let affected_rows = if found { done.matched.max(done.affected) } else { done.affected };
        let base = self.completion(more);
        out.ok(Completion { affected_rows, last_insert_id: done.last_insert_id, info: done.info, ..base }).await
    }

    fn completion(&self, more: bool) -> Completion {
        let warnings = u16::try_from(self.variables.warnings.len()).unwrap_or(u16::MAX);
        Completion { warnings, more_results: more, ..Completion::new(Session::status(self)) }
    }
}
