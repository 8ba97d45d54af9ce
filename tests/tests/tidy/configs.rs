//! Topologies run as they are: every file of `cluster-configs/` is read by the daemon's own check.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use perennial_tests::{assert_none, repository};

fn configs() -> Vec<String> {
    let files = repository::files_ending(".toml");
    let configs: Vec<String> = files.into_iter().filter(|file| file.starts_with("cluster-configs/")).collect();
    assert!(!configs.is_empty(), "cluster-configs/ holds no configuration");
    configs
}

/// What `perennial check-config` says to a file: nothing, or what is wrong.
fn problem(perennial: &Path, config: &Path) -> Option<String> {
    let output = Command::new(perennial).arg("check-config").arg(config).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", perennial.display()));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (!output.status.success()).then_some(said)
}

#[test]
fn every_configuration_is_one_that_the_daemon_takes() {
    let Some(perennial) = repository::binary("perennial") else {
        println!("skipped: perennial is not built beside this test; `make test` builds it");
        return;
    };
    let mut findings = Vec::new();
    for config in configs() {
        findings.extend(problem(&perennial, &repository::root().join(&config)).map(|said| format!("{config}: {said}")));
    }
    assert_none("a configuration does not load", &findings);
    let broken = repository::root().join("tests/tests/tidy/broken_config.toml");
    assert!(
        problem(&perennial, &broken).is_some(),
        "check-config takes {}, which nobody may start with",
        broken.display()
    );
}

/// The processes of a folder run side by side on one machine: no two of them listen at the same address.
#[test]
fn the_processes_of_a_topology_do_not_share_an_address() {
    let mut taken: BTreeMap<(String, SocketAddr), String> = BTreeMap::new();
    let mut findings = Vec::new();
    for config in configs() {
        let document: toml::Table =
            repository::read(&config).parse().unwrap_or_else(|error| panic!("{config}: {error}"));
        let folder = Path::new(&config).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        let listen = document.get("listen").and_then(|listen| listen.as_table());
        for (what, address) in listen.unwrap_or_else(|| panic!("{config} does not say where it listens")) {
            let address: SocketAddr = address
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("{config}: listen.{what}"));
            if !address.ip().is_loopback() {
                findings.push(format!("{config}: listen.{what} is {address}, which is not on every machine"));
            }
            if let Some(other) = taken.insert((folder.clone(), address), config.clone()) {
                findings.push(format!("{config}: listen.{what} is {address}, as in {other}"));
            }
        }
    }
    assert_none("a topology does not run as it is", &findings);
}
