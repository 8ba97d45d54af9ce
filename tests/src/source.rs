//! Rust text, as far as the checks must understand it: what of it is code, and where its functions begin and end.
//!
//! This is no parser. It relies on `rustfmt`, which `make lint` checks: a block ends where a line closes it at the
//! indentation at which it began.

/// The text with comments and the insides of literals blanked out; lines stay where they are.
pub fn code_of(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(&bytes, at);
        if end > at {
            code.extend(bytes[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(bytes[at]);
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that begins here ends; `at` itself if none begins here.
fn literal_end(text: &[char], at: usize) -> usize {
    let follows =
        |offset: usize, wanted: &str| text[at + offset..].iter().copied().take(wanted.len()).eq(wanted.chars());
    let after_word = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    if follows(0, "//") {
        return text[at..].iter().position(|c| *c == '\n').map_or(text.len(), |length| at + length);
    }
    if follows(0, "/*") {
        return block_comment_end(text, at);
    }
    if text[at] == 'r' && !after_word || text[at] == 'r' && at > 0 && text[at - 1] == 'b' {
        let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
        if text.get(at + 1 + hashes) == Some(&'"') {
            let close: String = format!("\"{}", "#".repeat(hashes));
            let mut end = at + 2 + hashes;
            while end < text.len() && !text[end..].iter().copied().take(close.len()).eq(close.chars()) {
                end += 1;
            }
            return (end + close.len()).min(text.len());
        }
    }
    if text[at] == '"' {
        return quoted_end(text, at + 1, '"');
    }
    // A lifetime has no second quote behind its first character.
    let is_char = text[at] == '\'' && (text.get(at + 1) == Some(&'\\') || text.get(at + 2) == Some(&'\''));
    if is_char { quoted_end(text, at + 1, '\'') } else { at }
}

fn block_comment_end(text: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end < text.len() {
        match (text[end], text.get(end + 1)) {
            ('/', Some('*')) => (depth, end) = (depth + 1, end + 2),
            ('*', Some('/')) => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            break;
        }
    }
    end
}

fn quoted_end(text: &[char], mut at: usize, quote: char) -> usize {
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Code with the modules and functions blanked out that are compiled for tests alone.
pub fn without_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let mut kept = Vec::with_capacity(lines.len());
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() == "#[cfg(test)]" {
            let end = block_end(&lines, at);
            kept.extend(std::iter::repeat_n("", end - at + 1));
            at = end + 1;
        } else {
            kept.push(lines[at]);
            at += 1;
        }
    }
    kept.join("\n")
}

/// A function: its name, the line it begins on, counted from 1, and how many lines it has, signature and end included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// As it is written.
    pub name: String,
    /// Counted from 1.
    pub line: usize,
    /// At least 1.
    pub length: usize,
}

/// The functions in code, in the order in which they begin; one that has no body is left out.
pub fn functions(code: &str) -> Vec<Function> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let end = block_end(&lines, index);
        if lines[end].trim_end().ends_with('}') {
            found.push(Function { name, line: index + 1, length: end - index + 1 });
        }
    }
    found
}

/// The name of the function whose signature begins on this line.
fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().peekable();
    const BEFORE: [&str; 7] = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "default"];
    while words.peek().is_some_and(|word| BEFORE.contains(word)) {
        words.next();
    }
    if words.next() != Some("fn") {
        return None;
    }
    let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    Some(name)
}

/// The last line of the item that begins on `start`: the first line at the same indentation that ends something, or
/// the last one before the text moves out of that indentation.
fn block_end(lines: &[&str], start: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[start]);
    for (index, line) in lines.iter().enumerate().skip(start) {
        let text = line.trim_end();
        let blank = text.trim().is_empty();
        if !blank && indent(line) < depth {
            return index - 1;
        }
        let at_depth = !blank && indent(line) == depth;
        let ends =
            text.trim_start().starts_with('}') || text.ends_with(';') || text.ends_with('}') || text.ends_with("},");
        if at_depth && ends && !text.trim_start().starts_with('#') {
            return index;
        }
    }
    lines.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"HashMap // no\"; // HashMap\n/* HashMap /* in */ HashMap */ let c = '\"'; let r = r#\"a \" HashMap\"#;\nlet l: &'a str = b;";
        let code = code_of(text);
        assert!(!code.contains("HashMap"), "{code}");
        assert_eq!(code.lines().count(), 3);
        assert!(code.contains("let l: &'a str = b;"), "{code}");
        assert!(code.contains("let r ="), "{code}");
    }

    #[test]
    fn what_only_tests_have_is_left_out() {
        let code =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}";
        let names: Vec<String> = functions(&without_tests(code)).into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["a", "c", "d"]);
    }

    #[test]
    fn a_function_ends_where_its_brace_closes() {
        let code = "impl A {\n    pub(crate) async fn long(\n        self,\n    ) -> u8 {\n        if x {\n        }\n    }\n\n    fn none(&self);\n    const fn short() {}\n}";
        let found: Vec<(String, usize, usize)> =
            functions(code).into_iter().map(|f| (f.name, f.line, f.length)).collect();
        assert_eq!(found, [("long".into(), 2, 6), ("short".into(), 10, 1)]);
    }
}
