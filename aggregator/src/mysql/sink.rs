//! The [`ResultSink`] of a connection: one command's results, in the order that clients can follow.
//!
//! Invariants:
//! * What is sent is always a prefix of a well-formed answer; a call out of order is refused with error 1105.
//! * A failure of the socket is kept and ends the connection, whatever the session makes of it.
//! * When a command ends, the client has sent its file to the end.

use async_trait::async_trait;
use bytes::Bytes;

use super::codec::put_length;
use super::column::Column;
use super::constants::Capabilities;
use super::error::{self, SqlError};
use super::infile::{self, Transfer};
use super::resultset::{
    write_binary_row, write_column, write_end, write_end_of_columns, write_error, write_ok, write_text_row,
};
use super::session::{Completion, ResultSink, Status};
use super::socket::{Socket, SocketError};
use super::value::Value;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// For COM_QUERY.
    Text,
    /// For COM_STMT_EXECUTE.
    Binary,
}

/// What the client expects next.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Result,
    Rows(Vec<Column>),
    Nothing,
}

/// Takes one command's results.
pub struct Sink<'a> {
    socket: &'a mut Socket,
    capabilities: Capabilities,
    format: RowFormat,
    /// Of the session as far as its results have told.
    status: Status,
    expected: Expected,
    transfer: Transfer,
    broken: Option<SocketError>,
}

impl<'a> Sink<'a> {
    /// Nothing of the answer is sent yet; `status` is that of the session before the command.
    pub fn new(socket: &'a mut Socket, capabilities: Capabilities, format: RowFormat, status: Status) -> Sink<'a> {
        Sink {
            socket,
            capabilities,
            format,
            status,
            expected: Expected::Result,
            transfer: Transfer::Idle,
            broken: None,
        }
    }

    /// Ends the answer with what the session made of the command.
    pub async fn finish(mut self, result: Result<(), SqlError>) -> Result<(), SocketError> {
        while self.broken.is_none() && self.transfer == Transfer::Running {
            if let Err(error) = self.next_chunk().await {
                tracing::debug!(%error, "the rest of a file was not read");
            }
        }
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let is_complete = self.expected == Expected::Nothing;
        let error = match result {
            Ok(()) if is_complete => None,
            Ok(()) => Some(out_of_order("the statement ended without the end of its result")),
            Err(error) if is_complete => {
                // The client has its answer, and would take this for the answer to its next command.
                tracing::error!(%error, "a statement failed after its last result; the connection is closed");
                return Err(SocketError::Closed);
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            self.socket.put(|out| write_error(out, &error));
        }
        self.socket.flush().await
    }

    /// Keeps a failure of the socket and shows it to the statement.
    fn checked<T>(&mut self, result: Result<T, SocketError>) -> Result<T, SqlError> {
        result.map_err(|error| {
            let seen = error.to_sql_error();
            self.broken.get_or_insert(error);
            seen
        })
    }

    /// True when a result may begin.
    fn expect_result(&self) -> Result<(), SqlError> {
        match (&self.broken, &self.expected, self.transfer) {
            (Some(broken), ..) => Err(broken.to_sql_error()),
            (None, Expected::Result, Transfer::Idle) => Ok(()),
            (None, Expected::Result, Transfer::Running) => Err(out_of_order("a result before the end of the file")),
            (None, Expected::Rows(_), _) => Err(out_of_order("a result before the end of the rows")),
            (None, Expected::Nothing, _) => Err(out_of_order("a result after the last one")),
        }
    }

    fn expect_after(&mut self, completion: &Completion) {
        self.status = completion.status;
        self.expected = if completion.more_results { Expected::Result } else { Expected::Nothing };
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, SqlError> {
        if self.transfer == Transfer::Idle {
            return Ok(None);
        }
        let read = self.socket.read_packet().await;
        let chunk = self.checked(read)?;
        if chunk.is_empty() {
            self.transfer = Transfer::Idle;
            return Ok(None);
        }
        Ok(Some(chunk))
    }

    /// Reads and drops what the client still sends of its file.
    async fn drain(&mut self) -> Result<(), SqlError> {
        while self.next_chunk().await?.is_some() {}
        Ok(())
    }
}

fn out_of_order(what: &str) -> SqlError {
    SqlError::new(error::UNKNOWN_ERROR, format!("internal error: {what}"))
}

#[async_trait]
impl ResultSink for Sink<'_> {
    async fn columns(&mut self, columns: Vec<Column>) -> Result<(), SqlError> {
        self.expect_result()?;
        if columns.is_empty() {
            return Err(out_of_order("rows without columns"));
        }
        self.socket.put(|out| put_length(out, columns.len() as u64));
        for column in &columns {
            self.socket.put(|out| write_column(out, column, false));
        }
        if !self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            let status = self.status;
            self.socket.put(|out| write_end_of_columns(out, status));
        }
        self.expected = Expected::Rows(columns);
        let flushed = self.socket.flush_if_full().await;
        self.checked(flushed)
    }

    async fn row(&mut self, row: &[Value<'_>]) -> Result<(), SqlError> {
        if let Some(broken) = &self.broken {
            return Err(broken.to_sql_error());
        }
        let Expected::Rows(columns) = &self.expected else {
            return Err(out_of_order("a row without columns"));
        };
        self.socket.try_put(|out| match self.format {
            RowFormat::Text => write_text_row(out, columns, row),
            RowFormat::Binary => write_binary_row(out, columns, row),
        })?;
        let flushed = self.socket.flush_if_full().await;
        self.checked(flushed)
    }

    async fn end(&mut self, completion: Completion) -> Result<(), SqlError> {
        if let Some(broken) = &self.broken {
            return Err(broken.to_sql_error());
        }
        if !matches!(self.expected, Expected::Rows(_)) {
            return Err(out_of_order("an end of rows without columns"));
        }
        let capabilities = self.capabilities;
        self.socket.put(|out| write_end(out, capabilities, &completion));
        self.expect_after(&completion);
        let flushed = self.socket.flush_if_full().await;
        self.checked(flushed)
    }

    async fn ok(&mut self, completion: Completion) -> Result<(), SqlError> {
        self.drain().await?;
        self.expect_result()?;
        self.socket.put(|out| write_ok(out, &completion));
        self.expect_after(&completion);
        let flushed = self.socket.flush_if_full().await;
        self.checked(flushed)
    }

    async fn infile(&mut self, name: &str) -> Result<(), SqlError> {
        self.expect_result()?;
        infile::check_allowed(self.capabilities, self.format == RowFormat::Binary)?;
        self.socket.put(|out| infile::write_request(out, name));
        self.transfer = Transfer::Running;
        let flushed = self.socket.flush().await;
        self.checked(flushed)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, SqlError> {
        self.next_chunk().await
    }
}
