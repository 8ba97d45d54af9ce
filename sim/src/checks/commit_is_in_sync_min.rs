//! `protocol.md` sections 2 and 3: what a primary calls committed is held by every member of the set that the catalog
//! has in this reign: on disk with SYNC DURABILITY, in the system's memory at least otherwise.

use types::{Lsn, PartitionId};

use crate::world::World;

/// As it is reported.
pub const NAME: &str = "commit_is_in_sync_min";

/// The commit point of a replica has come to `to`.
pub fn check(world: &World, index: usize, id: PartitionId, to: Lsn) -> Result<(), String> {
    let node = &world.nodes[index];
    let Some(hosted) = node.hosted(id) else { return Ok(()) };
    let Some(reign) = hosted.replica.reign_led() else { return Ok(()) };
    let held = &world.regions[node.region].catalog.partitions[&id];
    if held.reign != reign {
        return Ok(());
    }
    let epoch = hosted.log.summary.lineage.epoch_at(to);
    for member in &held.members {
        let other = &world.nodes[world.node_of(node.region, member.node)];
        // One that rots has held what it acknowledged; its process says that nobody may count on it.
        let damaged = other.process.as_ref().is_some_and(|process| process.damaged.contains(&id));
        if other.member() != *member || other.disks[&id].rotten || damaged {
            continue;
        }
        let on_disk = &other.disks[&id].log;
        let durable = on_disk.end() >= to && on_disk.summary.lineage.epoch_at(to) == epoch;
        let appended = other
            .hosted(id)
            .is_some_and(|other| other.log.end() >= to && other.log.summary.lineage.epoch_at(to) == epoch);
        let killed = other.process.is_none();
        if !durable && (world.options.mode.sync_durability || !appended && !killed) {
            return Err(format!(
                "{} commits {to} of {id} in reign {reign}, member {member} holds {} on disk",
                world.label(index),
                on_disk.end()
            ));
        }
    }
    Ok(())
}
