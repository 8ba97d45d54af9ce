//! Nothing is left for later in the code: what is not built is said in the documents and refused by name.

use perennial_tests::{assert_none, repository, source};

/// Marks of unfinished work. In two pieces each, so that this file is not found itself.
const MARKS: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
/// Code that is a hole, or that a person left while looking for something; and tests that do not run.
const HOLES: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Texts in which a person leaves notes.
const ENDINGS: [&str; 6] = [".rs", ".md", ".sh", ".toml", ".py", "Makefile"];

fn findings_in(file: &str, text: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let marked = |mark: &&&str| line.split(|c| !word(c)).any(|w| w == **mark);
        findings.extend(MARKS.iter().filter(marked).map(|mark| format!("{file}:{}: {mark}", index + 1)));
    }
    if file.ends_with(".rs") {
        for (index, line) in source::code_of(text).lines().enumerate() {
            findings.extend(
                HOLES.iter().filter(|hole| line.contains(**hole)).map(|hole| format!("{file}:{}: {hole}", index + 1)),
            );
        }
    }
    findings
}

/// Outside of tests, `unwrap()` says nothing to whoever reads the panic: `expect` says why it cannot happen.
fn unwraps_in(file: &str, text: &str) -> Vec<String> {
    let code = source::without_tests(&source::code_of(text));
    let lines = code.lines().enumerate().filter(|(_, line)| line.contains(".unwrap()"));
    lines.map(|(index, _)| format!("{file}:{}: unwrap()", index + 1)).collect()
}

#[test]
fn nothing_is_left_for_later() {
    let mut findings = Vec::new();
    for file in repository::files().iter().filter(|file| ENDINGS.iter().any(|ending| file.ends_with(ending))) {
        findings.extend(findings_in(file, &repository::read(file)));
    }
    assert_none("finish it, or say in the documents that it is not there", &findings);
}

#[test]
fn what_cannot_happen_says_why() {
    let mut findings = Vec::new();
    for file in repository::files_ending(".rs") {
        let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
        if !is_test {
            findings.extend(unwraps_in(&file, &repository::read(&file)));
        }
    }
    assert_none("outside of tests, write expect(\"why it holds\") or return an error", &findings);
}

#[test]
fn the_check_sees_marks_and_holes() {
    for mark in MARKS {
        assert_eq!(findings_in("a.md", &format!("then {mark}: more")).len(), 1, "{mark}");
    }
    for hole in HOLES {
        assert_eq!(findings_in("a.rs", &format!("fn a() {{ {hole}() }}")).len(), 1, "{hole}");
    }
    assert_eq!(findings_in("a.rs", "// dbg! in a comment is a word").len(), 0);
    assert_eq!(
        unwraps_in("a.rs", "fn a() { b.unwrap(); }\n#[cfg(test)]\nmod tests {\n    fn c() { b.unwrap() }\n}").len(),
        1
    );
}
