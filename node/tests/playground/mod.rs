//! A real playground for tests: the binary, its processes, and the `mariadb` client.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a test waits for at the most: generous, for it only turns a hang into a failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running playground. Dropping it stops every process.
pub struct Playground {
    dir: tempfile::TempDir,
    supervisor: Child,
    ports: Ports,
    regions: usize,
}

impl Playground {
    /// Starts one and waits until it is ready.
    pub fn start(regions: &[&str], leaves: u16) -> Playground {
        Playground::start_group(regions, 1, leaves)
    }

    /// The same, with several aggregators in each region, of which all are in the group that decides when this returns.
    pub fn start_group(regions: &[&str], aggregators: u16, leaves: u16) -> Playground {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = Ports::take(regions.len());
        let supervisor = supervise(dir.path(), &ports, regions, aggregators, leaves);
        let playground = Playground { dir, supervisor, ports, regions: regions.len() };
        playground.wait("the playground is ready", || playground.json()["ready"] == true);
        for region in (0..regions.len()).filter(|_| aggregators > 1) {
            playground.wait("all aggregators vote", || playground.voters(region, 0) == usize::from(aggregators));
        }
        playground
    }

    /// How many aggregators are voters, as one of them says.
    pub fn voters(&self, region: usize, aggregator: usize) -> usize {
        let count = "SELECT COUNT(*) FROM information_schema.PERENNIAL_AGGREGATORS WHERE state = 'online'";
        let output = self.try_sql_at(region, aggregator, count);
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0)
    }

    /// Which aggregator is the master, as one of them says.
    pub fn master(&self, region: usize, asked: usize) -> usize {
        let port = "SELECT port FROM information_schema.PERENNIAL_AGGREGATORS WHERE role = 'master'";
        let port = self.sql_at(region, asked, port);
        let aggregators = self.json()["regions"][region]["aggregators"].as_array().expect("it has some").len();
        (0..aggregators).find(|j| self.port_of(region, *j) == port).expect("one of them is the master")
    }

    /// Starts one whose nodes have a configuration that was edited.
    pub fn start_with(regions: &[&str], leaves: u16, edit: impl Fn(&str) -> String) -> Playground {
        let mut playground = Playground::start(regions, leaves);
        playground.end();
        for entry in std::fs::read_dir(playground.dir.path()).expect("it has a directory").flatten() {
            let path = entry.path().join("config.toml");
            if let Ok(text) = std::fs::read_to_string(&path) {
                std::fs::write(&path, edit(&text)).expect("a configuration can be written");
            }
        }
        playground.start_again(regions, leaves);
        playground
    }

    /// Ctrl-C, and the same command again.
    pub fn start_again(&mut self, regions: &[&str], leaves: u16) {
        self.end();
        // It is said again when all listen.
        let json = self.dir.path().join("playground.json");
        std::fs::remove_file(&json).expect("the playground has written it");
        self.supervisor = supervise(self.dir.path(), &self.ports, regions, 1, leaves);
        self.wait("the playground is ready again", || self.json()["ready"] == true);
    }

    /// What a leaf keeps of its partitions.
    pub fn leaf_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).join("data").join("leaf")
    }

    /// One of a node's figures.
    pub fn metric(&self, name: &str, metric: &str) -> u64 {
        let json = self.json();
        let of =
            |region: usize| ["aggregators", "leaves"].map(|role| json["regions"][region][role].as_array().cloned());
        let mut nodes = (0..self.regions).flat_map(of).flatten().flatten();
        let node = nodes.find(|node| node["name"] == name).expect("the playground has this node");
        let mut stream = TcpStream::connect(node["http"].as_str().expect("it has an address")).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("{name} has no figure {metric}:\n{text}"))
    }

    /// `playground.json`.
    pub fn json(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.dir.path().join("playground.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The process of a node, if it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let json = self.json();
        let nodes = (0..self.regions).flat_map(|region| {
            let region = json["regions"][region].clone();
            let list = |key: &str| region[key].as_array().cloned().unwrap_or_default();
            [list("aggregators"), list("leaves")].concat()
        });
        let pid = nodes.into_iter().find(|node| node["name"] == name).and_then(|node| node["pid"].as_u64());
        pid.map(|pid| pid as u32)
    }

    /// Kills a node without a warning.
    pub fn kill(&self, name: &str) {
        let pid = self.pid(name).expect("the node runs");
        let status = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
        assert!(status.success(), "{name} could not be killed");
        self.wait("its end is noticed", || self.pid(name) != Some(pid) || has_ended(pid));
    }

    /// Sends a node a signal.
    pub fn signal(&self, name: &str, signal: &str) {
        let pid = self.pid(name).expect("the node runs");
        let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().expect("kill runs");
        assert!(status.success(), "{name} could not be sent {signal}");
    }

    /// Stops a node in good order.
    pub fn stop_node(&self, name: &str) {
        self.node_command("stop-node", name, &[]);
    }

    /// Starts a node that was stopped or killed.
    pub fn start_node(&self, name: &str) {
        self.start_node_with(name, &[]);
    }

    /// The same, with variables in its environment.
    pub fn start_node_with(&self, name: &str, variables: &[(&str, &str)]) {
        self.node_command("start-node", name, variables);
    }

    fn node_command(&self, command: &str, name: &str, variables: &[(&str, &str)]) {
        let output = Command::new(env!("CARGO_BIN_EXE_perennial"))
            .envs(variables.iter().copied())
            .args(["playground", command, name, "--dir"])
            .arg(self.dir.path())
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command} {name} failed: {said}\n{}", self.last_words());
        // No node needs to be ended by force.
        assert!(!said.contains("it is killed"), "{said}\n{}", self.last_words());
    }

    /// Starts one more node; its name.
    pub fn add_node(&self, region: &str, role: &str) {
        let status = Command::new(env!("CARGO_BIN_EXE_perennial"))
            .args(["playground", "add-node", "--region", region, "--role", role, "--dir"])
            .arg(self.dir.path())
            .status()
            .expect("the binary starts");
        assert!(status.success(), "a {role} could not be added\n{}", self.last_words());
    }

    /// Waits until so many partitions of `app`, the meta partition among them, have more than one copy in sync.
    pub fn wait_in_sync(&self, region: usize, partitions: usize) {
        let in_sync = "SELECT COUNT(*) FROM information_schema.PERENNIAL_PARTITIONS \
                       WHERE `database` = 'app' AND in_sync LIKE '%,%'";
        self.wait("copies are in sync", || self.sql(region, in_sync) == partitions.to_string());
    }

    /// Waits until all copies of partition 0 of `app` have the same records on disk.
    pub fn wait_level(&self, region: usize) {
        let ends = "SELECT COUNT(DISTINCT durable) FROM information_schema.PERENNIAL_PARTITIONS \
                    WHERE `database` = 'app' AND ordinal = 0";
        self.wait("all copies are equal", || self.sql(region, ends) == "1");
    }

    /// The leaf of the first region that is a partition's primary.
    pub fn primary_of(&self, database: &str, ordinal: i32) -> String {
        let port = format!(
            "SELECT port FROM information_schema.PERENNIAL_PARTITIONS \
             WHERE `database` = '{database}' AND ordinal = {ordinal} AND role = 'primary'"
        );
        let ports = "SELECT port FROM information_schema.PERENNIAL_LEAVES ORDER BY port";
        let (port, ports) = (self.sql(0, &port), self.sql(0, ports));
        let at = ports.lines().position(|known| known == port).expect("it is a leaf");
        self.json()["regions"][0]["leaves"][at]["name"].as_str().expect("leaves have names").to_string()
    }

    /// The first aggregator's port for MySQL.
    pub fn port(&self, region: usize) -> String {
        self.port_of(region, 0)
    }

    /// An aggregator's port for MySQL.
    pub fn port_of(&self, region: usize, aggregator: usize) -> String {
        let aggregators = &self.json()["regions"][region]["aggregators"];
        let sql = aggregators[aggregator]["sql"].as_str().expect("it has one").to_string();
        sql.rsplit_once(':').expect("host:port").1.to_string()
    }

    /// Runs statements with the `mariadb` client; the output without column names, tabs between columns.
    pub fn try_sql(&self, region: usize, text: &str) -> Output {
        self.try_sql_at(region, 0, text)
    }

    /// The same at one of the region's aggregators.
    pub fn try_sql_at(&self, region: usize, aggregator: usize, text: &str) -> Output {
        self.try_sql_as(region, aggregator, "root", text)
    }

    /// The same, as a user without a password.
    pub fn try_sql_as(&self, region: usize, aggregator: usize, user: &str, text: &str) -> Output {
        // A statement that hangs is a failure, not the end of the tests.
        Command::new("timeout")
            .args([&PATIENCE.as_secs().to_string(), "mariadb"])
            .args(["--host", "127.0.0.1", "--port", &self.port_of(region, aggregator), "--user", user])
            .args(["--batch", "--skip-column-names", "--local-infile=1", "--execute", text])
            .output()
            .expect("the mariadb client is installed (scripts/clients.sh)")
    }

    /// The same, which must succeed.
    pub fn sql(&self, region: usize, text: &str) -> String {
        self.sql_at(region, 0, text)
    }

    /// The same at one of the region's aggregators.
    pub fn sql_at(&self, region: usize, aggregator: usize, text: &str) -> String {
        let output = self.try_sql_at(region, aggregator, text);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{error}\n{}", self.last_words());
        String::from_utf8(output.stdout).expect("text is utf-8").trim_end().to_string()
    }

    /// Waits until something holds.
    pub fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        self.look(what, Duration::from_millis(50), holds);
    }

    /// Waits for something that does not hold for long.
    pub fn watch(&self, what: &str, holds: impl Fn() -> bool) {
        self.look(what, Duration::from_millis(1), holds);
    }

    fn look(&self, what: &str, pause: Duration, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "it does not come to this: {what}\n{}", self.last_words());
            std::thread::sleep(pause);
        }
    }

    fn last_words(&self) -> String {
        let mut words = String::new();
        let nodes = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> =
            nodes.map(|entry| entry.path().join("output.log")).filter(|path| path.exists()).collect();
        logs.sort();
        for log in logs {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            words += &format!("== {}\n{}\n", log.display(), lines[lines.len().saturating_sub(25)..].join("\n"));
        }
        words
    }
}

