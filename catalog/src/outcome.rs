//! What a command answers: what was done, or why not and what to do instead.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use types::{DatabaseId, Epoch, LinkId, NodeId, Promotion, Reign, Revision, SetVersion};

use crate::command::HandoverAnswer;
use crate::database::Fenced;

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The aim held before; nothing was changed.
    pub already: bool,
    /// The catalog's position with it.
    pub revision: Revision,
    /// What the proposer wants to know.
    pub answer: Answer,
}

/// What the proposer of a command wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// That it is done.
    Done,
    /// The node's id.
    Node(NodeId),
    /// The database's id.
    Database(DatabaseId),
    /// A primary was named.
    Named {
        /// Its term of office.
        reign: Reign,
        /// Its set's version.
        version: SetVersion,
        /// The name under which it appends, `None` in a sink.
        epoch: Option<Epoch>,
    },
    /// The candidate does not join the set, whose version has risen: why.
    TurnedDown(String),
    /// The database was fenced, or is.
    Fenced(Fenced),
    /// The database became writable, or had been made so: the promotion that counts.
    Promoted(Promotion),
    /// The source's promotions are the sink's.
    Learnt,
    /// The source has parted below what was served; the link takes nothing until a person orders it.
    Broken,
    /// The link that the sink has.
    Link(LinkId),
    /// The token that is on its way.
    Token(u128),
    /// What is committed about a token.
    Handover(HandoverAnswer),
}

/// A command that changed nothing. Each kind is named by what its proposer must do.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The decision was based on something that has changed: read the state and decide again.
    #[error("{object}: {is}; the command was based on {based}: look again")]
    LookAgain {
        /// What has changed.
        object: String,
        /// As it is.
        is: String,
        /// As the command says.
        based: String,
    },
    /// There is no such thing: name another.
    #[error("there is no {object}: check the name")]
    NameExisting {
        /// What was named.
        object: String,
    },
    /// It exists: choose another name, or say that the existing one is meant.
    #[error("{object} exists: {advice}")]
    NameNew {
        /// What was named.
        object: String,
        /// What to do.
        advice: String,
    },
    /// The command contradicts itself or the cluster: correct it.
    #[error("{object}: {problem}")]
    Correct {
        /// What it is about.
        object: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// It cannot be done in the present state: do something else first.
    #[error("{object} {problem}: {first}")]
    DoFirst {
        /// What it is about.
        object: String,
        /// Its present state.
        problem: String,
        /// What to do first.
        first: String,
    },
    /// Nothing is wrong, it is too early: repeat later.
    #[error("{object} {reason}: it will be possible later without doing anything")]
    Wait {
        /// What it is about.
        object: String,
        /// What is waited for.
        reason: String,
    },
    /// It gives something up: repeat with FORCE if that is meant.
    #[error("{object} {loss}: repeat with FORCE if that is meant")]
    Force {
        /// What it is about.
        object: String,
        /// What would be given up.
        loss: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.already {
            true => write!(f, "{}, as before", self.answer),
            false => write!(f, "{}", self.answer),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Done => f.write_str("done"),
            Answer::Node(id) => write!(f, "node {id}"),
            Answer::Database(id) => write!(f, "database {id}"),
            Answer::Named { reign, version, epoch: Some(epoch) } => {
                write!(f, "reign {reign} version {version} epoch {epoch}")
            }
            Answer::Named { reign, version, epoch: None } => write!(f, "reign {reign} version {version}"),
            Answer::TurnedDown(reason) => write!(f, "turned down: {reason}"),
            Answer::Fenced(fenced) => write!(f, "{fenced}"),
            Answer::Promoted(promotion) => write!(f, "writable at {} by {:x}", promotion.cut, promotion.id.0),
            Answer::Learnt => f.write_str("learnt"),
            Answer::Broken => f.write_str("the link is broken"),
            Answer::Link(link) => write!(f, "link {link}"),
            Answer::Token(token) => write!(f, "token {token:x}"),
            Answer::Handover(HandoverAnswer::Accepted(id)) => write!(f, "accepted by {:x}", id.0),
            Answer::Handover(HandoverAnswer::Refused) => f.write_str("refused for ever"),
        }
    }
}
