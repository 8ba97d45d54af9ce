//! In-sync sets change by compare-and-set on (partition, reign, set version).

use types::{Member, PartitionId, Reign, SetVersion};

use super::{ALREADY, Applied, Applying, DONE};
use crate::command::{Confirmed, SetChange};
use crate::database::Side;
use crate::event::Severity;
use crate::link::Tier;
use crate::outcome::{Answer, Refusal};
use crate::partition::Partition;
use crate::state::{About, State};

impl State {
    pub(super) fn propose_set(
        &mut self,
        id: PartitionId,
        reign: Reign,
        version: SetVersion,
        change: SetChange,
    ) -> Applying {
        let partition = self.expect_partition(id)?;
        expect_position(id, partition, reign, Some(version))?;
        match change {
            // The proposer waits for the candidate until it sees a higher version: a refusal alone would hold it up.
            SetChange::Add(member) => {
                if let Err(reason) = self.check_addition(id, partition, member) {
                    return self.turn_down(id, &reason);
                }
            }
            SetChange::Remove(member) if member == partition.primary => {
                let problem = format!("{member} is its primary: name another primary instead");
                return Err(Refusal::Correct { object: format!("partition {id}"), problem });
            }
            SetChange::Remove(_) => {}
        }
        // A change that holds already raises the version, too: the proposer learns the outcome from nothing else.
        let partition = self.partitions.get_mut(&id).expect("it was looked up above");
        let (member, word) = match change {
            SetChange::Add(member) => {
                partition.members.insert(member);
                (member, "joined")
            }
            SetChange::Remove(member) => {
                partition.members.remove(&member);
                (member, "was taken out of")
            }
        };
        partition.version.0 += 1;
        let version = partition.version;
        self.touch(id);
        let severity = if word == "joined" { Severity::Info } else { Severity::Warning };
        let (leaf, named) = (self.node_name(member.node), self.partition_name(id));
        let text = format!("leaf {leaf} {word} the set of {named}, version {version}");
        self.say(severity, "in-sync", About::on(id, member.node), text);
        DONE
    }

    /// The candidate does not join: the set stays, its version rises.
    fn turn_down(&mut self, id: PartitionId, reason: &Refusal) -> Applying {
        self.partitions.get_mut(&id).expect("the caller has looked it up").version.0 += 1;
        self.touch(id);
        Ok(Applied::Changed(Answer::TurnedDown(reason.to_string())))
    }

    fn check_addition(&self, id: PartitionId, partition: &Partition, member: Member) -> Result<(), Refusal> {
        let correct = |problem: String| Err(Refusal::Correct { object: format!("partition {id}"), problem });
        if !self.databases[&id.database].mode.sync_replication {
            return correct("its set is the primary alone with ASYNC REPLICATION: add nobody".into());
        }
        if partition.incomplete {
            let reason = "is incomplete, its copy is being made; nobody can join before it".into();
            return Err(Refusal::Wait { object: format!("partition {id}"), reason });
        }
        if !partition.replicas.contains(&member.node) {
            return correct(format!("{member} shall hold no copy of it: add the replica first"));
        }
        if self.nodes[&member.node].is_aside() {
            return correct(format!("node {} is detached or being removed: nobody waits for its copies", member.node));
        }
        self.check_present(member)?;
        let other = partition.members.iter().find(|other| other.node == member.node && **other != member);
        if let Some(other) = other {
            return correct(format!("{other} of the same node is in the set: remove it before {member} joins"));
        }
        Ok(())
    }

    /// Whether this is still the process of its node.
    fn check_present(&self, member: Member) -> Result<(), Refusal> {
        let present = self.member(member.node);
        if present == Some(member) {
            return Ok(());
        }
        Err(Refusal::LookAgain {
            object: format!("node {}", member.node),
            is: present.map_or("no process".into(), |present| format!("process {}", present.incarnation)),
            based: format!("process {}", member.incarnation),
        })
    }

    pub(super) fn confirm(&mut self, id: PartitionId, reign: Reign, version: SetVersion, what: Confirmed) -> Applying {
        expect_position(id, self.expect_partition(id)?, reign, Some(version))?;
        let database = &self.databases[&id.database];
        let failover_after = database.failover_after();
        if what == Confirmed::Durable && !database.mode.sync_durability {
            let problem = "its database has ASYNC DURABILITY: there is nothing to confirm".into();
            return Err(Refusal::Correct { object: format!("partition {id}"), problem });
        }
        let partition = self.partitions.get_mut(&id).expect("it was looked up above");
        let before = (partition.on_disk, partition.goes_on_for);
        match what {
            Confirmed::Durable => partition.on_disk = true,
            Confirmed::Failover => partition.goes_on_for = failover_after,
        }
        if before == (partition.on_disk, partition.goes_on_for) { ALREADY } else { DONE }
    }

    pub(super) fn mark_incomplete(&mut self, id: PartitionId, reign: Reign, incomplete: bool) -> Applying {
        let partition = self.expect_partition(id)?;
        expect_position(id, partition, reign, None)?;
        // A word of the process before may be late. The set would shrink to one that is gone, and nobody could be named.
        self.check_present(partition.primary)?;
        if partition.incomplete == incomplete {
            return ALREADY;
        }
        if incomplete && partition.grant.is_some() {
            let problem = "its database is writable: only a sink is filled from another region".into();
            return Err(Refusal::Correct { object: format!("partition {id}"), problem });
        }
        let partition = self.partitions.get_mut(&id).expect("it was looked up above");
        partition.incomplete = incomplete;
        if incomplete {
            let primary = partition.primary;
            partition.members.retain(|member| *member == primary);
        }
        partition.version.0 += 1;
        self.touch(id);
        self.touch_news(id.database);
        if let (Side::Sink { link }, true) = (self.databases[&id.database].side, incomplete)
            && let Some(link) = self.sinks.get_mut(&link)
            && link.tier != Tier::Full
        {
            (link.tier, link.reason) = (Tier::Full, "the logs no longer reach back to where they parted".into());
        }
        DONE
    }
}

/// Refuses a command that was based on another reign, or another version of the set.
pub(super) fn expect_position(
    id: PartitionId,
    partition: &Partition,
    reign: Reign,
    version: Option<SetVersion>,
) -> Result<(), Refusal> {
    if reign == partition.reign && version.is_none_or(|version| version == partition.version) {
        return Ok(());
    }
    let based = match version {
        Some(version) => format!("reign {reign} version {version}"),
        None => format!("reign {reign}"),
    };
    Err(Refusal::LookAgain {
        object: format!("partition {id}"),
        is: format!("reign {} version {}", partition.reign, partition.version),
        based,
    })
}
