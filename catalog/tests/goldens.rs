//! Scripts that a person can read, one claim a file. `UPDATE_GOLDENFILES=1` writes what the code answers.
//!
//! A prefix names the region: `west: show db`; without one it is east. The commands are the arms of [`World::run`].

mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;

use catalog::claim::Claim;
use catalog::command::{
    BreakLink, Command, Confirmed, CreateSink, Follow, HandoverAnswer, LinkTerms, Loss, OpenLink, Promote, SetChange,
};
use catalog::database::{Finals, Holder, Side};
use catalog::decide::{Heard, Report, failover};
use catalog::event::Event;
use catalog::link::{Credentials, LinkOptions, OnSilence, SourceAddress};
use catalog::state::State;
use catalog::user::Account;
use goldenscript::Argument;
use perennial_catalog as catalog;
use types::{
    ClusterId, DatabaseId, Fence, Incarnation, LinkId, LogEnd, Lsn, Mark, Member, Mode, NodeId, Promotion, PromotionId,
    Reign, Revision, Role, SetVersion, StartKind, Timestamp,
};

const MILLI: u64 = 1_000_000;
const TIMEOUT: u64 = 1500 * MILLI;

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Region {
    state: State,
    heard: Heard,
    now: u64,
}

#[derive(Default)]
struct World {
    regions: BTreeMap<String, Region>,
}

/// Arguments by place and by name.
struct Args<'a> {
    words: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Args<'a> {
    fn of(command: &'a goldenscript::Command) -> Args<'a> {
        let mut args = Args { words: vec![], named: BTreeMap::new() };
        for argument in &command.args {
            match argument {
                Argument::Positional(word) => args.words.push(word),
                Argument::KeyValue(key, value) => drop(args.named.insert(key, value)),
                other => panic!("argument {other}"),
            }
        }
        args
    }

    fn word(&self, index: usize) -> Fallible<&'a str> {
        self.words.get(index).copied().ok_or_else(|| format!("argument {index} is missing").into())
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn number(&self, key: &str) -> Fallible<u64> {
        self.number_or(key, None)
    }

    fn number_or(&self, key: &str, default: impl Into<Option<u64>>) -> Fallible<u64> {
        match self.named.get(key) {
            Some(value) => Ok(value.parse()?),
            None => default.into().ok_or_else(|| format!("{key}= is missing").into()),
        }
    }

    fn time(&self, key: &str) -> Fallible<Timestamp> {
        self.number(key).map(Timestamp)
    }

    fn link(&self) -> Fallible<LinkId> {
        self.number("link").map(|link| LinkId(link.into()))
    }

    fn mode(&self) -> Mode {
        let sync = |key| self.named.get(key).is_none_or(|value| *value != "async");
        Mode { sync_durability: sync("durability"), sync_replication: sync("replication") }
    }

    fn leaves(&self) -> Fallible<Vec<NodeId>> {
        let on = self.named.get("on").unwrap_or(&"1");
        on.split(' ').map(|leaf| Ok(NodeId(leaf.parse()?))).collect()
    }
}

fn parse_member(text: &str) -> Fallible<Member> {
    let (node, incarnation) = text.trim_start_matches('n').split_once('.').ok_or("members are written n1.1")?;
    Ok(Member { node: NodeId(node.parse()?), incarnation: Incarnation(incarnation.parse()?) })
}

fn cluster_of(region: &str) -> ClusterId {
    ClusterId(region.bytes().next().map_or(0, |first| u64::from(first - b'a' + 1)))
}

impl World {
    fn region(&mut self, name: &str) -> &mut Region {
        self.regions.entry(name.into()).or_insert_with(|| Region {
            state: State::new(cluster_of(name)),
            heard: Heard::new(0).elected_at(Revision(0)),
            now: 0,
        })
    }

