//! The seven steps: a region follows, the first one burns, the second takes over, the first comes back with writes that
//! the second never received, follows by the difference, and takes its office again.
//!
//! Everything is typed at the two regions as a person would, and shown. That the lost region has writes of its own is made
//! certain: the followers' leaves are stopped while it goes on writing, and started again when it is dead.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::console::{Console, Session};
use super::ledger::Rows;
use super::link::{Shipped, caught_up};
use super::regions::{Region, Regions};
use super::report::Step;
use super::tables::{ACCOUNTS, BALANCE, DATABASE};
use super::writer::Writer;
use super::{divergence, divergence::Divergence};
use crate::client::ClientError;

/// Writes that east acknowledges while nothing of them can reach west.
const WRITES_ALONE: usize = 200;
/// Writes that show that a region serves.
const WRITES_SERVED: usize = 25;
/// What a region that was started may take to serve, and a statement that is to be repeated to succeed.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);
/// A row that is tried on the side that must refuse it.
const FORBIDDEN: i64 = -1;

/// The play, and what it has noted.
pub struct Scenario<'a> {
    console: Console,
    regions: &'a Regions,
    /// The client that keeps writing.
    pub writer: Writer,
    /// Steps that have been played.
    pub steps: Vec<Step>,
    /// What is not as it must be.
    pub findings: Vec<String>,
    /// When the first region was dead.
    pub lost: Instant,
    /// What it set aside when it came back.
    pub divergence: Divergence,
}

