//! Naming a new primary where the old one is gone or silent.
//!
//! | who lives | what is done |
//! |---|---|
//! | the primary | nothing |
//! | other members of the set | one of them is named, with the others as its set: nothing is lost |
//! | nobody; SYNC DURABILITY | wait: a restarted process takes its old place with what is on its disk |
//! | nobody, and newer processes of *all* members report; ASYNC DURABILITY; the machine of a member has kept its power since that was a member | its log goes on: nothing is lost |
//! | the primary, and says that its replica is damaged; of all others newer processes; ASYNC DURABILITY; a machine has kept its power | as before: that log goes on |
//! | newer processes of all, and all machines have lost power | the longest log goes on; a writable database that keeps marks goes on from a consistent cut |
//! | no member; ASYNC REPLICATION, `async_failover_after` since the last answer to the primary, which has heard of that time or is gone | the longest log of the living secondaries goes on |
//!
//! What was acknowledged was handed to the operating system of every member's machine. So the log of a machine that has
//! kept its power since is whole: a cluster whose processes were killed gives up nothing.
//!
//! **The cut.** Each partition's log that goes on holds, in front of its mark on the disk, all that was committed at or below
//! the mark's time. So at the lowest mark over the partitions every transaction is there as a whole. All partitions go on
//! from that one cut, those that have lost nothing, too: a transaction above it may lack its part elsewhere. A partition whose
//! log is whole and one whose primary lives count with the marks they have on disk now. One cut is decided when all partitions
//! that lost something can be named; until then those wait.
//!
//! Marks count if they are of the database's present list of promotions, and above the time from which they have been kept:
//! a database keeps none while its durability is SYNC, and an old one would declare dead all that was written since. If a log
//! that goes on has none that counts, power failed within moments after the database began to keep marks: then each
//! partition goes on from the end of its own longest log, and a transaction may be there in part.
//!
//! A replica that its process reports as damaged counts as one whose process is gone: it is taken out of the set, also
//! while nobody can be named, and if it is the primary, another member is named.
//!
//! The longest log is the one with the highest epoch number of its last record, then the highest LSN. A log that goes on gives
//! up the epochs that were granted since its own last one. Who has led in one of them may come back with it, and its number is
//! the higher one, although the log parts from the history earlier than others do. So epochs that were given up are left out of
//! the comparison: it is about the last record of an epoch that was not. Of equals one that has nothing else goes on.
//!
//! Silence never proves that a process is gone, a newer one or a refused connection does.

use std::collections::{BTreeMap, BTreeSet};

use types::{DatabaseId, LogEnd, Lsn, Member, NodeId, PartitionId, PromotionId, Timestamp};

use super::heard::{Heard, Report};
use crate::command::{Command, Loss, NamePrimary, RecoverToCut, SetChange};
use crate::database::Database;
use crate::partition::Partition;
use crate::state::State;

/// Nanoseconds of a millisecond.
const MILLI: u64 = 1_000_000;

/// Random bits, drawn as they are needed.
pub type Bits<'a> = &'a mut dyn FnMut() -> u64;

/// A log that goes on although no process of its set lives, and what that gives up.
type Named = (PartitionId, Report, Loss);

/// What is to be done about one partition.
enum Verdict {
    /// Its primary may live.
    Rest,
    /// Nobody can be named yet.
    Wait,
    /// One of these members, with the others as its set.
    Living(BTreeSet<Member>),
    /// The longest log of these processes, whose reports are not all here yet.
    Ask(Vec<Member>),
    /// The longest log, of all that count.
    Longest(Report, Loss),
}

/// The leader's own decisions at `now` (nanoseconds on its clock). `failure_timeout` is in nanoseconds, too.
pub fn decide(state: &State, heard: &Heard, now: u64, failure_timeout: u64, bits: Bits<'_>) -> Vec<Command> {
    let mut commands = vec![];
    if heard.highest_epoch() > state.minted {
        commands.push(Command::ReceiveEpoch { number: heard.highest_epoch() });
    }
    let mut named: BTreeMap<DatabaseId, Vec<Named>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    for id in suspects(state, heard, now, failure_timeout) {
        let (partition, database) = (&state.partitions[&id], &state.databases[&id.database]);
        match judge(state, id, partition, heard, now, failure_timeout) {
            Verdict::Rest => commands.extend(damaged_member(id, partition, heard)),
            Verdict::Wait | Verdict::Ask(_) => {
                // While it is in the set its process is one that lives, and nobody else is asked what it holds.
                commands.extend(damaged_member(id, partition, heard));
                unknown.insert(id.database);
            }
            Verdict::Living(living) => {
                let chosen = bits() % living.len() as u64;
                let primary = *living.iter().nth(chosen as usize).expect("the index is below the length");
                commands.push(name(id, partition, primary, living, Loss::None, None, bits()));
            }
            Verdict::Longest(report, loss @ (Loss::Recovery | Loss::Kept)) if !database.is_sink() => {
                named.entry(id.database).or_default().push((id, report, loss));
            }
            Verdict::Longest(report, loss) => {
                let set = [report.member].into();
                commands.push(name(id, partition, report.member, set, loss, Some(&report), bits()));
            }
        }
    }
    for (database, named) in named {
        commands.extend(go_on(state, heard, database, named, unknown.contains(&database), bits));
    }
    commands
}