    fn run_in(&mut self, region: &str, command: &goldenscript::Command) -> Fallible<String> {
        let args = Args::of(command);
        let from = args.named.get("from").map(|from| self.region(from).state.clone());
        let here = self.region(region);
        let wanted = match command.name.as_str() {
            "leaves" => return here.leaves(args.word(0)?.parse()?),
            "time" => {
                here.now = args.word(0)?.parse::<u64>()? * MILLI;
                return Ok(String::new());
            }
            "elect" => {
                here.heard = Heard::new(here.now).elected_at(here.state.revision);
                return Ok(String::new());
            }
            "hear" => return here.hear(&args),
            "gone" => {
                here.heard.proved_gone(parse_member(args.word(0)?)?);
                return Ok(String::new());
            }
            "damaged" => {
                let id = support::partition(here.database(&args)?, 0);
                here.heard.damaged(parse_member(args.word(1)?)?, [id].into(), here.now);
                return Ok(String::new());
            }
            "report" => return here.report(&args),
            "wanted" => return Ok(here.wanted()),
            "decide" => return here.decide(),
            "show" => return here.show(&args),
            "events" => return Ok(here.events()),
            "start" => here.start(&args)?,
            "create" => {
                let leaves = args.leaves()?;
                let placement = vec![leaves.clone(), leaves];
                Command::CreateDatabase(support::creating(args.word(0)?, args.mode(), placement))
            }
            "drop" => Command::DropDatabase { name: args.word(0)?.into() },
            "alter" => {
                let (_, database) = here.state.database_named(args.word(0)?).ok_or("no such database")?;
                let mut options = database.options.clone();
                if let Some(after) = args.named.get("after") {
                    options.async_failover_after_millis = after.parse().ok();
                }
                Command::AlterDatabase { name: args.word(0)?.into(), mode: args.mode(), options }
            }
            "propose" | "name" | "incomplete" | "complete" | "durable" | "obeyed" | "replica" => {
                here.about_partition(&command.name, &args)?
            }
            "fence" | "seal" | "finals" | "unfence" => here.about_fence(&command.name, &args)?,
            _ => here.between_regions(&command.name, &args, from)?,
        };
        here.apply(&wanted)
    }
}

impl Region {
    fn apply(&mut self, command: &Command) -> Fallible<String> {
        Ok(support::apply(&mut self.state, command)?.to_string())
    }

    fn database(&self, args: &Args<'_>) -> Fallible<DatabaseId> {
        let name = args.word(0)?;
        Ok(self.state.database_named(name).ok_or_else(|| format!("no database {name}"))?.0)
    }

    fn leaves(&mut self, count: u64) -> Fallible<String> {
        let cluster = self.state.cluster;
        self.state = support::cluster(count);
        self.state.cluster = cluster;
        Ok(String::new())
    }

    fn start(&self, args: &Args<'_>) -> Fallible<Command> {
        let node = args.word(0)?.parse()?;
        let old = self.state.member(NodeId(node)).ok_or("no such node")?.incarnation.0;
        Ok(support::started(node, args.number_or("process", old + 1)?))
    }

    fn hear(&mut self, args: &Args<'_>) -> Fallible<String> {
        for word in &args.words {
            let member = parse_member(word)?;
            self.heard.heartbeat(member, self.now);
            self.heard.answered(member, self.now);
            self.heard.told(member, self.state.revision);
        }
        Ok(String::new())
    }

    fn report(&mut self, args: &Args<'_>) -> Fallible<String> {
        let database = self.database(args)?;
        // A replica that has not heard of any promotion keeps a mark of another history.
        let current = args.word(2).ok() != Some("unpromoted");
        let promotions = self.state.databases[&database].promotions.clone();
        let mark = Mark {
            ts: Timestamp(args.number_or("mark", 0)?),
            promotions: if current { promotions } else { vec![] },
            ..Mark::default()
        };
        let end = LogEnd { epoch_number: args.number("epoch")?, lsn: Lsn(args.number("lsn")?) };
        let member = parse_member(args.word(1)?)?;
        let powered_since = Incarnation(args.number_or("powered", member.incarnation.0)?);
        let mut epochs = vec![];
        for text in args.named.get("before").unwrap_or(&"").split_whitespace() {
            let (number, lsn) = text.split_once('@').ok_or("ends of epochs are written 1@9")?;
            epochs.push(LogEnd { epoch_number: number.parse()?, lsn: Lsn(lsn.parse()?) });
        }
        epochs.push(end);
        let report = Report { member, at: self.now, end, epochs, mark, powered_since };
        for ordinal in [-1, 0] {
            self.heard.report(support::partition(database, ordinal), report.clone());
        }
        Ok(String::new())
    }

