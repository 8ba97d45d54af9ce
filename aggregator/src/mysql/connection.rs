//! One client from its first byte to its last: greeting, TLS, login, then command after command.
//!
//! A command that fails is answered with its error and the next one is read. The connection ends when the client
//! quits or leaves, is idle too long, breaks the framing, fails to log in, was killed, or the server stops; where
//! the client can still understand it, it is told why.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::auth::{Exchange, NONCE_BYTES, Plugin, Step};
use super::codec::Malformed;
use super::column::Column;
use super::command::{Command, read_command};
use super::constants::Capabilities;
use super::error::{self, SqlError};
use super::handshake::{self, Hello, Identity};
use super::prepared::Statements;
use super::resultset::{write_column, write_end, write_end_of_columns, write_error, write_ok, write_prepare_ok};
use super::server::Shared;
use super::session::{Client, Completion, ConnectionId, Query, Session};
use super::sink::{RowFormat, Sink};
use super::socket::{Socket, SocketError};

/// Payload bytes of a packet before the client is known: 64 KiB of attributes and some names.
const HELLO_BYTES_MAX: usize = 80 * 1024;

/// Why a connection ends before its client quits.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The client is told, then the connection closed.
    #[error(transparent)]
    Told(#[from] SqlError),
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> End {
        let message = format!("Bad handshake: {malformed}");
        End::Told(SqlError::new(error::HANDSHAKE_ERROR, message))
    }
}

/// Serves a client until it is gone.
pub async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    id: ConnectionId,
    killed: CancellationToken,
    shared: Arc<Shared>,
) {
    let options = &shared.options;
    let mut socket = Socket::new(stream, HELLO_BYTES_MAX, options.read_timeout, options.write_timeout);
    let outcome = match login(&mut socket, address, id, killed, &shared).await {
        Ok((client, session)) => Connection::new(&mut socket, client, session, &shared).serve().await,
        Err(end) => Err(end),
    };
    match outcome {
        Ok(()) => {}
        Err(End::Told(error)) => {
            tracing::info!(%address, connection = id.0, %error, "a client was sent away");
            socket.put(|out| write_error(out, &error));
        }
        Err(End::Socket(SocketError::Frame(error))) => {
            tracing::info!(%address, connection = id.0, %error, "a client broke the framing of packets");
            socket.put(|out| write_error(out, &SqlError::from(error)));
        }
        Err(End::Socket(SocketError::Closed | SocketError::ClosedWithin)) => {}
        Err(End::Socket(error)) => {
            // Nothing can be sent to it, or it would not be read.
            tracing::debug!(%address, connection = id.0, %error, "a client is gone");
            return;
        }
    }
    socket.close().await;
}

/// From the greeting to a session in its database. Everything up to the proof of the password must be done
/// within `connect_timeout`.
async fn login(
    socket: &mut Socket,
    address: SocketAddr,
    id: ConnectionId,
    killed: CancellationToken,
    shared: &Shared,
) -> Result<(Arc<Client>, Box<dyn Session>), End> {
    let limit = shared.options.connect_timeout;
    let introduced = timeout(limit, introduce(socket, address, id, shared)).await;
    let (capabilities, identity, is_tls) = introduced.map_err(|_elapsed| SocketError::ReadTimeout(limit))??;
    socket.trust(shared.options.packet_bytes_max);
    let client = Arc::new(Client {
        connection: id,
        host: handshake::host_name(address.ip()),
        user: identity.user,
        address,
        is_tls,
        capabilities,
        collation: identity.collation,
        attributes: identity.attributes,
        killed,
    });
    let session = open_session(shared, &client, identity.database.as_deref()).await?;
    Ok((client, session))
}

async fn open_session(
    shared: &Shared,
    client: &Arc<Client>,
    database: Option<&str>,
) -> Result<Box<dyn Session>, SqlError> {
    let mut session = shared.factory.open(client.clone()).await?;
    if let Some(database) = database {
        session.init_db(database).await?;
    }
    Ok(session)
}