/// The logs of a writable database that go on, although no process of their sets lives. What has lost nothing goes on at
/// once, unless the cut of the others can be decided with it.
fn go_on(
    state: &State,
    heard: &Heard,
    database: DatabaseId,
    named: Vec<Named>,
    unknown: bool,
    bits: Bits<'_>,
) -> Vec<Command> {
    let mut alone = |(id, report, loss): Named| {
        let partition = &state.partitions[&id];
        name(id, partition, report.member, [report.member].into(), loss, Some(&report), bits())
    };
    let mut lost = named.iter().filter(|(_, _, loss)| *loss == Loss::Recovery).peekable();
    let cut = if lost.peek().is_none() {
        Cut::Wait
    } else if lost.any(|(_, report, _)| current_mark(&state.databases[&database], report).is_none()) {
        Cut::None
    } else if unknown {
        Cut::Wait
    } else {
        find_cut(state, heard, database, &named)
    };
    match cut {
        Cut::At(cut, received_epoch) => vec![recover(state, database, named, cut, received_epoch, bits)],
        Cut::None => named.into_iter().map(alone).collect(),
        Cut::Wait => named.into_iter().filter(|(_, _, loss)| *loss == Loss::Kept).map(&mut alone).collect(),
    }
}

/// The partitions that need a look: those whose primary may be gone, and those that somebody has reported as damaged. Of all
/// others nothing is decided, so a look costs as much as there are processes that lead, not as there are partitions.
pub fn suspects(state: &State, heard: &Heard, now: u64, failure_timeout: u64) -> BTreeSet<PartitionId> {
    let silent = state.partitions.leaders().filter(|(primary, _)| !heard.may_live(*primary, now, failure_timeout));
    let silent = silent.flat_map(|(_, led)| led.iter().copied());
    silent.chain(heard.damaged_ids()).filter(|id| state.partitions.contains_key(id)).collect()
}

/// Whom the leader must ask where their logs end, before it can decide.
pub fn reports_wanted(state: &State, heard: &Heard, now: u64, failure_timeout: u64) -> Vec<(Member, PartitionId)> {
    let mut wanted = vec![];
    let mut recovering: BTreeMap<DatabaseId, u64> = BTreeMap::new();
    for id in suspects(state, heard, now, failure_timeout) {
        let (partition, database) = (&state.partitions[&id], &state.databases[&id.database]);
        match judge(state, id, partition, heard, now, failure_timeout) {
            Verdict::Ask(members) => wanted.extend(members.into_iter().map(|member| (member, id))),
            Verdict::Longest(report, Loss::Recovery) if !database.is_sink() => {
                let since = recovering.entry(id.database).or_insert(report.at);
                *since = report.at.min(*since);
            }
            _ => {}
        }
    }
    for (database, since) in recovering {
        let others = state.partitions_of(database).filter(|(id, partition)| {
            heard.hears(partition.primary, now, failure_timeout)
                && fresh(heard, *id, partition.primary, since).is_none()
        });
        wanted.extend(others.map(|(id, partition)| (partition.primary, id)));
    }
    wanted
}

