//! A server whose SQL is a toy: fixed tables and a few verbs that make every path of the protocol reachable.
//!
//! ```text
//!  SELECT * FROM types            every type: usual values, extreme ones, NULLs
//!  SELECT * FROM numbers n        n rows of two columns
//!  SELECT TEXT n                  one text of n bytes
//!  ECHO ? …                       the parameters of a prepared statement as a row
//!  LENGTH …                       bytes of the statement's own text
//!  INSERT …                       3 rows, AUTO_INCREMENT 7, a warning, a sentence
//!  LOAD …'name'… [STOP n]         counts lines of the client's file; STOP fails after n pieces
//!  FAIL code                      that error        HALF code   that error after two rows
//!  HANG                           waits to be killed             PANIC
//!  MISUSE word                    breaks the contract of the seam in the way that the word says
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use aggregator::mysql::constants::Capabilities;
use aggregator::mysql::{
    Account, Authenticator, Client, Column, ColumnKind, Completion, Options, Plugin, Prepared, Query, ResultSink,
    Server, Session, SessionFactory, SqlError, StatementId, Status, Value, Verifier, error,
};
use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use types::Decimal;

/// Users and how their password `secret` is kept; `root` has none.
struct ToyAccounts;

impl Authenticator for ToyAccounts {
    fn lookup(&self, user: &str, _address: SocketAddr) -> Result<Option<Account>, SqlError> {
        let (plugin, verifier) = match user {
            "root" => (Plugin::NativePassword, Verifier::NoPassword),
            "native" => (Plugin::NativePassword, Verifier::new(Plugin::NativePassword, "secret")),
            "sha2" => (Plugin::CachingSha2Password, Verifier::new(Plugin::CachingSha2Password, "secret")),
            "salted" => (Plugin::CachingSha2Password, Verifier::salted("secret", *b"some salt of twenty.")),
            _ => return Ok(None),
        };
        Ok(Some(Account { plugin, verifier }))
    }
}

/// Gets a permit for each statement that begins to hang.
struct ToyFactory {
    hanging: Arc<Semaphore>,
}

#[async_trait]
impl SessionFactory for ToyFactory {
    async fn open(&self, client: Arc<Client>) -> Result<Box<dyn Session>, SqlError> {
        let status = Status { autocommit: true, in_transaction: false };
        let hanging = self.hanging.clone();
        Ok(Box::new(Toy { hanging, client, status, database: String::new(), prepared: Vec::new() }))
    }
}

struct Toy {
    hanging: Arc<Semaphore>,
    client: Arc<Client>,
    status: Status,
    database: String,
    prepared: Vec<(StatementId, String)>,
}

/// The kinds of the table `types`, in order.
pub const TYPES: &[(&str, ColumnKind)] = &[
    ("c_bool", ColumnKind::Bool),
    ("c_tiny", ColumnKind::TinyInt { unsigned: false }),
    ("c_utiny", ColumnKind::TinyInt { unsigned: true }),
    ("c_small", ColumnKind::SmallInt { unsigned: false }),
    ("c_medium", ColumnKind::MediumInt { unsigned: false }),
    ("c_int", ColumnKind::Int { unsigned: false }),
    ("c_uint", ColumnKind::Int { unsigned: true }),
    ("c_big", ColumnKind::BigInt { unsigned: false }),
    ("c_ubig", ColumnKind::BigInt { unsigned: true }),
    ("c_decimal", ColumnKind::Decimal { precision: 20, scale: 5, unsigned: false }),
    ("c_float", ColumnKind::Float),
    ("c_double", ColumnKind::Double),
    ("c_char", ColumnKind::Char(10)),
    ("c_varchar", ColumnKind::VarChar(100)),
    ("c_text", ColumnKind::Text),
    ("c_varbinary", ColumnKind::VarBinary(8)),
    ("c_blob", ColumnKind::Blob),
    ("c_json", ColumnKind::Json),
    ("c_date", ColumnKind::Date),
    ("c_datetime", ColumnKind::DateTime(6)),
    ("c_datetime0", ColumnKind::DateTime(0)),
    ("c_timestamp", ColumnKind::Timestamp(3)),
    ("c_time", ColumnKind::Time(6)),
    ("c_null", ColumnKind::Null),
];

const SECOND: i64 = 1_000_000;
/// 2026-11-24 in days, and 10:11:12 of it in microseconds.
const TODAY: i32 = 20_781;
const MOMENT: i64 = (TODAY as i64 * 86_400 + 10 * 3600 + 11 * 60 + 12) * SECOND;

