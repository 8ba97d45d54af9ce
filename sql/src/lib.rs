//! Text to answer: statements, types, planning and execution over DataFusion.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod answer;
pub mod arrow;
mod bind;
pub mod cluster;
pub mod error;
mod execute;
mod grammar;
mod info;
pub mod layout;
pub mod leaf;
mod normalize;
pub mod octets;
pub mod parse;
mod point;
mod point_read;
pub mod reference;
pub mod scalar;
pub mod schema;
mod select;
pub mod session;
pub mod statement;
mod tables;
pub mod token;
mod write;

pub use error::{Error, Result};
pub use execute::{apply_set, describe, execute};
pub use info::create_table;
pub use tables::databases_named;
pub use write::{Loader, Sweep};
