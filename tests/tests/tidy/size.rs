//! A file is one concept and fits into a head; a function fits on a page. `allowed_sizes.txt` lists what is larger
//! today. The list may only shrink: an entry that is no longer needed, or larger than what it names, fails too.

use std::collections::BTreeMap;

use perennial_tests::{assert_none, repository, source};

/// Lines of a file.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;

/// What is too large in a file: `path` or `path:function`, and its lines. Of functions of one name the largest counts.
fn oversized(file: &str, text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.insert(file.to_string(), lines);
    }
    for function in source::functions(&source::code_of(text)).into_iter().filter(|f| f.length > FUNCTION_LINES_MAX) {
        let largest = found.entry(format!("{file}:{}", function.name)).or_insert(0);
        *largest = function.length.max(*largest);
    }
    found
}

/// The allow-list: a name and a number of lines on each line, `#` begins a comment.
fn allowed(list: &str) -> BTreeMap<String, usize> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (name, lines) =
            line.rsplit_once(' ').unwrap_or_else(|| panic!("allowed_sizes.txt: {line}: write NAME LINES"));
        (name.trim().to_string(), lines.parse().unwrap_or_else(|error| panic!("allowed_sizes.txt: {line}: {error}")))
    };
    lines.map(entry).collect()
}

/// Where what there is and what is allowed differ, in either direction.
fn compared(found: &BTreeMap<String, usize>, allowed: &BTreeMap<String, usize>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, lines) in found {
        match allowed.get(name) {
            None => findings.push(format!("{name} has {lines} lines: divide it")),
            Some(limit) if lines > limit => {
                findings.push(format!("{name} has grown from {limit} to {lines} lines: divide it"))
            }
            Some(limit) if lines < limit => {
                findings.push(format!("{name} has {lines} lines: write {lines} for {limit} in allowed_sizes.txt"))
            }
            Some(_) => {}
        }
    }
    for name in allowed.keys().filter(|name| !found.contains_key(*name)) {
        findings.push(format!("{name} is within the limits: take it out of allowed_sizes.txt"));
    }
    findings
}

#[test]
fn files_and_functions_are_small() {
    let mut found = BTreeMap::new();
    for file in repository::files_ending(".rs") {
        found.extend(oversized(&file, &repository::read(&file)));
    }
    let rule = format!("a file has at most {FILE_LINES_MAX} lines, a function {FUNCTION_LINES_MAX}");
    assert_none(&rule, &compared(&found, &allowed(include_str!("allowed_sizes.txt"))));
}

#[test]
fn the_check_sees_what_is_large_and_the_list_only_shrinks() {
    let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(FUNCTION_LINES_MAX));
    let found = oversized("x.rs", &long);
    assert_eq!(found, BTreeMap::from([("x.rs:a".to_string(), FUNCTION_LINES_MAX + 2)]));
    assert_eq!(oversized("y.rs", &"\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    assert_eq!(oversized("z.rs", &"\n".repeat(FILE_LINES_MAX)).len(), 0);
    for (list, findings) in [("", 1), ("x.rs:a 72", 0), ("x.rs:a 71", 1), ("x.rs:a 73", 1), ("x.rs:a 72\nx.rs:b 90", 1)]
    {
        assert_eq!(compared(&found, &allowed(list)).len(), findings, "{list}");
    }
}
