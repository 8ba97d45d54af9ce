//! A database follows another region.

use types::{DatabaseId, LinkId, Promotion, Timestamp, parting_cut};

use super::sets::expect_position;
use super::{ALREADY, Applied, Applying, DONE};
use crate::command::{BreakLink, CreateSink, Follow, LinkTerms};
use crate::database::{Database, Fenced, FullCopy, Side};
use crate::event::Severity;
use crate::link::{LinkMode, LinkOptions, SinkLink, Tier};
use crate::outcome::{Answer, Refusal};
use crate::state::State;

/// What the source's promotions mean for a sink.
enum Verdict {
    /// They are the sink's own.
    Same,
    /// They can be followed.
    Commit,
    /// The source is behind: wait for it.
    Wait,
    /// They part from the sink's below what it has served.
    Parted(Timestamp),
}

/// The rule `learn`: a merely shorter source is waited for if it is a sink itself; below the served cut nothing is
/// followed without a person's order.
fn judge(mine: &[Promotion], theirs: &[Promotion], relay: bool, served: Timestamp, forced: bool) -> Verdict {
    match parting_cut(mine, theirs) {
        None => Verdict::Same,
        Some(_) if forced => Verdict::Commit,
        Some(_) if relay && mine.starts_with(theirs) => Verdict::Wait,
        Some(low) if low < served => Verdict::Parted(low),
        Some(_) => Verdict::Commit,
    }
}

impl State {
    pub(super) fn create_sink(&mut self, sink: &CreateSink) -> Applying {
        let CreateSink { create, terms } = sink;
        if let Some((id, database)) = self.database_named(&create.name) {
            if let Side::Sink { link } = database.side
                && self.follows(database, create.identity, terms)
            {
                return self.renew(id, link, terms);
            }
            return self.refuse_existing(database, terms);
        }
        self.check_new(create)?;
        self.expect_elsewhere(&format!("database `{}`", create.name), terms)?;
        self.expect_new_link(terms.link)?;
        let id = self.add_database(create, Side::Sink { link: terms.link });
        self.databases.get_mut(&id).expect("it was added above").promotions = terms.promotions.clone();
        self.add_link(id, terms, false, (Tier::Full, "the database is new here".into()));
        let text = format!("database `{}` follows {}", create.name, shown(terms));
        self.say(Severity::Info, "replicate", id.into(), text);
        Ok(Applied::Changed(Answer::Database(id)))
    }

    /// REPLICATE without FORCE DIFFERENTIAL of a name that exists.
    fn refuse_existing(&self, database: &Database, terms: &LinkTerms) -> Applying {
        let object = format!("database `{}`", database.name);
        match database.side {
            Side::Sink { link } => {
                let source = &self.sinks[&link].source;
                let advice = format!(
                    "it follows {}/{}; add WITH FORCE DIFFERENTIAL to follow {} instead",
                    source.address,
                    source.database,
                    shown(terms)
                );
                Err(Refusal::NameNew { object, advice })
            }
            Side::Writable => Err(Refusal::NameNew {
                object,
                advice: "add WITH FORCE DIFFERENTIAL to let it follow; what it alone has is set aside".into(),
            }),
        }
    }

    /// Whether it follows this very database of the source.
    fn follows(&self, database: &Database, identity: u128, terms: &LinkTerms) -> bool {
        let Side::Sink { link } = database.side else { return false };
        let held = &self.sinks[&link];
        let same = held.source_cluster == terms.source_cluster && held.source.database == terms.source.database;
        same && database.identity == identity
    }

