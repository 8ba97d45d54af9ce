//! A replica's positions, in their order.
//!
//! ```text
//! flushed <= applied <= committed <= appended        flushed <= durable <= written <= appended
//! ```
//!
//! `appended` is the log's end. All but it live here; each only rises, until a rewind lowers all of them.

use types::Lsn;

/// The positions of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    /// Acknowledged by every member, as far as this replica knows.
    pub committed: Lsn,
    /// In the state.
    pub applied: Lsn,
    /// Handed to the operating system.
    pub written: Lsn,
    /// On disk.
    pub durable: Lsn,
}

impl Cursors {
    /// Asserts the order, given the log's end.
    pub fn check(&self, appended: Lsn) {
        assert!(self.applied <= self.committed, "applied {} above committed {}", self.applied, self.committed);
        assert!(self.committed <= appended, "committed {} above appended {appended}", self.committed);
        assert!(self.durable <= self.written, "durable {} above written {}", self.durable, self.written);
        assert!(self.written <= appended, "written {} above appended {appended}", self.written);
    }

    /// Everything above `to` was dropped.
    pub fn cut(&mut self, to: Lsn) {
        for cursor in [&mut self.committed, &mut self.applied, &mut self.written, &mut self.durable] {
            *cursor = (*cursor).min(to);
        }
    }
}
