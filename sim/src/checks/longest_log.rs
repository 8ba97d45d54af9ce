//! `protocol.md` section 5: of the logs that the catalog may choose from after a loss, it takes one that keeps most of
//! what was shown, and was not given up by an earlier loss. It takes it when it proposes the name.

use catalog::command::{Loss, NamePrimary};
use types::{Member, NodeId, PartitionId};

use crate::options::{FAILURE, MILLI, Planted};
use crate::world::World;

/// As it is reported.
pub const NAME: &str = "longest_log";

impl World {
    /// The leader of the catalog proposes whom to name, by what it has heard. Who is heard, or proved gone, before a majority
    /// has written that comes too late.
    pub(crate) fn check_longest(&mut self, region: usize, naming: &NamePrimary) {
        let void = naming.loss.is_order() && self.was_order_void(region, naming.partition);
        self.checks.heads.entry((region, naming.partition.ordinal)).or_default().void = void;
        let result = check(self, region, naming);
        self.judge(NAME, result);
    }

    /// Whether the present reign was granted by an order under this leader of the catalog, to a process of which that knows that
    /// it has ended, and which nobody has told: nothing follows from it.
    fn was_order_void(&self, region: usize, id: PartitionId) -> bool {
        let held = &self.regions[region];
        let partition = &held.catalog.partitions[&id];
        let by_order =
            self.checks.announced.get(&(region, id.ordinal, partition.reign)).is_some_and(|loss| loss.is_order());
        let told = held.answered.get(&partition.primary).is_some_and(|told| *told >= partition.reign_revision);
        by_order && !told && partition.reign_revision > held.elected_at && held.heard.is_gone(partition.primary)
    }

    /// The catalog has named a primary after a loss: the history is its log. Its process may have ended by then, and the catalog
    /// has not noticed: then it is the log that the process has reported, for by this the catalog gives up what others hold.
    pub(crate) fn note_going_on(&mut self, region: usize, naming: &NamePrimary) {
        let id = naming.partition;
        if self.options.has(Planted::GivenUpForgotten)
            && let Some(partition) = self.regions[region].catalog.partitions.get_mut(&id)
        {
            partition.given_up.clear();
        }
        let grant = self.regions[region].catalog.partitions[&id].grant;
        let node = &self.nodes[self.node_of(region, naming.primary.node)];
        let hosted = node.hosted(id).filter(|_| node.member() == naming.primary);
        let ends = match hosted {
            Some(hosted) => Some(hosted.log.summary.lineage.ends(hosted.log.end())),
            None => self.regions[region].heard.report_of(id, naming.primary).map(|report| report.epochs.clone()),
        };
        if let Some((grant, ends)) = grant.zip(ends) {
            let head = self.checks.heads.entry((region, id.ordinal)).or_default();
            head.let_go_on((ends, grant.epoch.number));
        }
    }
}

fn check(world: &World, region: usize, naming: &NamePrimary) -> Result<(), String> {
    let held = &world.regions[region];
    let partition = &held.catalog.partitions[&naming.partition];
    // After a standing order any living secondary may go on, after a recovery the members alone.
    let nodes: Vec<NodeId> = match naming.loss {
        Loss::Order | Loss::Instead => {
            partition.replicas.iter().copied().filter(|node| *node != partition.primary.node).collect()
        }
        _ => partition.members.iter().map(|member| member.node).collect(),
    };
    let processes: Vec<Member> = nodes
        .into_iter()
        .filter_map(|node| held.heard.process(node))
        .filter(|process| held.heard.damaged_since(naming.partition, *process).is_none())
        .filter(|process| !naming.loss.is_order() || held.heard.hears(*process, world.now, FAILURE * MILLI))
        .collect();
    let Some(kept) = keeps(world, region, naming.partition, naming.primary) else { return Ok(()) };
    for other in processes {
        let more = keeps(world, region, naming.partition, other).filter(|more| *more > kept);
        if let Some(more) = more {
            return Err(format!("{} named of {}, it keeps {kept}, {other} {more}", naming.primary, naming.partition));
        }
    }
    Ok(())
}

/// How many shown records a process keeps that has reported, if its log is still the one that it reported.
fn keeps(world: &World, region: usize, id: PartitionId, member: Member) -> Option<usize> {
    let report = world.regions[region].heard.report_of(id, member)?;
    let node = &world.nodes[world.node_of(region, member.node)];
    let hosted = node.hosted(id).filter(|_| node.member() == member)?;
    if hosted.log.end() != report.end.lsn {
        return None;
    }
    let head = world.checks.heads.get(&(region, id.ordinal))?;
    let lineage = &hosted.log.summary.lineage;
    Some(
        head.shown
            .keys()
            .filter(|name| head.is_of_history(**name))
            .filter(|(epoch, lsn)| *lsn <= hosted.log.end() && lineage.epoch_at(*lsn) == Some(*epoch))
            .count(),
    )
}
