//! Commands about catalogs and leases.

use replication::{Input, Instant, Leases, Life, Replica, ReplicaOptions, ViewLine};
use types::{LinkId, Member, Mode, NodeId, Role};

use super::catalog::{Catalog, Office, first_process, promotion};
use super::command::{Command, Kind};
use super::disk::Disk;
use super::{Done, Node, Todo, World};

impl World {
    pub(super) fn obey_catalog(&mut self, command: &Command) -> Done {
        match command {
            Command::Cluster { .. } => self.cluster(command),
            Command::Grant { .. } => self.grant(command),
            Command::Members { nodes, region } => {
                let members = nodes.iter().map(|node| self.member(*node)).collect::<Result<_, _>>()?;
                self.change(region.unwrap_or(1), |catalog| catalog.view.members = members)
            }
            Command::Fence { state, region } => {
                let state = state.clone();
                self.change(region.unwrap_or(1), |catalog| {
                    catalog.view.hands_over = state == "handover";
                    catalog.view.fence = match state.as_str() {
                        "draining" => types::Fence::Draining(catalog.revision),
                        "sealed" | "handover" => types::Fence::Sealed(catalog.revision),
                        _ => types::Fence::None,
                    }
                })
            }
            Command::Failover { after, region } => {
                let mode = Mode { sync_replication: false, ..self.catalogs[&region.unwrap_or(1)].view.mode };
                self.change(region.unwrap_or(1), |catalog| {
                    (catalog.view.mode, catalog.view.failover_after) = (mode, Some(*after));
                })
            }
            Command::Follow { link, region, forced, broken, promotions } => {
                let role = Role::Sink {
                    link: LinkId(*link),
                    forced: forced.unwrap_or(false),
                    broken: broken.unwrap_or(false),
                };
                let promotions = promotions.clone();
                self.change(region.unwrap_or(1), |catalog| {
                    catalog.view.role = role;
                    if let Some(promotions) = promotions {
                        catalog.view.promotions = promotions.0;
                    }
                })
            }
            Command::View { nodes } => {
                let nodes: Vec<u64> =
                    if nodes.is_empty() { self.nodes.keys().copied().collect() } else { nodes.clone() };
                nodes.into_iter().try_for_each(|node| self.view(node))
            }
            other => Err(format!("{other:?} is not about a catalog").into()),
        }
    }

    fn view(&mut self, node: u64) -> Done {
        let region = self.node(node)?.region;
        let catalog = &self.catalogs[&region];
        let (view, revision) = (catalog.view.clone(), catalog.revision);
        let sent = self.now;
        self.step(node, Input::View { view, sent })?;
        self.node(node)?.leases.obeyed(revision);
        Ok(())
    }

    fn change(&mut self, region: u64, change: impl FnOnce(&mut Catalog)) -> Done {
        let catalog = self.catalogs.get_mut(&region).ok_or("there is no such region")?;
        catalog.changed();
        change(catalog);
        self.show_catalog(region);
        Ok(())
    }

    fn show_catalog(&mut self, region: u64) {
        let line = ViewLine(&self.catalogs[&region].view).to_string();
        self.say(format_args!("catalog {region}: {line}"));
    }

    fn cluster(&mut self, command: &Command) -> Done {
        let Command::Cluster {
            nodes,
            members,
            replication,
            durability,
            ordinal,
            follows,
            lease_percent,
            tail_bytes,
            copy_records,
        } = command
        else {
            return Err("not a cluster".into());
        };
        let region = self.catalogs.len() as u64 + 1;
        let mode = Mode {
            sync_replication: *replication != Some(Kind::Async),
            sync_durability: *durability != Some(Kind::Async),
        };
        let mut options = ReplicaOptions { planted: self.planted, ..ReplicaOptions::default() };
        // Scripts lose frames of both kinds, and do not wait long.
        options.sink_resend_after = options.resend_after;
        options.counted_percent = lease_percent.unwrap_or(options.counted_percent);
        options.tail_bytes_max = tail_bytes.unwrap_or(options.tail_bytes_max);
        options.copy_records_min = copy_records.unwrap_or(options.copy_records_min);
        options.validate()?;
        let named = members.as_ref().map_or(nodes.clone(), |members| members.0.clone());
        let named: Vec<Member> = named.into_iter().map(first_process).collect();
        let processes: Vec<Member> = nodes.iter().copied().map(first_process).collect();
        let mut catalog = Catalog::new(region, ordinal.unwrap_or(0), &processes, &named, mode);
        let office = follows.map_or(Office::Same, |link| Office::Follows { link, forced: false });
        self.next_epoch += 1;
        catalog.grant(named[0], named.clone(), office, self.next_epoch, 0);
        for member in processes {
            let mut effects = vec![];
            let replica =
                Replica::new(catalog.view.partition, member, options.clone(), Default::default(), &mut effects);
            let leases = Leases::new(member, options.clone(), self.now, true);
            let (disk, todo) = (Disk::default(), Todo::default());
            let (life, options) = (Life::default(), options.clone());
            self.nodes.insert(member.node.0, Node { member, life, region, options, leases, replica, disk, todo });
        }
        self.catalogs.insert(region, catalog);
        self.show_catalog(region);
        Ok(())
    }

