//! The clients of one aggregator: who is connected, what each runs, and how it is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::mysql::Client;

/// All clients that are logged in.
pub struct Sessions {
    open: Mutex<BTreeMap<u32, Arc<Entry>>>,
    started: Instant,
    connections: AtomicU64,
    questions: AtomicU64,
}

struct Entry {
    client: Arc<Client>,
    now: Mutex<Now>,
}

/// What a session does.
#[derive(Clone)]
struct Now {
    database: Option<String>,
    statement: Option<String>,
    since: Instant,
    transaction: Option<Instant>,
    stop: CancellationToken,
    progress: Progress,
}

/// How far a statement has come: it tells, others look.
#[derive(Clone, Debug)]
pub struct Progress(Arc<AtomicU8>);

impl Default for Progress {
    fn default() -> Progress {
        Progress(Arc::new(AtomicU8::new(UNTOLD)))
    }
}

/// The value of a statement that does not tell.
const UNTOLD: u8 = u8::MAX;

impl Progress {
    /// So much of it is done.
    pub fn tell(&self, done: u64, all: u64) {
        let percent = u8::try_from(done.min(all) * 100 / all.max(1)).unwrap_or(UNTOLD);
        self.0.store(percent, Ordering::Relaxed);
    }

    /// Percent; `None` if it does not tell.
    pub fn percent(&self) -> Option<u8> {
        Some(self.0.load(Ordering::Relaxed)).filter(|percent| *percent != UNTOLD)
    }
}

/// A session's place in the list, for as long as it lives.
pub struct Seat {
    sessions: Arc<Sessions>,
    entry: Arc<Entry>,
}

/// A statement runs until this is dropped.
pub struct Running {
    entry: Arc<Entry>,
    /// Cancelled by KILL.
    pub stop: CancellationToken,
    /// What it tells of itself.
    pub progress: Progress,
}

/// A session as others see it.
#[derive(Clone)]
pub struct Seen {
    /// Who.
    pub client: Arc<Client>,
    /// Its database, as of its last statement.
    pub database: Option<String>,
    /// What it runs; `None` if it waits for its client.
    pub statement: Option<String>,
    /// Since when.
    pub since: Instant,
    /// Since when a transaction is open that more than one statement may belong to.
    pub transaction: Option<Instant>,
    /// How far the statement is, in percent, if it is told.
    pub progress: Option<u8>,
}

impl Seen {
    /// In words: the transaction is named, for it may hold others up while its session sleeps.
    pub fn state(&self) -> String {
        let running = self.statement.as_ref().map(|_| "executing".to_string());
        let open = self.transaction.map(|since| format!("in transaction for {} s", since.elapsed().as_secs()));
        running.into_iter().chain(open).collect::<Vec<_>>().join(", ")
    }
}

/// Counters since the process began.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Seconds.
    pub uptime: u64,
    /// Clients that ever logged in.
    pub connections: u64,
    /// Statements.
    pub questions: u64,
}

impl Default for Sessions {
    fn default() -> Sessions {
        let (connections, questions) = (AtomicU64::new(0), AtomicU64::new(0));
        Sessions { open: Mutex::default(), started: Instant::now(), connections, questions }
    }
}

impl Sessions {
    /// A client has logged in.
    pub fn enter(self: &Arc<Sessions>, client: Arc<Client>) -> Seat {
        let stop = client.killed.child_token();
        let (since, progress) = (Instant::now(), Progress::default());
        let now = Now { database: None, statement: None, since, transaction: None, stop, progress };
        let entry = Arc::new(Entry { client: client.clone(), now: Mutex::new(now) });
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(client.connection.0, entry.clone());
        Seat { sessions: self.clone(), entry }
    }

    /// All of them, by their numbers.
    pub fn list(&self) -> Vec<Seen> {
        let open = self.open.lock();
        let seen = |entry: &Arc<Entry>| {
            let Now { database, statement, since, transaction, progress, .. } = entry.now.lock().clone();
            Seen { client: entry.client.clone(), database, statement, since, transaction, progress: progress.percent() }
        };
        open.values().map(seen).collect()
    }

