//! Namespaces of this program's own, so that links can be cut and nothing is left behind.
//!
//! The program starts itself once more through `unshare`: with a network in which there is nothing yet, a view of mounts
//! that nobody else sees, and processes that all end when the first one does. As root, or as anybody where the kernel
//! lets users have namespaces. Where neither is permitted everything runs on loopback addresses, and links are not cut.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Set for the program within.
const WITHIN: &str = "PERENNIAL_BENCH_WITHIN";
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// What must work within: a place for the names of networks, and all kinds of links that are needed.
const PREPARE: &str = "mount -t tmpfs none /run && mkdir -p /run/netns && ip link set lo up";
const TRY: &str = "ip netns add a && ip link add b0 type bridge && ip link add v0 type veth peer name eth0 netns a";

/// Whether this process has namespaces of its own. The first call starts the program again where that is permitted, and
/// does not return then.
pub fn enter() -> Result<bool> {
    if std::env::var_os(WITHIN).is_some() {
        let prepared = Command::new("sh").args(["-c", PREPARE]).status().context("starting sh")?;
        anyhow::ensure!(prepared.success(), "the network of a new namespace cannot be prepared ({prepared})");
        return Ok(true);
    }
    let Some(users) = [&[][..], &["--user", "--map-root-user"][..]].into_iter().find(|users| permitted(users)) else {
        return Ok(false);
    };
    let own = std::env::current_exe().context("finding this program")?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = Command::new("unshare").args(users).args(NAMESPACES).arg(own).args(arguments).env(WITHIN, "yes").exec();
    Err(error).context("starting unshare")
}

/// Gives a directory a disk of its own, of so many bytes. It is gone when this program ends.
pub fn small_disk(dir: &Path, bytes: u64) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let size = format!("size={bytes},mode=0700");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir).status();
    anyhow::ensure!(mounted.context("starting mount")?.success(), "no disk could be mounted at {}", dir.display());
    Ok(())
}

fn permitted(users: &[&str]) -> bool {
    let script = format!("{PREPARE} && {TRY}");
    let mut command = Command::new("unshare");
    command.args(users).args(NAMESPACES).args(["sh", "-c", &script]);
    let tried = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}
