//! A client of the drill: statements go to one aggregator as long as that answers, then to the next one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError, Done, Table};
use crate::cluster::connect;

/// A statement that takes longer has an unknown outcome.
const PATIENCE: Duration = Duration::from_secs(12);
/// Before the next aggregator is tried.
const TURN: Duration = Duration::from_millis(20);

/// What all clients share.
pub struct Shared {
    addresses: Vec<SocketAddr>,
    begun: Instant,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

/// What is counted over all clients.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Transactions, reads and writes that were answered as they should be.
    pub operations: u64,
    /// How often which error came.
    pub errors: BTreeMap<String, u64>,
    /// What a client saw that must not be.
    pub findings: Vec<String>,
}

impl Shared {
    /// For clients of these aggregators.
    pub fn new(addresses: Vec<SocketAddr>) -> Arc<Shared> {
        Arc::new(Shared { addresses, begun: Instant::now(), stop: AtomicBool::default(), tally: Mutex::default() })
    }

    /// Clients are to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether they are.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// What is counted.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what must not be.
    pub fn find(&self, finding: String) {
        println!("drill: NOT AS IT MUST BE: {finding}");
        self.tally().findings.push(finding);
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It did not happen, for certain.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One client.
pub struct App {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    turn: usize,
    client: Option<Client>,
}

impl App {
    /// One that begins with the aggregator of this number.
    pub fn new(shared: Arc<Shared>, turn: usize) -> App {
        App { shared, turn, client: None }
    }

    /// A transaction; the last statement decides it.
    pub fn transact(&mut self, statements: &[String]) -> Outcome {
        let Some((last, first)) = statements.split_last() else { return Outcome::Refused };
        for statement in first {
            match self.run(statement) {
                Ok(_) => {}
                Err(_) if self.client.is_none() => return Outcome::Refused,
                Err(_) => {
                    // The server has rolled back, or does so now, or when it notices that the connection is gone.
                    let _ = self.run("ROLLBACK");
                    return Outcome::Refused;
                }
            }
        }
        // On the same connection, or there is nothing to decide.
        if self.client.is_some() { self.write(last).0 } else { Outcome::Refused }
    }

    /// A statement that is a transaction of its own, or decides one. What was done, if it was.
    pub fn write(&mut self, statement: &str) -> (Outcome, Option<Done>) {
        if !self.connect() {
            return (Outcome::Refused, None);
        }
        match self.run(statement) {
            Ok(done) => {
                self.shared.tally().operations += 1;
                (Outcome::Done, Some(done))
            }
            Err(error) if error.is_rolled_back() => (Outcome::Refused, None),
            Err(_) => (Outcome::Unknown, None),
        }
    }

    /// A query; `None`: it is not answered.
    pub fn read(&mut self, query: &str) -> Option<Table> {
        let table = self.ask(|client| client.table(query)).ok()?;
        self.shared.tally().operations += 1;
        Some(table)
    }

    fn run(&mut self, statement: &str) -> Result<Done, ClientError> {
        self.ask(|client| client.run(statement))
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&mut Client) -> Result<T, ClientError>) -> Result<T, ClientError> {
        if !self.connect() {
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        }
        let mut client = self.client.take().expect("it is connected");
        let answer = ask(&mut client);
        match &answer {
            Ok(_) => self.client = Some(client),
            Err(error) => {
                if error.code().is_some() {
                    self.client = Some(client);
                }
                self.failed(error);
            }
        }
        answer
    }

    /// Whether there is a connection, or is one now.
    fn connect(&mut self) -> bool {
        if self.client.is_none() {
            let address = self.shared.addresses[self.turn % self.shared.addresses.len()];
            let opened = connect(address, PATIENCE).and_then(|mut client| client.run("USE drill").map(|_| client));
            match opened {
                Ok(client) => self.client = Some(client),
                Err(error) => self.failed(&error),
            }
        }
        self.client.is_some()
    }

    fn failed(&mut self, error: &ClientError) {
        let name = error.code().map_or("connection lost".into(), |code| code.to_string());
        *self.shared.tally().errors.entry(name).or_default() += 1;
        if self.client.is_none() {
            self.turn += 1;
            std::thread::sleep(TURN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// A server that takes a login, answers `before` statements, and then says this and hangs up.
    fn server(before: usize, last: Option<u16>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let greeting =
                [&[10][..], b"8.0.36\0", &[1, 0, 0, 0], b"abcdefgh", &[0; 9], &[21], &[0; 10], b"ijklmnopqrst\0"];
            say(&mut stream, 0, &greeting.concat());
            hear(&mut stream);
            say(&mut stream, 2, &[0, 0, 0, 2, 0, 0, 0]);
            for _ in 0..before {
                hear(&mut stream);
                say(&mut stream, 1, &[0, 0, 0, 2, 0, 0, 0]);
            }
            hear(&mut stream);
            if let Some(code) = last {
                say(&mut stream, 1, &[&[0xff], &code.to_le_bytes()[..], b"#HY000refused"].concat());
                hear(&mut stream);
            }
        });
        address
    }

    fn say(stream: &mut impl Write, sequence: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_le_bytes();
        stream.write_all(&[&[length[0], length[1], length[2], sequence], payload].concat()).unwrap();
    }

    fn hear(stream: &mut impl std::io::Read) {
        let mut header = [0; 4];
        if stream.read_exact(&mut header).is_ok() {
            let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
            stream.read_exact(&mut payload).unwrap();
        }
    }

    /// What a transaction of two statements comes to, after USE, if the server ends after so many statements.
    fn transacted(before: usize, last: Option<u16>) -> Outcome {
        let mut app = App::new(Shared::new(vec![server(before, last)]), 0);
        app.transact(&["BEGIN".into(), "COMMIT".into()])
    }

    #[test]
    fn only_what_is_certain_is_refused() {
        assert_eq!(transacted(0, None), Outcome::Refused, "nothing was sent");
        assert_eq!(transacted(1, None), Outcome::Refused, "nothing was to be decided yet");
        assert_eq!(transacted(1, Some(1105)), Outcome::Refused, "nothing was to be decided yet");
        assert_eq!(transacted(2, Some(1213)), Outcome::Refused, "the server says so");
        assert_eq!(transacted(2, Some(1105)), Outcome::Unknown, "it may have been done");
        assert_eq!(transacted(2, None), Outcome::Unknown, "the answer is lost");
        assert_eq!(transacted(3, None), Outcome::Done);
    }
}
