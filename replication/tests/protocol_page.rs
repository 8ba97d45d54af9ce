//! Keeps `docs/protocol.md` true: what it names exists, and what exists is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "../docs/protocol.md";
const SCRIPTS: &str = "tests/scripts";

/// What stands between backticks, outside of code blocks.
fn quoted() -> BTreeSet<String> {
    let page = fs::read_to_string(PAGE).expect("the page exists");
    let mut names = BTreeSet::new();
    for (index, block) in page.split("```").enumerate() {
        if index % 2 == 0 {
            names.extend(block.split('`').skip(1).step_by(2).map(str::to_string));
        }
    }
    names
}

fn folders() -> BTreeSet<String> {
    entries(Path::new(SCRIPTS)).iter().map(|path| name(path)).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder exists");
    entries.map(|entry| entry.expect("it can be read").path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().expect("it has a name").to_string_lossy().into_owned()
}

/// Every golden script is named on the page, and every script that the page names exists.
#[test]
fn scripts_are_named_and_exist() {
    let folders = folders();
    let is_script = |name: &&String| name.split_once('/').is_some_and(|(folder, _)| folders.contains(folder));
    let named: BTreeSet<String> = quoted().iter().filter(is_script).cloned().collect();
    let exist: BTreeSet<String> = folders
        .iter()
        .flat_map(|folder| {
            entries(&Path::new(SCRIPTS).join(folder)).into_iter().map(move |path| format!("{folder}/{}", name(&path)))
        })
        .collect();
    let unnamed: Vec<&String> = exist.difference(&named).collect();
    let missing: Vec<&String> = named.difference(&exist).collect();
    assert!(unnamed.is_empty() && missing.is_empty(), "not on the page: {unnamed:#?}\nno such script: {missing:#?}");
}

/// Every path exists, and every `file:function` has that function.
#[test]
fn paths_and_functions_exist() {
    let folders = folders();
    let mut wrong = vec![];
    for quoted in quoted() {
        let (path, function) = match quoted.split_once(':') {
            Some((path, function)) => (path, Some(function)),
            None => (quoted.as_str(), None),
        };
        let first = path.split('/').next().unwrap_or_default();
        if !path.contains('/') || path.contains(' ') || folders.contains(first) {
            continue;
        }
        let file = Path::new("..").join(path);
        let text = if file.is_file() { fs::read_to_string(&file).unwrap_or_default() } else { String::new() };
        let has =
            |function: &str| text.contains(&format!("fn {function}(")) || text.contains(&format!("fn {function}<"));
        if !file.exists() || function.is_some_and(|function| !has(function)) {
            wrong.push(quoted);
        }
    }
    assert!(wrong.is_empty(), "the page names what does not exist: {wrong:#?}");
}

/// Every planted bug belongs to a rule.
#[test]
fn planted_bugs_are_named() {
    let quoted = quoted();
    let mut unnamed = vec![];
    let options = fs::read_to_string("src/options.rs").expect("the options exist");
    let planted = options.split("pub enum Planted {").nth(1).and_then(|rest| rest.split('}').next());
    for line in planted.expect("the planted bugs are an enum").lines() {
        let bug = line.trim().trim_end_matches(',');
        if !bug.is_empty() && !bug.starts_with("//") && !quoted.contains(bug) {
            unnamed.push(bug.to_string());
        }
    }
    assert!(unnamed.is_empty(), "not on the page: {unnamed:#?}");
}
