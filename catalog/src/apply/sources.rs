//! Another region follows a database of this one.

use types::{LinkId, Promotion, Timestamp};

use super::{ALREADY, Applied, Applying, DONE};
use crate::command::OpenLink;
use crate::event::Severity;
use crate::link::{LinkMode, OnSilence, SourceLink};
use crate::outcome::{Answer, Refusal};
use crate::state::State;

impl State {
    pub(super) fn open_link(&mut self, open: &OpenLink) -> Applying {
        self.expect_database_id(open.database)?;
        if open.peer_cluster == self.cluster {
            let problem = "its sink is in this very cluster: name a source in another region".into();
            return Err(Refusal::Correct { object: format!("link of database {}", open.database), problem });
        }
        let same = |link: &SourceLink| {
            link.database == open.database
                && link.peer_cluster == open.peer_cluster
                && link.peer_database == open.peer_database
        };
        let known = self.sources.iter().find(|(_, link)| same(link)).map(|(id, _)| *id);
        if let Some(id) = known {
            return self.renew_token(id, open);
        }
        if self.sources.contains_key(&open.link) {
            let advice = "draw another id".into();
            return Err(Refusal::NameNew { object: format!("link {}", open.link), advice });
        }
        // History is kept from where the sides parted, if they did; else from the first report on.
        let parted =
            |link: &&crate::link::Parted| link.database == open.database && link.source_cluster == open.peer_cluster;
        let pin = self.parted.values().filter(parted).map(|link| link.promotion.cut).min();
        let link = SourceLink {
            database: open.database,
            user: open.user.clone(),
            token_hash: Some(open.token_hash),
            peer_cluster: open.peer_cluster,
            peer_database: open.peer_database.clone(),
            peer_address: open.peer_address.clone(),
            peer_others: vec![],
            peer_fingerprint: open.peer_fingerprint,
            mode: asked(open.sync),
            on_silence: open.on_silence,
            pin: Some(pin.unwrap_or(Timestamp::ZERO)),
            pin_promotions: self.databases[&open.database].promotions.clone(),
            ended: None,
            since: self.clock,
        };
        self.sources.insert(open.link, link);
        self.touch_news(open.database);
        let name = self.database_name(open.database);
        let text = format!("cluster {} follows {name} as {}", open.peer_cluster.0, open.user);
        self.say(Severity::Info, "link", open.database.into(), text);
        Ok(Applied::Changed(Answer::Link(open.link)))
    }

    fn renew_token(&mut self, id: LinkId, open: &OpenLink) -> Applying {
        let clock = self.clock;
        let link = self.sources.get_mut(&id).expect("the caller has looked it up");
        let keeps_mode = link.ended.is_none() && open.sync == (link.mode != LinkMode::Async);
        let renewed = SourceLink {
            user: open.user.clone(),
            token_hash: Some(open.token_hash),
            peer_address: open.peer_address.clone().or_else(|| link.peer_address.clone()),
            peer_fingerprint: open.peer_fingerprint.or(link.peer_fingerprint),
            mode: if keeps_mode { link.mode } else { asked(open.sync) },
            on_silence: open.on_silence,
            ended: None,
            since: clock,
            ..link.clone()
        };
        if (SourceLink { since: link.since, ..renewed.clone() }) == *link {
            return Ok(Applied::Already(Answer::Link(id)));
        }
        *link = renewed;
        self.touch_news(open.database);
        Ok(Applied::Changed(Answer::Link(id)))
    }

    /// Any of these is asked where the one that was named is away.
    pub(super) fn learn_addresses(&mut self, id: LinkId, addresses: &[String]) -> Applying {
        let sink = self.sinks.get_mut(&id).map(|link| &mut link.others);
        let parted = self.parted.get_mut(&id).map(|link| &mut link.others);
        let source = self.sources.get_mut(&id).map(|link| &mut link.peer_others);
        let known = sink.or(parted).or(source);
        let known = known.ok_or_else(|| Refusal::NameExisting { object: format!("link {id}") })?;
        if known == addresses {
            return ALREADY;
        }
        *known = addresses.to_vec();
        DONE
    }

    pub(super) fn set_sync(&mut self, id: LinkId, sync: bool, on_silence: OnSilence) -> Applying {
        let link = self.expect_source(id)?;
        if link.ended.is_some() && sync {
            let problem = "its sink follows no longer: REPLICATE there first".into();
            return Err(Refusal::Correct { object: format!("link {id}"), problem });
        }
        let kept = sync == (link.mode != LinkMode::Async);
        if kept && link.on_silence == on_silence {
            return ALREADY;
        }
        let link = self.sources.get_mut(&id).expect("it was looked up above");
        link.mode = if kept { link.mode } else { asked(sync) };
        link.on_silence = on_silence;
        let database = link.database;
        self.touch_news(database);
        DONE
    }

