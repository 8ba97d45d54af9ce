//! Fences: drain, seal, final positions, release.

use types::{DatabaseId, Fence, Revision};

use super::{Applied, Applying};
use crate::database::{Database, Fenced, Finals, Holder};
use crate::event::Severity;
use crate::outcome::{Answer, Refusal};
use crate::state::State;

impl State {
    pub(super) fn fence(&mut self, id: DatabaseId, holder: Holder) -> Applying {
        let database = self.expect_database_id(id)?;
        if database.is_sink() {
            return Err(Refusal::Correct {
                object: format!("database `{}`", database.name),
                problem: "it follows another region and takes no writes: fence its source".into(),
            });
        }
        if database.fenced.holders.contains(&holder) {
            return Ok(Applied::Already(fenced(database)));
        }
        self.hold(id, holder);
        Ok(Applied::Changed(fenced(&self.databases[&id])))
    }

    /// Fences a writable database for one more holder.
    pub(super) fn hold(&mut self, id: DatabaseId, holder: Holder) {
        let (revision, at) = (self.revision, self.clock);
        let database = self.databases.get_mut(&id).expect("the caller has looked it up");
        let fresh = database.fenced.holders.is_empty();
        database.fenced.holders.insert(holder);
        let text = format!("database `{}` is fenced by {holder}", database.name);
        if fresh {
            database.fenced.fence = Fence::Draining(revision);
            database.fenced.since = at;
            self.touch_database(id);
        }
        self.say(Severity::Warning, "fence", id.into(), text);
    }

    pub(super) fn seal(&mut self, id: DatabaseId, draining: Revision) -> Applying {
        let database = self.expect_database_id(id)?;
        match database.fenced.fence {
            Fence::Draining(since) if since == draining => {}
            Fence::Sealed(since) if since > draining => return Ok(Applied::Already(fenced(database))),
            _ => return Err(other_fence(database, Fence::Draining(draining))),
        }
        let fence = Fence::Sealed(self.revision);
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        database.fenced.fence = fence;
        let text = format!("database `{}` is sealed: no data record is written", database.name);
        self.touch_database(id);
        self.say(Severity::Info, "fence", id.into(), text);
        Ok(Applied::Changed(fenced(&self.databases[&id])))
    }

    pub(super) fn report_finals(&mut self, id: DatabaseId, sealed: Revision, finals: &Finals) -> Applying {
        let database = self.expect_database_id(id)?;
        if database.fenced.fence != Fence::Sealed(sealed) {
            return Err(other_fence(database, Fence::Sealed(sealed)));
        }
        let correct = |problem: String| {
            Err(Refusal::Correct { object: format!("final positions of database `{}`", database.name), problem })
        };
        if !database.ordinals().eq(finals.positions.keys().copied()) {
            return correct(format!("of {} partitions: name one of each", finals.positions.len()));
        }
        match &database.fenced.finals {
            Some(known) if known == finals => return Ok(Applied::Already(fenced(database))),
            Some(known) => return correct(format!("are known as {known:?}: they do not move under a seal")),
            None => {}
        }
        self.databases.get_mut(&id).expect("it was looked up above").fenced.finals = Some(finals.clone());
        Ok(Applied::Changed(fenced(&self.databases[&id])))
    }

    pub(super) fn unfence(&mut self, id: DatabaseId, holder: Holder, force: bool) -> Applying {
        let database = self.expect_database_id(id)?;
        let held = &database.fenced.holders;
        let released = |other: &Holder| *other == holder || force;
        if database.handover.is_some() && !force && holder != Holder::Guard {
            return Err(Refusal::Force {
                object: format!("database `{}`", database.name),
                loss: "has handed over its right to write: the other side may be writable by now".into(),
            });
        }
        if !held.iter().any(released) {
            return Ok(Applied::Already(fenced(database)));
        }
        let name = database.name.clone();
        if force && held.contains(&Holder::Guard) {
            self.overrule(id);
        }
        if force && self.databases[&id].handover.is_some() {
            let text = format!("database `{name}` takes its right to write back by force: this may be a fork");
            self.say(Severity::Error, "fork", id.into(), text);
        }
        self.release(id, released);
        self.say(Severity::Info, "fence", id.into(), format!("{holder} lets go of database `{name}`"));
        Ok(Applied::Changed(fenced(&self.databases[&id])))
    }

    /// Takes holders off a fence; it falls with the last one.
    pub(super) fn release(&mut self, id: DatabaseId, released: impl Fn(&Holder) -> bool) {
        let database = self.databases.get_mut(&id).expect("the caller has looked it up");
        database.fenced.holders.retain(|holder| !released(holder));
        if !database.fenced.holders.contains(&Holder::Token) {
            database.handover = None;
        }
        if database.fenced.holders.is_empty() && database.fenced.fence != Fence::None {
            database.fenced = Fenced::default();
            self.touch_database(id);
        }
    }

    fn overrule(&mut self, id: DatabaseId) {
        let database = self.databases.get_mut(&id).expect("the caller has looked it up");
        let claims: Vec<_> = database.superseding().map(|claim| claim.promotion.id).collect();
        database.overruled.extend(claims.iter().copied());
        let text = format!("database `{}` overrules {} claims of other regions: a fork", database.name, claims.len());
        self.say(Severity::Error, "fork", id.into(), text);
    }
}

fn fenced(database: &Database) -> Answer {
    Answer::Fenced(database.fenced.clone())
}

fn other_fence(database: &Database, based: Fence) -> Refusal {
    Refusal::LookAgain {
        object: format!("fence of database `{}`", database.name),
        is: database.fenced.to_string(),
        based: format!("{based:?}"),
    }
}