fn type_rows() -> Vec<Vec<Value<'static>>> {
    let text = |text: &'static str| Value::Text(text.into());
    let bytes = |bytes: &'static [u8]| Value::Bytes(bytes.into());
    let usual = vec![
        Value::Int(1),
        Value::Int(-1),
        Value::UInt(255),
        Value::Int(-32_768),
        Value::Int(8_388_607),
        Value::Int(-2_147_483_648),
        Value::UInt(4_294_967_295),
        Value::Int(i64::MIN),
        Value::UInt(u64::MAX),
        Value::Decimal(Decimal::new(-12_345_678_901_234_567_891, 5).unwrap()),
        Value::Float(0.5),
        Value::Double(-2.5e300),
        text("Grüße"),
        text("héllo 😀"),
        text("line\nbreak"),
        bytes(b"\x00\xff\x10"),
        bytes(b"'\\\"\x1a"),
        text("{\"a\": 1}"),
        Value::Date(TODAY),
        Value::DateTime(MOMENT + 345_678),
        Value::DateTime(MOMENT),
        Value::DateTime(MOMENT + 250_000),
        Value::Time(-(838 * 3600 + 59 * 60 + 59) * SECOND),
        Value::Null,
    ];
    let extreme = vec![
        Value::Int(0),
        Value::Int(127),
        Value::UInt(0),
        Value::Int(32_767),
        Value::Int(-8_388_608),
        Value::Int(2_147_483_647),
        Value::UInt(0),
        Value::Int(i64::MAX),
        Value::UInt(0),
        Value::Decimal(Decimal::new(0, 5).unwrap()),
        Value::Float(-262_144.0),
        Value::Double(0.1),
        text(""),
        text(""),
        text(""),
        bytes(b""),
        bytes(b""),
        text("[]"),
        Value::Date(0),
        Value::DateTime(253_402_300_799 * SECOND + 999_999),
        Value::DateTime(0),
        Value::DateTime(SECOND),
        Value::Time(1),
        Value::Null,
    ];
    vec![usual, extreme, vec![Value::Null; TYPES.len()]]
}

fn type_columns() -> Vec<Column> {
    TYPES.iter().map(|(name, kind)| Column::of_table("toy", "types", name, *kind, 0)).collect()
}

/// The number at the end of a statement.
fn number(text: &str) -> Result<usize, SqlError> {
    let word = text.split_whitespace().last().unwrap_or_default();
    word.parse().map_err(|_| SqlError::new(error::PARSE_ERROR, format!("no number at the end of '{text}'")))
}

impl Toy {
    fn completion(&self, more_results: bool) -> Completion {
        Completion { more_results, ..Completion::new(self.status) }
    }

    async fn one_row(
        &self,
        out: &mut dyn ResultSink,
        columns: Vec<Column>,
        row: Vec<Value<'_>>,
        more: bool,
    ) -> Result<(), SqlError> {
        out.columns(columns).await?;
        out.row(&row).await?;
        out.end(self.completion(more)).await
    }

