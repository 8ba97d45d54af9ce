//! How a statement fails: by the server's word, or because there is no server any more.

use std::io;

/// Errors after which a transaction is rolled back for certain: read only, deadlock, lock wait, no primary, too few copies.
const ROLLED_BACK: [u16; 5] = [1290, 1213, 1205, 9005, 9006];

/// An error packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error {code} ({state}): {message}")]
pub struct ServerError {
    /// MySQL's number.
    pub code: u16,
    /// Its SQLSTATE.
    pub state: String,
    /// What happened, and what to do.
    pub message: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// There is no connection (any more), or the answer takes too long. What was asked may have been done.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// The server says what this client does not understand.
    #[error("the server breaks the protocol: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The number of the server's error.
    pub fn code(&self) -> Option<u16> {
        match self {
            ClientError::Server(error) => Some(error.code),
            ClientError::Lost(_) | ClientError::Protocol(_) => None,
        }
    }

    /// Whether the server says that the transaction left nothing.
    pub fn is_rolled_back(&self) -> bool {
        self.code().is_some_and(|code| ROLLED_BACK.contains(&code))
    }
}
