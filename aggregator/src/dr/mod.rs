//! Between regions: one aggregator asks another, over QUIC at its SQL port. Records do not pass here: they go leaf to leaf.
//!
//! - `protocol` what is asked and answered; `peer` the asking side; `service` the answering side
//! - `links` what is known of each link besides the catalog's word: routes, times, counts. Volatile
//! - `keeper` a task per link: polls the source, carries claims, ends what is over
//! - `replicate`, `stop` the statements; `guard` who may have claimed a database while this region was away
//!
//! Links are the master's, and move with it; a request of another region may arrive at any aggregator, which hands it on. A
//! region tells the others all its aggregators, so the loss of one ends no link.
//!
//! A sink logs in once as a user of its source and gets a link and a token; every later request proves the token. The
//! password is not kept. What must survive is in the catalogs of both sides; all else is asked again after a restart.

mod guard;
mod keeper;
mod links;
mod peer;
mod protocol;
mod replicate;
mod service;
mod stop;

pub use guard::{Guard, ask_all};
pub use keeper::run;
pub use links::{LinkState, Links, Totals};
pub use peer::Peering;
pub use protocol::{LinkAnswer, LinkRefusal, LinkRequest, Source};
pub use replicate::{Order, Replicated, link_options, replicate};
pub use service::LinkService;
pub use stop::{Stopped, stop};

use sha2::{Digest, Sha256};

/// What a source keeps of a token.
pub fn token_hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}
