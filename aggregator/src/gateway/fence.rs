//! FLUSH TABLES WITH READ ONLY and UNLOCK TABLES: orders to the catalog, and waiting for what the master makes of them.

use std::time::{Duration, Instant};

use catalog::database::{Fenced, Holder};
use catalog::user::Privilege;
use catalog::{Answer as Decided, Command, Refusal, State};
use sql::answer::{Answer, Done, ResultColumn};
use sql::scalar::Warning;
use sql::statement::UnlockTarget;
use sql::{Error, Result};
use types::value::{Zone, format_datetime};
use types::{DatabaseId, Datum};

use super::answer::table;
use super::{ClientSession, users};
use crate::ask::unexpected;
use crate::master::FENCE_TIMEOUT;
use crate::protocol::{FrontAnswer, FrontRequest};
use crate::writable;

/// For how long after its timeout a fence may take to be obeyed everywhere, before its statement gives up waiting.
const OBEY_TIME: Duration = Duration::from_secs(60);
/// Between two looks whether the client still wants to know.
const LOOK: Duration = Duration::from_millis(100);

impl ClientSession {
    /// Fences databases and waits until nothing writes to them. The fence stays, whatever becomes of the session.
    pub(super) async fn fence(&mut self, database: Option<&str>, timeout_ms: Option<u64>) -> Result<Answer> {
        self.commit().await?;
        let timeout = timeout_ms.map_or(FENCE_TIMEOUT, Duration::from_millis);
        let begun = Instant::now();
        let mut ordered = Vec::new();
        for id in self.to_fence(database)? {
            let (_, here) = self.region.stamps.counts(|| self.region.catalog.state().revision);
            order(self, Command::Fence { database: id, holder: Holder::User }).await?;
            let elsewhere = self.limit_drain(id, timeout).await?;
            let running = elsewhere + here.get(&id).copied().unwrap_or(0);
            self.fences.insert(id);
            ordered.push((id, running));
        }
        let mut rows = Vec::new();
        for (id, running) in ordered {
            let (name, fenced) = self.ended(id, begun + timeout).await?;
            let finals = fenced.finals.unwrap_or_default();
            let positions: Vec<String> =
                finals.positions.iter().map(|(ordinal, lsn)| format!("{ordinal}:{lsn}")).collect();
            let micros = i64::try_from(finals.time.millis()).unwrap_or(i64::MAX).saturating_mul(1000);
            let time = format_datetime((&self.variables.zone() as &dyn Zone).to_local(micros), 6);
            let millis = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
            rows.push(vec![
                Datum::Text(name),
                Datum::Text(positions.join(",")),
                Datum::Text(time),
                Datum::Int(running as i64),
                Datum::Int(millis),
            ]);
        }
        let columns = vec![
            ResultColumn::text("database"),
            ResultColumn::text("final_position"),
            ResultColumn::text("final_time"),
            ResultColumn::int("drained"),
            ResultColumn::int("duration_ms"),
        ];
        Ok(table(columns, rows))
    }

    /// Tells the master when what is undecided is rolled back. How many transactions other aggregators have there.
    async fn limit_drain(&self, id: DatabaseId, timeout: Duration) -> Result<u64> {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        match self.region.ask(FrontRequest::FenceTimeout(id, self.region.bond.member().node, millis)).await? {
            FrontAnswer::Running(elsewhere) => Ok(elsewhere),
            other => Err(unexpected(&other)),
        }
    }

    /// The databases that a FLUSH names: the one it says, the session's, or all that are written here.
    fn to_fence(&self, database: Option<&str>) -> Result<Vec<DatabaseId>> {
        let state = self.region.catalog.state();
        let Some(name) = database.or(self.variables.database.as_deref()) else {
            return Ok(state.databases.iter().filter(|(_, known)| !known.is_sink()).map(|(id, _)| *id).collect());
        };
        let (id, known) = state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
        match writable::refusal(&state, id).filter(|_| known.is_sink()) {
            Some(refusal) => Err(Error::new(refusal.code, format!("{}; fence the source instead", refusal.message))),
            None => Ok(vec![id]),
        }
    }

