//! LOAD DATA LOCAL INFILE: the file comes in pieces, as the client sends it.

use std::collections::VecDeque;
use std::sync::Arc;

use types::Datum;

use super::Target;
use super::insert::{CHUNK, OnDuplicate};
use super::rows::{Given, Maker};
use crate::answer::Done;
use crate::bind::{Names, bind};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::layout::MAX_ROW_SIZE;
use crate::normalize::{Normalizer, row_variable};
use crate::scalar::{Env, Scalar, Ty, Warning};
use crate::session::Session;
use crate::statement::{Duplicates, LoadData, LoadField};

/// Where a field of the file goes.
#[derive(Clone, Copy)]
enum Goal {
    Column(usize),
    Variable(usize),
}

/// A load that is under way.
pub struct Loader {
    cluster: Arc<dyn Cluster>,
    session: Session,
    target: Target,
    env: Env,
    load: LoadData,
    goals: Vec<Goal>,
    variables: usize,
    set: Vec<(usize, Scalar)>,
    buffer: Vec<u8>,
    skip: u64,
    pending: Vec<Vec<Given>>,
    rows: u64,
    first_id: u64,
    done: Done,
    skipped: u64,
    deleted: u64,
}

/// A field's bytes, `None` for NULL.
type Fields = Vec<Option<Vec<u8>>>;

impl Loader {
    /// Begins a load. Fails before the client is asked for the file if the statement cannot work.
    pub async fn begin(load: &LoadData, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Loader> {
        let target = Target::find(cluster, session, load.table.database.as_deref(), &load.table.name).await?;
        let env = Env::new(session.zone());
        let mut names: Vec<String> = Vec::new();
        let goals: Vec<Goal> = match load.fields.is_empty() {
            true => (0..target.table.columns.len()).map(Goal::Column).collect(),
            false => load
                .fields
                .iter()
                .map(|field| match field {
                    LoadField::Column(name) => target
                        .table
                        .position(name)
                        .map(Goal::Column)
                        .ok_or_else(|| Error::unknown_column(name, "field list")),
                    LoadField::Variable(name) => {
                        names.push(name.clone());
                        Ok(Goal::Variable(names.len() - 1))
                    }
                })
                .collect::<Result<_>>()?,
        };
        let scope = RowNames { target: &target, variables: &names };
        let mut normalizer = Normalizer::with_row_variables(session, names.clone());
        let mut set = Vec::new();
        for (column, expr) in &load.set {
            let place = target.table.position(column).ok_or_else(|| Error::unknown_column(column, "field list"))?;
            set.push((place, bind(&normalizer.value(expr.clone())?, &scope, &env)?));
        }
        let variables = names.len();
        Ok(Loader {
            cluster: cluster.clone(),
            session: session.clone(),
            target,
            env,
            load: load.clone(),
            goals,
            variables,
            set,
            buffer: Vec::new(),
            skip: load.skip,
            pending: Vec::new(),
            rows: 0,
            first_id: 0,
            done: Done::default(),
            skipped: 0,
            deleted: 0,
        })
    }

    /// Takes a piece of the file.
    pub async fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(piece);
        self.parse(false).await
    }

    /// Takes the end of the file.
    pub async fn finish(mut self) -> Result<Done> {
        self.parse(true).await?;
        self.flush().await?;
        self.done.warnings.extend(self.env.take_warnings());
        self.done.last_insert_id = self.first_id;
        self.done.info = format!(
            "Records: {}  Deleted: {}  Skipped: {}  Warnings: {}",
            self.rows,
            self.deleted,
            self.skipped,
            self.done.warnings.len()
        );
        Ok(self.done)
    }

    async fn parse(&mut self, last: bool) -> Result<()> {
        let mut at = 0;
        while at < self.buffer.len() {
            if self.skip > 0 {
                match find(&self.buffer[at..], self.load.lines_terminated.as_bytes()) {
                    Some(end) => at += end + self.load.lines_terminated.len(),
                    None if last => at = self.buffer.len(),
                    None => break,
                }
                self.skip -= 1;
                continue;
            }
            let Some((fields, read)) = record(&self.load, &self.buffer[at..], last) else { break };
            at += read;
            if let Some(fields) = fields {
                self.row(fields)?;
                if self.pending.len() >= CHUNK {
                    self.flush().await?;
                }
            }
        }
        self.buffer.drain(..at);
        if self.buffer.len() > 2 * MAX_ROW_SIZE {
            return Err(Error::new(
                1118,
                format!(
                    "A line of the file is longer than {MAX_ROW_SIZE} bytes; check FIELDS and LINES of the statement"
                ),
            ));
        }
        Ok(())
    }

