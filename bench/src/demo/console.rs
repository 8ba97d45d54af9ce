//! What the demo says while it plays: when, what it does, and each statement as a person would type it.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::regions::{Region, Regions};
use super::tables::DATABASE;
use crate::client::{Client, Done, Login, Table};

/// How long a statement may take before its connection counts as lost. Following a database takes longest.
const PATIENCE: Duration = Duration::from_secs(240);

/// Lines with the time since the beginning in front.
#[derive(Clone, Copy)]
pub struct Console {
    begun: Instant,
}

impl Console {
    /// Counts from now.
    pub fn new() -> Console {
        Console { begun: Instant::now() }
    }

    /// Says something.
    pub fn say(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.begun.elapsed().as_secs_f64());
    }

    /// Says something that the next such line overwrites; nothing where nobody watches.
    pub fn progress(&self, text: &str) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            // A terminal that is gone does not stop the demo.
            let _ = write!(terminal, "\r\x1b[K[{:6.1} s] {text}\r", self.begun.elapsed().as_secs_f64());
            let _ = terminal.flush();
        }
    }

    /// Shows a statement that somebody types at a region.
    pub fn typed(&self, region: Region, text: &str) {
        println!("            {}> {text};", region.name());
    }

    /// Shows a command that somebody types in a shell.
    pub fn command(&self, text: &str) {
        println!("            $ {text}");
    }
}

/// The account that the demo uses: root without a password, as a playground has it.
pub fn login() -> Login {
    Login { user: "root".into(), password: String::new() }
}

/// A connection of the demo's own to a region; its statements are shown.
pub struct Session {
    console: Console,
    region: Region,
    client: Client,
}

impl Session {
    /// Connects. The time zone is UTC, so that times of both sides can be compared.
    pub fn connect(console: Console, regions: &Regions, region: Region) -> Result<Session> {
        let client = connect(regions.sql(region)).with_context(|| format!("connecting to {}", region.name()))?;
        Ok(Session { console, region, client })
    }

    /// Types a statement.
    pub fn run(&mut self, sql: &str) -> Result<Done> {
        self.show(sql);
        self.client.run(sql).with_context(|| self.failed(sql))
    }

    /// Types a statement and gives its rows.
    pub fn table(&mut self, sql: &str) -> Result<Table> {
        self.show(sql);
        self.quiet(sql)
    }

    /// Asks without showing it: what is asked again and again, or only by this program.
    pub fn quiet(&mut self, sql: &str) -> Result<Table> {
        self.client.table(sql).with_context(|| self.failed(sql))
    }

    /// Where it goes.
    pub fn region(&self) -> Region {
        self.region
    }

    /// The connection, for whatever is more than a statement.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    fn show(&self, sql: &str) {
        self.console.typed(self.region, sql);
    }

    fn failed(&self, sql: &str) -> String {
        format!("{} on {}", sql.lines().next().unwrap_or(sql), self.region.name())
    }
}

/// A connection that has the demo's database selected, if that is there.
pub fn connect(address: SocketAddr) -> Result<Client> {
    let mut client = Client::connect(address, &login(), PATIENCE)?;
    client.run("SET time_zone = '+00:00'")?;
    // A region that does not follow yet has no such database; statements that need it say so.
    match client.run(&format!("USE {DATABASE}")) {
        Err(error) if error.code().is_none() => Err(error.into()),
        _ => Ok(client),
    }
}
