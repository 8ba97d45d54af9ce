//! A client's stream, plain or encrypted: reads packets, writes packets, and keeps every wait within a limit.
//!
//! This is the only file that touches a stream. What is to be written collects in a buffer that is sent when it
//! reaches [`FLUSH_BYTES`], or when a command has been answered; a write that makes no progress for
//! `write_timeout` ends the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::error::{self, SqlError};
use super::packet::{FrameError, Framer, put_packet};

/// The output buffer is sent when it has this many bytes.
pub const FLUSH_BYTES: usize = 32 * 1024;
/// Bytes that are read at once, within a packet and between packets: an idle client holds the smaller buffer.
const READ_BYTES: usize = 32 * 1024;
const READ_BYTES_IDLE: usize = 2 * 1024;
/// A buffer that grew beyond this is given back when a command is done.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// How long a client that is told good-bye may go on sending.
const LINGER: Duration = Duration::from_secs(3);

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The client has closed its side between two packets.
    #[error("the client closed the connection")]
    Closed,
    /// The client has closed its side within a packet.
    #[error("the client closed the connection within a packet")]
    ClosedWithin,
    #[error("the client sent nothing for {0:?}")]
    ReadTimeout(Duration),
    #[error("the client read nothing for {0:?}")]
    WriteTimeout(Duration),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl SocketError {
    /// The error that a statement sees whose client is gone.
    pub fn to_sql_error(&self) -> SqlError {
        let code = match self {
            SocketError::Frame(error) => return SqlError::from(*error),
            SocketError::WriteTimeout(_) => error::NET_WRITE_INTERRUPTED,
            SocketError::ReadTimeout(_) => error::NET_READ_INTERRUPTED,
            SocketError::Closed | SocketError::ClosedWithin => error::NET_READ_ERROR,
            SocketError::Io(_) => error::NET_ERROR_ON_WRITE,
        };
        SqlError::new(code, format!("Lost connection to the client: {self}"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A client's stream.
pub struct Socket {
    stream: Box<dyn Stream>,
    framer: Framer,
    input: BytesMut,
    output: BytesMut,
    /// Read no byte beyond the current packet: the next one may be encrypted.
    is_exact: bool,
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Socket {
    /// Serves a stream on which nothing has been sent. Packets of at most `packet_bytes_max` bytes are read;
    /// `read_timeout` and `write_timeout` limit waits for progress within a packet.
    pub fn new(stream: TcpStream, packet_bytes_max: usize, read_timeout: Duration, write_timeout: Duration) -> Socket {
        Socket {
            stream: Box::new(stream),
            framer: Framer::new(packet_bytes_max),
            input: BytesMut::new(),
            output: BytesMut::new(),
            is_exact: true,
            read_timeout,
            write_timeout,
        }
    }

    /// From here on the client is known: packets of this size, read as they come.
    pub fn trust(&mut self, packet_bytes_max: usize) {
        self.framer.trust(packet_bytes_max);
        self.is_exact = false;
    }

    /// Encrypts the stream. The client has announced it in the packet that was read last.
    pub async fn start_tls(&mut self, config: Arc<tokio_rustls::rustls::ServerConfig>) -> Result<(), SocketError> {
        assert!(self.input.is_empty(), "{} bytes of plain text would be taken as encrypted", self.input.len());
        assert!(self.output.is_empty(), "{} bytes were not sent before TLS", self.output.len());
        // The empty stream is never read: every error below ends the connection.
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        self.stream = Box::new(TlsAcceptor::from(config).accept(plain).await?);
        Ok(())
    }

    /// The next packet is the first one of a command, or says why there is none: sequence numbers begin anew.
    pub fn begin_command(&mut self) {
        assert!(self.framer.is_idle(), "a packet was left half read");
        *self.framer.sequence() = 0;
        self.give_back_memory();
    }

    /// The first packet of a command that was begun. The client may take `idle` to send it.
    pub async fn read_command(&mut self, idle: Duration) -> Result<Bytes, SocketError> {
        self.read(idle).await
    }

    /// The next packet of an exchange.
    pub async fn read_packet(&mut self) -> Result<Bytes, SocketError> {
        self.read(self.read_timeout).await
    }

    /// Waits up to `idle` for the packet's first byte, and for `read_timeout` at most between two of its pieces.
    async fn read(&mut self, idle: Duration) -> Result<Bytes, SocketError> {
        loop {
            if let Some(payload) = self.framer.decode(&mut self.input)? {
                return Ok(payload);
            }
            let is_between = self.framer.is_idle() && self.input.is_empty();
            let limit = if is_between { idle } else { self.read_timeout };
            let wanted = match (self.is_exact, is_between) {
                (true, _) => self.framer.wanted(self.input.len()).min(READ_BYTES),
                (false, true) => READ_BYTES_IDLE,
                (false, false) => READ_BYTES,
            };
            self.input.reserve(wanted);
            let mut stream = (&mut self.stream).take(wanted as u64);
            match timeout(limit, stream.read_buf(&mut self.input)).await {
                Err(_elapsed) => return Err(SocketError::ReadTimeout(limit)),
                Ok(Ok(0)) if is_between => return Err(SocketError::Closed),
                Ok(Ok(0)) => return Err(SocketError::ClosedWithin),
                Ok(read) => read?,
            };
        }
    }

    /// Appends a packet to what will be sent.
    pub fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        put_packet(&mut self.output, self.framer.sequence(), write);
    }

    /// Appends a packet, or nothing when `write` fails.
    pub fn try_put(&mut self, write: impl FnOnce(&mut BytesMut) -> Result<(), SqlError>) -> Result<(), SqlError> {
        let (length, sequence) = (self.output.len(), *self.framer.sequence());
        let mut result = Ok(());
        self.put(|out| result = write(out));
        if result.is_err() {
            self.output.truncate(length);
            *self.framer.sequence() = sequence;
        }
        result
    }

    /// Sends what has collected if it is much.
    pub async fn flush_if_full(&mut self) -> Result<(), SocketError> {
        if self.output.len() < FLUSH_BYTES { Ok(()) } else { self.flush().await }
    }

    /// Sends what has collected.
    pub async fn flush(&mut self) -> Result<(), SocketError> {
        let limit = self.write_timeout;
        let late = || SocketError::WriteTimeout(limit);
        while !self.output.is_empty() {
            let written = timeout(limit, self.stream.write_buf(&mut self.output)).await.map_err(|_| late())??;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        // An encrypted stream has a buffer of its own.
        timeout(limit, self.stream.flush()).await.map_err(|_| late())??;
        Ok(())
    }

    /// Ends the stream after what has collected is sent. What the client still sends is read and dropped for a
    /// while: were it left, the system would reset the connection, and the client might never see why.
    pub async fn close(mut self) {
        let goodbye = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            let mut dropped = [0; 16 * 1024];
            while self.stream.read(&mut dropped).await? > 0 {}
            Ok::<(), SocketError>(())
        };
        if let Ok(Err(error)) = timeout(LINGER, goodbye).await {
            tracing::debug!(%error, "a client left before it was told good-bye");
        }
    }

    fn give_back_memory(&mut self) {
        if self.output.is_empty() && self.output.capacity() > KEPT_BYTES_MAX {
            self.output = BytesMut::new();
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES_MAX {
            self.input = BytesMut::new();
        }
    }
}
