//! A client that keeps writing, whoever may be written to.
//!
//! It is told nothing about the exchange. It stays with a region as long as that takes its writes; when it is refused (1290)
//! or the connection breaks, it tries the other one, as an application with two addresses does. Every second write is a
//! transfer: two accounts and an entry of the ledger, on several partitions, in one transaction.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::console::login;
use super::ledger::{Ledger, Write};
use super::regions::Region;
use super::tables::{ACCOUNTS, DATABASE};
use crate::client::{Client, ClientError};

/// Between two writes: the machine has other things to do as well.
const PAUSE: Duration = Duration::from_millis(4);
/// Before the other region is tried.
const TURN: Duration = Duration::from_millis(25);
/// A write whose answer takes longer than this has an unknown outcome.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a test of the writer's progress may wait for.
const PROGRESS: Duration = Duration::from_secs(60);

/// The writing client, on a thread of its own.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts to write to the first of these regions.
    pub fn start(addresses: [SocketAddr; 2]) -> Writer {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || Hand::new(addresses, of_thread).write());
        Writer { shared, thread: Some(thread) }
    }

    /// What it has heard so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    /// Waits until a region has acknowledged so many more writes.
    pub fn wait_for(&self, region: Region, more: usize) -> Result<()> {
        let begun = Instant::now();
        let aim = self.shared.ledger().count(region) + more;
        while self.shared.ledger().count(region) < aim {
            if begun.elapsed() > PROGRESS {
                let errors = self.shared.ledger().errors.clone();
                bail!(
                    "{} takes no writes for {} s; errors so far, by number: {errors:?}",
                    region.name(),
                    PROGRESS.as_secs()
                );
            }
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    /// Ends it, after the write that is under way, and gives what it has heard.
    pub fn stop(&mut self) -> Ledger {
        self.end();
        self.ledger()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("demo: the writing client has panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a write ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// Rolled back for certain, with this error.
    Refused(Option<u16>),
    /// Nobody knows.
    Unknown(Option<u16>),
}

/// The thread's own part.
struct Hand {
    addresses: [SocketAddr; 2],
    shared: Arc<Shared>,
    region: Region,
    client: Option<Client>,
    next: i64,
}

impl Hand {
    fn new(addresses: [SocketAddr; 2], shared: Arc<Shared>) -> Hand {
        Hand { addresses, shared, region: Region::East, client: None, next: 1 }
    }

    fn write(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let Some(mut client) = self.client.take().or_else(|| self.connect()) else {
                self.turn();
                continue;
            };
            let id = self.next;
            self.next += 1;
            let outcome = write(&mut client, id, self.region);
            self.note(id, &outcome);
            match outcome {
                Outcome::Acknowledged => {
                    self.client = Some(client);
                    std::thread::sleep(PAUSE);
                }
                // A deadlock or a lock that was waited for is nobody's fault: the same region is asked again.
                Outcome::Refused(Some(1213 | 1205)) => self.client = Some(client),
                Outcome::Refused(_) | Outcome::Unknown(_) => self.turn(),
            }
        }
    }

    fn note(&self, id: i64, outcome: &Outcome) {
        let mut ledger = self.shared.ledger();
        match outcome {
            Outcome::Acknowledged => ledger.acknowledged.push(Write { id, region: self.region, at: Instant::now() }),
            Outcome::Refused(_) => drop(ledger.refused.insert(id)),
            Outcome::Unknown(_) => drop(ledger.unknown.insert(id, self.region)),
        }
        if let Outcome::Refused(Some(code)) | Outcome::Unknown(Some(code)) = outcome {
            *ledger.errors.entry(*code).or_default() += 1;
        }
    }

    fn connect(&self) -> Option<Client> {
        let mut client = Client::connect(self.addresses[self.region as usize], &login(), PATIENCE).ok()?;
        client.run(&format!("USE {DATABASE}")).ok().map(|_| client)
    }

    fn turn(&mut self) {
        self.client = None;
        self.region = self.region.other();
        std::thread::sleep(TURN);
    }
}

fn write(client: &mut Client, id: i64, region: Region) -> Outcome {
    let amount = id % 7 + 1;
    let entry = format!("INSERT INTO ledger VALUES ({id}, '{}', NOW(6), {amount})", region.name());
    if id % 2 == 1 {
        return decided(client.run(&entry));
    }
    let count = i64::from(ACCOUNTS);
    let (from, to) = (id % count, (id * 31 + 7) % count);
    let to = if from == to { (to + 1) % count } else { to };
    let steps = [
        "BEGIN".to_string(),
        format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {from}"),
        format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {to}"),
        entry,
    ];
    for step in steps {
        if let Err(error) = client.run(&step) {
            // The server has rolled back, or does so now, or when it notices that the connection is gone.
            let _ = client.run("ROLLBACK");
            return failed(&error, false);
        }
    }
    decided(client.run("COMMIT"))
}

/// What the answer to the statement means that commits the write.
fn decided<T>(answer: Result<T, ClientError>) -> Outcome {
    answer.map_or_else(|error| failed(&error, true), |_| Outcome::Acknowledged)
}

/// What an error means; `deciding` if the write may have been committed by the statement that it answers.
fn failed(error: &ClientError, deciding: bool) -> Outcome {
    match error.code() {
        Some(code) if !deciding || error.is_rolled_back() => Outcome::Refused(Some(code)),
        None if !deciding => Outcome::Refused(None),
        code => Outcome::Unknown(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ServerError;

    fn server(code: u16) -> ClientError {
        ServerError { code, state: "HY000".into(), message: String::new() }.into()
    }

    fn lost() -> ClientError {
        std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
    }

    #[test]
    fn only_an_answer_is_an_acknowledgement() {
        assert_eq!(decided(Ok(())), Outcome::Acknowledged);
        assert_eq!(decided::<()>(Err(server(1290))), Outcome::Refused(Some(1290)));
        assert_eq!(failed(&server(1213), true), Outcome::Refused(Some(1213)));
        assert_eq!(failed(&server(1180), true), Outcome::Unknown(Some(1180)));
        assert_eq!(failed(&lost(), true), Outcome::Unknown(None));
        assert_eq!(failed(&lost(), false), Outcome::Refused(None));
    }
}