    fn wanted(&self) -> String {
        let mut out = String::new();
        for (member, id) in failover::reports_wanted(&self.state, &self.heard, self.now, TIMEOUT) {
            writeln!(out, "{member} about {id}").expect("a string takes everything");
        }
        out
    }

    fn decide(&mut self) -> Fallible<String> {
        let mut draws = 0;
        let mut bits = || {
            draws += 1;
            draws
        };
        let commands = failover::decide(&self.state, &self.heard, self.now, TIMEOUT, &mut bits);
        let mut out = String::new();
        for command in commands {
            match &command {
                Command::NamePrimary(name) => {
                    let set: Vec<String> = name.members.iter().map(Member::to_string).collect();
                    write!(out, "{}: name {} with {set:?}, loss {:?}: ", name.partition, name.primary, name.loss)?;
                }
                Command::RecoverToCut(recover) => write!(out, "recover {} to {}: ", recover.database, recover.cut)?,
                Command::ReceiveEpoch { number } => write!(out, "epochs above {number}: ")?,
                other => write!(out, "{other:?}: ")?,
            }
            writeln!(out, "{}", self.apply(&command)?)?;
        }
        Ok(out)
    }

    fn about_partition(&self, name: &str, args: &Args<'_>) -> Fallible<Command> {
        let partition = support::partition(self.database(args)?, 0);
        let held = &self.state.partitions[&partition];
        let reign = Reign(args.number_or("reign", held.reign.0)?);
        let version = SetVersion(args.number_or("version", held.version.0)?);
        Ok(match name {
            "propose" => {
                let member = parse_member(args.word(2)?)?;
                let change = if args.word(1)? == "add" { SetChange::Add(member) } else { SetChange::Remove(member) };
                Command::ProposeSet { partition, reign, version, change }
            }
            "name" => {
                let members = args.word(1)?.split(' ').map(parse_member).collect::<Fallible<Vec<Member>>>()?;
                let loss = match args.named.get("loss") {
                    None => Loss::None,
                    Some(&"order") => Loss::Order,
                    Some(_) => Loss::Recovery,
                };
                let mut naming = support::naming(&self.state, partition, &members, loss);
                (naming.reign, naming.version) = (reign, version);
                naming.received_epoch = args.number_or("received", 0)?;
                Command::NamePrimary(naming)
            }
            "durable" => Command::Confirm { partition, reign, version, what: Confirmed::Durable },
            "obeyed" => Command::Confirm { partition, reign, version, what: Confirmed::Failover },
            "replica" => {
                let node = NodeId(args.word(2)?.parse()?);
                match args.word(1)? {
                    "add" => Command::AddReplica { partition, node },
                    "remove" => Command::RemoveReplica { partition, node },
                    _ => Command::ReplicaGone { partition, node },
                }
            }
            _ => Command::MarkIncomplete { partition, reign, incomplete: name == "incomplete" },
        })
    }

    fn about_fence(&self, name: &str, args: &Args<'_>) -> Fallible<Command> {
        let database = self.database(args)?;
        let held = &self.state.databases[&database];
        let holder = match args.named.get("holder") {
            Some(&"token") => Holder::Token,
            Some(&"guard") => Holder::Guard,
            _ => Holder::User,
        };
        let since = match held.fenced.fence {
            Fence::Draining(since) | Fence::Sealed(since) => since,
            Fence::None => types::Revision(0),
        };
        Ok(match name {
            "fence" => Command::Fence { database, holder },
            "seal" => Command::Seal { database, draining: types::Revision(args.number_or("since", since.0)?) },
            "finals" => {
                let lsn = Lsn(args.number_or("lsn", 9)?);
                let positions = held.ordinals().map(|ordinal| (ordinal, lsn)).collect();
                let finals = Finals { positions, time: args.time("time")? };
                Command::ReportFinals { database, sealed: since, finals }
            }
            _ => Command::Unfence { database, holder, force: args.has("force") },
        })
    }

    fn breaking(&self, args: &Args<'_>, database: DatabaseId, link: LinkId) -> Fallible<Command> {
        let partition = support::partition(database, 0);
        let held = &self.state.partitions[&partition];
        let (reign, version) = (held.reign, SetVersion(args.number_or("version", held.version.0)?));
        Ok(Command::BreakLink(BreakLink { partition, reign, version, link, reason: args.word(1)?.into() }))
    }

