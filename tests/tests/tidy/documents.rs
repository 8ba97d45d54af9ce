//! What documents say about this repository is true: links and paths lead somewhere, the list of crates is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use perennial_tests::markdown::{self, Named};
use perennial_tests::{assert_none, repository};

/// Lines that ARCHITECTURE.md may have: it is read in one sitting.
const ARCHITECTURE_LINES_MAX: usize = 400;

/// The repository, as documents are compared with it.
struct Tree {
    files: Vec<String>,
    folders: BTreeSet<String>,
    top: Vec<String>,
}

impl Tree {
    fn new(files: Vec<String>) -> Tree {
        let mut folders = BTreeSet::new();
        for file in &files {
            let parents = Path::new(file).ancestors().skip(1).filter_map(Path::to_str);
            folders.extend(parents.filter(|folder| !folder.is_empty()).map(String::from));
        }
        let top: BTreeSet<String> = folders.iter().filter(|folder| !folder.contains('/')).cloned().collect();
        Tree { files, folders, top: top.into_iter().collect() }
    }

    fn has(&self, path: &str) -> bool {
        self.folders.contains(path) || self.files.iter().any(|file| file == path)
    }

    /// The file that a path names: from the root, or, where only its end is given, any file that ends so.
    fn file(&self, path: &str) -> Option<&String> {
        let whole = self.files.iter().find(|file| *file == path);
        whole.or_else(|| {
            self.files.iter().find(|file| file.strip_suffix(path).is_some_and(|front| front.ends_with('/')))
        })
    }

    /// What is wrong with a path that a document names.
    fn problem(&self, named: &Named) -> Option<String> {
        let Some(item) = &named.item else {
            let there = self.has(&named.path) || self.file(&named.path).is_some();
            return (!there).then(|| format!("{} is not there", named.path));
        };
        let Some(file) = self.file(&named.path) else { return Some(format!("{} is not there", named.path)) };
        let text = repository::read(file);
        let word = item.split("::").last().unwrap_or(item);
        let known = text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word);
        (!known).then(|| format!("{} has no {item}", named.path))
    }
}

/// A relative path, seen from the folder of the document that has it.
fn seen_from(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn findings_in(document: &str, text: &str, tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for path in markdown::linked_paths(text) {
        if !tree.has(&seen_from(document, &path)) {
            findings.push(format!("{document}: link to {path}, which is not there"));
        }
    }
    for word in markdown::backticked(text) {
        let Some(named) = markdown::named_path(&word, &tree.top) else { continue };
        let beside = named.item.is_none() && tree.has(&seen_from(document, &named.path));
        if !beside {
            findings.extend(tree.problem(&named).map(|problem| format!("{document}: `{word}`: {problem}")));
        }
    }
    findings
}

#[test]
fn links_and_paths_in_documents_lead_somewhere() {
    let tree = Tree::new(repository::files());
    let documents: Vec<&String> = tree.files.iter().filter(|file| file.ends_with(".md")).collect();
    let findings: Vec<String> =
        documents.iter().flat_map(|file| findings_in(file, &repository::read(file), &tree)).collect();
    assert_none("a document names what is not there", &findings);
}

#[test]
fn the_list_of_crates_is_the_workspace() {
    let text = repository::read("ARCHITECTURE.md");
    let listed: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix("/`")).map(String::from).collect();
    let metadata = repository::metadata();
    let folder = |manifest: &str| {
        Path::new(manifest).parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
    };
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().filter_map(|p| folder(p.manifest_path.as_str())).collect();
    assert_eq!(listed, members, "sections \"### `crate/`\" of ARCHITECTURE.md, and members of the workspace");
    let lines = text.lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES_MAX,
        "ARCHITECTURE.md has {lines} lines, at most {ARCHITECTURE_LINES_MAX} are read"
    );
}

/// The code map: in the section of a crate, each word in backticks that is a path is one below the crate's `src`.
fn mapped(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut member = None;
    for line in text.lines() {
        if line.starts_with('#') {
            member = line.strip_prefix("### `").and_then(|name| name.strip_suffix("/`")).map(String::from);
        }
        let (Some(member), true) = (&member, line.starts_with("- ")) else { continue };
        let paths = map.entry(member.clone()).or_default();
        let words = markdown::backticked(line).into_iter();
        paths.extend(
            words
                .filter(|word| word.ends_with(".rs") || word.ends_with('/'))
                .map(|word| word.trim_end_matches('/').into()),
        );
    }
    map
}

/// Where the code map and the folders differ. Below a crate's `src` every file and folder is named, but for the roots
/// of its libraries and programs, its tests, and folders beside a file of their name; deeper ones as far as they help.
fn map_findings(map: &BTreeMap<String, BTreeSet<String>>, tree: &Tree) -> Vec<String> {
    const ROOTS: [&str; 4] = ["lib.rs", "main.rs", "tests.rs", "tests"];
    let mut findings = Vec::new();
    for (member, named) in map {
        let below = |path: &String| path.strip_prefix(&format!("{member}/src/")).map(String::from);
        let there: BTreeSet<String> = tree.files.iter().chain(&tree.folders).filter_map(below).collect();
        let first = |path: &&String| !path.contains('/') && !ROOTS.contains(&path.as_str());
        let unnamed =
            there.iter().filter(first).filter(|path| !named.contains(*path) && !named.contains(&format!("{path}.rs")));
        findings.extend(
            unnamed.map(|path| format!("{member}/src/{path} is not in the code map: one line in its crate's section")),
        );
        let known =
            |path: &&String| there.contains(*path) || there.iter().any(|file| file.ends_with(&format!("/{path}")));
        findings
            .extend(named.iter().filter(|path| !known(path)).map(|path| format!("{member}/src/{path} is not there")));
    }
    findings
}

#[test]
fn the_code_map_is_the_folders() {
    let map = mapped(&repository::read("ARCHITECTURE.md"));
    assert_none("ARCHITECTURE.md and the folders differ", &map_findings(&map, &Tree::new(repository::files())));
}

#[test]
fn the_readme_shows_the_two_commands_first() {
    let text = repository::read("README.md");
    let first: Vec<&str> = text.lines().take(60).collect();
    for command in ["make demo", "make test"] {
        assert!(
            first.iter().any(|line| line.contains(command)),
            "the first screen of README.md does not show {command}"
        );
    }
}

#[test]
fn the_check_sees_what_leads_nowhere() {
    let tree = Tree::new(vec!["README.md".into(), "docs/a.md".into(), "tests/src/lib.rs".into()]);
    let wrong = "[a](b.md) `tests/src/gone.rs` `tests/src/lib.rs:no_such_function` `docs/none` `gone.sh`";
    assert_eq!(findings_in("docs/a.md", wrong, &tree).len(), 5);
    let right =
        "[a](../README.md#x) `tests/src/lib.rs:assert_none` `docs/a.md` `lib.rs` `src/lib.rs` `tests/src` `docs/`";
    assert_eq!(findings_in("docs/a.md", right, &tree), Vec::<String>::new());
    let files = ["a/src/lib.rs", "a/src/b.rs", "a/src/c/mod.rs", "a/src/c/d.rs"];
    let tree = Tree::new(files.map(String::from).to_vec());
    assert_eq!(map_findings(&mapped("### `a/`\n- `b.rs` x; `c/` y\n  - `d.rs`"), &tree), Vec::<String>::new());
    assert_eq!(map_findings(&mapped("### `a/`\n- `b.rs`, `e.rs` x"), &tree).len(), 2);
}
