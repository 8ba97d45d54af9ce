//! The working tree: its files, its workspace, and the binaries that were built from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};

/// The folder that holds the workspace. Asked at run time: clones share a build folder, and what was compiled in one of
/// them must not check another.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells every test its crate's folder");
    Path::new(&here).parent().expect("this crate is a folder of the workspace").into()
}

/// Every file that is committed, or would be: paths relative to the root, with `/`, in order. What git ignores does
/// not count, nor what is committed and deleted in the working tree.
///
/// # Panics
/// If git cannot list them.
pub fn files() -> Vec<String> {
    let root = root();
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output =
        Command::new("git").args(list).current_dir(&root).output().expect("git lists the files: is it installed?");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("file names of this repository are UTF-8");
    let mut files: Vec<String> = text.split_terminator('\0').map(String::from).collect();
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    assert!(files.iter().any(|file| file == "Cargo.toml"), "{} holds no workspace", root.display());
    files
}

/// Those with an ending, such as `.rs`.
pub fn files_ending(ending: &str) -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(ending)).collect()
}

/// A file's text; what is not UTF-8 is replaced.
///
/// # Panics
/// If it cannot be read.
pub fn read(file: &str) -> String {
    let bytes = std::fs::read(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The workspace as cargo sees it, on the platform that is built for. Without the network: the build before this test
/// has fetched what that platform needs.
///
/// # Panics
/// If cargo refuses, which it does when `Cargo.lock` is not what the manifests ask for.
pub fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml"));
    let options = ["--offline", "--locked", "--filter-platform", &host()].map(String::from).to_vec();
    command.other_options(options);
    command.exec().unwrap_or_else(|error| panic!("cargo metadata: {error}"))
}

/// The platform that cargo builds for here.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc is what built this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap_or_else(|| panic!("rustc -vV names no host: {text}")).to_string()
}

/// A binary of the workspace, if the build that made this test has made it too: it lies two folders above the test's.
pub fn binary(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test knows where it is");
    let built = test.parent()?.parent()?.join(name);
    built.is_file().then_some(built)
}