    async fn statement(
        &mut self,
        text: &str,
        parameters: Vec<Value<'static>>,
        more: bool,
        out: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let verb = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "SELECT" => self.select(text, more, out).await,
            "ECHO" => {
                let columns = parameters.iter().enumerate().map(|(i, value)| echo_column(i, value)).collect();
                self.one_row(out, columns, parameters, more).await
            }
            "LENGTH" => {
                let columns = vec![Column::new("length", ColumnKind::BigInt { unsigned: false })];
                self.one_row(out, columns, vec![Value::Int(text.len() as i64)], more).await
            }
            "INSERT" => {
                let info = "Records: 3  Duplicates: 0  Warnings: 1".to_owned();
                let base = self.completion(more);
                out.ok(Completion { affected_rows: 3, last_insert_id: 7, warnings: 1, info, ..base }).await
            }
            "LOAD" => self.load(text, more, out).await,
            "FAIL" => Err(SqlError::new(number(text)? as u16, "as you wish")),
            "HALF" => {
                out.columns(vec![Column::new("n", ColumnKind::BigInt { unsigned: false })]).await?;
                out.row(&[Value::Int(1)]).await?;
                out.row(&[Value::Int(2)]).await?;
                Err(SqlError::new(number(text)? as u16, "half way"))
            }
            "HANG" => {
                self.hanging.add_permits(1);
                self.client.killed.cancelled().await;
                Err(SqlError::new(error::QUERY_INTERRUPTED, "Query execution was interrupted"))
            }
            "MISUSE" => self.misuse(text, out).await,
            "PANIC" => panic!("as you wish"),
            "SET" | "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "USE" => self.session_statement(text, more, out).await,
            _ => Err(SqlError::new(error::PARSE_ERROR, format!("You have an error in your SQL syntax near '{text}'"))),
        }
    }

    async fn misuse(&mut self, text: &str, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let column = || vec![Column::new("n", ColumnKind::TinyInt { unsigned: false })];
        match text.split_whitespace().last().unwrap_or_default() {
            "nothing" => Ok(()),
            "columns" => out.columns(Vec::new()).await,
            "row" => out.row(&[Value::Int(1)]).await,
            "end" => out.end(self.completion(false)).await,
            "open" => out.columns(column()).await,
            "wide" => {
                out.columns(column()).await?;
                out.row(&[Value::Int(1), Value::Int(2)]).await
            }
            "twice" => {
                out.columns(column()).await?;
                out.columns(column()).await
            }
            "more" => out.ok(self.completion(true)).await,
            "after" => {
                out.ok(self.completion(false)).await?;
                out.ok(self.completion(false)).await
            }
            word => Err(SqlError::new(error::PARSE_ERROR, format!("no misuse is called '{word}'"))),
        }
    }

    async fn session_statement(&mut self, text: &str, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let lower = text.to_ascii_lowercase().replace(' ', "");
        match lower.as_str() {
            "begin" | "starttransaction" => self.status.in_transaction = true,
            "commit" | "rollback" => self.status.in_transaction = false,
            set if set.contains("autocommit") => {
                self.status.autocommit = set.ends_with("=1") || set.ends_with("=on");
            }
            usage if usage.starts_with("use") => self.init_db(usage[3..].trim_matches('`')).await?,
            _ => {}
        }
        out.ok(self.completion(more)).await
    }

    async fn select(&mut self, text: &str, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let varchar = |name: &str| Column::new(name, ColumnKind::VarChar(64));
        if text == "SELECT * FROM types" {
            out.columns(type_columns()).await?;
            for row in type_rows() {
                out.row(&row).await?;
            }
            return out.end(self.completion(more)).await;
        }
        if text.starts_with("SELECT * FROM numbers") {
            out.columns(vec![Column::new("n", ColumnKind::BigInt { unsigned: false }), varchar("text")]).await?;
            for n in 0..number(text)? as i64 {
                out.row(&[Value::Int(n), Value::Text(format!("the number {n}, twice {}", 2 * n).into())]).await?;
            }
            return out.end(self.completion(more)).await;
        }
        if text.starts_with("SELECT TEXT") {
            let long = "0123456789abcdef".repeat(number(text)? / 16);
            return self
                .one_row(out, vec![Column::new("t", ColumnKind::LongText)], vec![Value::Text(long.into())], more)
                .await;
        }
        let client = &self.client;
        let attribute = |name: &str| {
            client.attributes.iter().find(|(found, _)| found == name).map_or(String::new(), |(_, value)| value.clone())
        };
        let value = match text.trim_start_matches("SELECT ").trim_start_matches("select ") {
            "USER" => format!("{}@{}", client.user, client.host),
            "DATABASE" => self.database.clone(),
            "TLS" => client.is_tls.to_string(),
            "CONNECTION" => client.connection.0.to_string(),
            "FOUND_ROWS" => client.capabilities.has(Capabilities::FOUND_ROWS).to_string(),
            "CLIENT" => attribute("_client_name"),
            variable => format!("value of {variable}"),
        };
        self.one_row(out, vec![varchar("value")], vec![Value::Text(value.into())], more).await
    }

    async fn load(&mut self, text: &str, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let name = text.split('\'').nth(1).unwrap_or_default();
        let stop = text.split("STOP ").nth(1).and_then(|count| count.trim().parse::<usize>().ok());
        out.infile(name).await?;
        let (mut lines, mut pieces) = (0, 0);
        while let Some(piece) = out.chunk().await? {
            pieces += 1;
            if stop.is_some_and(|stop| pieces >= stop) {
                return Err(SqlError::new(error::TRUNCATED_WRONG_VALUE_FOR_FIELD, format!("piece {pieces} is bad")));
            }
            lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        let info = format!("Records: {lines}  Deleted: 0  Skipped: 0  Warnings: 0");
        out.ok(Completion { affected_rows: lines, info, ..self.completion(more) }).await
    }
}

