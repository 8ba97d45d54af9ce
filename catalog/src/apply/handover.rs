//! The right to write moves by a token: at most one side is writable at every instant.
//!
//! The source issues one token per seal. The right has moved when the sink's catalog has accepted it, which is its
//! promotion. The source takes it back only with the sink's durable refusal; not knowing, it stays sealed.

use types::{DatabaseId, Fence, LinkId};

use super::{Applied, Applying};
use crate::command::HandoverAnswer;
use crate::database::{Handover, Holder};
use crate::event::Severity;
use crate::outcome::{Answer, Refusal};
use crate::state::State;

impl State {
    pub(super) fn issue_token(&mut self, id: DatabaseId, token: u128, link: LinkId) -> Applying {
        let database = self.expect_database_id(id)?;
        let object = format!("database `{}`", database.name);
        if let Some(handover) = database.handover {
            if handover.link == link {
                return Ok(Applied::Already(Answer::Token(handover.token)));
            }
            let problem = "has handed its right to write to another sink".into();
            return Err(Refusal::DoFirst { object, problem, first: "wait for that sink's answer".into() });
        }
        let sealed = matches!(database.fenced.fence, Fence::Sealed(_)) && database.fenced.finals.is_some();
        if !sealed {
            let problem = "is not sealed with known final positions".into();
            return Err(Refusal::DoFirst { object, problem, first: "fence it and wait until it is drained".into() });
        }
        let sink = self.expect_source(link)?;
        if sink.database != id || sink.ended.is_some() {
            return Err(Refusal::NameExisting { object: format!("sink of {object} by link {link}") });
        }
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        database.handover = Some(Handover { token, link, answer: None });
        database.fenced.holders.insert(Holder::Token);
        let text = format!("{object} hands its right to write over");
        self.say(Severity::Info, "hand-over", id.into(), text);
        Ok(Applied::Changed(Answer::Token(token)))
    }

    pub(super) fn handover_answered(&mut self, id: DatabaseId, token: u128, answer: HandoverAnswer) -> Applying {
        let database = self.expect_database_id(id)?;
        let object = format!("token of database `{}`", database.name);
        let handover = database.handover.filter(|handover| handover.token == token);
        let Some(handover) = handover else {
            return Err(Refusal::NameExisting { object });
        };
        match handover.answer {
            Some(known) if known == answer => return Ok(Applied::Already(Answer::Handover(known))),
            Some(known) => {
                let (is, based) = (format!("{known:?}"), format!("{answer:?}"));
                return Err(Refusal::LookAgain { object, is, based });
            }
            None => {}
        }
        if answer == HandoverAnswer::Refused {
            self.release(id, |holder| *holder == Holder::Token);
        } else {
            let database = self.databases.get_mut(&id).expect("it was looked up above");
            database.handover = Some(Handover { answer: Some(answer), ..handover });
        }
        self.say(Severity::Info, "hand-over", id.into(), format!("{object}: {answer:?}"));
        Ok(Applied::Changed(Answer::Handover(answer)))
    }

    pub(super) fn refuse_token(&mut self, id: DatabaseId, token: u128) -> Applying {
        self.expect_database_id(id)?;
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        if let Some(known) = database.tokens.get(&token) {
            return Ok(Applied::Already(Answer::Handover(*known)));
        }
        database.tokens.insert(token, HandoverAnswer::Refused);
        Ok(Applied::Changed(Answer::Handover(HandoverAnswer::Refused)))
    }
}