/// Greeting, TLS if the client wants it, and the proof of its password.
async fn introduce(
    socket: &mut Socket,
    address: SocketAddr,
    id: ConnectionId,
    shared: &Shared,
) -> Result<(Capabilities, Identity, bool), End> {
    let offered = handshake::capabilities(shared.tls.is_some());
    let nonce = new_nonce();
    socket.put(|out| handshake::write_greeting(out, id.0, &nonce, offered));
    socket.flush().await?;
    let mut is_tls = false;
    let mut hello = handshake::read_hello(&socket.read_packet().await?)?;
    if let (Hello::Tls(_), Some(config)) = (&hello, &shared.tls) {
        socket.start_tls(config.clone()).await?;
        is_tls = true;
        hello = handshake::read_hello(&socket.read_packet().await?)?;
    }
    let Hello::Login(wanted, identity) = hello else {
        return Err(Malformed("TLS was asked for where it was not offered").into());
    };
    let capabilities = wanted.common(offered);
    let knows_plugins = capabilities.has(Capabilities::PLUGIN_AUTH);
    let account = shared.authenticator.lookup(&identity.user, address)?;
    let mut exchange = Exchange::new(account, nonce, is_tls, &shared.digests);
    let plugin = match &identity.plugin {
        Some(name) => Plugin::from_name(name),
        None => Some(Plugin::NativePassword),
    };
    let first = exchange.start(plugin, &identity.proof);
    prove(socket, exchange, first, nonce, knows_plugins, &identity.user, address).await?;
    Ok((capabilities, identity, is_tls))
}

/// Goes through the steps of a login until the client has proved who it is.
async fn prove(
    socket: &mut Socket,
    mut exchange: Exchange<'_>,
    mut step: Step,
    nonce: [u8; NONCE_BYTES],
    knows_plugins: bool,
    user: &str,
    address: SocketAddr,
) -> Result<(), End> {
    loop {
        match step {
            Step::Switch(_) if !knows_plugins => {
                let message = "Client does not support authentication protocol requested by server; consider \
                               upgrading MySQL client";
                return Err(SqlError::new(error::NOT_SUPPORTED_AUTH_MODE, message).into());
            }
            Step::Switch(plugin) => socket.put(|out| handshake::write_auth_switch(out, plugin, &nonce)),
            Step::Ask(payload) => socket.put(|out| out.put_slice(payload)),
            Step::Accept(last) => {
                if let Some(payload) = last {
                    socket.put(|out| out.put_slice(payload));
                }
                return Ok(());
            }
            Step::Deny { password_given } => return Err(access_denied(user, address, password_given).into()),
            Step::NeedsTls => {
                let message = format!(
                    "Connections using insecure transport are prohibited for the first login of '{user}' with \
                     caching_sha2_password; connect with TLS"
                );
                return Err(SqlError::new(error::SECURE_TRANSPORT_REQUIRED, message).into());
            }
        }
        socket.flush().await?;
        step = exchange.answer(&socket.read_packet().await?);
    }
}

fn access_denied(user: &str, address: SocketAddr, password_given: bool) -> SqlError {
    let host = handshake::host_name(address.ip());
    let used = if password_given { "YES" } else { "NO" };
    let message = format!("Access denied for user '{user}'@'{host}' (using password: {used})");
    SqlError::new(error::ACCESS_DENIED, message)
}

/// 20 bytes that are neither zero, which would end them early, nor `$`, which old clients take for a separator.
fn new_nonce() -> [u8; NONCE_BYTES] {
    std::array::from_fn(|_| match rand::random_range(1..127) {
        b'$' => 127,
        byte => byte,
    })
}

/// A client that has logged in.
struct Connection<'a> {
    socket: &'a mut Socket,
    client: Arc<Client>,
    session: Box<dyn Session>,
    shared: &'a Shared,
    statements: Statements,
    multi_statements: bool,
}

