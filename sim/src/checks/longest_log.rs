//! `protocol.md` section 3: of the logs that the catalog may choose from after a loss, it takes one that keeps most of
//! what was shown.

use catalog::command::{Loss, NamePrimary};
use types::{Member, NodeId, PartitionId};

use crate::options::{FAILURE, MILLI};
use crate::world::World;

/// As it is reported.
pub const NAME: &str = "longest_log";

impl World {
    pub(crate) fn check_longest(&mut self, region: usize, naming: &NamePrimary) {
        let result = check(self, region, naming);
        self.judge(NAME, result);
    }
}

fn check(world: &World, region: usize, naming: &NamePrimary) -> Result<(), String> {
    let held = &world.regions[region];
    let partition = &held.catalog.partitions[&naming.partition];
    // After a standing order any living secondary may go on, after a recovery the members alone.
    let nodes: Vec<NodeId> = match naming.loss {
        Loss::Order => partition.replicas.iter().copied().filter(|node| *node != partition.primary.node).collect(),
        _ => partition.members.iter().map(|member| member.node).collect(),
    };
    let processes: Vec<Member> = nodes
        .into_iter()
        .filter_map(|node| held.heard.process(node))
        .filter(|process| held.heard.damaged_since(naming.partition, *process).is_none())
        .filter(|process| naming.loss != Loss::Order || held.heard.hears(*process, world.now, FAILURE * MILLI))
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
            .filter(|(epoch, lsn)| *lsn <= hosted.log.end() && lineage.epoch_at(*lsn) == Some(*epoch))
            .count(),
    )
}
