//! One command after the other. Each function of this folder first looks, then changes: a refusal leaves no trace.

mod claims;
mod databases;
mod fences;
mod handover;
mod leaves;
mod moves;
mod nodes;
mod promotions;
mod reigns;
mod sets;
mod sinks;
mod sources;
mod users;

use types::{NodeId, PartitionId};

use crate::command::Command;
use crate::event::{Severity, UnixMillis};
use crate::outcome::{Answer, Outcome, Refusal};
use crate::state::{About, State};

/// A command that was not refused.
pub(crate) enum Applied {
    /// It changed the state.
    Changed(Answer),
    /// Its aim held before.
    Already(Answer),
}

/// What each function of this folder returns.
pub(crate) type Applying = Result<Applied, Refusal>;

/// It is done, there is nothing to tell.
pub(crate) const DONE: Applying = Ok(Applied::Changed(Answer::Done));

/// It was done before.
pub(crate) const ALREADY: Applying = Ok(Applied::Already(Answer::Done));

impl State {
    /// Carries out one command. `at` is its proposer's clock: it is shown to people, nothing is decided by it.
    pub fn apply(&mut self, at: UnixMillis, command: &Command) -> Result<Outcome, Refusal> {
        let before = (self.revision, self.clock);
        self.revision.0 += 1;
        self.clock = self.clock.max(at);
        match self.dispatch(command) {
            Ok(Applied::Changed(answer)) => Ok(Outcome { already: false, revision: self.revision, answer }),
            Ok(Applied::Already(answer)) => {
                (self.revision, self.clock) = before;
                Ok(Outcome { already: true, revision: self.revision, answer })
            }
            Err(refusal) => {
                (self.revision, self.clock) = before;
                Err(refusal)
            }
        }
    }

    fn dispatch(&mut self, command: &Command) -> Applying {
        match command {
            Command::RegisterNode { number, identity, addresses, roles, group } => {
                self.register_node(*number, *identity, addresses, *roles, *group)
            }
            Command::NodeStarted { node, incarnation, addresses } => self.node_started(*node, *incarnation, addresses),
            Command::AddAggregator { node } => self.add_aggregator(*node),
            Command::Announce { severity, kind, node, partition, text } => {
                self.announce(*severity, kind, *node, *partition, text)
            }
            Command::RemoveNode { node } => self.remove_node(*node),
            Command::CreateDatabase(create) => self.create_database(create),
            Command::DropDatabase { name } => self.drop_database(name),
            Command::AlterDatabase { name, mode, options } => self.alter_database(name, *mode, options),
            Command::ProposeSet { partition, reign, version, change } => {
                self.propose_set(*partition, *reign, *version, *change)
            }
            Command::Confirm { partition, reign, version, what } => self.confirm(*partition, *reign, *version, *what),
            Command::MarkIncomplete { partition, reign, incomplete } => {
                self.mark_incomplete(*partition, *reign, *incomplete)
            }
            Command::NamePrimary(name) => self.name_primary(name),
            Command::ReceiveEpoch { number } => self.take_epoch(*number),
            Command::RecoverToCut(recover) => self.recover_to_cut(recover),
            Command::AddReplica { partition, node } => self.add_replica(*partition, *node),
            Command::RemoveReplica { partition, node } => self.remove_replica(*partition, *node),
            Command::ReplicaGone { partition, node } => self.replica_gone(*partition, *node),
            Command::ChangeLeaf { node, change } => self.change_leaf(*node, *change),
            Command::PlanMoves(plan) => self.plan_moves(plan),
            Command::BeginMove { .. }
            | Command::HandOver { .. }
            | Command::SealHandover { .. }
            | Command::AbandonHandover { .. }
            | Command::FinishMove { .. }
            | Command::GiveUpMove { .. } => self.step_of_move(command),
            Command::ExtendTimestampBlock { upper } => self.extend_timestamps(*upper),
            Command::Fence { database, holder } => self.fence(*database, *holder),
            Command::Seal { database, draining } => self.seal(*database, *draining),
            Command::ReportFinals { database, sealed, finals } => self.report_finals(*database, *sealed, finals),
            Command::Unfence { database, holder, force } => self.unfence(*database, *holder, *force),
            Command::CreateSink(sink) => self.create_sink(sink),
            Command::Follow(follow) => self.follow(follow),
            Command::LearnPromotions { database, link, promotions, relay, served } => {
                self.learn_promotions(*database, *link, promotions, *relay, *served)
            }
            Command::Joined { database, link } => self.joined(*database, *link),
            Command::MeasureCopy { database, copy } => self.measure_copy(*database, *copy),
            Command::BreakLink(lost) => self.break_link(lost),
            Command::LearnAddresses { link, addresses } => self.learn_addresses(*link, addresses),
            Command::PauseLink { database, paused } => self.pause_link(*database, *paused),
            Command::AlterLink { database, options } => self.alter_link(*database, options),
            Command::Promote(promote) => self.promote(promote),
            Command::OpenLink(open) => self.open_link(open),
            Command::SetSync { link, sync, on_silence } => self.set_sync(*link, *sync, *on_silence),
            Command::EndLink { link, keep_pin } => self.end_link(*link, *keep_pin),
            Command::ReportPin { link, cut, promotions } => self.report_pin(*link, *cut, promotions),
            Command::GiveUpPin { link } => self.give_up_pin(*link),
            Command::Degrade { link, since } => self.degrade(*link, *since),
            Command::Restore { link, above } => self.restore(*link, *above),
            Command::IssueToken { database, token, link } => self.issue_token(*database, *token, *link),
            Command::HandoverAnswered { database, token, answer } => self.handover_answered(*database, *token, *answer),
            Command::RefuseToken { database, token } => self.refuse_token(*database, *token),
            Command::CreateUser { account, verifier } => self.create_user(account, verifier),
            Command::AlterUser { account, verifier } => self.alter_user(account, verifier),
            Command::DropUser { account } => self.drop_user(account),
            Command::Grant { account, scope, privileges } => self.grant(account, scope, privileges),
            Command::Revoke { account, scope, privileges } => self.revoke(account, scope, privileges),
            Command::LearnClaim { database, claim } => self.learn_claim(*database, claim),
        }
    }

    fn announce(
        &mut self,
        severity: Severity,
        kind: &str,
        node: Option<NodeId>,
        of: Option<PartitionId>,
        text: &str,
    ) -> Applying {
        let (database, partition) = (of.map(|id| id.database), of.map(|id| id.ordinal));
        self.say(severity, kind, About { node, database, partition }, text.into());
        DONE
    }

    /// One step of a partition's move.
    fn step_of_move(&mut self, command: &Command) -> Applying {
        match command {
            Command::BeginMove { partition } => self.begin_move(*partition),
            Command::HandOver { partition, reign, to } => self.hand_over(*partition, *reign, *to),
            Command::SealHandover { partition, reign } => self.seal_handover(*partition, *reign),
            Command::AbandonHandover { partition } => self.abandon_handover(*partition),
            Command::FinishMove { partition, reign, version } => self.finish_move(*partition, *reign, *version),
            Command::GiveUpMove { partition, reason } => self.give_up_move(*partition, reason),
            other => unreachable!("{other:?} is no step of a move"),
        }
    }
}