    /// One of them.
    pub fn client(&self, id: u64) -> Option<Arc<Client>> {
        let open = self.open.lock();
        u32::try_from(id).ok().and_then(|id| open.get(&id)).map(|entry| entry.client.clone())
    }

    /// Stops a client's statement, or its connection as well.
    pub fn kill(&self, id: u64, statement_only: bool) {
        let entry = u32::try_from(id).ok().and_then(|id| self.open.lock().get(&id).cloned());
        match entry {
            Some(entry) if statement_only => entry.now.lock().stop.cancel(),
            Some(entry) => entry.client.killed.cancel(),
            None => {}
        }
    }

    /// Counters since the process began.
    pub fn counters(&self) -> Counters {
        Counters {
            uptime: self.started.elapsed().as_secs(),
            connections: self.connections.load(Ordering::Relaxed),
            questions: self.questions.load(Ordering::Relaxed),
        }
    }
}

impl Seat {
    /// A statement begins.
    pub fn begin(&self, statement: &str, database: Option<&str>) -> Running {
        self.sessions.questions.fetch_add(1, Ordering::Relaxed);
        // A token of its own: a KILL QUERY that came too late stops nothing else.
        let (stop, progress) = (self.entry.client.killed.child_token(), Progress::default());
        let mut now = self.entry.now.lock();
        *now = Now {
            database: database.map(str::to_string),
            statement: Some(shown(statement)),
            since: Instant::now(),
            transaction: now.transaction,
            stop: stop.clone(),
            progress: progress.clone(),
        };
        Running { entry: self.entry.clone(), stop, progress }
    }

    /// The session is in another database now.
    pub fn set_database(&self, database: Option<&str>) {
        self.entry.now.lock().database = database.map(str::to_string);
    }

    /// The session's transaction begins, or has ended.
    pub fn set_transaction(&self, open: bool) {
        self.entry.now.lock().transaction = open.then(Instant::now);
    }
}

/// A statement as others may see it: what follows a word that a password may follow is left out.
fn shown(statement: &str) -> String {
    let upper = statement.to_ascii_uppercase();
    let secret = ["IDENTIFIED", "PASSWORD", "CREDENTIALS"].into_iter().filter_map(|word| upper.find(word)).min();
    let from = upper.trim_start().starts_with("REPLICATE").then(|| upper.find(" FROM ")).flatten();
    match secret.into_iter().chain(from).min() {
        Some(end) => format!("{}…", &statement[..end]),
        None => statement.to_string(),
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let id = self.entry.client.connection.0;
        let mut open = self.sessions.open.lock();
        // COM_CHANGE_USER seats its new session before the old one leaves.
        if open.get(&id).is_some_and(|entry| Arc::ptr_eq(entry, &self.entry)) {
            open.remove(&id);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut now = self.entry.now.lock();
        now.statement = None;
        now.progress = Progress::default();
        now.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_percent() {
        let progress = Progress::default();
        assert_eq!(progress.percent(), None);
        for (done, all, percent) in [(0, 3, 0), (2, 3, 66), (3, 3, 100), (5, 3, 100), (0, 0, 0)] {
            progress.tell(done, all);
            assert_eq!(progress.percent(), Some(percent), "{done} of {all}");
        }
    }

    #[test]
    fn nobody_sees_the_passwords_of_others() {
        assert_eq!(shown("SELECT 1 FROM t"), "SELECT 1 FROM t");
        assert_eq!(shown("CREATE USER u IDENTIFIED BY 'secret'"), "CREATE USER u …");
        assert_eq!(shown("replicate database d from root:'secret'@h:1"), "replicate database d…");
        assert_eq!(shown("SET PASSWORD FOR u = 'secret'"), "SET …");
    }
}