    fn between_regions(&self, name: &str, args: &Args<'_>, from: Option<State>) -> Fallible<Command> {
        match name {
            "end" => return Ok(Command::EndLink { link: args.link()?, keep_pin: args.has("keep") }),
            "giveup" => return Ok(Command::GiveUpPin { link: args.link()? }),
            "degrade" => return Ok(Command::Degrade { link: args.link()?, since: args.time("since")? }),
            "restore" => return Ok(Command::Restore { link: args.link()?, above: args.time("above")? }),
            "sink" => return self.sink(args, &from.ok_or("from= is missing")?),
            _ => {}
        }
        let database = self.database(args)?;
        let held = &self.state.databases[&database];
        let link = match held.side {
            Side::Sink { link } => link,
            Side::Writable => LinkId(args.number_or("link", 0)?.into()),
        };
        let there = || {
            let from = from.as_ref().ok_or("from= is missing")?;
            from.database_named(&held.name).map(|(_, database)| (from, database)).ok_or("it is not there")
        };
        let served = Timestamp(args.number_or("served", 0)?);
        Ok(match name {
            "follow" => {
                let (from, theirs) = there()?;
                let terms = terms(args, from, theirs)?;
                let (identity, partitions) = (theirs.identity, theirs.partitions);
                let forced = args.has("force");
                Command::Follow(Follow { database, identity, partitions, terms, forced, served })
            }
            "learn" => {
                let theirs = there()?.1;
                let promotions = theirs.promotions.clone();
                Command::LearnPromotions { database, link, promotions, relay: theirs.is_sink(), served }
            }
            "joined" => Command::Joined { database, link },
            "break" => self.breaking(args, database, link)?,
            "pause" | "continue" => Command::PauseLink { database, paused: name == "pause" },
            "promote" => Command::Promote(self.promoting(args, database, link)?),
            "open" => Command::OpenLink(opening(args, database)?),
            "pin" => {
                let promotions = there().map_or(held.promotions.clone(), |(_, theirs)| theirs.promotions.clone());
                Command::ReportPin { link: args.link()?, cut: args.time("cut")?, promotions }
            }
            "token" => Command::IssueToken { database, token: args.number("token")?.into(), link: args.link()? },
            "refuse" => Command::RefuseToken { database, token: args.number("token")?.into() },
            "answered" => {
                let accepted = args.number("accepted").ok().map(|id| HandoverAnswer::Accepted(PromotionId(id.into())));
                let answer = accepted.unwrap_or(HandoverAnswer::Refused);
                Command::HandoverAnswered { database, token: args.number("token")?.into(), answer }
            }
            "claim" => {
                let id = PromotionId(args.number("id")?.into());
                let claim = there()?.1.claims.get(&id).ok_or("there is no such claim")?;
                Command::LearnClaim { database, claim: Claim::clone(claim) }
            }
            other => return Err(format!("no command {other}").into()),
        })
    }

    fn promoting(&self, args: &Args<'_>, database: DatabaseId, link: LinkId) -> Fallible<Promote> {
        let mut promotions = self.state.databases[&database].promotions.clone();
        promotions.truncate(args.number_or("known", promotions.len() as u64)? as usize);
        Ok(Promote {
            database,
            link: args.link().unwrap_or(link),
            promotion: PromotionId(args.number("id")?.into()),
            promotions,
            cut: args.time("cut")?,
            nonce: 5,
            start_above: Timestamp(args.number_or("above", 500)?),
            received_epoch: args.number_or("received", 20)?,
            token: args.number("token").ok().map(u128::from),
            copy: args.number("copy").ok().map(u128::from),
            address: "here:3306".into(),
        })
    }

    fn sink(&self, args: &Args<'_>, from: &State) -> Fallible<Command> {
        let name = args.word(0)?;
        let theirs = from.database_named(name).ok_or("it is not there")?.1;
        let leaves = args.leaves()?;
        let mut create = support::creating(name, args.mode(), vec![leaves.clone(), leaves]);
        create.identity = theirs.identity;
        Ok(Command::CreateSink(CreateSink { create, terms: terms(args, from, theirs)? }))
    }

