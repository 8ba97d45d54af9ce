//! An error as a client sees it: MySQL's number, the SQLSTATE that belongs to it, and a sentence.
//!
//! The table below is the only place where a number meets its SQLSTATE. It holds what the wire, the planned
//! statements and the cluster (9005 and up) answer with; a number that is not in it has the SQLSTATE `HY000`,
//! as in MySQL.

use super::codec::Malformed;
use super::packet::FrameError;

/// Five characters, upper case letters and digits.
pub type SqlState = [u8; 5];

/// SQLSTATE of an error that has none of its own.
pub const GENERAL: &SqlState = b"HY000";

/// What goes to the client as an error packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({}): {message}", self.state_text())]
pub struct SqlError {
    code: u16,
    state: SqlState,
    message: String,
}

impl SqlError {
    /// An error whose SQLSTATE is that of the table.
    pub fn new(code: u16, message: impl Into<String>) -> SqlError {
        SqlError { code, state: *sql_state(code), message: message.into() }
    }

    /// An error with a SQLSTATE of its own, as `SIGNAL` and a statement's cause may need.
    pub fn with_state(code: u16, state: SqlState, message: impl Into<String>) -> SqlError {
        SqlError { code, state, message: message.into() }
    }

    /// MySQL's number.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Its SQLSTATE.
    pub fn state(&self) -> &SqlState {
        &self.state
    }

    /// Its SQLSTATE, as text.
    pub fn state_text(&self) -> &str {
        std::str::from_utf8(&self.state).unwrap_or("HY000")
    }

    /// What happened, to what, and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Malformed> for SqlError {
    fn from(malformed: Malformed) -> SqlError {
        SqlError::new(MALFORMED_PACKET, format!("Malformed communication packet: {}", malformed.0))
    }
}

impl From<FrameError> for SqlError {
    fn from(error: FrameError) -> SqlError {
        match error {
            FrameError::OutOfOrder { .. } => SqlError::new(NET_PACKETS_OUT_OF_ORDER, format!("Got {error}")),
            FrameError::TooLarge { .. } => {
                let message = format!("Got a packet bigger than 'max_allowed_packet' bytes: {error}");
                SqlError::new(NET_PACKET_TOO_LARGE, message)
            }
        }
    }
}

/// The SQLSTATE that belongs to `code`.
pub fn sql_state(code: u16) -> &'static SqlState {
    match TABLE.binary_search_by_key(&code, |(number, _)| *number) {
        Ok(index) => TABLE[index].1,
        Err(_) => GENERAL,
    }
}

macro_rules! errors {
    ($($name:ident = $code:literal, $state:literal;)*) => {
        $(#[doc = concat!("Error ", stringify!($code), ", SQLSTATE `", stringify!($state), "`.")]
          pub const $name: u16 = $code;)*
        const TABLE: &[(u16, &SqlState)] = &[$(($code, $state)),*];
    };
}

