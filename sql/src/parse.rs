//! Text to statements: splitting, the choice of parser, MySQL's syntax error, parameters of prepared statements.
//!
//! Two parsers share the work (decision 0003): `grammar`, by hand, for everything that is ours and for MySQL's
//! statements without general expressions; `sqlparser` for queries, INSERT, UPDATE, DELETE and expressions.

use std::ops::Range;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::MySqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use types::Datum;

use crate::error::{Error, Result};
use crate::grammar;
pub(crate) use crate::grammar::hex as hex_bytes;
use crate::statement::{Query, Statement};
use crate::token::{Kind, Token, tokenize};

/// Expressions nested deeper than this are refused.
const MAX_DEPTH: usize = 200;
/// Most operators that follow each other on one level. `1+1+1` makes a tree as deep as it is long, and whoever walks or
/// drops that goes down it on the stack: the daemon gives its threads enough for so many.
const MAX_CHAIN: usize = 1000;
/// Most of them that compute. DataFusion derives the type of each from all below it, in each of its passes: the time to
/// plan grows with the cube of their number, to seconds here.
const MAX_SUMMANDS: usize = 250;
/// Bytes of stack that a thread needs which parses, plans or runs statements.
pub const STACK_BYTES: usize = 32 << 20;
/// Words that join or extend what stands before them.
const JOINING: [&str; 26] = [
    "AND",
    "OR",
    "XOR",
    "NOT",
    "DIV",
    "MOD",
    "IS",
    "IN",
    "LIKE",
    "RLIKE",
    "REGEXP",
    "BETWEEN",
    "COLLATE",
    "ESCAPE",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "JOIN",
    "WHEN",
    "ELSE",
    "OVER",
    "INTERVAL",
    "BINARY",
    "SOUNDS",
    "MEMBER",
    "STRAIGHT_JOIN",
];

/// The statements of a text that are separated by semicolons, without them; empty ones are left out.
pub fn split(text: &str) -> Result<Vec<Range<usize>>> {
    let mut parts = Vec::new();
    let mut part: Option<Range<usize>> = None;
    for token in tokenize(text)? {
        match token.kind {
            Kind::Symbol(";") | Kind::End => parts.extend(part.take()),
            _ => part = Some(part.map_or(token.start, |part| part.start)..token.end),
        }
    }
    Ok(parts)
}

/// Parses one statement; a semicolon may follow it. 1065 if there is none.
pub fn parse(text: &str) -> Result<Statement> {
    let tokens = tokenize(text)?;
    if tokens[0].kind == Kind::End {
        return Err(Error::new(1065, "Query was empty"));
    }
    match grammar::statement(text, &tokens)? {
        Some(statement) => Ok(statement),
        None => general(text, &tokens),
    }
}

/// The same text with every comment blank, so that offsets and lines stay.
fn without_comments(text: &str, tokens: &[Token]) -> String {
    let mut clean: Vec<u8> = text.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }).collect();
    for (at, token) in tokens.iter().enumerate() {
        let place = &mut clean[token.start..token.end];
        match is_word(token, "MOD") && is_infix(tokens, at) {
            // The general parser knows the operator by its sign alone.
            true => place.copy_from_slice(b" % "),
            false => place.copy_from_slice(&text.as_bytes()[token.start..token.end]),
        }
    }
    String::from_utf8(clean).expect("tokens begin and end at characters")
}

pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(&token.kind, Kind::Word(found) if found.eq_ignore_ascii_case(word))
}

/// Whether the word stands between operands, and is not the name of a function.
fn is_infix(tokens: &[Token], at: usize) -> bool {
    let called = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Symbol("("));
    match at.checked_sub(1).map(|before| &tokens[before].kind) {
        Some(Kind::Number(_) | Kind::Text(_) | Kind::Quoted(_) | Kind::Symbol(")")) => true,
        Some(Kind::Word(_)) => !called,
        _ => false,
    }
}

