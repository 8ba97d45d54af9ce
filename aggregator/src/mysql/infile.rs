//! LOCAL INFILE: the server asks for a file by name, the client sends it in packets, an empty one ends it.
//!
//! ```text
//!  server  0xfb, name
//!  client  contents … contents, empty packet        (an empty packet alone when it has no such file)
//!  server  OK or error
//! ```
//!
//! The client sends to the end whatever the server thinks of the contents, so a statement that gives up early
//! must have the rest read and dropped before its error is sent. [`Transfer`] keeps count of where it stands.

use bytes::{BufMut, BytesMut};

use super::constants::Capabilities;
use super::error::{self, SqlError};

const REQUEST_HEADER: u8 = 0xfb;

/// Writes the wish for the file `name`.
pub fn write_request(out: &mut BytesMut, name: &str) {
    out.put_u8(REQUEST_HEADER);
    out.put_slice(name.as_bytes());
}

/// Where the transfer of a statement's file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// Nothing is on its way.
    Idle,
    /// The client is sending.
    Running,
}

/// Refuses a file where there can be none: in the binary protocol (1295), or from a client that does not send
/// any (3948).
pub fn check_allowed(capabilities: Capabilities, is_prepared: bool) -> Result<(), SqlError> {
    if is_prepared {
        let message = "LOAD DATA LOCAL is not supported in the prepared statement protocol yet; send it as a query";
        return Err(SqlError::new(error::UNSUPPORTED_PS, message));
    }
    if !capabilities.has(Capabilities::LOCAL_FILES) {
        let message = "Loading local data is disabled; this must be enabled on both the client and server sides";
        return Err(SqlError::new(error::CLIENT_LOCAL_FILES_DISABLED, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_common::io::ParseBuf;
    use mysql_common::packets::LocalInfilePacket;
    use mysql_common::proto::MyDeserialize;

    #[test]
    fn a_client_reads_the_request() {
        let mut out = BytesMut::new();
        write_request(&mut out, "/data/rows.csv");
        let request = LocalInfilePacket::deserialize((), &mut ParseBuf(&out)).unwrap();
        assert_eq!(request.file_name_str(), "/data/rows.csv");
    }

    #[test]
    fn a_file_needs_a_query_and_a_client_that_sends_files() {
        assert_eq!(check_allowed(Capabilities::LOCAL_FILES, false), Ok(()));
        let code = |capabilities, is_prepared| check_allowed(capabilities, is_prepared).unwrap_err().code();
        assert_eq!(code(Capabilities::LOCAL_FILES, true), error::UNSUPPORTED_PS);
        assert_eq!(code(Capabilities(0), false), error::CLIENT_LOCAL_FILES_DISABLED);
    }
}
