//! The protocol's numbers, under the names that MySQL's documentation gives them.

use std::ops::BitOr;

/// What a side of the connection can do; both must set a bit for it to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Set by every MySQL; its absence tells MariaDB's clients that a MariaDB answers.
    pub const LONG_PASSWORD: Capabilities = Capabilities(1);
    /// Affected rows of an UPDATE are those found, not those changed.
    pub const FOUND_ROWS: Capabilities = Capabilities(1 << 1);
    /// Column flags are two bytes.
    pub const LONG_FLAG: Capabilities = Capabilities(1 << 2);
    /// The handshake names a database.
    pub const CONNECT_WITH_DB: Capabilities = Capabilities(1 << 3);
    /// The client will answer a LOCAL INFILE request.
    pub const LOCAL_FILES: Capabilities = Capabilities(1 << 7);
    /// Spaces are allowed between a function's name and its bracket.
    pub const IGNORE_SPACE: Capabilities = Capabilities(1 << 8);
    /// The protocol since 4.1; without it a client is refused.
    pub const PROTOCOL_41: Capabilities = Capabilities(1 << 9);
    /// A person sits at the client.
    pub const INTERACTIVE: Capabilities = Capabilities(1 << 10);
    /// TLS is offered, or asked for.
    pub const SSL: Capabilities = Capabilities(1 << 11);
    /// Status flags are understood.
    pub const TRANSACTIONS: Capabilities = Capabilities(1 << 13);
    /// The scramble has 20 bytes and the response a length of one byte.
    pub const SECURE_CONNECTION: Capabilities = Capabilities(1 << 15);
    /// A COM_QUERY may hold several statements.
    pub const MULTI_STATEMENTS: Capabilities = Capabilities(1 << 16);
    /// A COM_QUERY may be answered by several results.
    pub const MULTI_RESULTS: Capabilities = Capabilities(1 << 17);
    /// A COM_STMT_EXECUTE may be answered by several results.
    pub const PS_MULTI_RESULTS: Capabilities = Capabilities(1 << 18);
    /// Authentication plugins have names.
    pub const PLUGIN_AUTH: Capabilities = Capabilities(1 << 19);
    /// The handshake holds attributes of the connection.
    pub const CONNECT_ATTRS: Capabilities = Capabilities(1 << 20);
    /// The authentication response has a length-encoded length.
    pub const PLUGIN_AUTH_LENENC_CLIENT_DATA: Capabilities = Capabilities(1 << 21);
    /// Rows end with an OK packet, columns with nothing, and there is no EOF packet.
    pub const DEPRECATE_EOF: Capabilities = Capabilities(1 << 24);

    /// True when every bit of `other` is set.
    pub fn has(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that both sides set.
    pub fn common(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Capabilities;
    fn bitor(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }
}

/// Bits of the status word in OK and EOF packets.
pub(super) mod status {
    /// A transaction is open.
    pub const IN_TRANSACTION: u16 = 0x0001;
    /// Each statement is its own transaction.
    pub const AUTOCOMMIT: u16 = 0x0002;
    /// Another result of the same command follows.
    pub const MORE_RESULTS: u16 = 0x0008;
}

/// Type codes of columns and parameters.
pub(super) mod column_type {
    pub const DECIMAL: u8 = 0x00;
    pub const TINY: u8 = 0x01;
    pub const SHORT: u8 = 0x02;
    pub const LONG: u8 = 0x03;
    pub const FLOAT: u8 = 0x04;
    pub const DOUBLE: u8 = 0x05;
    pub const NULL: u8 = 0x06;
    pub const TIMESTAMP: u8 = 0x07;
    pub const LONGLONG: u8 = 0x08;
    pub const INT24: u8 = 0x09;
    pub const DATE: u8 = 0x0a;
    pub const TIME: u8 = 0x0b;
    pub const DATETIME: u8 = 0x0c;
    pub const YEAR: u8 = 0x0d;
    pub const NEWDATE: u8 = 0x0e;
    pub const VARCHAR: u8 = 0x0f;
    pub const BIT: u8 = 0x10;
    pub const JSON: u8 = 0xf5;
    pub const NEWDECIMAL: u8 = 0xf6;
    pub const ENUM: u8 = 0xf7;
    pub const SET: u8 = 0xf8;
    pub const TINY_BLOB: u8 = 0xf9;
    pub const MEDIUM_BLOB: u8 = 0xfa;
    pub const LONG_BLOB: u8 = 0xfb;
    pub const BLOB: u8 = 0xfc;
    pub const VAR_STRING: u8 = 0xfd;
    pub const STRING: u8 = 0xfe;
    pub const GEOMETRY: u8 = 0xff;
}

/// Bits of a column definition's flags.
pub mod column_flag {
    /// The column refuses NULL.
    pub const NOT_NULL: u16 = 0x0001;
    /// Part of the primary key.
    pub const PRIMARY_KEY: u16 = 0x0002;
    /// The first of a unique key.
    pub const UNIQUE_KEY: u16 = 0x0004;
    /// The first of another key.
    pub const MULTIPLE_KEY: u16 = 0x0008;
    /// TEXT, BLOB or JSON.
    pub const BLOB: u16 = 0x0010;
    /// A number without sign.
    pub const UNSIGNED: u16 = 0x0020;
    /// Compared byte by byte; also numbers and dates.
    pub const BINARY: u16 = 0x0080;
    /// AUTO_INCREMENT.
    pub const AUTO_INCREMENT: u16 = 0x0200;
    /// NOT NULL without DEFAULT.
    pub const NO_DEFAULT_VALUE: u16 = 0x1000;
}

/// Numbers of collations, as in `information_schema.COLLATIONS`.
pub(super) mod collation {
    /// Bytes without a character set; also that of numbers and dates.
    pub const BINARY: u16 = 63;
    /// The collation of every text that this server sends.
    pub const UTF8MB4_BIN: u16 = 46;
}

/// First bytes of commands.
pub(super) mod com {
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const STATISTICS: u8 = 0x09;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const RESET_CONNECTION: u8 = 0x1f;
}