impl<'a> Scenario<'a> {
    /// Begins; the client writes from now on.
    pub fn new(console: Console, regions: &'a Regions) -> Scenario<'a> {
        let addresses = [regions.sql(Region::East), regions.sql(Region::West)];
        Scenario {
            console,
            regions,
            writer: Writer::start(addresses),
            steps: Vec::new(),
            findings: Vec::new(),
            lost: Instant::now(),
            divergence: Divergence::default(),
        }
    }

    /// Plays all steps.
    pub fn play(&mut self) -> Result<()> {
        self.writer.wait_for(Region::East, WRITES_SERVED)?;
        self.step("west follows east", Scenario::follow)?;
        self.step("east is lost", Scenario::lose_east)?;
        self.step("west takes over", Scenario::promote_west)?;
        self.step("east returns", Scenario::return_east)?;
        self.step("east follows west", Scenario::follow_back)?;
        self.step("east takes over", Scenario::swap)?;
        self.step("west follows east", Scenario::follow_again)
    }

    fn step(&mut self, title: &'static str, play: fn(&mut Self) -> Result<Shipped>) -> Result<()> {
        let number = self.steps.len() + 1;
        self.console.say(&format!("step {number} of 7: {title}"));
        let from = Instant::now();
        let shipped = play(self).with_context(|| format!("step {number}, {title}"))?;
        self.steps.push(Step { number, title, from, to: Instant::now(), shipped });
        Ok(())
    }

    fn follow(&mut self) -> Result<Shipped> {
        let mut west = self.session(Region::West)?;
        let shipped = self.replicate(&mut west, "")?;
        west.run(&format!("USE {DATABASE}"))?;
        self.check_sum(&mut west)?;
        Ok(shipped)
    }

    fn lose_east(&mut self) -> Result<Shipped> {
        let leaves = self.regions.leaves(Region::West);
        self.console.say("west's leaves stop: what east acknowledges from now on, west never receives");
        self.type_commands("stop-node", &leaves);
        self.regions.stop_nodes(&leaves)?;
        self.writer.wait_for(Region::East, WRITES_ALONE)?;
        let mut east = self.session(Region::East)?;
        let done = east.run("UPDATE orders SET o_comment = 'changed by east alone' WHERE o_orderkey % 1000 = 1")?;
        self.console.say(&format!("{} rows are changed in east alone", done.affected));
        self.writer.wait_for(Region::East, WRITES_SERVED)?;
        self.regions.kill(Region::East)?;
        self.lost = Instant::now();
        self.console.say("every process of east is killed (SIGKILL)");
        self.type_commands("start-node", &leaves);
        self.regions.start_nodes(&leaves)?;
        Ok(Shipped::default())
    }

    fn promote_west(&mut self) -> Result<Shipped> {
        let mut west = self.session(Region::West)?;
        let dropped = self.stop_replicating(&mut west)?;
        self.writer.wait_for(Region::West, WRITES_SERVED)?;
        let there = rows(&mut west)?;
        let ledger = self.writer.ledger();
        let missing = ledger.acknowledged.iter().filter(|w| w.region == Region::East && !there.contains_key(&w.id));
        let missing = missing.count();
        self.console.say(&format!(
            "{missing} writes that east acknowledged are not in west; {dropped} records had arrived in part"
        ));
        if missing == 0 {
            self.findings.push("no write was lost with east: there is nothing that could be set aside".into());
        }
        self.check_sum(&mut west)?;
        let done =
            west.run("UPDATE lineitem SET l_comment = 'changed by west after the loss' WHERE l_orderkey % 100 = 1")?;
        self.console.say(&format!("{} rows of lineitem are changed in west", done.affected));
        Ok(Shipped::default())
    }

    fn return_east(&mut self) -> Result<Shipped> {
        let nodes = self.regions.nodes(Region::East);
        self.type_commands("start-node", &nodes);
        self.regions.start_nodes(&nodes)?;
        let mut east = self.session(Region::East)?;
        let own = repeated(|| rows(&mut east)).context("reading what east has")?;
        let west = rows(&mut self.session(Region::West)?)?;
        let alone = own.keys().filter(|id| !west.contains_key(id)).count();
        self.console.say(&format!("east has {alone} writes that west never received"));
        let forbidden = format!("INSERT INTO ledger VALUES ({FORBIDDEN}, 'east', NOW(6), 0)");
        self.console.typed(Region::East, &forbidden);
        match east.client().run(&forbidden) {
            Ok(_) => self.findings.push("east took a write although west has taken over".into()),
            Err(ClientError::Server(error)) if error.code == 1290 => self.console.say(&format!("refused: {error}")),
            Err(error) => self.findings.push(format!("east must refuse a write with error 1290, it said: {error}")),
        }
        Ok(Shipped::default())
    }

    fn follow_back(&mut self) -> Result<Shipped> {
        let mut east = self.session(Region::East)?;
        let shipped = self.replicate(&mut east, " WITH FORCE DIFFERENTIAL")?;
        if shipped.tier.as_deref() == Some("full") {
            self.findings.push("east was copied whole; only the difference should have been shipped".into());
        }
        self.divergence = divergence::read(&mut east)?;
        self.console.say(&format!(
            "east has set {} records aside, {} entries of the ledger among them",
            self.divergence.records,
            self.divergence.ledger.len()
        ));
        self.check_sum(&mut east)?;
        Ok(shipped)
    }

    fn swap(&mut self) -> Result<Shipped> {
        let (mut east, mut west) = (self.session(Region::East)?, self.session(Region::West)?);
        let fence = west.table(&format!("FLUSH TABLES ON {DATABASE} WITH READ ONLY"))?;
        let last = fence.get(0, "final_time").context("the fence has no final_time")?.to_string();
        self.console.say(&format!("west is fenced; its last write is before {last}"));
        let cut = caught_up(self.console, &mut east, Some(&last))?;
        self.console.say(&format!("east holds everything up to {cut}"));
        let dropped = self.stop_replicating(&mut east)?;
        if dropped > 0 {
            self.findings.push(format!("{dropped} records were dropped in an exchange that loses nothing"));
        }
        self.writer.wait_for(Region::East, WRITES_SERVED)?;
        Ok(Shipped::default())
    }

    fn follow_again(&mut self) -> Result<Shipped> {
        let mut west = self.session(Region::West)?;
        let shipped = self.replicate(&mut west, " WITH FORCE DIFFERENTIAL")?;
        west.run(&format!("UNLOCK TABLES ON {DATABASE}"))?;
        if shipped.set_aside.unwrap_or_default() > 0 {
            self.findings.push("west had to set something aside after an exchange that loses nothing".into());
        }
        self.writer.wait_for(Region::East, WRITES_SERVED)?;
        Ok(shipped)
    }

    /// Lets a region follow the other one, and waits until it has caught up.
    fn replicate(&mut self, sink: &mut Session, how: &str) -> Result<Shipped> {
        let source = self.regions.sql(sink.region().other());
        let result = sink.table(&format!("REPLICATE DATABASE {DATABASE}{how} FROM root@{source}/{DATABASE}"))?;
        let shipped = Shipped::from_result(&result)?;
        let text = |value: Option<u64>| value.map_or("?".to_string(), |value| value.to_string());
        self.console.say(&format!(
            "tier {}, {} records, {} bytes shipped, {} records set aside",
            shipped.tier.as_deref().unwrap_or("?"),
            text(shipped.records),
            text(shipped.bytes),
            text(shipped.set_aside)
        ));
        let cut = caught_up(self.console, sink, None)?;
        self.console.say(&format!("{} has caught up, its cut is {cut}", sink.region().name()));
        Ok(shipped)
    }

    /// Promotes a region; gives the number of records that it dropped.
    fn stop_replicating(&mut self, sink: &mut Session) -> Result<u64> {
        let sql = format!("STOP REPLICATING {DATABASE}");
        self.console.typed(sink.region(), &sql);
        let result = repeated(|| sink.quiet(&sql))?;
        let of = |column: &str| result.get(0, column).unwrap_or("?").to_string();
        self.console.say(&format!(
            "{} is writable: cut {}, {} ms behind, epoch {}",
            sink.region().name(),
            of("cut"),
            of("behind_ms"),
            of("epoch")
        ));
        Ok(result.number(0, "dropped_records").unwrap_or_default())
    }

    /// Transfers never change the sum of all accounts, so a cut through the middle of one would show.
    fn check_sum(&mut self, session: &mut Session) -> Result<()> {
        let sum = repeated(|| session.quiet("SELECT SUM(balance) AS total FROM accounts"))?;
        let wanted = u64::from(ACCOUNTS) * BALANCE;
        if sum.number(0, "total") != Some(wanted) {
            let (name, total) = (session.region().name(), sum.get(0, "total").unwrap_or("NULL").to_string());
            self.findings.push(format!("the accounts in {name} add up to {total}, not to {wanted}: a torn transfer"));
        }
        Ok(())
    }

    fn session(&self, region: Region) -> Result<Session> {
        let begun = Instant::now();
        loop {
            match Session::connect(self.console, self.regions, region) {
                Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK),
                other => return other,
            }
        }
    }

