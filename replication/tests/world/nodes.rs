//! What a replica's effects do in the world, and the network.

use replication::{Ack, Append, Effect, Frame, Input, Message, Stream};
use types::{LinkId, Lsn, Mark, Reign, Timestamp};

use super::command::Command;
use super::{Done, Packet, Session, World};

impl World {
    /// Does at once what needs no time; keeps the rest until a command says that it is done.
    pub(super) fn perform(&mut self, node: u64, effect: Effect) -> Done {
        match effect {
            Effect::Append(records) => self.node(node)?.disk.append(&records),
            Effect::Note(note) => self.node(node)?.disk.note(note),
            Effect::Send { to, frame } => {
                if !self.isolated.contains(&node) && !self.isolated.contains(&to.0) {
                    self.net.push_back(Packet { from: node, to: to.0, input: Input::Frame(frame) });
                }
            }
            Effect::ToSink { feed, message } => {
                let session = self.sessions.iter().find(|session| session.source == node && session.sink == feed);
                if let Some(Session { link, sink, .. }) = session.copied() {
                    let input = Input::FromSource { link: LinkId(link), message };
                    self.net.push_back(Packet { from: node, to: sink, input });
                }
            }
            Effect::ToSource { link, message } => {
                let session = self.sessions.iter().find(|session| session.sink == node && session.link == link.0);
                if let Some(Session { source, .. }) = session.copied() {
                    self.net.push_back(Packet {
                        from: node,
                        to: source,
                        input: Input::FromSink { feed: node, message },
                    });
                }
            }
            Effect::Read { feed, from, to, .. } => self.node(node)?.todo.reads.push((feed, from, to)),
            Effect::Apply { to } => self.node(node)?.todo.apply = to,
            Effect::Rewind { to, lineage } => {
                let node = self.node(node)?;
                node.disk.intent = Some((to, lineage));
                node.todo.rewind = Some(to);
                node.todo.apply = node.todo.apply.min(to);
            }
            // A crash in the middle of a copy of a source leaves what was compared.
            Effect::Install { link, .. } => self.node(node)?.disk.incomplete |= link.is_none(),
            Effect::StopCopy => self.node(node)?.disk.incomplete = false,
            Effect::Timestamps { request, count } => self.node(node)?.todo.timestamps = Some((request, count)),
            Effect::Prepared { reign } => self.node(node)?.todo.prepared = Some(reign),
            Effect::Lookup { reign, txn } => self.node(node)?.todo.lookups.push((reign, txn)),
            Effect::Answer { ticket, answer } => self.note_answer(ticket, &answer),
            Effect::Inquire { .. }
            | Effect::Propose { .. }
            | Effect::Learn { .. }
            | Effect::Break { .. }
            | Effect::Halt { .. } => {}
        }
        Ok(())
    }

    pub(super) fn obey_network(&mut self, command: &Command) -> Done {
        match command {
            Command::Deliver { from, to, n, keep } => {
                for packet in self.take_packets(*from, *to, n.unwrap_or(usize::MAX)) {
                    if *keep == Some(true) {
                        self.net.push_back(packet.clone());
                    }
                    self.step(packet.to, packet.input)?;
                }
                Ok(())
            }
            Command::Drop { from, to } => {
                for Packet { from, to, input } in self.take_packets(*from, *to, usize::MAX) {
                    self.say(format_args!("lost on the way to n{to}: n{from}'s {}", message(&input)));
                }
                Ok(())
            }
            Command::Isolate { node } => {
                self.isolated.insert(*node);
                self.net.retain(|packet| packet.to != *node && packet.from != *node);
                Ok(())
            }
            Command::Rejoin { node } => {
                self.isolated.remove(node);
                Ok(())
            }
            Command::PeerUp { node, peer } => self.step(*node, Input::PeerUp { node: types::NodeId(*peer) }),
            Command::ForgeAck { from, to, matched, reign, turn } => {
                let ack =
                    Ack { matched: Lsn(*matched), position: Lsn(*matched), durable: Lsn(*matched), ..Ack::default() };
                let (from, life, partition) =
                    (self.member(*from)?, self.node(*from)?.life, self.node(*to)?.replica.id());
                let status = self.node(*to)?.replica.status();
                let turn = turn.unwrap_or(status.leading.map_or(0, |leading| leading.turn));
                let stream = Stream { reign: reign.map_or(status.reign, Reign), turn };
                let message = Message::Ack(ack);
                self.step(*to, Input::Frame(Frame { partition, from, life, stream, message }))
            }
            Command::AskCopy { node, to } => {
                let (by, life) = (self.member(*node)?, self.node(*node)?.life);
                self.step(*to, Input::CopyAsked { by, life })?;
                if !self.node(*to)?.replica.gives_to(by.node) {
                    self.say(format_args!("  {by} is waited for: it gets none"));
                }
                Ok(())
            }
            other => Err(format!("{other:?} is not about the network").into()),
        }
    }

    /// Takes out what is under way now.
    pub(super) fn take_packets(&mut self, from: Option<u64>, to: Option<u64>, most: usize) -> Vec<Packet> {
        let wanted = |packet: &Packet| from.is_none_or(|n| n == packet.from) && to.is_none_or(|n| n == packet.to);
        let mut taken = vec![];
        self.net.retain(|packet| {
            let take = wanted(packet) && taken.len() < most;
            if take {
                taken.push(packet.clone());
            }
            !take
        });
        taken
    }

    pub(super) fn obey_session(&mut self, command: &Command) -> Done {
        match command {
            Command::Session { link, source, sink } => {
                self.sessions.retain(|session| session.sink != *sink || session.link != *link);
                self.sessions.push(Session { link: *link, source: *source, sink: *sink });
                self.step(*sink, Input::SourceUp { link: LinkId(*link) })
            }
            Command::SessionEnd { link, sink } => {
                let ended = self.sessions.iter().position(|session| session.sink == *sink && session.link == *link);
                let Session { source, .. } = self.sessions.remove(ended.ok_or("there is no such session")?);
                let over = |packet: &Packet| {
                    matches!(packet.input, Input::FromSink { .. } | Input::FromSource { .. })
                        && (packet.from, packet.to).min((packet.to, packet.from))
                            == (source, *sink).min((*sink, source))
                };
                self.net.retain(|packet| !over(packet));
                self.step(*sink, Input::SourceDown { link: LinkId(*link) })?;
                self.step(source, Input::SinkGone { feed: *sink })
            }
            Command::ForgeMark { link, sink, ts, lsn, promotions } => {
                let status = self.node(*sink)?.replica.status();
                let promotions = promotions.clone().map_or(status.mark.promotions, |promotions| promotions.0);
                let prev = status.appended;
                let append = Append {
                    prev,
                    prev_epoch: status.lineage.epoch_at(prev),
                    records: vec![],
                    committed: Lsn::ZERO,
                    mark: Some(Mark { promotions, ts: Timestamp(*ts), lsn: lsn.map_or(prev, Lsn) }),
                    reign_revision: Default::default(),
                    losses: 0,
                    sink: false,
                };
                self.step(*sink, Input::FromSource { link: LinkId(*link), message: Message::Append(append) })
            }
            other => Err(format!("{other:?} is not about a session").into()),
        }
    }
}

fn message(input: &Input) -> String {
    match input {
        Input::Frame(frame) => frame.to_string(),
        Input::FromSink { message, .. } | Input::FromSource { message, .. } => message.to_string(),
        other => other.to_string(),
    }
}
