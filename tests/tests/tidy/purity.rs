//! The pure crates are values: the same inputs give the same outputs, to the byte. `clippy.toml` in each of them bans
//! the same names by type; this check needs no clippy and sees what macros write.

use perennial_tests::{assert_none, repository, source};

/// Words that are no part of a pure crate, and what to use instead.
const BANNED: [(&str, &str); 24] = [
    ("HashMap", "BTreeMap: its order is the same on every run"),
    ("HashSet", "BTreeSet: its order is the same on every run"),
    ("RandomState", "BTreeMap: its order is the same on every run"),
    ("Instant::now", "the time that is handed in"),
    ("SystemTime", "the time that is handed in"),
    ("thread_rng", "the seeded generator that is handed in"),
    ("rand::rng", "the seeded generator that is handed in"),
    ("rand::random", "the seeded generator that is handed in"),
    ("OsRng", "the seeded generator that is handed in"),
    ("from_os_rng", "the seeded generator that is handed in"),
    ("from_entropy", "the seeded generator that is handed in"),
    ("std::fs", "an effect"),
    ("std::net", "an effect"),
    ("std::env", "an option"),
    ("std::process", "an effect"),
    ("std::thread", "nothing: a value has no threads"),
    ("std::io", "an effect; bytes in, bytes out"),
    ("thread_local", "a field"),
    ("static mut", "a field"),
    ("async fn", "an effect and an input"),
    ("sleep", "a tick"),
    ("spawn", "an effect"),
    ("println", "a line of the trace"),
    ("eprintln", "a line of the trace"),
];

/// Files that may say some of these: the front end of the simulator, and the threads on which seeds run side by side,
/// each seed within one.
const ALLOWED: [(&str, &[&str]); 2] = [
    ("sim/src/main.rs", &["Instant::now", "std::env", "std::process", "println", "eprintln"]),
    ("sim/src/run.rs", &["std::thread", "spawn", "thread_local"]),
];

/// Crates whose sources are looked at, tests left out.
const PURE: [&str; 4] = ["types/src/", "catalog/src/", "replication/src/", "sim/src/"];

fn findings_in(file: &str, text: &str) -> Vec<String> {
    let code = source::without_tests(&source::code_of(text));
    let allowed = ALLOWED.iter().find(|(name, _)| *name == file).map_or(&[][..], |(_, words)| words);
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let found = BANNED.iter().filter(|(word, _)| !allowed.contains(word) && has_word(line, word));
        findings.extend(found.map(|(word, instead)| format!("{file}:{}: {word}; instead: {instead}", index + 1)));
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part) && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn pure_crates_have_no_clock_no_chance_and_no_hash_order() {
    let mut findings = Vec::new();
    for file in repository::files_ending(".rs").iter().filter(|file| PURE.iter().any(|start| file.starts_with(start))) {
        findings.extend(findings_in(file, &repository::read(file)));
    }
    assert_none("a pure crate is a function of its inputs", &findings);
}

#[test]
fn the_check_sees_what_is_banned() {
    for (word, _) in BANNED {
        assert_eq!(findings_in("types/src/x.rs", &format!("fn a() {{ let b = {word}; }}")).len(), 1, "{word}");
    }
    let innocent =
        "// HashMap\nuse crate::respawned;\nlet text = \"println\";\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}";
    assert_eq!(findings_in("types/src/x.rs", innocent), Vec::<String>::new());
}