    /// The same source again: the aim holds; a new token of it is kept.
    fn renew(&mut self, id: DatabaseId, link: LinkId, terms: &LinkTerms) -> Applying {
        let answer = Answer::Database(id);
        if link == terms.link {
            let held = self.sinks.get_mut(&link).expect("a sink has a link");
            let same = held.credentials == terms.credentials && held.options == terms.options;
            if same && held.source == terms.source {
                return Ok(Applied::Already(answer));
            }
            held.credentials = terms.credentials.clone();
            held.options = terms.options.clone();
            held.source = terms.source.clone();
            self.touch_news(id);
            return Ok(Applied::Changed(answer));
        }
        // The source has forgotten the old link, or was restored: go on under the new name.
        self.expect_new_link(terms.link)?;
        let SinkLink { forced, tier, reason, .. } = self.sinks[&link].clone();
        self.set_side(id, Side::Sink { link: terms.link });
        self.add_link(id, terms, forced, (tier, reason));
        self.touch_database(id);
        Ok(Applied::Changed(answer))
    }

    fn expect_elsewhere(&self, object: &str, terms: &LinkTerms) -> Result<(), Refusal> {
        if terms.source_cluster == self.cluster || terms.upstream.contains(&self.cluster) {
            let problem = format!("{} follows this very cluster: STOP REPLICATING there first", shown(terms));
            return Err(Refusal::Correct { object: object.into(), problem });
        }
        Ok(())
    }

    fn expect_new_link(&self, link: LinkId) -> Result<(), Refusal> {
        if self.sinks.contains_key(&link) {
            let advice = "it belongs to another database here: log in at the source again".into();
            return Err(Refusal::NameNew { object: format!("link {link}"), advice });
        }
        Ok(())
    }

    fn add_link(&mut self, database: DatabaseId, terms: &LinkTerms, forced: bool, (tier, reason): (Tier, String)) {
        let link = SinkLink {
            database,
            source: terms.source.clone(),
            others: vec![],
            source_cluster: terms.source_cluster,
            credentials: terms.credentials.clone(),
            options: terms.options.clone(),
            paused: false,
            forced,
            broken: None,
            tier,
            reason,
            since: self.clock,
        };
        self.sinks.insert(terms.link, link);
    }

    /// Leaves the link that it has, if any.
    fn set_side(&mut self, id: DatabaseId, side: Side) {
        let database = self.databases.get_mut(&id).expect("the caller has looked it up");
        if let Side::Sink { link } = std::mem::replace(&mut database.side, side) {
            self.sinks.remove(&link);
        }
    }

    pub(super) fn follow(&mut self, follow: &Follow) -> Applying {
        let database = self.expect_database_id(follow.database)?;
        let broken = self.check_follow(database, follow)?;
        let terms = &follow.terms;
        if let Side::Sink { link } = database.side
            && self.follows(database, follow.identity, terms)
            && !(broken && follow.forced)
        {
            return self.renew(follow.database, link, terms);
        }
        let relayed = judge(&database.promotions, &terms.promotions, terms.relay, follow.served, follow.forced);
        match relayed {
            Verdict::Same | Verdict::Commit => {}
            Verdict::Wait => return Err(behind(database, terms)),
            Verdict::Parted(low) => {
                return Err(Refusal::Force {
                    object: format!("database `{}`", database.name),
                    loss: format!("has served reads up to {}, {} parted at {low}", follow.served, shown(terms)),
                });
            }
        }
        if !matches!(database.side, Side::Sink { link } if link == terms.link) {
            self.expect_new_link(terms.link)?;
        }
        self.turn_to(follow);
        Ok(Applied::Changed(Answer::Database(follow.database)))
    }

    /// Looks whether a database may follow; tells whether its present link is broken.
    fn check_follow(&self, database: &Database, follow: &Follow) -> Result<bool, Refusal> {
        let object = format!("database `{}`", database.name);
        if follow.partitions != database.partitions {
            let problem = format!(
                "it has {} partitions, its source {}: DROP it and REPLICATE without FORCE DIFFERENTIAL",
                database.partitions, follow.partitions
            );
            return Err(Refusal::Correct { object, problem });
        }
        let undecided = database.handover.is_some_and(|handover| handover.answer.is_none());
        if undecided {
            return Err(Refusal::DoFirst {
                object,
                problem: "has offered its right to write, the answer is not known".into(),
                first: "ask the sink, or UNLOCK TABLES … FORCE".into(),
            });
        }
        self.expect_elsewhere(&object, &follow.terms)?;
        let broken = match database.side {
            Side::Writable if !follow.forced => {
                let loss = "is writable; as a sink it sets aside what its source lacks".into();
                return Err(Refusal::Force { object, loss });
            }
            Side::Writable => false,
            Side::Sink { link } => self.sinks[&link].broken.is_some(),
        };
        if broken && !follow.forced {
            return Err(Refusal::Force { object, loss: "has parted from its source".into() });
        }
        Ok(broken)
    }

