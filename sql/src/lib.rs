//! Text to answer: statements, types, planning and execution over DataFusion.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod error;
mod grammar;
pub mod parse;
pub mod reference;
pub mod statement;
pub mod token;

pub use error::{Error, Result};
