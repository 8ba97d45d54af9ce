//! A command packet: one byte that says which, then what that command needs.

use super::codec::{Malformed, Reader};
use super::constants::com;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    Quit,
    Ping,
    Statistics,
    ResetConnection,
    /// Name of the database to use.
    InitDb(&'a [u8]),
    /// Text of one or more statements.
    Query(&'a [u8]),
    /// Columns of a table whose names match a pattern; the empty pattern matches all.
    FieldList {
        table: &'a [u8],
        pattern: &'a [u8],
    },
    /// Everything after the command byte; `handshake::read_change_user` reads it.
    ChangeUser(&'a [u8]),
    /// May COM_QUERY hold several statements from now on?
    SetMultiStatements(bool),
    Prepare(&'a [u8]),
    /// `parameters` is read by `prepared`, which knows how many there are.
    Execute {
        statement: u32,
        parameters: &'a [u8],
    },
    /// A piece of a parameter of the next execution; has no answer, not even an error.
    SendLongData {
        statement: u32,
        parameter: u16,
        data: &'a [u8],
    },
    /// Has no answer.
    CloseStatement(u32),
    ResetStatement(u32),
    /// Error 1047.
    Unknown(u8),
}

/// Reads a command packet.
pub fn read_command(payload: &[u8]) -> Result<Command<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    let command = match reader.u8("command byte")? {
        com::QUIT => Command::Quit,
        com::PING => Command::Ping,
        com::STATISTICS => Command::Statistics,
        com::RESET_CONNECTION => Command::ResetConnection,
        com::INIT_DB => Command::InitDb(reader.rest()),
        com::QUERY => Command::Query(reader.rest()),
        com::FIELD_LIST => Command::FieldList { table: reader.nul_bytes(), pattern: reader.rest() },
        com::CHANGE_USER => Command::ChangeUser(reader.rest()),
        com::SET_OPTION => match reader.u16("option")? {
            0 => Command::SetMultiStatements(true),
            1 => Command::SetMultiStatements(false),
            _ => return Err(Malformed("option is neither 0 nor 1")),
        },
        com::STMT_PREPARE => Command::Prepare(reader.rest()),
        com::STMT_EXECUTE => {
            let statement = reader.u32("statement")?;
            // A wish for a cursor: a server that opens none sends all rows at once, as MySQL does for a statement
            // without rows; clients see it from the status flags.
            reader.u8("cursor type")?;
            reader.u32("iteration count")?;
            Command::Execute { statement, parameters: reader.rest() }
        }
        com::STMT_SEND_LONG_DATA => Command::SendLongData {
            statement: reader.u32("statement")?,
            parameter: reader.u16("parameter")?,
            data: reader.rest(),
        },
        com::STMT_CLOSE => Command::CloseStatement(reader.u32("statement")?),
        com::STMT_RESET => Command::ResetStatement(reader.u32("statement")?),
        unknown => Command::Unknown(unknown),
    };
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_common::packets::{ComStmtClose, ComStmtSendLongData};
    use mysql_common::proto::MySerialize;
    use proptest::prelude::*;
    use std::borrow::Cow;

    #[test]
    fn commands_are_read() {
        for (payload, command) in [
            (&b"\x01"[..], Command::Quit),
            (b"\x0e", Command::Ping),
            (b"\x02db", Command::InitDb(b"db")),
            (b"\x03SELECT 1", Command::Query(b"SELECT 1")),
            (b"\x04t\0%", Command::FieldList { table: b"t", pattern: b"%" }),
            (b"\x1b\x00\x00", Command::SetMultiStatements(true)),
            (b"\x1b\x01\x00", Command::SetMultiStatements(false)),
            (b"\x17\x05\0\0\0\0\x01\0\0\0rest", Command::Execute { statement: 5, parameters: b"rest" }),
            (b"\x1a\x07\0\0\0", Command::ResetStatement(7)),
            (b"\x08", Command::Unknown(8)),
            (b"\x12x", Command::Unknown(0x12)),
        ] {
            assert_eq!(read_command(payload), Ok(command));
        }
        for payload in [&b""[..], b"\x17\x01", b"\x18\0\0\0\0\0", b"\x19", b"\x1b\x02\x00", b"\x1a\0\0"] {
            assert!(read_command(payload).is_err(), "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_writes_is_read(statement: u32, parameter: u16, data in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = Vec::new();
            ComStmtSendLongData::new(statement, parameter, Cow::Borrowed(&data[..])).serialize(&mut bytes);
            prop_assert_eq!(read_command(&bytes), Ok(Command::SendLongData { statement, parameter, data: &data }));
            let mut bytes = Vec::new();
            ComStmtClose::new(statement).serialize(&mut bytes);
            prop_assert_eq!(read_command(&bytes), Ok(Command::CloseStatement(statement)));
        }
    }
}