    /// Becomes a sink of another source: one command with the end of its fence.
    fn turn_to(&mut self, follow: &Follow) {
        let (id, terms) = (follow.database, &follow.terms);
        let was_sink = self.databases[&id].is_sink();
        self.set_side(id, Side::Sink { link: terms.link });
        self.add_link(id, terms, follow.forced, (Tier::Log, "the logs of both sides share a beginning".into()));
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        database.fenced = Fenced::default();
        database.handover = None;
        database.identity = follow.identity;
        database.promotions = terms.promotions.clone();
        let text = format!("database `{}` follows {}", database.name, shown(terms));
        if was_sink {
            self.touch_database(id);
        } else {
            self.begin_reigns(id, 0);
        }
        self.end_sync(id);
        // A sink that has been promoted and is followed now does not follow any longer.
        let now = self.clock;
        for out in
            self.sources.values_mut().filter(|out| out.database == id && out.peer_cluster == terms.source_cluster)
        {
            out.ended = out.ended.or(Some(now));
            out.mode = LinkMode::Async;
        }
        self.say(Severity::Warning, "replicate", id.into(), text);
    }

    /// Another history, or no right to write: sinks of this database protect nothing until they have caught up.
    pub(super) fn end_sync(&mut self, id: DatabaseId) {
        for link in self.sources.values_mut().filter(|link| link.database == id && link.mode == LinkMode::Sync) {
            link.mode = LinkMode::Degraded { since: Timestamp::ZERO };
        }
    }

    pub(super) fn learn_promotions(
        &mut self,
        id: DatabaseId,
        link: LinkId,
        promotions: &[Promotion],
        relay: bool,
        served: Timestamp,
    ) -> Applying {
        let (database, held) = self.expect_link(id, link)?;
        if let Some(reason) = &held.broken {
            return Err(Refusal::DoFirst {
                object: format!("link of database `{}`", database.name),
                problem: format!("is broken: {reason}"),
                first: "REPLICATE … WITH FORCE DIFFERENTIAL to follow the source".into(),
            });
        }
        match judge(&database.promotions, promotions, relay, served, held.forced) {
            Verdict::Same => return Ok(Applied::Already(Answer::Learnt)),
            Verdict::Wait => {
                let object = format!("source of database `{}`", database.name);
                let reason = "is a sink that is behind; what it lacks will arrive there".into();
                return Err(Refusal::Wait { object, reason });
            }
            Verdict::Parted(low) => {
                self.set_broken(id, link, format!("the source parted at {low}, reads were served up to {served}"));
                return Ok(Applied::Changed(Answer::Broken));
            }
            Verdict::Commit => {}
        }
        self.databases.get_mut(&id).expect("it was looked up above").promotions = promotions.to_vec();
        self.touch_database(id);
        self.end_sync(id);
        let name = self.database_name(id);
        let text = format!("the source of {name} has {} promotions in its history now", promotions.len());
        self.say(Severity::Info, "promotion", id.into(), text);
        Ok(Applied::Changed(Answer::Learnt))
    }

