//! A disk that fails under a running leaf, or hangs: others take its partitions over, and nothing that was acknowledged
//! is lost.

mod playground;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use playground::Playground;

const LEAF: &str = "east-leaf-0";

/// `fdatasync` and `fsync` as a disk answers them that has lost what it was given, or does not answer, while a file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int sync_by(const char *name, int fd) {
    if (access(getenv("FAIL_SYNCS"), F_OK) == 0) { errno = EIO; return -1; }
    while (access(getenv("HANG_SYNCS"), F_OK) == 0) usleep(1000);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
int fsync(int fd) { return sync_by("fsync", fd); }
"#;

fn build_shim(dir: &Path) -> String {
    let (source, shim) = (dir.join("syncs.c"), dir.join("syncs.so"));
    std::fs::write(&source, SHIM).expect("the directory can be written");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
    assert!(built.expect("there is a C compiler: RocksDB needs one").success());
    shim.to_str().expect("the path is text").to_string()
}

/// A region of two leaves, the first of which runs on such a disk; what it is told is named by the variable.
fn start(variable: &str, at: &Path) -> Playground {
    let edit = |text: &str| {
        // io_uring syncs past the C library.
        text.replace("io_uring = true", "io_uring = false").replace("slow_timeout = \"5s\"", "slow_timeout = \"2s\"")
    };
    let region = Playground::start_with(&["east"], 2, edit);
    let shim = build_shim(at.parent().expect("it is a file in a folder"));
    region.kill(LEAF);
    let at = at.to_str().expect("the path is text");
    region.start_node_with(LEAF, &[("LD_PRELOAD", &shim), (variable, at)]);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY)");
    region.wait_in_sync(0, 5);
    region
}

/// Writes until `act` has returned, which may wait for more writes. Returns how many rows were acknowledged.
fn under_writes(region: &Playground, act: impl FnOnce(&dyn Fn(u64))) -> String {
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Also when `act` panics: the scope ends only with its threads.
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let id = written.load(Ordering::SeqCst);
                let output = region.try_sql(0, &format!("REPLACE INTO app.t VALUES ({id})"));
                if output.status.success() {
                    written.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let some = |more: u64| {
            let before = written.load(Ordering::SeqCst);
            region.wait("writes go on", || written.load(Ordering::SeqCst) >= before + more);
        };
        some(20);
        act(&some);
        some(20);
    });
    written.into_inner().to_string()
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn told(region: &Playground, event: &str) -> String {
    region.sql(0, &format!("SELECT detail FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = '{event}'"))
}

#[test]
fn a_leaf_whose_disk_does_not_sync_gives_up_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("there is room");
    let fails = dir.path().join("syncs-fail");
    let region = start("FAIL_SYNCS", &fails);
    let rows = under_writes(&region, |_| {
        std::fs::write(&fails, "").expect("the directory can be written");
        region.wait("the leaf ends by itself", || region.pid(LEAF).is_none());
    });
    let told = told(&region, "leaf");
    assert!(told.contains("gives up"), "the operator is told: {told}");
    let count = || region.sql(0, "SELECT COUNT(*) FROM app.t");
    assert_eq!(count(), rows, "what was acknowledged is there");
    std::fs::remove_file(&fails).expect("it is there");
    region.start_node(LEAF);
    region.wait_in_sync(0, 5);
    region.kill("east-leaf-1");
    assert_eq!(count(), rows, "and has everything");
}

#[test]
fn others_take_over_from_a_leaf_whose_disk_hangs() {
    let dir = tempfile::tempdir().expect("there is room");
    let hangs = dir.path().join("syncs-hang");
    let region = start("HANG_SYNCS", &hangs);
    let address = region.json()["regions"][0]["leaves"][0]["addr"].as_str().expect("it has one").to_string();
    let port = address.rsplit_once(':').expect("host:port").1;
    let led = || {
        let by = format!("port = {port} AND role = 'primary' AND `database` = 'app'");
        region.sql(0, &format!("SELECT COUNT(*) FROM information_schema.PERENNIAL_PARTITIONS WHERE {by}"))
    };
    assert_ne!(led(), "0", "it leads something");
    let taken_out = || {
        let out = format!("event = 'in-sync' AND detail LIKE 'leaf {address} was taken out of %'");
        let count = format!("SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE {out}");
        region.sql(0, &count).parse::<u64>().expect("a count")
    };
    let before = taken_out();
    let rows = under_writes(&region, |some| {
        std::fs::write(&hangs, "").expect("the directory can be written");
        region.wait("others lead", || led() == "0");
        some(100);
        assert!(taken_out() <= before + 5, "each set has lost it once, and has not taken it in again");
        assert!(region.pid(LEAF).is_some(), "it has not ended");
        std::fs::remove_file(&hangs).expect("it is there");
    });
    region.wait_in_sync(0, 5);
    let told = told(&region, "disk");
    assert!(told.contains("hangs") && told.contains("goes on"), "the operator is told: {told}");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), rows, "what was acknowledged is there");
    region.kill("east-leaf-1");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), rows, "and it has everything");
}

