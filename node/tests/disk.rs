//! A disk that fails under a running leaf: it gives its partitions up at once, others take over, and nothing that was
//! acknowledged is lost.

mod playground;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use playground::Playground;

/// `fdatasync` and `fsync` as a disk answers them that has lost what it was given, from when a file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int sync_by(const char *name, int fd) {
    if (access(getenv("FAIL_SYNCS"), F_OK) == 0) { errno = EIO; return -1; }
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

#[test]
fn a_leaf_whose_disk_does_not_sync_gives_up_and_loses_nothing() {
    // io_uring syncs past the C library.
    let region = Playground::start_with(&["east"], 2, |text| text.replace("io_uring = true", "io_uring = false"));
    let dir = tempfile::tempdir().expect("there is room");
    let (shim, fails) = (build_shim(dir.path()), dir.path().join("syncs-fail"));
    let leaf = "east-leaf-0";
    region.kill(leaf);
    let fails_at = fails.to_str().expect("the path is text");
    region.start_node_with(leaf, &[("LD_PRELOAD", &shim), ("FAIL_SYNCS", fails_at)]);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY)");
    region.wait_in_sync(0, 5);
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
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
        std::fs::write(&fails, "").expect("the directory can be written");
        region.wait("the leaf ends by itself", || region.pid(leaf).is_none());
        some(20);
        stop.store(true, Ordering::SeqCst);
    });
    let told = "SELECT detail FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'leaf'";
    let told = region.sql(0, told);
    assert!(told.contains("gives up"), "the operator is told: {told}");
    let rows = written.load(Ordering::SeqCst).to_string();
    let count = || region.sql(0, "SELECT COUNT(*) FROM app.t");
    assert_eq!(count(), rows, "what was acknowledged is there");
    std::fs::remove_file(&fails).expect("it is there");
    region.start_node(leaf);
    region.wait_in_sync(0, 5);
    region.kill("east-leaf-1");
    assert_eq!(count(), rows, "and has everything");
}
