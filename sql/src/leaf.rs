//! A leaf's part of a statement, as pure functions: rows of a range in, batches out; a row as it is, what becomes of it.

use std::cmp::Ordering;

use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use types::Datum;
use types::key::decode_key;
use types::value::Zone;

use crate::arrow::Columns;
use crate::cluster::{Program, Row, RowWrite, Scan, WriteBatch, Written};
use crate::error::{Error, Result};
use crate::layout::{Field, Layout, Picker};
use crate::scalar::{Env, Scalar};
use crate::schema::{decode_sequence, encode_sequence};

/// Rows of a batch at most.
const BATCH_ROWS: usize = 4096;
/// Bytes of values of a batch, about, at most.
const BATCH_BYTES: usize = 1 << 20;

/// Turns stored rows into batches. Memory is that of one batch.
pub struct Scanner {
    env: Env,
    /// Reads the filter's and the projection's columns.
    picker: Picker,
    /// The filter over the decoded values.
    filter: Option<Scalar>,
    /// Where the projection's columns are among the decoded.
    output: Vec<usize>,
    columns: Columns,
    left: u64,
}

impl Scanner {
    /// Begins a scan.
    pub fn new(scan: Scan) -> Result<Scanner> {
        if scan.projection.iter().any(|place| *place >= scan.layout.fields.len()) {
            return Err(Error::new(1105, "a scan asks for a column that its table does not have"));
        }
        let mut places = scan.projection.clone();
        if let Some(filter) = &scan.filter {
            filter.columns(&mut |place| places.push(place));
        }
        places.sort_unstable();
        places.dedup();
        let index = |place: usize| places.binary_search(&place).expect("it was put in");
        let filter = scan.filter.clone().map(|filter| filter.moved(&index));
        let output: Vec<usize> = scan.projection.iter().map(|place| index(*place)).collect();
        let columns = Columns::new(scan.projection.iter().map(|place| &scan.layout.fields[*place].ty));
        let (env, left) = (Env::new(scan.zone), scan.limit.unwrap_or(u64::MAX));
        let picker = scan.layout.picker(&places);
        Ok(Scanner { env, picker, filter, output, columns, left })
    }

    /// Whether no further row is wanted.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Takes a stored row; a batch if one is full.
    pub fn push(&mut self, key: &Bytes, value: &Bytes) -> Result<Option<RecordBatch>> {
        if self.is_done() {
            return Ok(None);
        }
        let row = self.picker.pick(key, value, Some(&self.env.zone as &dyn Zone))?;
        if let Some(filter) = &self.filter
            && !filter.holds(&row, &self.env)?
        {
            return Ok(None);
        }
        self.left -= 1;
        self.columns.push(self.output.iter().map(|at| row[*at].clone()))?;
        if self.columns.rows() >= BATCH_ROWS || self.columns.bytes() >= BATCH_BYTES {
            return self.columns.take().map(Some);
        }
        Ok(None)
    }

    /// What is left.
    pub fn finish(mut self) -> Result<Option<RecordBatch>> {
        if self.columns.rows() == 0 { Ok(None) } else { self.columns.take().map(Some) }
    }
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// This value.
    Put(Bytes),
    /// It goes.
    Delete,
}

/// What a write does to the row under its key, which is `current` now. `row` counts from 1 within the batch, for
/// messages.
pub fn apply(batch: &WriteBatch, write: &RowWrite, current: Option<&Bytes>, row: u64) -> Result<(Change, Written)> {
    let done = |affected: u64| Written { matched: current.is_some(), affected, ..Written::default() };
    match (write, current) {
        (
            RowWrite::Insert(new) | RowWrite::InsertIgnore(new) | RowWrite::Replace(new) | RowWrite::Upsert(new),
            None,
        ) => Ok((Change::Put(new.value.clone()), done(1))),
        (RowWrite::Insert(new), Some(_)) => Err(duplicate(&batch.layout, &new.key)),
        (RowWrite::InsertIgnore(new), Some(_)) => {
            let error = duplicate(&batch.layout, &new.key);
            let warnings = vec![crate::scalar::Warning { code: error.code, message: error.message }];
            Ok((Change::Keep, Written { warnings, ..done(0) }))
        }
        (RowWrite::Replace(new), Some(_)) => Ok((Change::Put(new.value.clone()), done(2))),
        (RowWrite::Upsert(new), Some(current)) => {
            let (change, written) = run(batch, &new.key, current, Some(new), row)?;
            Ok((change, Written { affected: written.affected * 2, ..written }))
        }
        (RowWrite::Update(key), Some(current)) => run(batch, key, current, None, row),
        (RowWrite::Delete(key) | RowWrite::Take(key), Some(current)) => {
            if !is_meant(batch, key, current)? {
                return Ok((Change::Keep, Written::default()));
            }
            let old = matches!(write, RowWrite::Take(_)).then(|| current.clone());
            Ok((Change::Delete, Written { old, ..done(1) }))
        }
        (RowWrite::Update(_) | RowWrite::Delete(_) | RowWrite::Take(_), None) => Ok((Change::Keep, done(0))),
        (RowWrite::Advance { count, at_least, .. }, current) => {
            let next = current.map_or(Ok(1), |current| decode_sequence(current.clone()))?.max(*at_least);
            let after = next
                .checked_add(*count)
                .ok_or_else(|| Error::new(1467, "Failed to read auto-increment value from storage engine"))?;
            Ok((Change::Put(encode_sequence(after)), Written { old: Some(encode_sequence(next)), ..done(1) }))
        }
    }
}