/// It is a secondary of every partition at the least: what is written to them is written to its disk.
#[test]
fn a_leaf_whose_disk_is_nearly_full_closes_what_it_holds_until_there_is_room() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    let rows: Vec<String> = (0..100).map(|id| format!("({id}, 0)")).collect();
    region.sql(0, &format!("INSERT INTO app.t VALUES {}", rows.join(",")));
    let config = region.leaf_dir("east-leaf-1").join("../../config.toml");
    let before = std::fs::read_to_string(&config).expect("it can be read");
    let after = before.replace("disk_reserve = \"512MiB\"", "disk_reserve = \"900000GiB\"");
    assert_ne!(before, after);
    for (text, full) in [(&after, true), (&before, false)] {
        region.stop_node("east-leaf-1");
        std::fs::write(&config, text).expect("it can be written");
        region.start_node("east-leaf-1");
        region.wait_in_sync(0, 5);
        let state = "SELECT state, advice FROM information_schema.PERENNIAL_DATABASES WHERE `database` = 'app'";
        if !full {
            region.wait("it is open again", || region.sql(0, state).starts_with("online"));
            region.sql(0, "UPDATE app.t SET v = v + 1");
            continue;
        }
        region.wait("it is read only, and says why", || {
            let seen = region.sql(0, state);
            seen.starts_with("read only") && seen.contains("5 of its partitions take no writes: leaf 127.0.0.1:")
        });
        for id in 0..20 {
            let refused = region.try_sql(0, &format!("UPDATE app.t SET v = 1 WHERE id = {id}"));
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(text.contains("1290") && text.contains("bytes free, too few"), "{text}");
        }
        assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(v) FROM app.t"), "100\t0", "reads go on");
        assert_eq!(region.metric("east-leaf-1", "perennial_disk_full"), 1);
    }
}

/// It would take the room of what the leaf serves: it is not begun, people are told, and it comes when there is room.
#[test]
fn a_copy_for_which_a_disk_has_no_room_waits() {
    let edit = |text: &str| text.replace("copy_records_min = 100000", "copy_records_min = 20");
    let region = Playground::start_with(&["east"], 2, edit);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4 OPTIONS (redundancy = 1); CREATE TABLE app.t (id INT PRIMARY KEY)");
    let rows: Vec<String> = (0..400).map(|id| format!("INSERT INTO app.t VALUES ({id})")).collect();
    region.sql(0, &rows.join(";"));
    let config = region.leaf_dir("east-leaf-1").join("../../config.toml");
    let before = std::fs::read_to_string(&config).expect("it can be read");
    let set = |text: &str| {
        region.stop_node("east-leaf-1");
        std::fs::write(&config, text).expect("it can be written");
        region.start_node("east-leaf-1");
    };
    set(&before.replace("disk_reserve = \"512MiB\"", "disk_reserve = \"900000GiB\""));
    region.sql(0, "ALTER DATABASE app SET OPTIONS (redundancy = 2)");
    std::thread::scope(|scope| {
        let restored = scope.spawn(|| region.sql(0, "RESTORE REDUNDANCY ON app"));
        region.wait("people are told", || {
            let told = told(&region, "disk");
            told.contains("a copy does not come in: it takes") && told.contains("has room for 0 beside its reserve")
        });
        assert_eq!(region.metric("east-leaf-1", "perennial_copy_taken_bytes"), 0);
        assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "400", "reads go on");
        set(&before);
        restored.join().expect("it ends when the copies are there");
    });
    region.wait_in_sync(0, 5);
    assert!(region.metric("east-leaf-1", "perennial_copy_taken_bytes") > 0, "it was copied");
    region.kill("east-leaf-0");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "400", "and has everything");
}
