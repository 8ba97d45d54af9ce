//! What a connection carries from statement to statement: its database, variables, and what the last statement left.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use types::Datum;

use crate::error::{Error, Result};
use crate::scalar::{SessionZone, Warning};

/// The version that clients are told: they read features from its number.
pub const VERSION: &str = "8.0.36-Perennial";

/// `max_allowed_packet`, bytes: also the longest text that a function makes.
pub(crate) const MAX_ALLOWED_PACKET: &str = "67108864";

/// A connection's state.
#[derive(Clone, Debug)]
pub struct Session {
    /// MySQL's connection id.
    pub connection_id: u64,
    /// Who is logged in.
    pub user: String,
    /// From where.
    pub host: String,
    /// The selected database.
    pub database: Option<String>,
    /// System variables that differ from their defaults.
    variables: BTreeMap<String, Datum>,
    /// How long statements wait for others where the session has not said so, in seconds.
    usual_wait: Option<i64>,
    /// `@name`.
    pub user_variables: BTreeMap<String, Datum>,
    /// The first AUTO_INCREMENT value of the last INSERT that made one.
    pub last_insert_id: u64,
    /// Rows that the last statement changed; -1 after one that answers with rows.
    pub row_count: i64,
    /// Rows of the last result.
    pub found_rows: u64,
    /// What the last statement had to say.
    pub warnings: Vec<Warning>,
    /// When the statement began, microseconds since 1970 UTC: NOW() is the same throughout.
    pub now: i64,
}

