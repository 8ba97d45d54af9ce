//! Errors as a client sees them: MySQL's number, SQLSTATE and a message that says what happened, to what, and what
//! to do.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use types::DecodeError;

/// An error of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// MySQL's error number; from 9000 on, Perennial's own.
    pub code: u16,
    /// What happened.
    pub message: String,
}

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a number and a message.
    pub fn new(code: u16, message: impl Into<String>) -> Error {
        Error { code, message: message.into() }
    }

    /// 1235: a construct that is not supported yet. Names it.
    pub fn unsupported(construct: impl AsRef<str>) -> Error {
        Error::new(1235, format!("This version of Perennial doesn't yet support '{}'", construct.as_ref()))
    }

    /// 1064: `near` is the statement's text from the offending word on.
    pub fn syntax(near: &str, line: usize) -> Error {
        let near: String = near.chars().take(80).collect();
        Error::new(
            1064,
            format!(
                "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version \
                 for the right syntax to use near '{near}' at line {line}"
            ),
        )
    }

    /// 1054: no such column. `clause` is MySQL's name of the place, such as `field list`.
    pub fn unknown_column(column: &str, clause: &str) -> Error {
        Error::new(1054, format!("Unknown column '{column}' in '{clause}'"))
    }

    /// 1146: no such table.
    pub fn unknown_table(database: &str, table: &str) -> Error {
        Error::new(1146, format!("Table '{database}.{table}' doesn't exist"))
    }

    /// 1049: no such database.
    pub fn unknown_database(database: &str) -> Error {
        Error::new(1049, format!("Unknown database '{database}'"))
    }

    /// 1046: a table without a database, and none is selected.
    pub fn no_database() -> Error {
        Error::new(1046, "No database selected")
    }

    /// The five characters that go with the number.
    pub fn sqlstate(&self) -> &'static str {
        let found = STATES.iter().find(|(_, codes)| codes.iter().any(|range| range.contains(&self.code)));
        found.map_or("HY000", |(state, _)| state)
    }
}

/// SQLSTATEs and the numbers that have them, as in MySQL's list; the first that fits counts.
const STATES: &[(&str, &[RangeInclusive<u16>])] = &[
    (
        "23000",
        &[
            1022..=1022,
            1048..=1048,
            1052..=1052,
            1062..=1062,
            1169..=1169,
            1216..=1217,
            1451..=1452,
            1557..=1557,
            1586..=1586,
            1761..=1762,
            1859..=1859,
        ],
    ),
    ("HY001", &[1037..=1038]),
    (
        "08S01",
        &[1042..=1043, 1047..=1047, 1053..=1053, 1080..=1081, 1152..=1161, 1184..=1184, 1189..=1190, 1218..=1218],
    ),
    ("08004", &[1040..=1040]),
    ("28000", &[1045..=1045, 1698..=1698, 3118..=3118]),
    ("3D000", &[1046..=1046]),
    ("42S01", &[1050..=1050]),
    ("42S02", &[1051..=1051, 1109..=1109, 1146..=1146]),
    ("42S22", &[1054..=1054, 1247..=1247]),
    ("42S21", &[1060..=1060]),
    ("21S01", &[1058..=1058, 1136..=1136]),
    ("21000", &[1222..=1222, 1241..=1242]),
    ("08007", &[1180..=1180]),
    ("40001", &[1213..=1213]),
    ("22003", &[1264..=1264, 1690..=1690]),
    ("22007", &[1292..=1292, 1367..=1367]),
    ("22001", &[1406..=1406]),
    ("22012", &[1365..=1365]),
    ("22032", &[3140..=3158]),
    (
        "42000",
        &[
            1044..=1044,
            1049..=1049,
            1055..=1057,
            1059..=1059,
            1061..=1061,
            1063..=1075,
            1083..=1084,
            1090..=1091,
            1101..=1104,
            1106..=1107,
            1110..=1113,
            1115..=1118,
            1120..=1121,
            1131..=1133,
            1138..=1145,
            1147..=1149,
            1162..=1164,
            1166..=1168,
            1170..=1173,
            1176..=1178,
            1203..=1203,
            1211..=1211,
            1221..=1221,
            1226..=1227,
            1230..=1235,
            1239..=1239,
            1248..=1250,
            1252..=1253,
            1280..=1281,
            1286..=1286,
            1304..=1327,
            1330..=1337,
            1370..=1370,
            1425..=1427,
            1440..=1440,
            1463..=1463,
            1582..=1584,
        ],
    ),
];

/// Stored bytes that this version cannot read: nothing that the client can mend.
impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Error {
        Error::new(9007, format!("a stored row or key cannot be read: {error}; check the partition's copies"))
    }
}