/// 1062, with the key's columns as MySQL writes them.
fn duplicate(layout: &Layout, key: &Bytes) -> Error {
    let columns = decode_key(key).map(|(_, columns)| columns).unwrap_or_default();
    let entry: Vec<String> = columns.iter().map(Datum::to_string).collect();
    Error::new(1062, format!("Duplicate entry '{}' for key '{}.PRIMARY'", entry.join("-"), layout.name))
}

fn is_meant(batch: &WriteBatch, key: &Bytes, current: &Bytes) -> Result<bool> {
    let Some(filter) = batch.program.as_ref().and_then(|program| program.filter.as_ref()) else { return Ok(true) };
    let row = batch.layout.decode_all(key, current, Some(&batch.zone as &dyn Zone))?;
    filter.holds(&row, &Env::new(batch.zone))
}

/// Runs the program on a row that is there.
fn run(batch: &WriteBatch, key: &Bytes, current: &Bytes, new: Option<&Row>, row: u64) -> Result<(Change, Written)> {
    let Some(Program { filter, set, touch }) = &batch.program else {
        return Err(Error::new(1105, "an update came without what it sets"));
    };
    let (zone, env) = (&batch.zone as &dyn Zone, Env::new(batch.zone));
    let stored = batch.layout.decode_all(key, current, None)?;
    // Expressions see local times and, behind the row, the one that was to be inserted; what is stored stays as it is.
    let mut seen: Vec<Datum> = stored.iter().cloned().map(|value| crate::layout::localize(value, Some(zone))).collect();
    if let Some(new) = new {
        seen.extend(batch.layout.decode_all(key, &new.value, Some(zone))?);
    }
    if let Some(filter) = filter
        && !filter.holds(&seen, &env)?
    {
        return Ok((Change::Keep, Written::default()));
    }
    let mut changed = stored.clone();
    let is_same = |changed: &[Datum]| stored.iter().zip(changed).all(|(a, b)| a.compare(b) == Ordering::Equal);
    let mut assign = |changed: &mut Vec<Datum>, place: &usize, value: &Scalar| -> Result<()> {
        let field = &batch.layout.fields[*place];
        assert!(field.key.is_none(), "column {} of a key is set in place", field.name);
        changed[*place] = fit(field, value.eval(&seen, &env)?, zone, batch.strict, &env, row)?;
        seen[*place] = crate::layout::localize(changed[*place].clone(), Some(zone));
        Ok(())
    };
    set.iter().try_for_each(|(place, value)| assign(&mut changed, place, value))?;
    let same = is_same(&changed);
    if !same {
        touch.iter().try_for_each(|(place, value)| assign(&mut changed, place, value))?;
    }
    let written = Written { matched: true, affected: u64::from(!same), old: None, warnings: env.take_warnings() };
    let change = if same { Change::Keep } else { Change::Put(batch.layout.encode_value(&changed)?) };
    Ok((change, written))
}

/// A value as a column keeps it. Where it does not fit, the error in strict mode, else a warning and what is kept.
pub fn fit(field: &Field, value: Datum, zone: &dyn Zone, strict: bool, env: &Env, row: u64) -> Result<Datum> {
    if value.is_null() {
        if field.nullable {
            return Ok(value);
        }
        let error = Error::new(1048, format!("Column '{}' cannot be null", field.name));
        if strict {
            return Err(error);
        }
        env.warn(error.code, error.message);
        return Ok(crate::schema::implicit_default(&field.ty));
    }
    match field.ty.convert(value, zone) {
        Ok(value) => Ok(value),
        Err(misfit) => {
            let (code, message) = (misfit.kind.code(), misfit.kind.message(&field.name, row));
            match misfit.adjusted {
                Some(kept) if !strict => {
                    env.warn(code, message);
                    let lost = kept.is_null() && !field.nullable;
                    Ok(if lost { crate::schema::implicit_default(&field.ty) } else { kept })
                }
                _ => Err(Error::new(code, message)),
            }
        }
    }
}
