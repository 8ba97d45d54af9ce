//! Real clients against the MySQL protocol, over loopback: the `mariadb` command, PyMySQL, mysql-connector-python,
//! SingleStore's Python client and `mysql2` for Node.js.
//!
//! `scripts/clients.sh` installs them; a test whose client is not there fails and says so. Each script under
//! `clients/` checks what it gets and ends with a line `ok`.

extern crate perennial_aggregator as aggregator;

#[path = "clients/toy.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod toy;

use std::path::{Path, PathBuf};
use std::process::Output;

use aggregator::mysql::Options;
use tokio::process::Command;
use toy::ToyServer;

/// The folder into which `scripts/clients.sh` installs.
fn clients_folder() -> PathBuf {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("PERENNIAL_CLIENTS").unwrap_or_else(|| {
        let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
        cache.expect("HOME is set").join("perennial/clients")
    })
}

fn require(program: PathBuf) -> PathBuf {
    assert!(program.exists(), "{} is not installed: run `bash scripts/clients.sh`", program.display());
    program
}

fn script(name: &str) -> PathBuf {
    // At run time: clones share a build folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells every test its crate's folder");
    Path::new(&here).join("tests/clients").join(name)
}

/// A server, a folder with its certificate and a file to load, and the command that runs a client.
struct Bench {
    server: ToyServer,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Bench {
        let server = ToyServer::start(Options::default()).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &server.ca_pem).unwrap();
        let lines: String = (0..200_000).map(|n| format!("{n},the number {n}\n")).collect();
        std::fs::write(folder.path().join("rows.csv"), lines).unwrap();
        Bench { server, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn run_script(&self, mut command: Command) {
        command.arg(self.server.port().to_string()).arg(self.path("ca.pem")).arg(self.path("rows.csv"));
        let output = command.kill_on_drop(true).output().await.unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success() && out.ends_with("ok\n"), "{}\n{out}{err}", output.status);
    }

