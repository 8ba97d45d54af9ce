//! The guard: a region that was away learns that its database has been claimed.

use types::DatabaseId;

use super::{ALREADY, Applying, DONE};
use crate::claim::Claim;
use crate::database::{Holder, Side};
use crate::event::Severity;
use crate::state::State;

impl State {
    pub(super) fn learn_claim(&mut self, id: DatabaseId, claim: &Claim) -> Applying {
        let database = self.expect_database_id(id)?;
        if database.claims.contains_key(&claim.promotion.id) {
            return ALREADY;
        }
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        database.claims.insert(claim.promotion.id, claim.clone());
        let name = database.name.clone();
        let claimant = format!("cluster {} at {}/{}", claim.cluster.0, claim.address, claim.database);
        if !claim.supersedes(&database.promotions) || database.side != Side::Writable {
            let fork = !database.promotions.contains(&claim.promotion);
            let severity = if fork { Severity::Warning } else { Severity::Info };
            self.say(severity, "claim", id.into(), format!("{claimant} has claimed database `{name}`"));
            return DONE;
        }
        let rivals = database.superseding().count();
        let text = if rivals > 1 {
            format!("{rivals} regions have claimed database `{name}`, last {claimant}: choose one to REPLICATE it from")
        } else {
            format!("{claimant} has claimed database `{name}`: REPLICATE it from there WITH FORCE DIFFERENTIAL")
        };
        if !database.fenced.holders.contains(&Holder::Guard) {
            self.hold(id, Holder::Guard);
        }
        self.say(Severity::Error, if rivals > 1 { "fork" } else { "claim" }, id.into(), text);
        DONE
    }
}