fn judge(state: &State, id: PartitionId, partition: &Partition, heard: &Heard, now: u64, timeout: u64) -> Verdict {
    let (primary, database) = (partition.primary, &state.databases[&id.database]);
    let damaged = heard.damaged_since(id, primary);
    if heard.may_live(primary, now, timeout) && damaged.is_none() {
        return Verdict::Rest;
    }
    let whole = |member: &Member| heard.damaged_since(id, *member).is_none();
    let may_be_named = |member: &Member| (!partition.incomplete || member.node == primary.node) && whole(member);
    let living: BTreeSet<Member> = partition
        .members
        .iter()
        .filter(|member| **member != primary && may_be_named(member) && heard.hears(**member, now, timeout))
        .copied()
        .collect();
    if !living.is_empty() {
        return Verdict::Living(living);
    }
    let mut restarted = restarted(id, partition, heard);
    // What a damaged one has lost is lost; it has no end to report.
    if let Some(restarted) = &mut restarted {
        restarted.retain(whole);
    }
    let restarted = restarted.filter(|restarted| !restarted.is_empty());
    if let Some(restarted) = restarted.filter(|_| !partition.on_disk) {
        let lives = |member: &Member| heard.process(member.node) == Some(*member);
        return match longest_of_restarted(id, partition, &restarted, heard) {
            // Nobody's word is taken for a loss while a member lives. A log that has everything needs none.
            Verdict::Longest(_, Loss::Recovery) if partition.members.iter().any(lives) => Verdict::Wait,
            verdict => verdict,
        };
    }
    // Who is gone goes on no longer, whatever it may have believed.
    let after = if heard.is_gone(primary) { database.failover_after() } else { partition.goes_on_for };
    let answered = damaged.unwrap_or_else(|| heard.last_answer(primary));
    let due = after.is_some_and(|millis| now.saturating_sub(answered) > millis.saturating_mul(MILLI));
    if !due || partition.incomplete {
        return Verdict::Wait;
    }
    let others: Vec<Member> = partition
        .replicas
        .iter()
        .filter(|node| **node != primary.node && !state.nodes[node].is_aside())
        .filter_map(|node| heard.process(*node))
        .filter(|member| heard.hears(*member, now, timeout) && whole(member))
        .collect();
    // Who ends before it is told of its reign has given up nothing.
    let instead = partition.given_up_before.is_some() && heard.never_told(primary, partition.reign_revision);
    let loss = if instead { Loss::Instead } else { Loss::Order };
    if others.is_empty() { Verdict::Wait } else { longest(id, partition, &others, heard, loss, answered) }
}

/// A member whose replica is damaged acknowledges nothing any more, although its process lives: it is taken out.
fn damaged_member(id: PartitionId, partition: &Partition, heard: &Heard) -> Option<Command> {
    let is_damaged = |member: &&Member| heard.damaged_since(id, **member).is_some();
    let member = partition.members.iter().filter(|member| **member != partition.primary).find(is_damaged)?;
    let (reign, version, change) = (partition.reign, partition.version, SetChange::Remove(*member));
    Some(Command::ProposeSet { partition: id, reign, version, change })
}

/// The present processes of all members' nodes, if each is newer than the member: then no process of the set lives. One that
/// says itself that its replica is damaged holds nothing, and is left out.
fn restarted(id: PartitionId, partition: &Partition, heard: &Heard) -> Option<Vec<Member>> {
    let mut present: BTreeMap<NodeId, Member> = BTreeMap::new();
    for member in &partition.members {
        let process = heard.process(member.node)?;
        if process == *member && heard.damaged_since(id, process).is_some() {
            continue;
        }
        if process.incarnation <= member.incarnation {
            return None;
        }
        present.insert(member.node, process);
    }
    Some(present.into_values().collect())
}

/// The longest log of a set of which no process lives. If machines of it have kept their power, the longest of theirs: it
/// has all that was acknowledged, and nothing that follows it is needed.
fn longest_of_restarted(id: PartitionId, partition: &Partition, restarted: &[Member], heard: &Heard) -> Verdict {
    let is_whole = |process: &&Member| {
        let member = partition.members.iter().find(|member| member.node == process.node);
        let report = heard.report_of(id, **process);
        member.zip(report).is_some_and(|(member, report)| report.powered_since <= member.incarnation)
    };
    let verdict = longest(id, partition, restarted, heard, Loss::Recovery, 0);
    let whole: Vec<Member> = restarted.iter().filter(is_whole).copied().collect();
    if whole.is_empty() || !matches!(verdict, Verdict::Longest(..)) {
        return verdict;
    }
    longest(id, partition, &whole, heard, Loss::Kept, 0)
}

