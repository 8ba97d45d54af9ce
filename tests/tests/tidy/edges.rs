//! Crates forbid where modules merely suggest: what a crate may see is its list of dependencies, and this test.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, PackageId};
use perennial_tests::{assert_none, repository};

/// What a crate of the workspace may use of the workspace. `ARCHITECTURE.md` says why.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("types", &[]),
    ("catalog", &["types"]),
    ("replication", &["types"]),
    ("storage", &["types"]),
    ("transport", &["types"]),
    ("sql", &["types"]),
    ("aggregator", &["types", "catalog", "sql", "transport"]),
    ("node", &["types", "catalog", "replication", "storage", "transport", "sql", "aggregator"]),
    ("sim", &["types", "catalog", "replication"]),
    ("bench", &["storage"]),
    ("tests", &[]),
];

/// Runtimes, sockets, disks and clocks: no pure crate may reach one of these, however many crates lie between.
const IMPURE: [&str; 18] = [
    "tokio",
    "tokio-util",
    "tokio-rustls",
    "futures",
    "async-trait",
    "mio",
    "quinn",
    "rustls",
    "socket2",
    "axum",
    "hyper",
    "rocksdb",
    "io-uring",
    "redb",
    "raft",
    "datafusion",
    "tracing-subscriber",
    "chrono",
];

/// Crates that none of the pure ones may name itself. `rand` brings `libc` and `getrandom` with it for generators
/// that nobody there may use: `purity` looks for those in the text.
const IMPURE_DIRECT: [&str; 4] = ["libc", "getrandom", "parking_lot", "tempfile"];

/// Crates that are values: no input or output, no clock.
const PURE: [&str; 4] = ["types", "catalog", "replication", "sim"];

/// What else must not be reached: each crate, and what is not its business.
const MUST_NOT_REACH: [(&str, &[&str]); 4] = [
    ("storage", &["tokio", "mio", "quinn", "rustls", "socket2", "axum", "raft", "datafusion"]),
    ("transport", &["rocksdb", "io-uring", "redb", "raft", "datafusion", "axum"]),
    ("sql", &["rocksdb", "io-uring", "redb", "raft", "quinn", "rustls", "axum", "hyper"]),
    ("aggregator", &["rocksdb", "io-uring"]),
];

/// Packages by name without the prefix, each with the packages that it needs to run.
struct Graph {
    names: BTreeMap<PackageId, String>,
    needs: BTreeMap<PackageId, Vec<PackageId>>,
    members: BTreeMap<String, PackageId>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Graph {
        let short = |name: &str| name.strip_prefix("perennial-").unwrap_or(name).to_string();
        let names = metadata.packages.iter().map(|package| (package.id.clone(), package.name.to_string())).collect();
        let members =
            metadata.workspace_packages().iter().map(|package| (short(&package.name), package.id.clone())).collect();
        let resolve = metadata.resolve.as_ref().expect("cargo resolves unless it is told not to");
        let mut needs = BTreeMap::new();
        for node in &resolve.nodes {
            let runs =
                |dep: &&cargo_metadata::NodeDep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            needs.insert(node.id.clone(), node.deps.iter().filter(runs).map(|dep| dep.pkg.clone()).collect());
        }
        Graph { names, needs, members }
    }

    fn direct(&self, member: &str) -> BTreeSet<String> {
        self.needs[&self.members[member]].iter().map(|id| self.names[id].clone()).collect()
    }

    /// Everything that is linked with a member, itself included.
    fn reached(&self, member: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![self.members[member].clone()];
        while let Some(id) = open.pop() {
            if seen.insert(id.clone()) {
                open.extend(self.needs[&id].iter().cloned());
            }
        }
        seen.iter().map(|id| self.names[id].clone()).collect()
    }
}

