//! Text to answer: statements, types, planning and execution over DataFusion.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod arrow;
pub mod cluster;
pub mod error;
mod grammar;
pub mod layout;
pub mod leaf;
mod normalize;
pub mod parse;
pub mod reference;
pub mod scalar;
pub mod schema;
pub mod session;
pub mod statement;
pub mod token;

pub use error::{Error, Result};