impl<'a> Connection<'a> {
    fn new(
        socket: &'a mut Socket,
        client: Arc<Client>,
        session: Box<dyn Session>,
        shared: &'a Shared,
    ) -> Connection<'a> {
        let multi_statements = client.capabilities.has(Capabilities::MULTI_STATEMENTS);
        let statements = Statements::new(shared.options.packet_bytes_max);
        Connection { socket, client, session, shared, statements, multi_statements }
    }

    /// Answers the login, then commands until the client leaves.
    async fn serve(mut self) -> Result<(), End> {
        self.send_ok().await?;
        loop {
            let payload = self.next_command().await?;
            self.shared.count_question();
            match self.dispatch(&payload).await? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(()) => return Ok(()),
            }
        }
    }

    /// Waits for a command, a kill, or the stop of the server.
    async fn next_command(&mut self) -> Result<Bytes, End> {
        let idle = self.shared.options.idle_timeout;
        // Whoever is told to go before it was listened to is told so under the number that it expects.
        self.socket.begin_command();
        tokio::select! {
            biased;
            () = self.client.killed.cancelled() => {
                Err(SqlError::new(error::QUERY_INTERRUPTED, "Connection was killed").into())
            }
            () = self.shared.stopping.cancelled() => {
                let message = "Server shutdown in progress; connect to another aggregator";
                Err(SqlError::new(error::SERVER_SHUTDOWN, message).into())
            }
            read = self.socket.read_command(idle) => match read {
                Err(SocketError::ReadTimeout(limit)) if limit == idle => {
                    let message = "The client was disconnected by the server because of inactivity";
                    Err(SqlError::new(error::CLIENT_INTERACTION_TIMEOUT, message).into())
                }
                read => Ok(read?),
            }
        }
    }

    async fn dispatch(&mut self, payload: &[u8]) -> Result<ControlFlow<()>, End> {
        let command = match read_command(payload) {
            Ok(command) => command,
            Err(malformed) => {
                self.answer(Err(malformed.into())).await?;
                return Ok(ControlFlow::Continue(()));
            }
        };
        match command {
            Command::Quit => return Ok(ControlFlow::Break(())),
            Command::Ping => self.send_ok().await?,
            Command::Statistics => self.statistics().await?,
            Command::ResetConnection => self.reset().await?,
            Command::InitDb(name) => self.init_db(name).await?,
            Command::Query(text) => self.query(text).await?,
            Command::FieldList { table, pattern } => self.field_list(table, pattern).await?,
            Command::ChangeUser(rest) => self.change_user(rest).await?,
            Command::SetMultiStatements(is_on) => self.set_multi_statements(is_on).await?,
            Command::Prepare(text) => self.prepare(text).await?,
            Command::Execute { statement, parameters } => self.execute(statement, parameters).await?,
            Command::SendLongData { statement, parameter, data } => {
                self.statements.send_long_data(statement, parameter, data);
            }
            Command::CloseStatement(id) => {
                if self.statements.remove(id) {
                    self.session.close_statement(super::session::StatementId(id)).await;
                }
            }
            Command::ResetStatement(id) => {
                let reset = self.statements.reset(id);
                self.answer(reset).await?;
            }
            Command::Unknown(code) => {
                let message = format!("Unknown command 0x{code:02x}");
                self.answer(Err(SqlError::new(error::UNKNOWN_COM_ERROR, message))).await?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// OK, or the error.
    async fn answer(&mut self, result: Result<(), SqlError>) -> Result<(), End> {
        match result {
            Ok(()) => self.send_ok().await,
            Err(error) => {
                self.socket.put(|out| write_error(out, &error));
                Ok(self.socket.flush().await?)
            }
        }
    }

    async fn send_ok(&mut self) -> Result<(), End> {
        let completion = Completion::new(self.session.status());
        self.socket.put(|out| write_ok(out, &completion));
        Ok(self.socket.flush().await?)
    }

    async fn statistics(&mut self) -> Result<(), End> {
        let text = self.shared.statistics();
        self.socket.put(|out| out.put_slice(text.as_bytes()));
        Ok(self.socket.flush().await?)
    }

    async fn query(&mut self, text: &[u8]) -> Result<(), End> {
        let text = match statement_text(text) {
            Ok(text) => text,
            Err(error) => return self.answer(Err(error)).await,
        };
        let query = Query { text: &text, multi_statements: self.multi_statements };
        let mut sink = Sink::new(self.socket, self.client.capabilities, RowFormat::Text, self.session.status());
        let result = self.session.query(query, &mut sink).await;
        Ok(sink.finish(result).await?)
    }

    async fn init_db(&mut self, name: &[u8]) -> Result<(), End> {
        let result = match sql_text(name) {
            Ok(name) => self.session.init_db(name).await,
            Err(error) => Err(error),
        };
        self.answer(result).await
    }

    async fn reset(&mut self) -> Result<(), End> {
        self.statements.clear();
        let result = self.session.reset().await;
        self.answer(result).await
    }

    async fn set_multi_statements(&mut self, is_on: bool) -> Result<(), End> {
        self.multi_statements = is_on;
        let completion = Completion::new(self.session.status());
        let capabilities = self.client.capabilities;
        self.socket.put(|out| write_end(out, capabilities, &completion));
        Ok(self.socket.flush().await?)
    }

    async fn field_list(&mut self, table: &[u8], pattern: &[u8]) -> Result<(), End> {
        let columns = match (sql_text(table), sql_text(pattern)) {
            (Ok(table), Ok(pattern)) => self.session.field_list(table, pattern).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        let columns = match columns {
            Ok(columns) => columns,
            Err(error) => return self.answer(Err(error)).await,
        };
        for column in &columns {
            self.socket.put(|out| write_column(out, column, true));
            self.socket.flush_if_full().await?;
        }
        let completion = Completion::new(self.session.status());
        let capabilities = self.client.capabilities;
        self.socket.put(|out| write_end(out, capabilities, &completion));
        Ok(self.socket.flush().await?)
    }

    async fn prepare(&mut self, text: &[u8]) -> Result<(), End> {
        match self.try_prepare(text).await {
            Ok(()) => Ok(self.socket.flush().await?),
            Err(error) => self.answer(Err(error)).await,
        }
    }

    /// Puts the whole answer into the buffer, or nothing.
    async fn try_prepare(&mut self, text: &[u8]) -> Result<(), SqlError> {
        let text = statement_text(text)?;
        let id = self.statements.next_id()?;
        let prepared = self.session.prepare(id, &text).await?;
        let counts = (u16::try_from(prepared.parameters.len()), u16::try_from(prepared.columns.len()));
        let (Ok(parameters), Ok(columns)) = counts else {
            self.session.close_statement(id).await;
            let message = "Prepared statement contains too many placeholders or columns; 65,535 is the most";
            return Err(SqlError::new(error::PS_MANY_PARAM, message));
        };
        self.statements.insert(id, parameters);
        self.socket.put(|out| write_prepare_ok(out, id, parameters, columns, prepared.warnings));
        self.put_definitions(&prepared.parameters);
        self.put_definitions(&prepared.columns);
        Ok(())
    }

    fn put_definitions(&mut self, columns: &[Column]) {
        for column in columns {
            self.socket.put(|out| write_column(out, column, false));
        }
        if !columns.is_empty() && !self.client.capabilities.has(Capabilities::DEPRECATE_EOF) {
            let status = self.session.status();
            self.socket.put(|out| write_end_of_columns(out, status));
        }
    }

    async fn execute(&mut self, statement: u32, parameters: &[u8]) -> Result<(), End> {
        let parameters = match self.statements.bind(statement, parameters) {
            Ok(parameters) => parameters,
            Err(error) => return self.answer(Err(error)).await,
        };
        let mut sink = Sink::new(self.socket, self.client.capabilities, RowFormat::Binary, self.session.status());
        let id = super::session::StatementId(statement);
        let result = self.session.execute(id, parameters, &mut sink).await;
        Ok(sink.finish(result).await?)
    }

    /// Logs in again. The old session ends first; a login that fails ends the connection, as in MySQL. The client
    /// is always asked for a new proof: drivers differ in which nonce they use here.
    async fn change_user(&mut self, rest: &[u8]) -> Result<(), End> {
        let identity = handshake::read_change_user(rest, self.client.capabilities)?;
        let address = self.client.address;
        let nonce = new_nonce();
        let account = self.shared.authenticator.lookup(&identity.user, address)?;
        let mut exchange = Exchange::new(account, nonce, self.client.is_tls, &self.shared.digests);
        let first = exchange.start(None, &identity.proof);
        let knows_plugins = self.client.capabilities.has(Capabilities::PLUGIN_AUTH);
        let limit = self.shared.options.connect_timeout;
        let proof = prove(self.socket, exchange, first, nonce, knows_plugins, &identity.user, address);
        timeout(limit, proof).await.map_err(|_elapsed| SocketError::ReadTimeout(limit))??;
        self.statements.clear();
        self.session.reset().await?;
        self.client = Arc::new(Client {
            user: identity.user,
            collation: identity.collation,
            attributes: identity.attributes,
            ..Client::clone(&self.client)
        });
        self.session = open_session(self.shared, &self.client, identity.database.as_deref()).await?;
        self.send_ok().await
    }
}

/// Names are UTF-8, whatever collation the client named.
fn sql_text(bytes: &[u8]) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let start = error.valid_up_to();
        let sample: String = bytes[start..].iter().take(6).map(|byte| format!("\\x{byte:02X}")).collect();
        let message = format!("Invalid utf8mb4 character string: '{sample}'; names are sent in utf8mb4");
        SqlError::new(error::INVALID_CHARACTER_STRING, message)
    })
}

/// Statements are UTF-8 as well, but for the bytes in string literals.
fn statement_text(bytes: &[u8]) -> Result<Cow<'_, str>, SqlError> {
    sql::octets::statement_text(bytes).map_err(|error| SqlError::new(error.code, error.message))
}
