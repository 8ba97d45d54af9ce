//! Commands about disks, states and the timestamp service; restarts; and `run`, which does all that is left to do.

use replication::{Input, Leases, Life, Recovered, Replica};
use types::{Incarnation, Lsn, Timestamp};

use super::command::Command;
use super::{Done, Node, Todo, World};

impl World {
    pub(super) fn obey_services(&mut self, command: &Command) -> Done {
        match command {
            Command::Written { node, end } => {
                let disk = &mut self.node(*node)?.disk;
                let end = end.map_or(disk.end(), Lsn);
                disk.write(end);
                self.step(*node, Input::Written { end })
            }
            Command::Durable { node, end, notes } => {
                let disk = &mut self.node(*node)?.disk;
                let end = end.map_or(disk.end(), Lsn);
                let notes = disk.sync(end, *notes);
                self.step(*node, Input::Durable { end, notes })
            }
            Command::Applied { node, to } => {
                let node_ = self.node(*node)?;
                let to = to.map_or(node_.todo.apply, Lsn);
                node_.disk.apply(to);
                self.step(*node, Input::Applied { lsn: to })
            }
            Command::Rewound { node } => {
                let node_ = self.node(*node)?;
                let to = node_.todo.rewind.take().ok_or("no rewind is under way")?;
                node_.disk.rewind(to);
                self.step(*node, Input::Rewound { to })
            }
            Command::Installed { node, from } => {
                let from = self.node(*from)?.disk.clone();
                let node_ = self.node(*node)?;
                if !node_.replica.takes(&from.lineage, from.applied) {
                    return self.step(*node, Input::CopyUnfit);
                }
                node_.disk.install(from.lineage, from.applied, from.state);
                node_.todo.apply = Lsn::ZERO;
                let (lineage, end) = (node_.disk.lineage.clone(), node_.disk.end());
                self.step(*node, Input::Installed { lineage, end })
            }
            Command::ForgetLog { node, end } => {
                self.node(*node)?.disk.rewind(Lsn(*end));
                self.restart(*node, true)
            }
            Command::Trim { node, to } => {
                self.node(*node)?.disk.trim(Lsn(*to));
                self.step(*node, Input::Trimmed { to: Lsn(*to) })
            }
            Command::LogRead { node } => self.log_read(*node),
            Command::Timestamps { node, first } => self.timestamps(*node, *first),
            Command::Prepared { node } => {
                let node_ = self.node(*node)?;
                let reign = node_.todo.prepared.take().ok_or("nobody asked what is prepared")?;
                let open = node_.disk.open_prepared();
                self.step(*node, Input::Prepared { reign, open })
            }
            Command::Outcome { node } => {
                for (reign, txn) in std::mem::take(&mut self.node(*node)?.todo.lookups) {
                    let outcome = self.node(*node)?.disk.outcome(txn);
                    self.step(*node, Input::Outcome { reign, txn, outcome })?;
                }
                Ok(())
            }
            Command::Restart { node, kill } => self.restart(*node, *kill != Some(true)),
            Command::Damaged { node } => self.reopen(*node),
            other => Err(format!("{other:?} is not about a disk").into()),
        }
    }

    fn log_read(&mut self, node: u64) -> Done {
        for (feed, from, to) in std::mem::take(&mut self.node(node)?.todo.reads) {
            let records = self.node(node)?.disk.read(from, to);
            self.step(node, Input::LogRead { feed, records })?;
        }
        Ok(())
    }

    fn timestamps(&mut self, node: u64, first: Option<u64>) -> Done {
        let (request, count) = self.node(node)?.todo.timestamps.take().ok_or("nobody asked for timestamps")?;
        let first = first.unwrap_or(self.next_ts + 10);
        self.next_ts = self.next_ts.max(first + u64::from(count) - 1);
        self.step(node, Input::Timestamps { request, first: Timestamp(first), count })
    }

    fn restart(&mut self, node: u64, power: bool) -> Done {
        self.net.retain(|packet| packet.to != node);
        self.touches.retain(|(at, _), _| *at != node);
        let now = self.now;
        let node_ = self.node(node)?;
        let found = node_.disk.restart(power);
        node_.member.incarnation = Incarnation(node_.member.incarnation.0 + 1);
        node_.life = Life::default();
        node_.leases = Leases::new(node_.member, node_.options.clone(), now, false);
        node_.todo = Todo { rewind: found.intent.as_ref().map(|(to, _)| *to), ..Todo::default() };
        let (member, end, promised) = (node_.member, found.end, found.promised);
        let mut effects = vec![];
        node_.replica = Replica::new(node_.replica.id(), member, node_.options.clone(), found, &mut effects);
        self.say(format_args!("{member} finds its log to {end}, promised r{promised}"));
        self.carry_out(node, effects)
    }

    fn reopen(&mut self, node: u64) -> Done {
        let node_ = self.node(node)?;
        (node_.disk.incomplete, node_.disk.intent, node_.todo) = (true, None, Todo::default());
        node_.life.0 += 1;
        let found = Recovered { life: node_.life, ..node_.disk.restart(false) };
        let (member, life) = (node_.member, node_.life.0);
        let mut effects = vec![];
        node_.replica = Replica::new(node_.replica.id(), member, node_.options.clone(), found, &mut effects);
        self.say(format_args!("{member} finds its replica damaged and opens it anew, life {life}"));
        self.carry_out(node, effects)
    }

    pub(super) fn run_messages(&mut self) -> Done {
        while let Some(packet) = self.net.pop_front() {
            self.step(packet.to, packet.input)?;
        }
        Ok(())
    }

    pub(super) fn run_all(&mut self) -> Done {
        for _ in 0..10_000 {
            if let Some(packet) = self.net.pop_front() {
                self.step(packet.to, packet.input)?;
                continue;
            }
            let todo = self.nodes.iter().find_map(|(node, at)| Some((*node, next(at)?)));
            let Some((node, command)) = todo else { return Ok(()) };
            self.obey_services(&command(node))?;
        }
        Err("the world does not come to rest".into())
    }
}

/// What a node waits for, as the command that does it.
fn next(node: &Node) -> Option<fn(u64) -> Command> {
    let Node { todo, disk, .. } = node;
    if todo.rewind.is_some() {
        Some(|node| Command::Rewound { node })
    } else if disk.unsynced() {
        Some(|node| Command::Durable { node, end: None, notes: None })
    } else if todo.apply > disk.applied {
        Some(|node| Command::Applied { node, to: None })
    } else if todo.timestamps.is_some() {
        Some(|node| Command::Timestamps { node, first: None })
    } else if todo.prepared.is_some() {
        Some(|node| Command::Prepared { node })
    } else if !todo.lookups.is_empty() {
        Some(|node| Command::Outcome { node })
    } else if !todo.reads.is_empty() {
        Some(|node| Command::LogRead { node })
    } else {
        None
    }
}