    fn row(&mut self, fields: Fields) -> Result<()> {
        self.rows += 1;
        let columns = self.target.table.columns.len();
        let mut given = vec![Given::Default; columns];
        let mut seen = vec![Datum::Null; self.target.layout.fields.len() + self.variables];
        if fields.len() < self.goals.len() {
            self.warn(1261, format!("Row {} doesn't contain data for all columns", self.rows));
        } else if fields.len() > self.goals.len() {
            self.warn(
                1262,
                format!("Row {} was truncated; it contained more data than there were input columns", self.rows),
            );
        }
        let mut fields = VecDeque::from(fields);
        for goal in &self.goals {
            let Some(field) = fields.pop_front() else { break };
            let value = match field {
                None => Datum::Null,
                Some(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => Datum::Text(text),
                    Err(error) => Datum::Bytes(error.into_bytes().into()),
                },
            };
            match *goal {
                Goal::Column(place) => {
                    seen[place] = value.clone();
                    given[place] = Given::Value(value);
                }
                Goal::Variable(at) => seen[self.target.layout.fields.len() + at] = value,
            }
        }
        for (place, value) in &self.set {
            let value = value.eval(&seen, &self.env)?;
            seen[*place] = value.clone();
            given[*place] = Given::Value(value);
        }
        self.pending.push(given);
        Ok(())
    }

    fn warn(&mut self, code: u16, message: String) {
        self.env.warn(code, message);
    }

    async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut maker = Maker::new(&self.target, &self.session, &self.env, true);
        maker.rows = self.rows - self.pending.len() as u64;
        maker.first_id = self.first_id;
        let made = maker.make(&self.cluster, std::mem::take(&mut self.pending)).await?;
        self.first_id = maker.first_id;
        let on_duplicate = match self.load.duplicates {
            Duplicates::Error => OnDuplicate::Error,
            Duplicates::Ignore => OnDuplicate::Ignore,
            Duplicates::Replace => OnDuplicate::Replace,
        };
        let writes = made.into_iter().map(|(ordinal, row)| (ordinal, on_duplicate.write(row))).collect();
        for written in self.target.send(&self.cluster, None, writes).await? {
            self.done.affected += written.affected;
            self.deleted += u64::from(written.affected == 2);
            self.skipped += u64::from(written.affected == 0);
            let kept: Vec<Warning> = written.warnings;
            self.done.warnings.extend(kept);
        }
        self.done.matched = self.done.affected;
        Ok(())
    }
}

struct RowNames<'a> {
    target: &'a Target,
    variables: &'a [String],
}