/// One client that stays connected: statements go in, and what comes back is read line by line.
pub struct Session {
    client: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
}

impl Session {
    /// Connects to a region's aggregator; goes on after errors.
    pub fn open(playground: &Playground, region: usize) -> Session {
        Session::open_at(playground, region, 0)
    }

    /// The same at one of its aggregators.
    pub fn open_at(playground: &Playground, region: usize, aggregator: usize) -> Session {
        let mut client = Command::new("mariadb")
            .args(["--host", "127.0.0.1", "--port", &playground.port_of(region, aggregator), "--user", "root"])
            .args(["--batch", "--skip-column-names", "--unbuffered", "--force", "--skip-reconnect"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the mariadb client is installed (scripts/clients.sh)");
        let input = client.stdin.take().expect("it is piped");
        let lines = lines_of(client.stdout.take().expect("it is piped"));
        let errors = lines_of(client.stderr.take().expect("it is piped"));
        Session { client, input, lines, errors }
    }

    /// Sends statements.
    pub fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").and_then(|()| self.input.flush()).expect("the client reads");
    }

    /// Waits for a line of output.
    pub fn hear(&self, wanted: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the client is answered");
            if line == wanted {
                return;
            }
        }
    }

    /// The errors so far; the last statement's has had time to come.
    pub fn errors(&self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(200));
        self.errors.try_iter().filter(|line| line.starts_with("ERROR")).collect()
    }

    /// Waits for an error.
    pub fn hear_error(&self) -> String {
        loop {
            let line = self.errors.recv_timeout(PATIENCE).expect("the client is refused");
            if line.starts_with("ERROR") {
                return line;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// The supervisor notices the end of its own children alone; another command may have started the process.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('Z'))
}

fn lines_of(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let read = BufReader::new(output).lines().map_while(Result::ok);
        read.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    lines
}

impl Playground {
    /// Stops every process.
    /// What Ctrl-C does, and its end. By another signal: who runs tests in the background may have them ignore that one, and so
    /// does the supervisor then until it listens.
    fn end(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.supervisor.id().to_string()]).status();
        let _ = self.supervisor.wait();
    }

    /// Ctrl-C this long after the beginning. Returns who runs still when the supervisor has ended.
    pub fn start_and_interrupt(regions: &[&str], leaves: u16, after: Duration) -> Vec<u64> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = Ports::take(regions.len());
        let supervisor = supervise(dir.path(), &ports, regions, 1, leaves);
        let mut playground = Playground { dir, supervisor, ports, regions: regions.len() };
        std::thread::sleep(after);
        playground.end();
        let begun_in = playground.dir.path().to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").expect("there is /proc").flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let here = |pid: &u64| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&begun_in)
        };
        numbers.filter(here).collect()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the supervisor of a playground, which may be there already.