fn echo_column(index: usize, value: &Value<'_>) -> Column {
    let kind = match value {
        Value::Null => ColumnKind::Null,
        Value::Int(_) => ColumnKind::BigInt { unsigned: false },
        Value::UInt(_) => ColumnKind::BigInt { unsigned: true },
        Value::Decimal(value) => ColumnKind::Decimal { precision: 38, scale: value.scale(), unsigned: false },
        Value::Float(_) => ColumnKind::Float,
        Value::Double(_) => ColumnKind::Double,
        Value::Text(_) => ColumnKind::LongText,
        Value::Bytes(_) => ColumnKind::LongBlob,
        Value::Date(_) => ColumnKind::Date,
        Value::DateTime(_) => ColumnKind::DateTime(6),
        Value::Time(_) => ColumnKind::Time(6),
    };
    Column::new(format!("p{index}"), kind)
}

#[async_trait]
impl Session for Toy {
    fn status(&self) -> Status {
        self.status
    }

    async fn query(&mut self, query: Query<'_>, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let trimmed = query.text.trim().trim_end_matches(';');
        let statements: Vec<&str> = trimmed.split(';').map(str::trim).collect();
        if statements.len() > 1 && !query.multi_statements {
            return Err(SqlError::new(error::PARSE_ERROR, "You have an error in your SQL syntax near ';'"));
        }
        for (index, statement) in statements.iter().enumerate() {
            self.statement(statement, Vec::new(), index + 1 < statements.len(), out).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, id: StatementId, text: &str) -> Result<Prepared, SqlError> {
        if text.starts_with("BAD") {
            return Err(SqlError::new(error::PARSE_ERROR, "You have an error in your SQL syntax"));
        }
        self.prepared.push((id, text.to_owned()));
        let parameter = Column::new("?", ColumnKind::VarChar(64));
        let parameters = vec![parameter; text.matches('?').count()];
        let columns = if text == "SELECT * FROM types" { type_columns() } else { Vec::new() };
        Ok(Prepared { parameters, columns, warnings: 0 })
    }

    async fn execute(
        &mut self,
        id: StatementId,
        parameters: Vec<Value<'static>>,
        out: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let found = self.prepared.iter().find(|(known, _)| *known == id).map(|(_, text)| text.clone());
        let text = found.ok_or_else(|| SqlError::new(error::UNKNOWN_STMT_HANDLER, "no such statement"))?;
        self.statement(&text, parameters, false, out).await
    }

    async fn close_statement(&mut self, id: StatementId) {
        self.prepared.retain(|(known, _)| *known != id);
    }

    async fn init_db(&mut self, database: &str) -> Result<(), SqlError> {
        if database != "toy" {
            return Err(SqlError::new(error::BAD_DB_ERROR, format!("Unknown database '{database}'")));
        }
        self.database = database.to_owned();
        Ok(())
    }

    async fn field_list(&mut self, table: &str, pattern: &str) -> Result<Vec<Column>, SqlError> {
        if table != "types" {
            return Err(SqlError::new(error::NO_SUCH_TABLE, format!("Table 'toy.{table}' doesn't exist")));
        }
        let prefix = pattern.trim_end_matches('%');
        Ok(type_columns().into_iter().filter(|column| column.name.starts_with(prefix)).collect())
    }

    async fn reset(&mut self) -> Result<(), SqlError> {
        self.status = Status { autocommit: true, in_transaction: false };
        self.prepared.clear();
        Ok(())
    }
}

/// A running toy server, and the certificate that its clients trust.
pub struct ToyServer {
    pub server: Server,
    pub ca_pem: String,
    /// Has a permit for each statement that has begun to hang.
    pub hanging: Arc<Semaphore>,
}

impl ToyServer {
    /// Listens on a free port of the loopback address.
    pub async fn start(options: Options) -> ToyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tls, ca_pem) = tls_config();
        let hanging = Arc::new(Semaphore::new(0));
        let factory = Arc::new(ToyFactory { hanging: hanging.clone() });
        let server = Server::start(listener, Some(Arc::new(tls)), Arc::new(ToyAccounts), factory, options);
        ToyServer { server: server.unwrap(), ca_pem, hanging }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }
}

fn tls_config() -> (ServerConfig, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "toy CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut certificate = CertificateParams::new(names).unwrap();
    certificate.distinguished_name.push(DnType::CommonName, "toy server");
    let certificate = certificate.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    (config.with_single_cert(vec![certificate.der().clone()], key).unwrap(), ca.pem())
}