impl Names for RowNames<'_> {
    fn column(&self, _: Option<&str>, column: &str) -> Result<(usize, Ty)> {
        if let Some(at) = self.variables.iter().position(|name| row_variable(name) == column) {
            return Ok((self.target.layout.fields.len() + at, Ty::Text));
        }
        // A column's field is text until the row is made.
        let place = self.target.table.position(column).ok_or_else(|| Error::unknown_column(column, "field list"))?;
        Ok((place, Ty::Text))
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// One record at the start of `bytes`, and how many bytes it took. `None` if its end is not there yet; no fields for
/// a line without the prefix that LINES STARTING BY asks for.
fn record(load: &LoadData, bytes: &[u8], last: bool) -> Option<(Option<Fields>, usize)> {
    let line_end = load.lines_terminated.as_bytes();
    let mut at = 0;
    if !load.lines_starting.is_empty() {
        let prefix = find(bytes, load.lines_starting.as_bytes());
        let end = find(bytes, line_end);
        match (prefix, end) {
            (Some(prefix), end) if end.is_none_or(|end| prefix < end) => at = prefix + load.lines_starting.len(),
            (_, Some(end)) => return Some((None, end + line_end.len())),
            (_, None) if last => return Some((None, bytes.len())),
            (_, None) => return None,
        }
    }
    let mut fields = Vec::new();
    loop {
        let (field, end, stop) = field(load, &bytes[at..], last)?;
        fields.push(field);
        at += end;
        if stop {
            return Some((Some(fields), at));
        }
    }
}

/// One field: its value, the bytes it took with what ends it, and whether it was the line's last.
fn field(load: &LoadData, bytes: &[u8], last: bool) -> Option<(Option<Vec<u8>>, usize, bool)> {
    let (field_end, line_end) = (load.fields_terminated.as_bytes(), load.lines_terminated.as_bytes());
    let mut buffer = [0; 4];
    let enclosing = load.enclosed.map(|c| c.encode_utf8(&mut buffer).as_bytes()[0]);
    let mut buffer = [0; 4];
    let escaping = load.escaped.map(|c| c.encode_utf8(&mut buffer).as_bytes()[0]);
    let enclosed = enclosing.is_some() && bytes.first() == enclosing.as_ref();
    let (mut value, mut null, mut at) = (Vec::new(), false, usize::from(enclosed));
    // What may be the start of a terminator cannot be judged before all of it is there.
    let longest = field_end.len().max(line_end.len()).max(2);
    loop {
        let rest = &bytes[at..];
        if rest.len() < longest && !last {
            return None;
        }
        if rest.is_empty() {
            return Some((finished(value, null, enclosed, load), at, true));
        }
        if Some(rest[0]) == escaping && rest.len() > 1 {
            null |= !enclosed && rest[1] == b'N' && value.is_empty();
            value.push(unescaped(rest[1]));
            at += 2;
            continue;
        }
        if enclosed && Some(rest[0]) == enclosing {
            let after = &rest[1..];
            if after.first() == Some(&rest[0]) {
                value.push(rest[0]);
                at += 2;
                continue;
            }
            if after.starts_with(field_end) {
                return Some((finished(value, false, true, load), at + 1 + field_end.len(), false));
            }
            if after.starts_with(line_end) || after.is_empty() {
                let end = at + 1 + line_end.len().min(after.len());
                return Some((finished(value, false, true, load), end, true));
            }
            if after.len() < longest && !last {
                return None;
            }
        } else if !enclosed && rest.starts_with(field_end) {
            return Some((finished(value, null, false, load), at + field_end.len(), false));
        } else if !enclosed && rest.starts_with(line_end) {
            return Some((finished(value, null, false, load), at + line_end.len(), true));
        }
        value.push(rest[0]);
        at += 1;
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 0x1a,
        other => other,
    }
}

fn finished(value: Vec<u8>, escaped_null: bool, enclosed: bool, load: &LoadData) -> Option<Vec<u8>> {
    let word = !enclosed && load.enclosed.is_some() && value == b"NULL";
    // `\N` is NULL only when it is all there is.
    if word || escaped_null && value == b"N" { None } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::statement::Statement;

    fn records(clauses: &str, text: &str, piece: usize) -> Vec<Vec<Option<String>>> {
        let statement = parse(&format!("LOAD DATA LOCAL INFILE 'f' INTO TABLE t {clauses}"));
        let Ok(Statement::Load(load)) = statement else { panic!("{statement:?}") };
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let mut pieces = text.as_bytes().chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            buffer.extend_from_slice(piece);
            while let Some((fields, read)) =
                record(&load, &buffer, pieces.peek().is_none()).filter(|_| !buffer.is_empty())
            {
                buffer.drain(..read);
                found.extend(fields.map(|fields| {
                    fields.into_iter().map(|field| field.map(|field| String::from_utf8(field).unwrap())).collect()
                }));
            }
        }
        found
    }

    fn shown(records: &[Vec<Option<String>>]) -> Vec<String> {
        let field = |field: &Option<String>| field.clone().unwrap_or("NULL".into());
        records.iter().map(|record| record.iter().map(field).collect::<Vec<_>>().join("|")).collect()
    }

    #[test]
    fn files_are_read_the_same_in_any_pieces() {
        let csv = "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' LINES TERMINATED BY '\\r\\n'";
        let text = "1,\"a, \"\"b\"\"\r\nc\",\\N\r\n2,NULL,\"NULL\"\r\n,\\\"x,y\r\nlast,,";
        for piece in [1, 2, 3, 7, 1000] {
            let found = records(csv, text, piece);
            assert_eq!(shown(&found), ["1|a, \"b\"\r\nc|NULL", "2|NULL|NULL", "|\"x|y", "last||"], "pieces of {piece}");
            assert_eq!((&found[1][1], &found[1][2]), (&None, &Some("NULL".to_string())));
        }
    }

    #[test]
    fn tabs_and_backslashes_are_the_default() {
        assert_eq!(shown(&records("", "a\tb\\tc\t\\N\nd\te\\\nf\n", 4)), ["a|b\tc|NULL", "d|e\nf"]);
    }

    #[test]
    fn lines_without_the_prefix_are_skipped() {
        assert_eq!(shown(&records("LINES STARTING BY 'x:'", "x:1\t2\nnothing\nyx:3\n", 5)), ["1|2", "3"]);
    }
}
