//! What the catalog's leader does by itself: pure functions of the state and of what was heard.
//!
//! They return commands; nothing is decided before those are applied. A command that was based on something that has
//! changed meanwhile is refused there, and the next round decides anew: rounds may be as frequent or rare as one likes.

pub mod balance;
pub mod failover;
pub mod heard;
pub mod moves;
pub mod orders;
pub mod placement;

pub use heard::{Heard, Report};