    fn grant(&mut self, command: &Command) -> Done {
        let Command::Grant { node, members, promotion: id, cut, above, again, follows, forced, promotions, loss } =
            command
        else {
            return Err("not a grant".into());
        };
        let region = self.node(*node)?.region;
        let members = members.as_ref().map_or(vec![*node], |members| members.0.clone());
        let members = members.into_iter().map(|node| self.member(node)).collect::<Result<Vec<Member>, _>>()?;
        let office = match (id, follows) {
            _ if *again == Some(true) => Office::Again,
            (Some(id), _) => Office::Promoted(promotion(*id, cut.ok_or("a promotion has a cut")?)),
            (None, Some(link)) => Office::Follows { link: *link, forced: *forced == Some(true) },
            (None, None) => Office::Same,
        };
        self.next_epoch += 1;
        let (primary, number) = (self.member(*node)?, self.next_epoch);
        let catalog = self.catalogs.get_mut(&region).expect("every node has a region");
        if let Some(promotions) = promotions {
            catalog.view.promotions = promotions.0.clone();
        }
        catalog.view.losses += u64::from(*loss == Some(true));
        catalog.grant(primary, members, office, number, above.unwrap_or(0));
        self.show_catalog(region);
        Ok(())
    }

    // ---- leases

    pub(super) fn obey_lease(&mut self, command: &Command) -> Done {
        let now = self.now;
        match command {
            Command::Heartbeat { node, peer } => {
                self.lease_ask(*node, *peer)?;
                self.lease_answer(*peer, *node)?;
                self.lease_take(*node, *peer)
            }
            Command::LeaseAsk { node, peer } => self.lease_ask(*node, *peer),
            Command::LeaseAnswer { node, peer } => self.lease_answer(*node, *peer),
            Command::LeaseTake { node, peer } => self.lease_take(*node, *peer),
            Command::LeaseTakeAgain { node, peer } => {
                let granted = self.taken.get(&(*peer, *node)).cloned().ok_or("nothing has arrived")?;
                self.answered.insert((*peer, *node), granted);
                self.lease_take(*node, *peer)
            }
            Command::Closed { node, peer } => {
                let probe = self.node(*node)?.leases.on_closed(NodeId(*peer)).ok_or("nobody was known there")?;
                self.probes.insert((*node, *peer), probe);
                self.say(format_args!("n{node} tries again to reach {}", probe.of));
                Ok(())
            }
            Command::Refused { node, peer } => {
                let probe = self.probes.remove(&(*node, *peer)).ok_or("no attempt is under way")?;
                self.node(*node)?.leases.on_refused(probe);
                self.say_gone(*node)
            }
            Command::Hello { node, peer } => {
                let member = self.member(*peer)?;
                self.node(*node)?.leases.note(now, member);
                self.say(format_args!("n{node} hears {member}"));
                self.say_gone(*node)
            }
            Command::Reads { node } => {
                let Node { replica, leases, .. } = self.node(*node)?;
                let may = if replica.may_read(now, leases) { "may" } else { "may not" };
                self.say(format_args!("n{node} {may} show what it read"));
                Ok(())
            }
            other => Err(format!("{other:?} is not about leases").into()),
        }
    }

    fn say_gone(&mut self, node: u64) -> Done {
        let gone: Vec<String> = self.node(node)?.leases.proved_gone().map(|member| member.to_string()).collect();
        self.say(format_args!("n{node} has proof that these are gone: {}", gone.join(" ")));
        Ok(())
    }

    fn lease_ask(&mut self, node: u64, peer: u64) -> Done {
        let beat = self.nodes[&node].leases.heartbeat(self.now);
        self.say(format_args!("n{node} asks n{peer} for its grant, as of revision {}", beat.revision));
        self.asked.insert((node, peer), beat);
        Ok(())
    }

    fn lease_answer(&mut self, node: u64, peer: u64) -> Done {
        let beat = self.asked.remove(&(peer, node)).ok_or("there is no question")?;
        let now = self.now;
        let lease = self.node(node)?.options.lease;
        let (granted, _) = self.node(node)?.leases.on_heartbeat(now, &beat);
        let except: Vec<String> = granted.except.iter().map(|id| format!(" except {id}")).collect();
        self.say(format_args!("n{node} grants n{peer} until {}{}", millis(now + lease), except.concat()));
        self.answered.insert((node, peer), granted);
        Ok(())
    }

    fn lease_take(&mut self, node: u64, peer: u64) -> Done {
        let granted = self.answered.remove(&(peer, node)).ok_or("there is no answer")?;
        self.taken.entry((peer, node)).or_insert_with(|| granted.clone());
        let now = self.now;
        let Node { leases, replica, .. } = self.node(node)?;
        leases.on_granted(now, &granted);
        let until = leases.held_until(replica.id(), granted.from);
        self.say(format_args!("n{node} holds n{peer}'s grant until {}", millis(until)));
        Ok(())
    }
}

fn millis(instant: Instant) -> String {
    format!("{}ms", instant.0 / 1_000_000)
}