#[test]
fn crates_see_only_whom_they_may() {
    let graph = Graph::of(&repository::metadata());
    let mut findings = Vec::new();
    for (member, allowed) in MAY_USE {
        for name in graph.direct(member) {
            let inside = name.strip_prefix("perennial-").filter(|short| !allowed.contains(short));
            findings.extend(inside.map(|other| format!("{member} uses {other}; it may use {allowed:?}")));
        }
    }
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(member, _)| *member).collect();
    for member in graph.members.keys().filter(|member| !known.contains(member.as_str())) {
        findings.push(format!("crate {member} is not in the table of this test: say whom it may see"));
    }
    assert_none("a crate sees another one that it must not see", &findings);
}

#[test]
fn pure_crates_reach_no_runtime_no_socket_and_no_disk() {
    let graph = Graph::of(&repository::metadata());
    let mut findings = Vec::new();
    for member in PURE {
        let (reached, direct) = (graph.reached(member), graph.direct(member));
        findings.extend(
            IMPURE.iter().filter(|name| reached.contains(**name)).map(|name| format!("{member} reaches {name}")),
        );
        findings.extend(
            IMPURE_DIRECT.iter().filter(|name| direct.contains(**name)).map(|name| format!("{member} uses {name}")),
        );
    }
    for (member, forbidden) in MUST_NOT_REACH {
        let reached = graph.reached(member);
        findings.extend(
            forbidden.iter().filter(|name| reached.contains(**name)).map(|name| format!("{member} reaches {name}")),
        );
    }
    assert_none("a crate reaches what is not its business", &findings);
}

/// What `cargo tree` prints for some of the workspace, without the network.
fn tree(options: &[&str]) -> String {
    let always = ["tree", "--prefix", "none", "--offline", "--locked"];
    let output = Command::new("cargo").args(always).args(options).current_dir(repository::root()).output();
    let output = output.expect("cargo runs this test");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The benchmark is a black box over the MySQL protocol; for the disk report it links the node log, and not RocksDB.
/// `cargo metadata` shows features of the whole workspace together, so cargo is asked about this crate alone.
#[test]
fn the_benchmark_links_the_node_log_without_rocksdb() {
    let text = tree(&["-p", "perennial-bench", "-e", "normal"]);
    assert!(text.contains("perennial-storage"), "perennial-bench has lost the node log:\n{text}");
    let found: Vec<String> = text.lines().filter(|line| line.contains("rocksdb")).map(String::from).collect();
    assert_none("perennial-bench links RocksDB", &found);
}

/// `make binary` builds without tests, `make test` with them. Where tests switch on a feature of a crate that the
/// daemon has too, everything above that crate is compiled twice.
#[test]
fn tests_switch_on_no_feature_of_what_the_daemon_links() {
    let packages = |edges: &str| -> BTreeSet<String> {
        let text = tree(&["--workspace", "-e", edges, "-f", "{p} [{f}]"]);
        text.lines().map(|line| line.replace(" (*)", "").replace(" (proc-macro)", "")).collect()
    };
    let with_tests = packages("normal,build,dev");
    let missing: Vec<String> = packages("normal,build").into_iter().filter(|line| !with_tests.contains(line)).collect();
    assert_none("with tests these have other features: name them in tests/Cargo.toml", &missing);
}

/// RocksDB and DataFusion are compiled again whenever the features of what they build with change, so every version
/// and feature stands in the root's manifest. Features of our own crates are the exception.
#[test]
fn no_crate_chooses_versions_or_features() {
    let mut findings = Vec::new();
    for member in MAY_USE.map(|(member, _)| member) {
        let file = format!("{member}/Cargo.toml");
        let manifest: toml::Table = repository::read(&file).parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(list) = manifest.get(section).and_then(|list| list.as_table()) else { continue };
            for (name, value) in list {
                let ours = MAY_USE.iter().any(|(member, _)| member == name);
                let key_is_free = |key: &str| key == "workspace" || key == "optional" || (ours && key == "features");
                let inherits = value.get("workspace").and_then(|flag| flag.as_bool()) == Some(true);
                let free = value.as_table().is_some_and(|table| table.keys().all(|key| key_is_free(key)));
                if !inherits || !free {
                    findings.push(format!("{file}: {name} = {value}"));
                }
            }
        }
    }
    assert_none("versions and features belong into [workspace.dependencies] of the root's Cargo.toml", &findings);
}
