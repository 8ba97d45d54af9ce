//! Nothing of the machine on which something was written, and nothing that stands only beside this repository.

use perennial_tests::{assert_none, repository};

/// What must not be in a file that is kept. In two pieces each, so that this file is not found itself.
const BANNED: [(&str, &str); 8] = [
    (concat!("/ro", "ot/"), "a folder of one machine"),
    (concat!("/wo", "rk/"), "a folder of one machine"),
    (concat!("/ho", "me/"), "a folder of one machine"),
    (concat!("/Us", "ers/"), "a folder of one machine"),
    (concat!("../sh", "ared"), "what does not come with the repository"),
    (concat!("crates", ".io"), "a registry's host: which one is used is the machine's business"),
    (concat!("pypi", ".org"), "a registry's host: which one is used is the machine's business"),
    (concat!("npmjs", ".org"), "a registry's host: which one is used is the machine's business"),
];

/// Cargo writes the name of its own registry into every entry; a mirror has another one.
const LOCK: &str = "Cargo.lock";

fn findings_in(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if file == LOCK && line == concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"") {
            continue;
        }
        if file == LOCK && line.starts_with("source = ") {
            findings.push(format!("{file}:{}: {line}", index + 1));
        }
        let found = BANNED.iter().filter(|(text, _)| line.contains(text));
        findings.extend(found.map(|(text, what)| format!("{file}:{}: {text}: {what}", index + 1)));
    }
    findings
}

#[test]
fn nothing_of_one_machine_is_committed() {
    let mut findings = Vec::new();
    for file in repository::files() {
        findings.extend(findings_in(&file, &repository::read(&file)));
    }
    assert_none("a file names what only one machine has", &findings);
}

#[test]
fn the_check_sees_what_is_banned() {
    for (text, _) in BANNED {
        assert_eq!(findings_in("a.md", &format!("see {text}x")).len(), 1, "{text}");
    }
    assert_eq!(findings_in(LOCK, "source = \"registry+https://mirror/index\"").len(), 1);
    assert_eq!(findings_in(LOCK, "name = \"types\"").len(), 0);
}
