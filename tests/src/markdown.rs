//! Links and paths in documents.

/// Targets of links, `[text](target)`, outside of code: those that are paths, without their fragment.
pub fn linked_paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for line in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            let is_path = !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:");
            if is_path {
                paths.push(path.to_string());
            }
        }
    }
    paths
}

/// What stands in backticks, outside of blocks of code.
pub fn backticked(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        found.extend(line.split('`').skip(1).step_by(2).map(String::from));
    }
    found
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// A path that a document names, and what it says is in that file: `types/src/state.rs:apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As it is written, without a slash at its end.
    pub path: String,
    /// A function or type of that file.
    pub item: Option<String>,
}

/// Endings by which a word is known to be a file of this repository.
const ENDINGS: [&str; 5] = [".rs", ".md", ".toml", ".sh", ".js"];

/// Whether a word in backticks names a file or folder of this repository, given the names at its top.
pub fn named_path(word: &str, top: &[String]) -> Option<Named> {
    let (path, item) = match word.split_once(':') {
        Some((path, item)) => (path, Some(item.to_string())),
        None => (word, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if path.is_empty() || !path.chars().all(plain) || path.starts_with('/') {
        return None;
    }
    let first = path.split('/').next().unwrap_or_default();
    let known = ENDINGS.iter().any(|ending| path.ends_with(ending) && path.len() > ending.len());
    let below_top = path.contains('/') && top.iter().any(|name| name == first);
    (known || below_top).then(|| Named { path: path.trim_end_matches('/').into(), item })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_words_are_found_outside_of_blocks() {
        let text = "See [a](docs/a.md#b) and [c](https://x.y) `types/src/a.rs:f`.\n```\n[d](gone.md) `gone.rs`\n```\n[e](#here)";
        assert_eq!(linked_paths(text), ["docs/a.md"]);
        assert_eq!(backticked(text), ["types/src/a.rs:f"]);
    }

    #[test]
    fn a_path_is_known_by_its_top_or_its_ending() {
        let top = ["types".to_string(), "docs".to_string()];
        let named = |word: &str| named_path(word, &top).map(|named| (named.path, named.item));
        assert_eq!(named("types/src/"), Some(("types/src".into(), None)));
        assert_eq!(named("src/a.rs:f"), Some(("src/a.rs".into(), Some("f".into()))));
        for word in ["ack/one_claim", "a / b", "types", "make test", "/etc/x.toml", ".rs", "DIR/x.json"] {
            assert_eq!(named(word), None, "{word}");
        }
    }
}
