//! MySQL front end, sessions, transaction coordinator and the catalog over raft-rs.

pub mod codec;
pub mod leaves;
pub mod master;
pub mod mysql;
pub mod protocol;
