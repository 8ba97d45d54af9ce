//! A small MySQL client: what the demo and load generators need, and no more.
//!
//! A connection is blocking and belongs to one thread. Results come as text, as MySQL sends them to `COM_QUERY`; a large
//! one is handed over row by row and never held whole. `LOAD DATA LOCAL INFILE` asks its caller for the contents piece by
//! piece, so no file has to exist. Passwords are proved by `mysql_native_password`; there is no TLS, for both ends are on
//! this machine. `docs/decisions/0004-bench-client.md` says why it is not somebody else's.

mod error;
mod login;
mod packet;
mod result;

use std::io::{BufReader, BufWriter};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub use error::ClientError;
#[cfg(test)]
pub use error::ServerError;
pub use login::Login;
pub use result::{Done, Table};

use packet::Wire;
use result::{Begin, Row, read_begin, read_end_or_row};

/// A server that cannot be reached within this is not there; everything is on this machine.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Bytes of a packet of a loaded file.
const PIECE_BYTES: usize = 256 * 1024;
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

/// A connection to a server.
pub struct Client {
    wire: Wire<BufReader<TcpStream>, BufWriter<TcpStream>>,
}

/// Writes the next piece of a file behind what the buffer holds; false once there is no more.
pub type Contents<'a> = dyn FnMut(&mut Vec<u8>) -> bool + 'a;

impl Client {
    /// Connects and logs in. An answer that takes longer than `patience` counts as a lost connection.
    pub fn connect(address: SocketAddr, login: &Login, patience: Duration) -> Result<Client, ClientError> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let reader = BufReader::with_capacity(PIECE_BYTES, stream.try_clone()?);
        let mut wire = Wire::new(reader, BufWriter::with_capacity(PIECE_BYTES, stream));
        login::log_in(&mut wire, login)?;
        Ok(Client { wire })
    }

    /// Runs a statement whose rows, if it has any, are of no interest.
    pub fn run(&mut self, sql: &str) -> Result<Done, ClientError> {
        self.ask(sql, &mut |_, _| {}, None).map(|(_, done)| done)
    }

    /// Runs a statement and holds its whole result.
    pub fn table(&mut self, sql: &str) -> Result<Table, ClientError> {
        let mut rows = Vec::new();
        let mut bad = None;
        let (columns, _) = self.ask(
            sql,
            &mut |_, row| match row.texts() {
                Ok(texts) => rows.push(texts),
                Err(error) => bad = Some(error),
            },
            None,
        )?;
        match bad {
            Some(error) => Err(error),
            None => Ok(Table { columns, rows }),
        }
    }

    /// Runs a query and hands over each row as it lies on the wire: values in order, each with its length in front, NULL
    /// as one byte of its own. Equal rows are equal bytes.
    pub fn each_row(&mut self, sql: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), ClientError> {
        self.ask(sql, &mut |bytes, _| take(bytes), None).map(drop)
    }

    /// Runs a `LOAD DATA LOCAL INFILE`; whatever file it names, these are its contents.
    pub fn load(&mut self, sql: &str, contents: &mut Contents<'_>) -> Result<Done, ClientError> {
        self.ask(sql, &mut |_, _| {}, Some(contents)).map(|(_, done)| done)
    }

    fn ask(
        &mut self,
        sql: &str,
        take: &mut dyn FnMut(&[u8], Row<'_>),
        contents: Option<&mut Contents<'_>>,
    ) -> Result<(Vec<String>, Done), ClientError> {
        self.wire.begin_command();
        self.wire.send(&[&[COM_QUERY], sql.as_bytes()].concat())?;
        self.wire.flush()?;
        let mut begin = read_begin(&mut self.wire)?;
        if begin == Begin::WantsFile {
            self.send_file(contents)?;
            begin = read_begin(&mut self.wire)?;
        }
        match begin {
            Begin::Done(done) => Ok((Vec::new(), done)),
            Begin::Columns(columns) => loop {
                if let Some(done) = read_end_or_row(&mut self.wire, columns.len(), take)? {
                    return Ok((columns, done));
                }
            },
            Begin::WantsFile => Err(ClientError::Protocol("the server asks for a file twice".into())),
        }
    }

    /// Sends a file, or nothing at all to a statement that was not expected to ask for one.
    fn send_file(&mut self, contents: Option<&mut Contents<'_>>) -> Result<(), ClientError> {
        if let Some(contents) = contents {
            let mut piece = Vec::with_capacity(PIECE_BYTES * 2);
            let mut more = true;
            while more {
                while more && piece.len() < PIECE_BYTES {
                    more = contents(&mut piece);
                }
                if !piece.is_empty() {
                    self.wire.send(&piece)?;
                    piece.clear();
                }
            }
        }
        self.wire.send(&[])?;
        self.wire.flush()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The server may be gone already; it notices the end of the connection as well.
        self.wire.begin_command();
        let _ = self.wire.send(&[COM_QUIT]).and_then(|()| self.wire.flush());
    }
}

#[cfg(test)]
mod tests;
