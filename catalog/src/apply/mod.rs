//! One command after the other. Each function of this folder first looks, then changes: a refusal leaves no trace.

mod databases;
mod nodes;
mod reigns;
mod sets;

use crate::command::Command;
use crate::event::UnixMillis;
use crate::outcome::{Answer, Outcome, Refusal};
use crate::state::State;

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
            Command::RegisterNode { identity, addresses, roles, group } => {
                self.register_node(*identity, addresses, *roles, *group)
            }
            Command::NodeStarted { node, incarnation, addresses } => self.node_started(*node, *incarnation, addresses),
            Command::RemoveNode { node } => self.remove_node(*node),
            Command::CreateDatabase(create) => self.create_database(create),
            Command::DropDatabase { name } => self.drop_database(name),
            Command::AlterDatabase { name, mode, options } => self.alter_database(name, *mode, options),
            Command::ProposeSet { partition, reign, version, change } => {
                self.propose_set(*partition, *reign, *version, *change)
            }
            Command::ConfirmDurable { partition, reign, version } => self.confirm_durable(*partition, *reign, *version),
            Command::MarkIncomplete { partition, reign, incomplete } => {
                self.mark_incomplete(*partition, *reign, *incomplete)
            }
            Command::NamePrimary(name) => self.name_primary(name),
            Command::RecoverToCut(recover) => self.recover_to_cut(recover),
            Command::AddReplica { partition, node } => self.add_replica(*partition, *node),
            Command::RemoveReplica { partition, node } => self.remove_replica(*partition, *node),
            Command::ReplicaGone { partition, node } => self.replica_gone(*partition, *node),
            Command::ExtendTimestampBlock { upper } => self.extend_timestamps(*upper),
        }
    }
}
