//! A sink becomes writable: by a person's order or by a token.

use types::Promotion;

use super::reigns::expect_received;
use super::{Applied, Applying};
use crate::claim::Claim;
use crate::command::{HandoverAnswer, Promote};
use crate::database::{Database, Fenced, Side};
use crate::event::Severity;
use crate::link::Parted;
use crate::outcome::{Answer, Refusal};
use crate::state::State;

impl State {
    pub(super) fn promote(&mut self, promote: &Promote) -> Applying {
        let database = self.expect_database_id(promote.database)?;
        if let Some(promotion) = self.promoted(database, promote) {
            return Ok(Applied::Already(Answer::Promoted(promotion)));
        }
        self.check_promote(database, promote)?;
        self.receive_epoch(promote.received_epoch);
        self.receive_timestamp(promote.start_above.max(promote.cut));
        let promotion = Promotion { id: promote.promotion, cut: promote.cut };
        self.claim(promote, promotion);
        self.part(promote, promotion);
        let received = self.timestamps.received;
        let database = self.databases.get_mut(&promote.database).expect("it was looked up above");
        database.side = Side::Writable;
        database.promotions.push(promotion);
        database.start_above = database.start_above.max(received);
        database.fenced = Fenced::default();
        if let Some(token) = promote.token {
            database.tokens.insert(token, HandoverAnswer::Accepted(promotion.id));
        }
        let how = if promote.token.is_some() { "by hand-over" } else { "by order" };
        let text = format!("database `{}` is writable at {}, {how}", database.name, promotion.cut);
        self.begin_reigns(promote.database, promote.nonce);
        self.end_sync(promote.database);
        self.say(Severity::Warning, "promotion", promote.database.into(), text);
        Ok(Applied::Changed(Answer::Promoted(promotion)))
    }

    /// The promotion that a repeated order or a repeated token has brought about.
    fn promoted(&self, database: &Database, promote: &Promote) -> Option<Promotion> {
        let parted = self.parted.get(&promote.link).filter(|parted| parted.database == promote.database)?;
        let by_token = promote
            .token
            .is_none_or(|token| database.tokens.get(&token) == Some(&HandoverAnswer::Accepted(parted.promotion.id)));
        (database.side == Side::Writable && by_token).then_some(parted.promotion)
    }

    fn check_promote(&self, database: &Database, promote: &Promote) -> Result<(), Refusal> {
        self.expect_link(promote.database, promote.link)?;
        let object = format!("database `{}`", database.name);
        expect_received(object.clone(), promote.received_epoch, promote.start_above.max(promote.cut))?;
        if database.promotions != promote.promotions {
            return Err(Refusal::LookAgain {
                object,
                is: format!("{} promotions in its history", database.promotions.len()),
                based: promote.promotions.len().to_string(),
            });
        }
        if database.promotions.iter().any(|known| known.id == promote.promotion) {
            let problem = "this promotion is in its history: draw another id".into();
            return Err(Refusal::Correct { object, problem });
        }
        if let Some((id, _)) = self.partitions_of(promote.database).find(|(_, partition)| partition.incomplete) {
            return Err(Refusal::DoFirst {
                object,
                problem: format!("is being copied, partition {id} is incomplete"),
                first: "wait until SHOW REPLICATION STATUS says `streaming`, or DROP it".into(),
            });
        }
        match promote.token.and_then(|token| database.tokens.get(&token)) {
            Some(answer) => Err(Refusal::LookAgain {
                object: format!("token of {object}"),
                is: format!("{answer:?}"),
                based: "not answered".into(),
            }),
            None => Ok(()),
        }
    }

    /// Only claims count when regions meet again. A copy claims nothing and is another database from now on.
    fn claim(&mut self, promote: &Promote, promotion: Promotion) {
        let (cluster, at) = (self.cluster, self.clock);
        let database = self.databases.get_mut(&promote.database).expect("the caller has looked it up");
        if let Some(identity) = promote.copy {
            database.identity = identity;
            database.claims.clear();
            return;
        }
        let claim = Claim {
            promotion,
            parent: database.promotions.clone(),
            cluster,
            address: promote.address.clone(),
            database: database.name.clone(),
            at,
        };
        database.claims.insert(promotion.id, claim);
    }

    /// The link takes no frame from now on. What the way back needs stays pinned, unless it is a copy.
    fn part(&mut self, promote: &Promote, promotion: Promotion) {
        let link = self.sinks.remove(&promote.link).expect("the caller has looked it up");
        if promote.copy.is_none() {
            let parted = Parted {
                database: link.database,
                source: link.source,
                others: link.others,
                source_cluster: link.source_cluster,
                credentials: link.credentials,
                promotion,
                pinned: true,
                since: self.clock,
            };
            self.parted.insert(promote.link, parted);
        }
    }
}