    /// The `mariadb` command with a statement.
    async fn mariadb(&self, arguments: &[&str], statement: &str) -> (bool, String, String) {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            "--batch",
            "--default-character-set=utf8mb4",
        ]);
        command.arg(format!("--port={}", self.server.port())).args(arguments).arg("--execute").arg(statement);
        let output = command.kill_on_drop(true).output().await;
        let output = output.expect("`mariadb` is not installed: run `bash scripts/clients.sh`");
        let (out, err) = texts(&output);
        (output.status.success(), out, err)
    }

    /// Standard output of a statement that succeeds.
    async fn mariadb_ok(&self, arguments: &[&str], statement: &str) -> String {
        let (is_ok, out, err) = self.mariadb(arguments, statement).await;
        assert!(is_ok, "{statement}: {err}");
        out
    }

    /// Standard error of a statement that fails.
    async fn mariadb_err(&self, arguments: &[&str], statement: &str) -> String {
        let (is_ok, out, err) = self.mariadb(arguments, statement).await;
        assert!(!is_ok, "{statement} succeeded: {out}");
        err
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

async fn python(name: &str) {
    let bench = Bench::start().await;
    let mut command = Command::new(require(clients_folder().join("venv/bin/python")));
    command.arg(script(name));
    bench.run_script(command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pymysql() {
    python("pymysql_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_connector_python() {
    python("connector_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn singlestoredb() {
    python("singlestoredb_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_mysql2() {
    let bench = Bench::start().await;
    let modules = require(clients_folder().join("node/node_modules"));
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(script("mysql2_client.js"));
    bench.run_script(command).await;
}

const ROOT: &[&str] = &["--user=root", "--skip-ssl"];

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_reads_every_type() {
    let bench = Bench::start().await;
    let out = bench.mariadb_ok(&["--user=root", "--raw", "toy"], "SELECT * FROM types").await;
    let names: Vec<&str> = toy::TYPES.iter().map(|(name, _)| *name).collect();
    let usual = "1\t-1\t255\t-32768\t8388607\t-2147483648\t4294967295\t-9223372036854775808\t18446744073709551615\t\
                 -123456789012345.67891\t0.5\t-2.5e300\tGrüße\théllo 😀\tline\nbreak\t\0\u{fffd}\u{10}\t'\\\"\u{1a}\t\
                 {\"a\": 1}\t2026-11-24\t2026-11-24 10:11:12.345678\t2026-11-24 10:11:12\t\
                 2026-11-24 10:11:12.250\t-838:59:59.000000\tNULL";
    let extreme = "0\t127\t0\t32767\t-8388608\t2147483647\t0\t9223372036854775807\t0\t0.00000\t-262144\t0.1\t\
                   \t\t\t\t\t[]\t1970-01-01\t9999-12-31 23:59:59.999999\t1970-01-01 00:00:00\t\
                   1970-01-01 00:00:01.000\t00:00:00.000001\tNULL";
    let nulls = vec!["NULL"; names.len()].join("\t");
    assert_eq!(out, format!("{}\n{usual}\n{extreme}\n{nulls}\n", names.join("\t")));
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_logs_in_with_every_verifier() {
    let bench = Bench::start().await;
    let ca = format!("--ssl-ca={}", bench.path("ca.pem"));
    let (tls, plain) = (["--ssl", "--ssl-verify-server-cert", ca.as_str()], ["--skip-ssl"]);
    for user in ["native", "sha2"] {
        for transport in [&tls[..], &plain] {
            let user_argument = format!("--user={user}");
            let arguments = [&[user_argument.as_str(), "--password=secret"], transport].concat();
            let out = bench.mariadb_ok(&arguments, "SELECT USER; SELECT TLS").await;
            assert_eq!(out, format!("value\n{user}@localhost\nvalue\n{}\n", transport.len() > 1));
            let wrong = [&[user_argument.as_str(), "--password=wrong"], transport].concat();
            let err = bench.mariadb_err(&wrong, "SELECT USER").await;
            let expected =
                format!("ERROR 1045 (28000): Access denied for user '{user}'@'localhost' (using password: YES)");
            assert!(err.contains(&expected), "{err}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salted_verifier_needs_tls_for_its_first_login() {
    let bench = Bench::start().await;
    let ca = format!("--ssl-ca={}", bench.path("ca.pem"));
    let plain = ["--user=salted", "--password=secret", "--skip-ssl"];
    let tls = ["--user=salted", "--password=secret", "--ssl", ca.as_str()];
    let err = bench.mariadb_err(&plain, "SELECT USER").await;
    assert!(err.contains("ERROR 3159 (HY000): Connections using insecure transport are prohibited"), "{err}");
    let wrong = ["--user=salted", "--password=wrong", "--ssl", ca.as_str()];
    assert!(bench.mariadb_err(&wrong, "SELECT USER").await.contains("ERROR 1045 (28000)"));
    assert_eq!(bench.mariadb_ok(&tls, "SELECT TLS").await, "value\ntrue\n");
    assert_eq!(bench.mariadb_ok(&plain, "SELECT TLS").await, "value\nfalse\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_runs_statements() {
    let bench = Bench::start().await;
    let rows = bench.mariadb_ok(ROOT, "SELECT * FROM numbers 100000").await;
    assert_eq!(rows.lines().count(), 100_001);
    assert_eq!(rows.lines().last(), Some("99999\tthe number 99999, twice 199998"));
    let verbose = [ROOT, &["-vvv"]].concat();
    let out = bench.mariadb_ok(&verbose, "INSERT INTO t").await;
    assert!(out.contains("Query OK, 3 rows affected, 1 warning"), "{out}");
    assert!(out.contains("Records: 3  Duplicates: 0  Warnings: 1"), "{out}");
    let err = bench.mariadb_err(ROOT, "FAIL 1062").await;
    assert!(err.contains("ERROR 1062 (23000) at line 1: as you wish"), "{err}");
    let err = bench.mariadb_err(ROOT, "HALF 1213").await;
    assert!(err.contains("ERROR 1213 (40001) at line 1: half way"), "{err}");
    let err = bench.mariadb_err(&[ROOT, &["nowhere"]].concat(), "SELECT USER").await;
    assert!(err.contains("ERROR 1049 (42000): Unknown database 'nowhere'"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_admin_gets_statistics_and_1047() {
    let bench = Bench::start().await;
    let admin = async |order: &str| {
        let mut command = Command::new("mariadb-admin");
        command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root"]);
        command.arg(format!("--port={}", bench.server.port())).arg(order);
        let output = command.kill_on_drop(true).output().await;
        texts(&output.expect("`mariadb-admin` is not installed: run `bash scripts/clients.sh`"))
    };
    assert_eq!(admin("ping").await.0, "mysqld is alive\n");
    let (version, _) = admin("version").await;
    assert!(version.contains("8.0.36-Perennial-"), "{version}");
    let (status, _) = admin("status").await;
    assert!(status.starts_with("Uptime: ") && status.contains("Threads: 1  Questions: "), "{status}");
    let (_, refused) = admin("debug").await;
    assert!(refused.contains("Unknown command"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_loads_a_file() {
    let bench = Bench::start().await;
    let arguments = [ROOT, &["--local-infile=1", "-vvv"]].concat();
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", bench.path("rows.csv"));
    let out = bench.mariadb_ok(&arguments, &load).await;
    assert!(out.contains("Query OK, 200000 rows affected"), "{out}");
    assert!(out.contains("Records: 200000  Deleted: 0  Skipped: 0  Warnings: 0"), "{out}");
    let err = bench.mariadb_err(&arguments, &format!("{load} STOP 2")).await;
    assert!(err.contains("ERROR 1366 (HY000) at line 1: piece 2 is bad"), "{err}");
    let refused = [ROOT, &["--local-infile=0"]].concat();
    assert!(bench.mariadb_err(&refused, &load).await.contains("ERROR 3948 (42000)"));
}
