//! Terms of office begin: after a failure, by an order, after a loss, at a change of side.

use std::collections::BTreeSet;

use types::{DatabaseId, Member, NodeId, PartitionId, Promotion, Timestamp};

use super::sets::expect_position;
use super::{ALREADY, Applied, Applying, DONE};
use crate::command::{Loss, NamePrimary, RecoverToCut};
use crate::event::Severity;
use crate::outcome::{Answer, Refusal};
use crate::partition::{Grant, Partition};
use crate::state::{About, RECEIVED_MAX, State};

impl State {
    pub(super) fn name_primary(&mut self, name: &NamePrimary) -> Applying {
        self.check_naming(name)?;
        self.receive_epoch(name.received_epoch);
        self.enthrone(name);
        Ok(Applied::Changed(self.named(name.partition)))
    }

    pub(super) fn take_epoch(&mut self, number: u64) -> Applying {
        expect_received("epoch", number, Timestamp::ZERO)?;
        if number <= self.minted {
            return ALREADY;
        }
        self.receive_epoch(number);
        DONE
    }

    fn named(&self, id: PartitionId) -> Answer {
        let partition = &self.partitions[&id];
        let epoch = partition.grant.map(|grant| grant.epoch);
        Answer::Named { reign: partition.reign, version: partition.version, epoch }
    }