fn supervise(dir: &Path, ports: &Ports, regions: &[&str], aggregators: u16, leaves: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["playground", "--regions", &regions.join(","), "--leaves", &leaves.to_string()])
        .args(["--aggregators", &aggregators.to_string()])
        .args(["--port-base", &ports.base.to_string(), "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

/// A range of ports that no other test uses while this is held, also while nothing listens there for a moment.
struct Ports {
    base: u16,
    _held: File,
}

impl Ports {
    /// A range that is free now. Below the ports that the system gives to connections, of which other tests have
    /// thousands.
    fn take(regions: usize) -> Ports {
        const FIRST: u16 = 10_000;
        const WIDTH: u16 = 200;
        const PLACES: u16 = 110;
        assert!(100 * regions <= usize::from(WIDTH), "{regions} regions need more ports than a place has");
        let own = (std::process::id() % u32::from(PLACES)) as u16;
        for place in (0..PLACES).map(|step| (own + step) % PLACES) {
            let base = FIRST + place * WIDTH;
            let lock = std::env::temp_dir().join(format!("perennial-test-ports-{base}"));
            let held = File::create(&lock).expect("a file can be made in the temporary directory");
            let mut ports = (0..regions as u16)
                .flat_map(|region| (6..20).chain(53..62).map(move |port| base + 100 * region + port));
            if held.try_lock().is_ok() && ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
                return Ports { base, _held: held };
            }
        }
        panic!("no range of free ports was found");
    }
}