/// The longest log of these processes, if all have reported after `since`.
fn longest(
    id: PartitionId,
    partition: &Partition,
    members: &[Member],
    heard: &Heard,
    loss: Loss,
    since: u64,
) -> Verdict {
    let known = |member: &Member| heard.report_of(id, *member).filter(|report| report.at > since || since == 0);
    let missing: Vec<Member> = members.iter().filter(|member| known(member).is_none()).copied().collect();
    if !missing.is_empty() {
        return Verdict::Ask(missing);
    }
    let length = |report: &&Report| {
        let of_history = |end: &&LogEnd| !partition.has_given_up(end.epoch_number, loss);
        let kept = report.epochs.iter().rev().find(of_history).copied().unwrap_or_default();
        let has_no_other = kept == report.end && kept.lsn > Lsn::ZERO;
        (kept, has_no_other, report.end, std::cmp::Reverse(report.member))
    };
    let best = members.iter().filter_map(known).max_by_key(length);
    // One that holds nothing is being copied to, or was never fed: the old primary is waited for.
    let best = best.filter(|report| report.end.lsn > Lsn::ZERO || !loss.is_order());
    best.map_or(Verdict::Wait, |report| Verdict::Longest(report.clone(), loss))
}

fn name(
    id: PartitionId,
    partition: &Partition,
    primary: Member,
    members: BTreeSet<Member>,
    loss: Loss,
    report: Option<&Report>,
    nonce: u64,
) -> Command {
    Command::NamePrimary(naming(id, partition, primary, members, loss, report, nonce))
}

fn naming(
    partition_id: PartitionId,
    partition: &Partition,
    primary: Member,
    members: BTreeSet<Member>,
    loss: Loss,
    report: Option<&Report>,
    nonce: u64,
) -> NamePrimary {
    NamePrimary {
        partition: partition_id,
        reign: partition.reign,
        version: partition.version,
        primary,
        members,
        nonce,
        received_epoch: report.map_or(0, |report| report.end.epoch_number),
        loss,
    }
}

/// The mark of a log of a database that is written here, if it is of the history that the database has now, and of the time
/// since it keeps marks. A replica that has not heard of the last promotion keeps one that is of another: what it says of
/// times above the promotion's cut is not about what was written since.
fn current_mark(database: &Database, report: &Report) -> Option<Timestamp> {
    let promoted = database.promotions.last().map_or(Timestamp::ZERO, |promotion| promotion.cut);
    let current = !database.is_sink() && report.mark.promotions == database.promotions;
    Some(report.mark.ts).filter(|ts| current && *ts > promoted.max(database.start_above))
}

/// What a living primary said since the first report of the recovery. An older mark would give up more than was lost.
fn fresh(heard: &Heard, id: PartitionId, primary: Member, since: u64) -> Option<&Report> {
    heard.report_of(id, primary).filter(|report| report.at >= since)
}

/// Where a database goes on.
enum Cut {
    /// A living primary has not said where it is.
    Wait,
    /// A log has no mark that counts.
    None,
    /// From here; and the highest epoch of its logs.
    At(Timestamp, u64),
}

/// The lowest mark of the logs that go on.
fn find_cut(state: &State, heard: &Heard, database: DatabaseId, named: &[Named]) -> Cut {
    let ids: BTreeSet<PartitionId> = named.iter().map(|(id, ..)| *id).collect();
    let lost = named.iter().filter(|(.., loss)| *loss == Loss::Recovery);
    let since = lost.map(|(_, report, _)| report.at).min().unwrap_or(0);
    let living = state.partitions_of(database).filter(|(id, _)| !ids.contains(id));
    let living: Option<Vec<&Report>> =
        living.map(|(id, partition)| fresh(heard, id, partition.primary, since)).collect();
    let Some(living) = living else { return Cut::Wait };
    let (mut cut, mut received_epoch) = (Timestamp::MAX, 0);
    for report in living.into_iter().chain(named.iter().map(|(_, report, _)| report)) {
        let Some(mark) = current_mark(&state.databases[&database], report) else { return Cut::None };
        cut = cut.min(mark);
        received_epoch = received_epoch.max(report.end.epoch_number);
    }
    Cut::At(cut, received_epoch)
}

/// A writable database of which partitions have lost their ends goes on from one cut.
fn recover(
    state: &State,
    database: DatabaseId,
    named: Vec<Named>,
    cut: Timestamp,
    received_epoch: u64,
    bits: Bits<'_>,
) -> Command {
    let naming = |(id, report, loss): Named| {
        let partition = &state.partitions[&id];
        naming(id, partition, report.member, [report.member].into(), loss, Some(&report), bits())
    };
    let named = named.into_iter().map(naming).collect();
    let promotion = PromotionId(u128::from(bits()) << 64 | u128::from(bits()));
    // Every timestamp of its logs came from this catalog's own block, or was received before.
    let start_above = state.timestamps.upper;
    Command::RecoverToCut(RecoverToCut { database, promotion, cut, named, nonce: bits(), received_epoch, start_above })
}