    fn type_commands(&self, verb: &str, nodes: &[String]) {
        nodes.iter().for_each(|node| self.console.command(&self.regions.node_command(verb, node)));
    }

    /// The last check of both sides: the sums of the accounts, and their ledgers.
    pub fn ledgers(&mut self) -> Result<[Rows; 2]> {
        let (mut east, mut west) = (self.session(Region::East)?, self.session(Region::West)?);
        self.check_sum(&mut east)?;
        self.check_sum(&mut west)?;
        let sides = [rows(&mut east)?, rows(&mut west)?];
        Ok(sides.map(|mut rows| {
            // Noted already where it was tried.
            rows.remove(&FORBIDDEN);
            rows
        }))
    }

    /// Waits until the sink shows the last write that was acknowledged: its cut is whole, so it shows all others as well.
    pub fn wait_for_last(&mut self, last: i64) -> Result<()> {
        let mut west = self.session(Region::West)?;
        let begun = Instant::now();
        let sql = format!("SELECT id FROM ledger WHERE id = {last}");
        while west.quiet(&sql)?.rows.is_empty() {
            if begun.elapsed() > PATIENCE {
                bail!("west does not show the last write {last} within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        caught_up(self.console, &mut west, None).map(drop)
    }

    /// Entries of the ledger that were set aside, but for the one that the demo itself tried.
    pub fn set_aside(&self) -> BTreeSet<i64> {
        self.divergence.ledger.iter().filter(|id| **id != FORBIDDEN).copied().collect()
    }
}

/// The ledger as a region has it.
fn rows(session: &mut Session) -> Result<Rows> {
    let table = session.quiet("SELECT id, region FROM ledger")?;
    let row = |row: usize| {
        let id = table.get(row, "id")?.parse().ok()?;
        Some((id, Region::from_name(table.get(row, "region")?)?))
    };
    (0..table.rows.len()).map(|at| row(at).context("an entry of the ledger is not one of the client's")).collect()
}

/// Error 9005 asks to be repeated: a partition has no primary at the moment.
fn repeated<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(error) if is_no_primary(&error) && begun.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            other => return other,
        }
    }
}

fn is_no_primary(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().and_then(ClientError::code) == Some(9005)
}