    fn check_naming(&self, name: &NamePrimary) -> Result<(), Refusal> {
        let id = name.partition;
        let partition = self.expect_partition(id)?;
        expect_position(id, partition, name.reign, Some(name.version))?;
        expect_received(id, name.received_epoch, Timestamp::ZERO)?;
        let correct = |problem: String| Err(Refusal::Correct { object: format!("partition {id}"), problem });
        if !name.members.contains(&name.primary) {
            return correct(format!("{} is not in the set that is named with it", name.primary));
        }
        for member in &name.members {
            if self.member(member.node) != Some(*member) {
                return Err(Refusal::LookAgain {
                    object: format!("node {}", member.node),
                    is: format!("process {:?}", self.member(member.node).map(|present| present.incarnation.0)),
                    based: format!("process {}", member.incarnation),
                });
            }
        }
        if partition.incomplete && name.primary.node != partition.primary.node {
            return correct(format!("it is incomplete, only node {} may be named", partition.primary.node));
        }
        let stranger = |allowed: &BTreeSet<NodeId>| name.members.iter().find(|member| !allowed.contains(&member.node));
        match name.loss {
            Loss::None if self.is_handed_over(partition, name) => Ok(()),
            Loss::None => match name.members.iter().find(|member| !partition.members.contains(member)) {
                Some(member) => correct(format!("{member} is not in its set: naming it would lose data")),
                None => Ok(()),
            },
            Loss::Instead if partition.given_up_before.is_none() => {
                correct("its reign was granted by no order: name a primary by one".into())
            }
            Loss::Order | Loss::Instead => match stranger(&partition.replicas) {
                Some(member) => correct(format!("{member} holds no copy of it")),
                None => Ok(()),
            },
            Loss::Recovery | Loss::Kept => {
                let present = |member: &&Member| self.member(member.node) == Some(**member);
                let loses = name.loss == Loss::Recovery;
                if let Some(member) = partition.members.iter().find(present).filter(|_| loses) {
                    return correct(format!("{member} of its set may still live: wait for it or order the loss"));
                }
                match stranger(&partition.members.iter().map(|member| member.node).collect()) {
                    Some(member) => correct(format!("{member} is on no node of its last set")),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether a sealed hand-over is completed: with ASYNC REPLICATION the next primary is not in the set, but was found to
    /// hold everything.
    fn is_handed_over(&self, partition: &Partition, name: &NamePrimary) -> bool {
        let sealed = partition.handover.is_some_and(|held| held.sealed.is_some() && held.to == name.primary.node);
        let sync = self.databases[&name.partition.database].mode.sync_replication;
        sealed && !sync && name.members == [name.primary].into()
    }

    /// Begins a reign. The caller has checked that it may.
    fn enthrone(&mut self, name: &NamePrimary) {
        let id = name.partition;
        let old = self.partitions[&id].primary;
        let planned = name.primary != old && self.partitions[&id].handover.is_some_and(|h| h.to == name.primary.node);
        let before = self.partitions[&id].given_up_before.clone().filter(|_| name.loss == Loss::Instead);
        self.begin_reign(id, name.primary, name.members.clone(), name.nonce);
        let partition = self.partitions.get_mut(&id).expect("it was checked above");
        let (severity, kind, text) = match name.loss {
            Loss::None if planned => (Severity::Info, "handover", "as planned"),
            Loss::None => (Severity::Warning, "failover", "nothing acknowledged is lost"),
            Loss::Kept => (
                Severity::Warning,
                "failover",
                "no process of the set was left, its machine kept its power: nothing is lost",
            ),
            Loss::Order | Loss::Instead => {
                (Severity::Error, "loss", "by standing order: what the old primary alone held is lost to it")
            }
            Loss::Recovery => (Severity::Error, "loss", "no process of the set was left: what no disk held is lost"),
        };
        if name.loss.gives_up() {
            partition.losses += 1;
        }
        if let Some(grant) = partition.grant.filter(|_| name.loss != Loss::None) {
            partition.given_up = before.unwrap_or_else(|| std::mem::take(&mut partition.given_up));
            partition.given_up_before = name.loss.is_order().then(|| partition.given_up.clone());
            partition.give_up(name.received_epoch, grant.epoch.number);
        }
        let reign = partition.reign;
        let (new, old) = (self.node_name(name.primary.node), self.node_name(old.node));
        let named = self.partition_name(id);
        let text = match new == old {
            true => format!("leaf {new} stays primary of {named}, reign {reign}; {text}"),
            false => format!("leaf {new} follows leaf {old} as primary of {named}, reign {reign}; {text}"),
        };
        self.say(severity, kind, About::on(id, name.primary.node), text);
    }

    /// The reign after this one, with a new epoch if the database is writable.
    pub(super) fn begin_reign(&mut self, id: PartitionId, primary: Member, members: BTreeSet<Member>, nonce: u64) {
        let database = &self.databases[&id.database];
        let (writable, start_above, failover) = (!database.is_sink(), database.start_above, database.failover_after());
        let grant = writable.then(|| Grant { epoch: self.mint(nonce), start_above });
        let revision = self.revision;
        assert!(members.contains(&primary), "primary {primary} of {id} is not in {members:?}");
        self.partitions.change(id, |partition| {
            partition.reign.0 += 1;
            partition.reign_revision = revision;
            partition.version.0 += 1;
            if partition.primary != primary {
                // It hears of its reign with the terms that hold since. Who has led before may go on by those of then.
                partition.goes_on_for = failover;
            }
            partition.primary = primary;
            partition.members = members;
            partition.grant = grant;
            partition.handover = None;
            partition.given_up_before = None;
            if !writable {
                // Its epochs are another region's from now on, with numbers of their own.
                partition.given_up.clear();
            }
        });
        self.touch(id);
    }

    /// New reigns for all partitions of a database that changed sides; primaries and sets stay.
    pub(super) fn begin_reigns(&mut self, database: DatabaseId, nonce: u64) {
        let held: Vec<(PartitionId, Partition)> =
            self.partitions_of(database).map(|(id, partition)| (id, partition.clone())).collect();
        for (id, partition) in held {
            self.begin_reign(id, partition.primary, partition.members, nonce);
        }
        self.touch_news(database);
    }

    pub(super) fn recover_to_cut(&mut self, recover: &RecoverToCut) -> Applying {
        let id = recover.database;
        let object = format!("database {id}");
        let database = self.databases.get(&id).ok_or(Refusal::NameExisting { object: object.clone() })?;
        if database.promotions.iter().any(|known| known.id == recover.promotion) {
            return Ok(Applied::Already(Answer::Done));
        }
        if database.is_sink() {
            let problem = "it follows another region and fetches what it lost: name primaries only".into();
            return Err(Refusal::Correct { object, problem });
        }
        expect_received(object.clone(), recover.received_epoch, recover.start_above.max(recover.cut))?;
        let mut named = BTreeSet::new();
        for name in &recover.named {
            self.check_naming(name)?;
            if name.partition.database != id || name.loss == Loss::None || !named.insert(name.partition) {
                let problem = format!("partition {} is named twice, without a loss, or is not its own", name.partition);
                return Err(Refusal::Correct { object, problem });
            }
        }
        if !recover.named.iter().any(|name| name.loss.gives_up()) {
            let problem = "no partition of it has lost anything: there is nothing to recover".into();
            return Err(Refusal::Correct { object, problem });
        }
        self.recover(recover, &named);
        Ok(Applied::Changed(Answer::Done))
    }

    fn recover(&mut self, recover: &RecoverToCut, named: &BTreeSet<PartitionId>) {
        let id = recover.database;
        self.receive_epoch(recover.received_epoch);
        self.receive_timestamp(recover.start_above);
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        database.promotions.push(Promotion { id: recover.promotion, cut: recover.cut });
        database.start_above = database.start_above.max(recover.start_above);
        let others: Vec<(PartitionId, Partition)> = self
            .partitions_of(id)
            .filter(|(partition, _)| !named.contains(partition))
            .map(|(partition, held)| (partition, held.clone()))
            .collect();
        for name in &recover.named {
            self.enthrone(name);
        }
        for (partition, held) in others {
            self.begin_reign(partition, held.primary, held.members, recover.nonce);
        }
        let lost = recover.named.iter().filter(|name| name.loss.gives_up()).count();
        let text = format!(
            "{} goes on from {}, after {lost} of its partitions had a loss: what was committed above is set aside",
            self.database_name(id),
            recover.cut
        );
        self.say(Severity::Error, "recovery", id.into(), text);
    }
}

/// Refuses numbers that no honest log can hold.
pub(super) fn expect_received(object: impl ToString, epoch: u64, ts: Timestamp) -> Result<(), Refusal> {
    if epoch > RECEIVED_MAX || ts.0 > RECEIVED_MAX {
        let problem = format!("received epoch number {epoch} or time {ts} is beyond all bounds: check the log");
        return Err(Refusal::Correct { object: object.to_string(), problem });
    }
    Ok(())
}
