//! MySQL front end, sessions, transaction coordinator and the catalog over raft-rs.