    /// Waits until it is known where a fenced database ends.
    async fn ended(&self, id: DatabaseId, drained: Instant) -> Result<(String, Fenced)> {
        let mut changes = self.region.catalog.changes();
        let mut master = self.region.catalog.status().leader;
        loop {
            let leader = self.region.catalog.status().leader;
            if leader.is_some() && leader != master {
                // The next master does not know the limit.
                self.limit_drain(id, drained.saturating_duration_since(Instant::now())).await?;
                master = leader;
            }
            let state = changes.borrow_and_update().clone();
            let known =
                state.databases.get(&id).ok_or_else(|| Error::new(1049, "The database was dropped meanwhile"))?;
            let (name, fenced) = (known.name.clone(), known.fenced.clone());
            if !fenced.holders.contains(&Holder::User) {
                return Err(Error::new(
                    1317,
                    format!("The fence of database '{name}' was lifted before it was complete"),
                ));
            }
            if fenced.finals.is_some() {
                return Ok((name, fenced));
            }
            if self.stop.is_cancelled() {
                return Err(Error::new(
                    1317,
                    "Query execution was interrupted; the fence stays: UNLOCK TABLES lifts it",
                ));
            }
            if Instant::now() >= drained + OBEY_TIME {
                let text = format!(
                    "Database '{name}' is fenced, but not every partition has confirmed it ({fenced}): see SHOW PARTITIONS ON {name}, then repeat the statement"
                );
                return Err(Error::new(9005, text));
            }
            // An error: nothing changed within the time, or the catalog has stopped, which the next look shows.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }

    /// Ends the session's own locks, or lifts fences.
    pub(super) async fn unlock(&mut self, target: &UnlockTarget, force: bool) -> Result<Answer> {
        let state = self.region.catalog.state();
        let targets = match target {
            UnlockTarget::Session if std::mem::take(&mut self.tables_locked) => vec![],
            // Tools send it to whatever server: who may lift no fence has none to lift.
            UnlockTarget::Session if !self.may_unlock() => vec![],
            UnlockTarget::Session => self.own_fences(&state),
            UnlockTarget::Database(name) => {
                vec![state.database_named(name).ok_or_else(|| Error::unknown_database(name))?.0]
            }
            UnlockTarget::All => {
                let fenced = |fenced: &Fenced| !fenced.holders.is_empty();
                state.databases.iter().filter(|(_, known)| fenced(&known.fenced)).map(|(id, _)| *id).collect()
            }
        };
        if !matches!(target, UnlockTarget::Session) {
            users::require(&self.region, &self.client, Privilege::Super)?;
        }
        let mut warnings = Vec::new();
        for id in targets {
            order(self, Command::Unfence { database: id, holder: Holder::User, force }).await?;
            self.fences.remove(&id);
            let state = self.region.catalog.state();
            let Some(known) = state.databases.get(&id) else { continue };
            warnings.extend(writable::reasons(&state, id).into_iter().map(|reason| Warning {
                code: 1290,
                message: format!("Database '{}' stays read only; {reason}", known.name),
            }));
        }
        Ok(Answer::Done(Done { warnings, ..Done::default() }))
    }

    fn may_unlock(&self) -> bool {
        users::require(&self.region, &self.client, Privilege::Super).is_ok()
    }

    /// What UNLOCK lifts where nothing is named: the fences that this session has set and that still stand, or that of
    /// its database.
    fn own_fences(&self, state: &State) -> Vec<DatabaseId> {
        let stands =
            |id: &DatabaseId| state.databases.get(id).is_some_and(|known| known.fenced.holders.contains(&Holder::User));
        let own: Vec<DatabaseId> = self.fences.iter().copied().filter(|id| stands(id)).collect();
        if !own.is_empty() {
            return own;
        }
        let current = self.variables.database.as_deref().and_then(|name| state.database_named(name));
        let fenced = current.filter(|(_, known)| !known.fenced.holders.is_empty());
        fenced.map(|(id, _)| id).into_iter().collect()
    }

    /// `LOCK TABLES`: said to hold nothing, and remembered, so that the UNLOCK after it lifts no fence.
    pub(super) async fn lock_tables(&mut self) -> Result<Answer> {
        self.commit().await?;
        self.tables_locked = true;
        let message = "LOCK TABLES holds no lock: a transaction protects the rows that it uses; \
                       FLUSH TABLES … WITH READ ONLY stops the writes of a database";
        let warnings = vec![Warning { code: 1235, message: message.into() }];
        Ok(Answer::Done(Done { warnings, ..Done::default() }))
    }
}

/// Has an order about a fence decided.
async fn order(session: &ClientSession, command: Command) -> Result<Decided> {
    match session.region.catalog.propose(command).await {
        Ok(Ok(outcome)) => Ok(outcome.answer),
        Ok(Err(refusal @ (Refusal::Force { .. } | Refusal::Correct { .. }))) => {
            Err(Error::new(1290, refusal.to_string()))
        }
        Ok(Err(refusal @ Refusal::NameExisting { .. })) => Err(Error::new(1049, refusal.to_string())),
        Ok(Err(refusal)) => Err(Error::new(1105, refusal.to_string())),
        Err(error) => Err(Error::new(9005, error.to_string())),
    }
}