errors! {
    DB_CREATE_EXISTS = 1007, b"HY000";
    DB_DROP_EXISTS = 1008, b"HY000";
    DISK_FULL = 1021, b"HY000";
    DUP_KEY = 1022, b"23000";
    OUTOFMEMORY = 1037, b"HY001";
    OUT_OF_SORTMEMORY = 1038, b"HY001";
    CON_COUNT_ERROR = 1040, b"08004";
    OUT_OF_RESOURCES = 1041, b"HY000";
    BAD_HOST_ERROR = 1042, b"08S01";
    HANDSHAKE_ERROR = 1043, b"08S01";
    DBACCESS_DENIED = 1044, b"42000";
    ACCESS_DENIED = 1045, b"28000";
    NO_DB_ERROR = 1046, b"3D000";
    UNKNOWN_COM_ERROR = 1047, b"08S01";
    BAD_NULL_ERROR = 1048, b"23000";
    BAD_DB_ERROR = 1049, b"42000";
    TABLE_EXISTS_ERROR = 1050, b"42S01";
    BAD_TABLE_ERROR = 1051, b"42S02";
    NON_UNIQ_ERROR = 1052, b"23000";
    SERVER_SHUTDOWN = 1053, b"08S01";
    BAD_FIELD_ERROR = 1054, b"42S22";
    WRONG_FIELD_WITH_GROUP = 1055, b"42000";
    WRONG_GROUP_FIELD = 1056, b"42000";
    WRONG_SUM_SELECT = 1057, b"42000";
    WRONG_VALUE_COUNT = 1058, b"21S01";
    TOO_LONG_IDENT = 1059, b"42000";
    DUP_FIELDNAME = 1060, b"42S21";
    DUP_KEYNAME = 1061, b"42000";
    DUP_ENTRY = 1062, b"23000";
    WRONG_FIELD_SPEC = 1063, b"42000";
    PARSE_ERROR = 1064, b"42000";
    EMPTY_QUERY = 1065, b"42000";
    NONUNIQ_TABLE = 1066, b"42000";
    INVALID_DEFAULT = 1067, b"42000";
    MULTIPLE_PRI_KEY = 1068, b"42000";
    TOO_MANY_KEYS = 1069, b"42000";
    TOO_MANY_KEY_PARTS = 1070, b"42000";
    TOO_LONG_KEY = 1071, b"42000";
    KEY_COLUMN_DOES_NOT_EXIST = 1072, b"42000";
    BLOB_USED_AS_KEY = 1073, b"42000";
    TOO_BIG_FIELDLENGTH = 1074, b"42000";
    WRONG_AUTO_KEY = 1075, b"42000";
    NORMAL_SHUTDOWN = 1077, b"HY000";
    FORCING_CLOSE = 1080, b"08S01";
    NO_SUCH_INDEX = 1082, b"42S12";
    WRONG_FIELD_TERMINATORS = 1083, b"42000";
    BLOBS_AND_NO_TERMINATED = 1084, b"42000";
    CANT_REMOVE_ALL_FIELDS = 1090, b"42000";
    CANT_DROP_FIELD_OR_KEY = 1091, b"42000";
    NO_SUCH_THREAD = 1094, b"HY000";
    KILL_DENIED = 1095, b"HY000";
    NO_TABLES_USED = 1096, b"HY000";
    BLOB_CANT_HAVE_DEFAULT = 1101, b"42000";
    WRONG_DB_NAME = 1102, b"42000";
    WRONG_TABLE_NAME = 1103, b"42000";
    TOO_BIG_SELECT = 1104, b"42000";
    UNKNOWN_ERROR = 1105, b"HY000";
    UNKNOWN_PROCEDURE = 1106, b"42000";
    WRONG_PARAMCOUNT_TO_PROCEDURE = 1107, b"42000";
    UNKNOWN_TABLE = 1109, b"42S02";
    FIELD_SPECIFIED_TWICE = 1110, b"42000";
    INVALID_GROUP_FUNC_USE = 1111, b"HY000";
    UNSUPPORTED_EXTENSION = 1112, b"42000";
    TABLE_MUST_HAVE_COLUMNS = 1113, b"42000";
    UNKNOWN_CHARACTER_SET = 1115, b"42000";
    TOO_BIG_ROWSIZE = 1118, b"42000";
    WRONG_OUTER_JOIN = 1120, b"42000";
    NULL_COLUMN_IN_INDEX = 1121, b"42000";
    HOST_NOT_PRIVILEGED = 1130, b"HY000";
    PASSWORD_ANONYMOUS_USER = 1131, b"42000";
    PASSWORD_NOT_ALLOWED = 1132, b"42000";
    PASSWORD_NO_MATCH = 1133, b"42000";
    WRONG_VALUE_COUNT_ON_ROW = 1136, b"21S01";
    REGEXP_ERROR = 1139, b"42000";
    MIX_OF_GROUP_FUNC_AND_FIELDS = 1140, b"42000";
    NONEXISTING_GRANT = 1141, b"42000";
    TABLEACCESS_DENIED = 1142, b"42000";
    COLUMNACCESS_DENIED = 1143, b"42000";
    ILLEGAL_GRANT_FOR_TABLE = 1144, b"42000";
    GRANT_WRONG_HOST_OR_USER = 1145, b"42000";
    NO_SUCH_TABLE = 1146, b"42S02";
    NONEXISTING_TABLE_GRANT = 1147, b"42000";
    NOT_ALLOWED_COMMAND = 1148, b"42000";
    SYNTAX_ERROR = 1149, b"42000";
    ABORTING_CONNECTION = 1152, b"08S01";
    NET_PACKET_TOO_LARGE = 1153, b"08S01";
    NET_READ_ERROR_FROM_PIPE = 1154, b"08S01";
    NET_FCNTL_ERROR = 1155, b"08S01";
    NET_PACKETS_OUT_OF_ORDER = 1156, b"08S01";
    NET_UNCOMPRESS_ERROR = 1157, b"08S01";
    NET_READ_ERROR = 1158, b"08S01";
    NET_READ_INTERRUPTED = 1159, b"08S01";
    NET_ERROR_ON_WRITE = 1160, b"08S01";
    NET_WRITE_INTERRUPTED = 1161, b"08S01";
    TOO_LONG_STRING = 1162, b"42000";
    TABLE_CANT_HANDLE_BLOB = 1163, b"42000";
    TABLE_CANT_HANDLE_AUTO_INCREMENT = 1164, b"42000";
    WRONG_COLUMN_NAME = 1166, b"42000";
    WRONG_KEY_COLUMN = 1167, b"42000";
    DUP_UNIQUE = 1169, b"23000";
    BLOB_KEY_WITHOUT_LENGTH = 1170, b"42000";
    PRIMARY_CANT_HAVE_NULL = 1171, b"42000";
    TOO_MANY_ROWS = 1172, b"42000";
    REQUIRES_PRIMARY_KEY = 1173, b"42000";
    KEY_DOES_NOT_EXIST = 1176, b"42000";
    CANT_DO_THIS_DURING_TRANSACTION = 1179, b"25000";
    ERROR_DURING_COMMIT = 1180, b"08007";
    ERROR_DURING_ROLLBACK = 1181, b"HY000";
    NEW_ABORTING_CONNECTION = 1184, b"08S01";
    UNKNOWN_SYSTEM_VARIABLE = 1193, b"HY000";
    TOO_MANY_USER_CONNECTIONS = 1203, b"42000";
    LOCK_WAIT_TIMEOUT = 1205, b"HY000";
    LOCK_TABLE_FULL = 1206, b"HY000";
    WRONG_ARGUMENTS = 1210, b"HY000";
    NO_PERMISSION_TO_CREATE_USER = 1211, b"42000";
    LOCK_DEADLOCK = 1213, b"40001";
    NO_REFERENCED_ROW = 1216, b"23000";
    ROW_IS_REFERENCED = 1217, b"23000";
    WRONG_USAGE = 1221, b"HY000";
    WRONG_NUMBER_OF_COLUMNS_IN_SELECT = 1222, b"21000";
    USER_LIMIT_REACHED = 1226, b"42000";
    SPECIFIC_ACCESS_DENIED = 1227, b"42000";
    LOCAL_VARIABLE = 1228, b"HY000";
    GLOBAL_VARIABLE = 1229, b"HY000";
    NO_DEFAULT = 1230, b"42000";
    WRONG_VALUE_FOR_VAR = 1231, b"42000";
    WRONG_TYPE_FOR_VAR = 1232, b"42000";
    CANT_USE_OPTION_HERE = 1234, b"42000";
    NOT_SUPPORTED_YET = 1235, b"42000";
    INCORRECT_GLOBAL_LOCAL_VAR = 1238, b"HY000";
    WRONG_FK_DEF = 1239, b"42000";
    OPERAND_COLUMNS = 1241, b"21000";
    SUBQUERY_NO_1_ROW = 1242, b"21000";
    UNKNOWN_STMT_HANDLER = 1243, b"HY000";
    ILLEGAL_REFERENCE = 1247, b"42S22";
    DERIVED_MUST_HAVE_ALIAS = 1248, b"42000";
    TABLENAME_NOT_ALLOWED_HERE = 1250, b"42000";
    NOT_SUPPORTED_AUTH_MODE = 1251, b"08004";
    COLLATION_CHARSET_MISMATCH = 1253, b"42000";
    WARN_TOO_FEW_RECORDS = 1261, b"01000";
    WARN_TOO_MANY_RECORDS = 1262, b"01000";
    WARN_NULL_TO_NOTNULL = 1263, b"22004";
    WARN_DATA_OUT_OF_RANGE = 1264, b"22003";
    WARN_DATA_TRUNCATED = 1265, b"01000";
    CANT_AGGREGATE_2COLLATIONS = 1267, b"HY000";
    UNKNOWN_COLLATION = 1273, b"HY000";
    WRONG_NAME_FOR_INDEX = 1280, b"42000";
    WRONG_NAME_FOR_CATALOG = 1281, b"42000";
    BAD_FT_COLUMN = 1283, b"HY000";
    UNKNOWN_STORAGE_ENGINE = 1286, b"42000";
    OPTION_PREVENTS_STATEMENT = 1290, b"HY000";
    TRUNCATED_WRONG_VALUE = 1292, b"22007";
    UNSUPPORTED_PS = 1295, b"HY000";
    UNKNOWN_TIME_ZONE = 1298, b"HY000";
    INVALID_CHARACTER_STRING = 1300, b"HY000";
    SP_NO_RECURSIVE_CREATE = 1303, b"2F003";
    SP_ALREADY_EXISTS = 1304, b"42000";
    SP_DOES_NOT_EXIST = 1305, b"42000";
    QUERY_INTERRUPTED = 1317, b"70100";
    NO_DEFAULT_FOR_FIELD = 1364, b"HY000";
    DIVISION_BY_ZERO = 1365, b"22012";
    TRUNCATED_WRONG_VALUE_FOR_FIELD = 1366, b"HY000";
    ILLEGAL_VALUE_FOR_TYPE = 1367, b"22007";
    SPECIFIED_ACCESS_DENIED_ERROR = 1370, b"42000";
    PASSWD_LENGTH = 1372, b"HY000";
    PS_MANY_PARAM = 1390, b"HY000";
    CANNOT_USER = 1396, b"HY000";
    DATA_TOO_LONG = 1406, b"22001";
    CANT_CREATE_USER_WITH_GRANT = 1410, b"42000";
    WRONG_VALUE_FOR_TYPE = 1411, b"HY000";
    TOO_BIG_SCALE = 1425, b"42000";
    TOO_BIG_PRECISION = 1426, b"42000";
    M_BIGGER_THAN_D = 1427, b"42000";
    TOO_BIG_DISPLAYWIDTH = 1439, b"42000";
    DATETIME_FUNCTION_OVERFLOW = 1441, b"22008";
    ROW_IS_REFERENCED_2 = 1451, b"23000";
    NO_REFERENCED_ROW_2 = 1452, b"23000";
    MAX_PREPARED_STMT_COUNT_REACHED = 1461, b"42000";
    NON_GROUPING_FIELD_USED = 1463, b"42000";
    PLUGIN_IS_NOT_LOADED = 1524, b"HY000";
    WRONG_VALUE = 1525, b"HY000";
    FOREIGN_DUPLICATE_KEY = 1557, b"23000";
    WRONG_PARAMCOUNT_TO_NATIVE_FCT = 1582, b"42000";
    WRONG_PARAMETERS_TO_NATIVE_FCT = 1583, b"42000";
    WRONG_PARAMETERS_TO_STORED_FCT = 1584, b"42000";
    DUP_ENTRY_WITH_KEY_NAME = 1586, b"23000";
    DATA_OUT_OF_RANGE = 1690, b"22003";
    ACCESS_DENIED_NO_PASSWORD = 1698, b"28000";
    READ_ONLY_TRANSACTION = 1792, b"25006";
    MALFORMED_PACKET = 1835, b"HY000";
    READ_ONLY_MODE = 1836, b"HY000";
    DUP_UNKNOWN_IN_INDEX = 1859, b"23000";
    QUERY_TIMEOUT = 3024, b"HY000";
    USER_LOCK_DEADLOCK = 3058, b"HY000";
    ACCOUNT_LOCKED = 3118, b"HY000";
    INVALID_JSON_TEXT = 3140, b"22032";
    INVALID_JSON_TEXT_IN_PARAM = 3141, b"22032";
    INVALID_JSON_PATH = 3143, b"42000";
    SECURE_TRANSPORT_REQUIRED = 3159, b"HY000";
    CHECK_CONSTRAINT_VIOLATED = 3819, b"HY000";
    CLIENT_LOCAL_FILES_DISABLED = 3948, b"42000";
    CLIENT_INTERACTION_TIMEOUT = 4031, b"HY000";
    PARTITION_WITHOUT_PRIMARY = 9005, b"HY000";
    TOO_FEW_COPIES = 9006, b"HY000";
    PARTITION_DAMAGED = 9007, b"HY000";
    LINK_FAILED = 9010, b"HY000";
    STORAGE_LOCK_LOST = 9011, b"HY000";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_well_formed() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| a < b));
        for (code, state) in TABLE {
            let is_valid = state.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            assert!(is_valid, "SQLSTATE of {code}");
        }
    }

    #[test]
    fn numbers_have_the_sql_state_of_mysql() {
        for (code, state) in [
            (ACCESS_DENIED, b"28000"),
            (CON_COUNT_ERROR, b"08004"),
            (UNKNOWN_COM_ERROR, b"08S01"),
            (DUP_ENTRY, b"23000"),
            (LOCK_DEADLOCK, b"40001"),
            (ERROR_DURING_COMMIT, b"08007"),
            (PARTITION_WITHOUT_PRIMARY, b"HY000"),
            (60_000, b"HY000"),
        ] {
            assert_eq!(SqlError::new(code, "").state(), state, "{code}");
        }
        let error = SqlError::new(NO_SUCH_TABLE, "Table 'db.t' doesn't exist");
        assert_eq!(error.to_string(), "1146 (42S02): Table 'db.t' doesn't exist");
    }
}