    /// The database and its link, or the refusal that says that it follows another or none.
    pub(super) fn expect_link(&self, id: DatabaseId, link: LinkId) -> Result<(&Database, &SinkLink), Refusal> {
        let database = self.expect_database_id(id)?;
        match database.side {
            Side::Sink { link: held } if held == link => Ok((database, &self.sinks[&link])),
            side => Err(Refusal::LookAgain {
                object: format!("database `{}`", database.name),
                is: match side {
                    Side::Writable => "follows nobody, it is writable".into(),
                    Side::Sink { link } => format!("follows link {link}"),
                },
                based: format!("link {link}"),
            }),
        }
    }

    pub(super) fn measure_copy(&mut self, id: DatabaseId, copy: FullCopy) -> Applying {
        if self.expect_database_id(id)?.full_copy == Some(copy) {
            return ALREADY;
        }
        self.databases.get_mut(&id).expect("it was looked up above").full_copy = Some(copy);
        DONE
    }

    /// A word that was under way while the order to follow changed is about what was ordered before.
    pub(super) fn break_link(&mut self, lost: &BreakLink) -> Applying {
        let (id, link) = (lost.partition, lost.link);
        if self.expect_link(id.database, link)?.1.broken.is_some() {
            return ALREADY;
        }
        expect_position(id, self.expect_partition(id)?, lost.reign, Some(lost.version))?;
        self.set_broken(id.database, link, lost.reason.clone());
        DONE
    }

    fn set_broken(&mut self, id: DatabaseId, link: LinkId, reason: String) {
        let text = format!("{} takes nothing from its source: {reason}", self.database_name(id));
        self.sinks.get_mut(&link).expect("it was looked up above").broken = Some(reason);
        self.touch_database(id);
        self.say(Severity::Error, "broken", id.into(), text);
    }

    /// The sides are one lineage again: the order is carried out, and what the parting had pinned is free.
    pub(super) fn joined(&mut self, id: DatabaseId, link: LinkId) -> Applying {
        let (_, held) = self.expect_link(id, link)?;
        let (forced, peer) = (held.forced, held.source_cluster);
        let parted = self.parted.values().any(|parted| parted.database == id && parted.source_cluster == peer);
        let ended =
            |out: &crate::link::SourceLink| out.database == id && out.peer_cluster == peer && out.ended.is_some();
        if !forced && !parted && !self.sources.values().any(ended) {
            return ALREADY;
        }
        self.parted.retain(|_, parted| parted.database != id || parted.source_cluster != peer);
        self.sources.retain(|_, out| !ended(out));
        if forced {
            self.sinks.get_mut(&link).expect("it was looked up above").forced = false;
            self.touch_database(id);
        }
        DONE
    }

    pub(super) fn pause_link(&mut self, id: DatabaseId, paused: bool) -> Applying {
        let link = self.expect_sink(id)?;
        let held = self.sinks.get_mut(&link).expect("a sink has a link");
        if held.paused == paused {
            return ALREADY;
        }
        held.paused = paused;
        self.touch_database(id);
        DONE
    }

    pub(super) fn alter_link(&mut self, id: DatabaseId, options: &LinkOptions) -> Applying {
        let link = self.expect_sink(id)?;
        let held = self.sinks.get_mut(&link).expect("a sink has a link");
        if held.options == *options {
            return ALREADY;
        }
        held.options = options.clone();
        self.touch_database(id);
        DONE
    }

    /// The link of a database that follows, or the refusal that says that it does not.
    pub(super) fn expect_sink(&self, id: DatabaseId) -> Result<LinkId, Refusal> {
        let database = self.expect_database_id(id)?;
        match database.side {
            Side::Sink { link } => Ok(link),
            Side::Writable => Err(Refusal::DoFirst {
                object: format!("database `{}`", database.name),
                problem: "does not follow another region".into(),
                first: "REPLICATE it".into(),
            }),
        }
    }
}

fn behind(database: &Database, terms: &LinkTerms) -> Refusal {
    Refusal::Wait {
        object: format!("database `{}`", database.name),
        reason: format!("is ahead of {}, a sink that will catch up", shown(terms)),
    }
}

fn shown(terms: &LinkTerms) -> String {
    format!("{}/{}", terms.source.address, terms.source.database)
}