/// Refuses what would make a tree that is too deep, although few brackets are open at a time.
fn check_chains(tokens: &[Token]) -> Result<()> {
    let joins = |kind: &Kind| match kind {
        Kind::Symbol("." | "?" | "@" | "@@") => false,
        Kind::Symbol(_) => true,
        Kind::Word(word) => JOINING.iter().any(|joining| word.eq_ignore_ascii_case(joining)),
        _ => false,
    };
    let computes = |kind: &Kind| match kind {
        Kind::Symbol(symbol) => matches!(*symbol, "+" | "-" | "*" | "/" | "%" | "|" | "&" | "^" | "<<" | ">>"),
        Kind::Word(word) => word.eq_ignore_ascii_case("DIV") || word.eq_ignore_ascii_case("MOD"),
        _ => false,
    };
    // On each level all that join, and of these those that compute.
    let mut levels = vec![(0usize, 0usize)];
    for token in tokens {
        match &token.kind {
            Kind::Symbol("(") => levels.push((0, 0)),
            Kind::Symbol(")") if levels.len() > 1 => drop(levels.pop()),
            Kind::Symbol("," | ";") => levels.last_mut().into_iter().for_each(|counts| *counts = (0, 0)),
            kind if joins(kind) => {
                let (all, computing) = levels.last_mut().expect("the first level is never left");
                (*all, *computing) = (*all + 1, *computing + usize::from(computes(kind)));
                let limits = [(*computing, MAX_SUMMANDS), (*all, MAX_CHAIN)];
                if let Some((_, most)) = limits.into_iter().find(|(count, most)| count > most) {
                    let text =
                        format!("More than {most} operators follow each other; split the statement or use brackets");
                    return Err(Error::new(1436, text));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses UPDATE and DELETE of several tables by name: the general parser reads some of their forms alone.
fn check_tables(tokens: &[Token]) -> Result<()> {
    let (verb, ends) = match &tokens[0] {
        first if is_word(first, "UPDATE") => ("UPDATE", &["SET"][..]),
        first if is_word(first, "DELETE") => ("DELETE", &["WHERE", "ORDER", "LIMIT"][..]),
        _ => return Ok(()),
    };
    let mut depth = 0;
    for token in &tokens[1..] {
        match &token.kind {
            Kind::Symbol("(") => depth += 1,
            Kind::Symbol(")") => depth -= 1,
            // `DELETE t.* FROM t, u` as well.
            Kind::Symbol("," | "*") if depth == 0 => {
                return Err(Error::unsupported(format!("{verb} of several tables")));
            }
            Kind::Symbol(";") => break,
            Kind::Word(_) if depth == 0 && ends.iter().any(|end| is_word(token, end)) => break,
            _ => {}
        }
    }
    Ok(())
}

fn general(text: &str, tokens: &[Token]) -> Result<Statement> {
    check_chains(tokens)?;
    check_tables(tokens)?;
    for words in [&["WITH", "ROLLUP"][..], &["LOCK", "IN", "SHARE", "MODE"], &["PROCEDURE", "ANALYSE"]] {
        if tokens.windows(words.len()).any(|window| window.iter().zip(words).all(|(token, word)| is_word(token, word)))
        {
            return Err(Error::unsupported(words.join(" ")));
        }
    }
    let clean = without_comments(text, tokens);
    let fail = |error| syntax_error(error, &clean, 1);
    let mut parser = parser(&clean).map_err(fail)?;
    let statement = parser.parse_statement().map_err(fail)?;
    let _ = parser.consume_token(&datafusion::sql::sqlparser::tokenizer::Token::SemiColon);
    parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF).map_err(fail)?;
    match statement {
        ast::Statement::Query(tree) => Ok(Statement::Query(Query { tree, texts: selected_texts(text, tokens) })),
        ast::Statement::Insert(insert) => Ok(Statement::Insert(Box::new(insert))),
        ast::Statement::Update(update) => Ok(Statement::Update(Box::new(update))),
        ast::Statement::Delete(delete) => Ok(Statement::Delete(Box::new(delete))),
        ast::Statement::Explain { statement, analyze: false, .. } => match *statement {
            ast::Statement::Query(tree) => Ok(Statement::Explain(Query { tree, texts: vec![] })),
            _ => Err(Error::unsupported("EXPLAIN of a statement that writes")),
        },
        ast::Statement::Explain { .. } => Err(Error::unsupported("EXPLAIN ANALYZE")),
        other => {
            let text = other.to_string();
            let construct: Vec<&str> = text.split_whitespace().take(3).collect();
            Err(Error::unsupported(construct.join(" ")))
        }
    }
}

/// The texts of what the first SELECT outside of brackets selects.
fn selected_texts(text: &str, tokens: &[Token]) -> Vec<String> {
    let is = |token: &Token, words: &[&str]| matches!(&token.kind, Kind::Word(word) if words.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)));
    let mut depth = 0i32;
    let mut rest = tokens.iter().skip_while(|token| {
        depth += i32::from(token.kind == Kind::Symbol("(")) - i32::from(token.kind == Kind::Symbol(")"));
        !(depth == 0 && is(token, &["SELECT"]))
    });
    rest.next();
    let modifiers = ["ALL", "DISTINCT", "DISTINCTROW", "HIGH_PRIORITY", "STRAIGHT_JOIN", "SQL_NO_CACHE", "SQL_CACHE"];
    let ends = [
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "INTO",
        "FOR",
        "LOCK",
        "WINDOW",
    ];
    let (mut texts, mut item): (Vec<String>, Option<Range<usize>>) = (vec![], None);
    let mut finish = |item: &mut Option<Range<usize>>| texts.extend(item.take().map(|range| text[range].to_string()));
    let mut depth = 0i32;
    for token in rest.skip_while(|token| is(token, &modifiers)) {
        match &token.kind {
            Kind::End | Kind::Symbol(";") => break,
            Kind::Symbol(",") if depth == 0 => finish(&mut item),
            Kind::Word(_) if depth == 0 && is(token, &ends) => break,
            kind => {
                depth += i32::from(*kind == Kind::Symbol("(")) - i32::from(*kind == Kind::Symbol(")"));
                item = Some(item.map_or(token.start, |range| range.start)..token.end);
            }
        }
    }
    finish(&mut item);
    texts
}

fn parser(text: &str) -> Result<Parser<'static>, ParserError> {
    Parser::new(&MySqlDialect {}).with_recursion_limit(MAX_DEPTH).try_with_sql(text)
}

/// Parses an expression that begins at `line` of its statement.
pub(crate) fn expression(text: &str, line: usize) -> Result<ast::Expr> {
    check_chains(&tokenize(text)?)?;
    let fail = |error| syntax_error(error, text, line);
    let mut parser = parser(text).map_err(fail)?;
    let expression = parser.parse_expr().map_err(fail)?;
    parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF).map_err(fail)?;
    Ok(expression)
}

