//! The clients that must work, against a running region. `scripts/clients.sh` installs them.

mod playground;

use std::path::PathBuf;
use std::process::Command;

use playground::Playground;

/// The folder into which `scripts/clients.sh` installs.
fn installed(name: &str) -> PathBuf {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = of("PERENNIAL_CLIENTS").unwrap_or_else(|| {
        let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
        cache.expect("HOME is set").join("perennial/clients")
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} is not installed: run `bash scripts/clients.sh`", path.display());
    path
}

fn script(name: &str) -> PathBuf {
    // At run time: clones share a build folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells every test its crate's folder");
    PathBuf::from(here).join("tests/clients").join(name)
}

fn run(command: &mut Command) {
    let output = command.output().expect("the client starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("ok\n"), "{command:?}: {}\n{out}{err}", output.status);
}

#[test]
fn every_client_writes_and_reads_every_type() {
    let region = Playground::start(&["east"], 2);
    let port = region.port(0).to_string();
    for driver in ["pymysql", "connector", "singlestoredb"] {
        let mut python = Command::new(installed("venv/bin/python"));
        run(python.arg(script("database.py")).args([driver, &port]));
    }
    let modules = installed("node/node_modules");
    run(Command::new("node").env("NODE_PATH", modules).arg(script("database.js")).arg(&port));

    region.sql(0, "CREATE DATABASE app PARTITIONS 2; CREATE TABLE app.t (id INT PRIMARY KEY)");
    for begin in ["START TRANSACTION READ ONLY; SELECT * FROM app.t", "SET SESSION TRANSACTION READ ONLY"] {
        let refused = region.try_sql(0, &format!("{begin}; INSERT INTO app.t VALUES (1)"));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("ERROR 1792 (25006)"), "{begin}: {text}");
    }
    region.sql(0, "START TRANSACTION READ WRITE; INSERT INTO app.t VALUES (1); COMMIT");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "1");
}
