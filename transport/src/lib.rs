//! Sessions of ordered frames.
#![warn(missing_docs)]
#![forbid(unsafe_code)]
pub mod codec;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod tls;