    fn events(&self) -> String {
        let on = |event: &Event| event.node.map_or(String::new(), |node| format!(", node {node}"));
        let line = |event: &Event| format!("{:?} {}{}: {}\n", event.severity, event.kind, on(event), event.text);
        self.state.events.iter().map(line).collect()
    }

    fn show(&self, args: &Args<'_>) -> Fallible<String> {
        let id = self.database(args)?;
        let database = &self.state.databases[&id];
        let view = self.state.view(support::partition(id, 0)).expect("it has a partition");
        let set: Vec<String> = view.members.iter().map(Member::to_string).collect();
        let on: Vec<u64> = view.replicas.iter().map(|node| node.0).collect();
        let mut out = format!(
            "{} reign {} version {} primary {} set {{{}}} on {on:?}",
            view.partition,
            view.reign,
            view.version,
            view.primary,
            set.join(" ")
        );
        match &view.role {
            Role::Writable { epoch, start, start_above } => {
                write!(out, "\n  writable epoch {epoch}")?;
                if let StartKind::Promotion { id, cut } = start {
                    write!(out, " promotion {:x} cut {cut} above {start_above}", id.0)?;
                }
            }
            Role::Sink { link, forced, broken } => {
                write!(out, "\n  sink of link {link}")?;
                write!(out, "{}{}", if *forced { " forced" } else { "" }, if *broken { " broken" } else { "" })?;
            }
        }
        let history: Vec<String> = view.promotions.iter().map(shown).collect();
        write!(out, "\n  history [{}] {}", history.join(" "), database.fenced)?;
        write!(out, "\n  losses {} pin {:?}", view.losses, self.state.pin(id).map(|pin| pin.0))?;
        for (link, held) in self.state.sources.iter().filter(|(_, held)| held.database == id) {
            let ended = if held.ended.is_some() { " ended" } else { "" };
            write!(
                out,
                "\n  link {link} of cluster {} {:?} pin {:?}{ended}",
                held.peer_cluster.0, held.mode, held.pin
            )?;
        }
        Ok(out)
    }
}

fn shown(promotion: &Promotion) -> String {
    format!("{:x}@{}", promotion.id.0, promotion.cut)
}

fn terms(args: &Args<'_>, from: &State, theirs: &catalog::database::Database) -> Fallible<LinkTerms> {
    let upstream = match theirs.side {
        Side::Sink { link } => vec![from.sinks[&link].source_cluster],
        Side::Writable => vec![],
    };
    Ok(LinkTerms {
        link: args.link()?,
        source: SourceAddress { address: "there:3306".into(), database: theirs.name.clone(), user: "repl".into() },
        source_cluster: from.cluster,
        credentials: Credentials::default(),
        options: LinkOptions::default(),
        promotions: theirs.promotions.clone(),
        relay: theirs.is_sink(),
        upstream,
    })
}

fn opening(args: &Args<'_>, database: DatabaseId) -> Fallible<OpenLink> {
    let peer = args.named.get("for").ok_or("for= is missing")?;
    Ok(OpenLink {
        link: args.link()?,
        database,
        user: Account { name: "repl".into(), host: "%".into() },
        token_hash: [args.number_or("token", 1)? as u8; 32],
        peer_cluster: cluster_of(peer),
        peer_database: args.word(0)?.into(),
        peer_address: None,
        peer_fingerprint: None,
        sync: args.has("sync"),
        on_silence: OnSilence::Degrade,
    })
}

impl goldenscript::Runner for World {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, context: &goldenscript::Context) -> Fallible<String> {
        let region = context.prefix.as_deref().unwrap_or("east");
        self.run_in(region, command)
    }

    fn end_script(&mut self) -> Fallible<()> {
        self.regions.values().for_each(|region| region.state.check());
        Ok(())
    }
}

#[test]
fn scripts() {
    // At run time: clones share a build folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells every test its crate's folder");
    let folder = std::path::Path::new(&here).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "the scripts are missing");
    for file in files {
        goldenscript::run(&mut World::default(), &file)
            .unwrap_or_else(|error| panic!("script {}: {error}", file.display()));
    }
}