/// MySQL's 1064 for an error of the general parser, which names the place as ` at Line: l, Column: c`.
fn syntax_error(error: ParserError, text: &str, first_line: usize) -> Error {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            return Error::new(1436, "The statement is nested too deeply; split it or use fewer brackets");
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let place = message.rsplit_once(" at Line: ").and_then(|(_, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let digits = column.bytes().take_while(u8::is_ascii_digit).count();
        Some((line.parse::<usize>().ok()?, column[..digits].parse::<usize>().ok()?))
    });
    let Some((line, column)) = place else {
        return Error::syntax("", first_line + text.matches('\n').count());
    };
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let offset = text[start..].char_indices().nth(column.saturating_sub(1)).map_or(text.len() - start, |(at, _)| at);
    Error::syntax(text[start + offset..].trim_end(), first_line + line - 1)
}

/// How many parameters a prepared statement has.
pub fn count_parameters(text: &str) -> Result<usize> {
    Ok(tokenize(text)?.iter().filter(|token| token.kind == Kind::Symbol("?")).count())
}

/// The statement with its parameters written in.
pub fn bind_parameters(text: &str, parameters: &[Datum]) -> Result<String> {
    let mut bound = String::with_capacity(text.len() + 16 * parameters.len());
    let (mut copied, mut next) = (0, parameters.iter());
    for token in tokenize(text)?.iter().filter(|token| token.kind == Kind::Symbol("?")) {
        let value = next.next().ok_or_else(|| Error::new(1210, "Incorrect arguments to EXECUTE"))?;
        bound.push_str(&text[copied..token.start]);
        bound.push_str(&quote(value));
        copied = token.end;
    }
    if next.next().is_some() {
        return Err(Error::new(1210, "Incorrect arguments to EXECUTE"));
    }
    bound.push_str(&text[copied..]);
    Ok(bound)
}

/// A value as a literal that reads back as itself.
pub fn quote(value: &Datum) -> String {
    match value {
        Datum::Null => "NULL".into(),
        Datum::Int(_) | Datum::UInt(_) | Datum::Decimal(_) => value.to_string(),
        Datum::Float(value) => format!("{:e}", f64::from(*value)),
        Datum::Double(value) => format!("{value:e}"),
        Datum::Bytes(bytes) if bytes.is_empty() => "''".into(),
        Datum::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{digits}'")
        }
        Datum::Text(text) | Datum::Json(text) => quote_text(text),
        Datum::Date(_) | Datum::DateTime(_) | Datum::Timestamp(_) | Datum::Time(_) => format!("'{value}'"),
    }
}

/// A string literal.
pub fn quote_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            '\x1a' => quoted.push_str("\\Z"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// An identifier in backticks.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