    pub(super) fn end_link(&mut self, id: LinkId, keep_pin: bool) -> Applying {
        let clock = self.clock;
        let Some(link) = self.sources.get_mut(&id) else { return ALREADY };
        if keep_pin && link.ended.is_some() {
            return ALREADY;
        }
        let database = link.database;
        if keep_pin {
            link.ended = Some(clock);
            link.mode = LinkMode::Async;
        } else {
            self.sources.remove(&id);
        }
        self.touch_news(database);
        self.say(
            Severity::Warning,
            "link",
            database.into(),
            format!("a sink of {} has left", self.database_name(database)),
        );
        DONE
    }

    /// Within one history the pin only rises. In another it is what the sink says; a late report of the history before
    /// is not taken.
    pub(super) fn report_pin(&mut self, id: LinkId, cut: Timestamp, promotions: &[Promotion]) -> Applying {
        let link = self.expect_source(id)?;
        let (database, peer) = (link.database, link.peer_cluster);
        let known = &self.databases[&database].promotions;
        let late = promotions != known && link.pin_promotions == *known;
        let same = promotions == link.pin_promotions;
        if late || same && Some(cut) <= link.pin {
            return ALREADY;
        }
        let settled = promotions == known;
        let link = self.sources.get_mut(&id).expect("it was looked up above");
        link.pin = Some(cut);
        link.pin_promotions = promotions.to_vec();
        if settled {
            self.parted.retain(|_, parted| parted.database != database || parted.source_cluster != peer);
        }
        DONE
    }

    /// Retention has ended: history is not kept for this follower any longer. The link stays.
    pub(super) fn give_up_pin(&mut self, id: LinkId) -> Applying {
        let database = if let Some(link) = self.sources.get_mut(&id) {
            link.pin.take().map(|_| link.database)
        } else if let Some(parted) = self.parted.get_mut(&id) {
            std::mem::take(&mut parted.pinned).then_some(parted.database)
        } else {
            return Err(Refusal::NameExisting { object: format!("link {id}") });
        };
        let Some(database) = database else { return ALREADY };
        let text = format!(
            "history of {} is no longer kept for link {id}: a state diff may be needed",
            self.database_name(database)
        );
        self.touch_news(database);
        self.say(Severity::Warning, "retention", database.into(), text);
        DONE
    }

    pub(super) fn degrade(&mut self, id: LinkId, since: Timestamp) -> Applying {
        match self.expect_source(id)?.mode {
            LinkMode::Sync => {}
            LinkMode::Degraded { .. } => return ALREADY,
            LinkMode::Async => {
                let problem = "it is not SYNC: commits do not wait for it anyway".into();
                return Err(Refusal::Correct { object: format!("link {id}"), problem });
            }
        }
        let link = self.sources.get_mut(&id).expect("it was looked up above");
        link.mode = LinkMode::Degraded { since };
        let database = link.database;
        self.touch_news(database);
        let name = self.database_name(database);
        let text = format!("the SYNC sink of {name} is silent, commits from {since} on do not wait");
        self.say(Severity::Error, "degraded", database.into(), text);
        DONE
    }

    pub(super) fn restore(&mut self, id: LinkId, above: Timestamp) -> Applying {
        let link = self.expect_source(id)?;
        let object = format!("link {id}");
        let since = match link.mode {
            LinkMode::Sync => return ALREADY,
            LinkMode::Async => {
                let problem = "SYNC was not asked for: ALTER REPLICATION on the sink's side".into();
                return Err(Refusal::Correct { object, problem });
            }
            LinkMode::Degraded { since } => since,
        };
        let here = link.pin_promotions == self.databases[&link.database].promotions;
        let pin = link.pin.filter(|_| here).unwrap_or(Timestamp::ZERO);
        if !here || pin < above || above < since {
            let reason = format!("is at {pin}, everything up to {above} was acknowledged without it");
            return Err(Refusal::Wait { object, reason });
        }
        let link = self.sources.get_mut(&id).expect("it was looked up above");
        link.mode = LinkMode::Sync;
        let database = link.database;
        self.touch_news(database);
        let text = format!("commits of {} wait for its sink", self.database_name(database));
        self.say(Severity::Info, "sync", database.into(), text);
        DONE
    }

    pub(super) fn expect_source(&self, id: LinkId) -> Result<&SourceLink, Refusal> {
        self.sources.get(&id).ok_or_else(|| Refusal::NameExisting { object: format!("link {id}") })
    }
}

/// SYNC begins when the sink has caught up, not before: until then commits do not wait.
fn asked(sync: bool) -> LinkMode {
    if sync { LinkMode::Degraded { since: Timestamp::ZERO } } else { LinkMode::Async }
}
