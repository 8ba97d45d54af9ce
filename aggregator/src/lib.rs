//! MySQL front end, sessions, transaction coordinator and the catalog over raft-rs.

mod ask;
pub mod bond;
pub mod calls;
pub mod codec;
mod definitions;
pub mod dr;
pub mod gateway;
pub mod leaves;
pub mod master;
pub mod mysql;
mod outcome;
pub mod protocol;
pub mod region;
mod rows;
mod sessions;
mod stamps;
pub mod sweeper;
mod transaction;
mod writable;