/// System variables with their defaults, in the order of their names.
const VARIABLES: &[(&str, &str)] = &[
    ("auto_increment_increment", "1"),
    ("auto_increment_offset", "1"),
    ("autocommit", "1"),
    ("big_tables", "0"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("character_set_system", "utf8mb3"),
    ("collation_connection", "utf8mb4_bin"),
    ("collation_database", "utf8mb4_bin"),
    ("collation_server", "utf8mb4_bin"),
    ("connect_timeout", "10"),
    ("default_storage_engine", "Perennial"),
    ("div_precision_increment", "4"),
    ("foreign_key_checks", "1"),
    ("group_concat_max_len", "1048576"),
    ("init_connect", ""),
    ("innodb_lock_wait_timeout", "50"),
    ("interactive_timeout", "28800"),
    ("license", "Apache-2.0"),
    ("local_infile", "1"),
    ("lock_wait_timeout", "50"),
    ("lower_case_table_names", "0"),
    ("max_allowed_packet", MAX_ALLOWED_PACKET),
    ("max_execution_time", "0"),
    ("net_buffer_length", "16384"),
    ("net_read_timeout", "30"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("protocol_version", "10"),
    ("read_only", "0"),
    ("sql_auto_is_null", "0"),
    ("sql_log_bin", "1"),
    ("sql_mode", "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO"),
    ("sql_notes", "1"),
    ("sql_quote_show_create", "1"),
    ("sql_safe_updates", "0"),
    ("sql_select_limit", "18446744073709551615"),
    ("sql_warnings", "0"),
    ("storage_engine", "Perennial"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("timestamp", "0"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("transaction_read_only", "0"),
    ("tx_isolation", "READ-COMMITTED"),
    ("tx_read_only", "0"),
    ("unique_checks", "1"),
    ("version", VERSION),
    ("version_comment", "Perennial"),
    ("version_compile_machine", "x86_64"),
    ("version_compile_os", "Linux"),
    ("wait_timeout", "28800"),
];

/// Variables that only tell.
const READ_ONLY: &[&str] = &[
    "character_set_system",
    "license",
    "lower_case_table_names",
    "protocol_version",
    "system_time_zone",
    "version",
    "version_comment",
    "version_compile_machine",
    "version_compile_os",
    "performance_schema",
    "local_infile",
];

impl Session {
    /// The state of a connection that has just been made.
    pub fn new(connection_id: u64, user: impl Into<String>, host: impl Into<String>) -> Session {
        let mut session = Session {
            connection_id,
            user: user.into(),
            host: host.into(),
            database: None,
            variables: BTreeMap::new(),
            usual_wait: None,
            user_variables: BTreeMap::new(),
            last_insert_id: 0,
            row_count: 0,
            found_rows: 0,
            warnings: Vec::new(),
            now: 0,
        };
        session.begin_statement();
        session
    }

    /// Takes the time that NOW() answers during the next statement.
    pub fn begin_statement(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    }

    /// A system variable's value, `None` if there is no such variable.
    pub fn variable(&self, name: &str) -> Option<Datum> {
        if let Some(value) = self.variables.get(name) {
            return Some(value.clone());
        }
        if matches!(name, "warning_count" | "error_count") {
            return Some(Datum::Int(self.warnings.len() as i64));
        }
        if matches!(name, "last_insert_id" | "identity") {
            return Some(Datum::UInt(self.last_insert_id));
        }
        let at = VARIABLES.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.default(VARIABLES[at]))
    }

    /// All system variables, names rising.
    pub fn variables(&self) -> Vec<(String, Datum)> {
        VARIABLES
            .iter()
            .map(|known| {
                let value = self.variables.get(known.0).cloned().unwrap_or_else(|| self.default(*known));
                (known.0.to_string(), value)
            })
            .collect()
    }

    /// What the variables of waits tell as long as the session has not set them: whole seconds, one or more.
    pub fn set_usual_wait(&mut self, wait: Duration) {
        self.usual_wait = Some(i64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1));
    }

    fn default(&self, (name, value): (&str, &str)) -> Datum {
        match (name, self.usual_wait) {
            ("innodb_lock_wait_timeout" | "lock_wait_timeout", Some(wait)) => Datum::Int(wait),
            _ => default_value(value),
        }
    }

    /// Sets a system variable, `None` for its default. 1193 if there is none, 1238 if it only tells, 1231 for a value
    /// that it cannot have.
    pub fn set_variable(&mut self, name: &str, value: Option<Datum>) -> Result<()> {
        if VARIABLES.binary_search_by_key(&name, |(name, _)| name).is_err() {
            return Err(Error::new(1193, format!("Unknown system variable '{name}'")));
        }
        if READ_ONLY.contains(&name) {
            return Err(Error::new(1238, format!("Variable '{name}' is a read only variable")));
        }
        let Some(value) = value else {
            self.variables.remove(name);
            return Ok(());
        };
        let value = checked(name, value)?;
        let twin = match name {
            "tx_isolation" => Some("transaction_isolation"),
            "transaction_isolation" => Some("tx_isolation"),
            "tx_read_only" => Some("transaction_read_only"),
            "transaction_read_only" => Some("tx_read_only"),
            _ => None,
        };
        if let Some(twin) = twin {
            self.variables.insert(twin.into(), value.clone());
        }
        self.variables.insert(name.into(), value);
        Ok(())
    }

    /// Whether each statement is a transaction of its own.
    pub fn autocommit(&self) -> bool {
        self.variable("autocommit") != Some(Datum::Int(0))
    }

    /// Whether a value that does not fit is an error.
    pub fn strict(&self) -> bool {
        let mode = self.variable("sql_mode").unwrap_or(Datum::Null).to_string();
        mode.contains("STRICT_TRANS_TABLES") || mode.contains("STRICT_ALL_TABLES")
    }

    /// How long a statement waits for row locks, where the session has said so.
    pub fn lock_wait(&self) -> Option<Duration> {
        self.seconds("innodb_lock_wait_timeout")
    }

    /// How long a statement waits for definitions that others use or change, where the session has said so.
    pub fn definition_wait(&self) -> Option<Duration> {
        self.seconds("lock_wait_timeout")
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        match self.variables.get(name) {
            Some(Datum::Int(seconds)) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            _ => None,
        }
    }

    /// The time zone of TIMESTAMPs.
    pub fn zone(&self) -> SessionZone {
        let name = self.variable("time_zone").unwrap_or(Datum::Null).to_string();
        SessionZone::parse(&name).unwrap_or_default()
    }
}

fn default_value(text: &str) -> Datum {
    if let Ok(value) = text.parse() {
        return Datum::Int(value);
    }
    text.parse().map_or_else(|_| Datum::Text(text.into()), Datum::UInt)
}

/// The value as the variable keeps it.
fn checked(name: &str, value: Datum) -> Result<Datum> {
    let wrong = || Error::new(1231, format!("Variable '{name}' can't be set to the value of '{value}'", value = value));
    let text = value.to_string();
    match name {
        "autocommit"
        | "foreign_key_checks"
        | "unique_checks"
        | "sql_log_bin"
        | "sql_notes"
        | "sql_safe_updates"
        | "sql_auto_is_null"
        | "tx_read_only"
        | "transaction_read_only"
        | "big_tables"
        | "sql_warnings"
        | "read_only" => match text.to_ascii_uppercase().as_str() {
            "1" | "ON" | "TRUE" => Ok(Datum::Int(1)),
            "0" | "OFF" | "FALSE" => Ok(Datum::Int(0)),
            _ => Err(wrong()),
        },
        "innodb_lock_wait_timeout" | "lock_wait_timeout" => {
            let most = if name == "lock_wait_timeout" { 31_536_000 } else { 1_073_741_824 };
            let seconds = text.parse().ok().filter(|seconds| (1..=most).contains(seconds));
            seconds.map(Datum::Int).ok_or_else(wrong)
        }
        "time_zone" => SessionZone::parse(&text).map(|_| Datum::Text(text)),
        "tx_isolation" | "transaction_isolation" => match text.to_ascii_uppercase().as_str() {
            "READ-COMMITTED" => Ok(Datum::Text("READ-COMMITTED".into())),
            "REPEATABLE-READ" | "READ-UNCOMMITTED" | "SERIALIZABLE" => {
                Err(Error::unsupported(format!("isolation level {text}")))
            }
            _ => Err(wrong()),
        },
        "sql_mode" => {
            let mode = text.to_ascii_uppercase();
            for unsupported in
                ["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT", "ANSI", "PAD_CHAR_TO_FULL_LENGTH"]
            {
                if mode.split(',').any(|word| word == unsupported) {
                    return Err(Error::unsupported(format!("sql_mode {unsupported}")));
                }
            }
            Ok(Datum::Text(mode))
        }
        "sql_select_limit" if value != Datum::UInt(u64::MAX) && value != Datum::Int(i64::MAX) => {
            Err(Error::unsupported("sql_select_limit"))
        }
        "character_set_client" | "character_set_connection" | "character_set_results" => {
            match text.to_ascii_lowercase().as_str() {
                "utf8mb4" | "utf8" | "utf8mb3" | "binary" | "ascii" | "latin1" | "null" => {
                    Ok(Datum::Text("utf8mb4".into()))
                }
                _ => Err(Error::new(1115, format!("Unknown character set: '{text}'"))),
            }
        }
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_sorted_so_that_they_are_found() {
        assert!(VARIABLES.is_sorted_by_key(|(name, _)| name));
        let session = Session::new(1, "u", "h");
        assert!(VARIABLES.iter().all(|(name, _)| session.variable(name).is_some()));
        assert_eq!(session.variable("nonsense"), None);
    }

    #[test]
    fn variables_are_checked() {
        let mut session = Session::new(1, "u", "h");
        let mut set =
            |name: &str, value: &str| session.set_variable(name, Some(Datum::Text(value.into()))).map_err(|e| e.code);
        assert_eq!(set("autocommit", "off"), Ok(()));
        assert_eq!(set("autocommit", "maybe"), Err(1231));
        assert_eq!(set("nonsense", "1"), Err(1193));
        assert_eq!(set("version", "9"), Err(1238));
        assert_eq!(set("time_zone", "Europe/Berlin"), Ok(()));
        assert_eq!(set("time_zone", "Mars/Base"), Err(1298));
        assert_eq!(set("tx_isolation", "REPEATABLE-READ"), Err(1235));
        assert_eq!(set("sql_mode", "ANSI_QUOTES"), Err(1235));
        assert_eq!(set("innodb_lock_wait_timeout", "0"), Err(1231));
        assert_eq!(set("innodb_lock_wait_timeout", "1073741825"), Err(1231));
        assert_eq!(set("innodb_lock_wait_timeout", "1.5"), Err(1231));
        assert_eq!(set("lock_wait_timeout", "31536001"), Err(1231));
        assert!(!session.autocommit());
        session.set_variable("autocommit", None).unwrap();
        assert!(session.autocommit() && session.strict());
    }

    #[test]
    fn waits_are_the_sessions_once_it_has_set_them() {
        let mut session = Session::new(1, "u", "h");
        assert_eq!((session.lock_wait(), session.definition_wait()), (None, None));
        session.set_variable("innodb_lock_wait_timeout", Some(Datum::Int(1_073_741_824))).unwrap();
        session.set_variable("lock_wait_timeout", Some(Datum::Int(2))).unwrap();
        assert_eq!(session.lock_wait(), Some(Duration::from_secs(1_073_741_824)));
        assert_eq!(session.definition_wait(), Some(Duration::from_secs(2)));
        session.set_variable("innodb_lock_wait_timeout", None).unwrap();
        assert_eq!(session.lock_wait(), None);
        session.set_usual_wait(Duration::from_millis(7_200));
        assert_eq!(session.variable("innodb_lock_wait_timeout"), Some(Datum::Int(8)));
        assert_eq!(session.variable("lock_wait_timeout"), Some(Datum::Int(2)), "it has said so itself");
    }
}
