//! Prepared statements as the wire sees them: how many parameters, of which types, and what was sent ahead.
//!
//! Parameters of a COM_STMT_EXECUTE:
//!
//! ```text
//!  (n + 7) / 8 bytes   NULL bitmap, bit i of byte i / 8
//!  1 byte              1: types follow; 0: they are those of the execution before
//!  2 n bytes           type code, then 0x80 if unsigned
//!  …                   values in order, without those that are NULL or were sent as long data
//! ```
//!
//! Bounds: [`STATEMENTS_MAX`] statements a connection, `long_bytes_max` bytes of long data over all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use types::Decimal;
use types::value::{Civil, DAY, HOUR, MINUTE, SECOND};

use super::codec::{Malformed, Reader};
use super::constants::column_type as code;
use super::error::{self, SqlError};
use super::session::StatementId;
use super::value::{Value, days_of};

/// Statements that one connection may hold; MySQL's own limit is 16,382 for a server.
pub const STATEMENTS_MAX: usize = 16_382;

/// A parameter's type as the client bound it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ParameterType {
    code: u8,
    unsigned: bool,
}

#[derive(Debug, Default)]
struct Statement {
    parameter_count: usize,
    /// Empty until the first execution.
    types: Vec<ParameterType>,
    /// What was sent ahead, by the parameter's number.
    long_data: BTreeMap<u16, Vec<u8>>,
    /// Why the next execution must fail: COM_STMT_SEND_LONG_DATA has no answer of its own.
    deferred: Option<SqlError>,
}

/// The statements of one connection.
#[derive(Debug)]
pub struct Statements {
    by_id: BTreeMap<u32, Statement>,
    last_id: u32,
    long_bytes: usize,
    long_bytes_max: usize,
}

impl Statements {
    /// No statements; at most `long_bytes_max` bytes sent ahead.
    pub fn new(long_bytes_max: usize) -> Statements {
        Statements { by_id: BTreeMap::new(), last_id: 0, long_bytes: 0, long_bytes_max }
    }

    /// The number of the statement that is prepared next; never 0, and one that is not in use.
    pub fn next_id(&mut self) -> Result<StatementId, SqlError> {
        if self.by_id.len() >= STATEMENTS_MAX {
            let message = format!("Can't create more than {STATEMENTS_MAX} prepared statements; close some");
            return Err(SqlError::new(error::MAX_PREPARED_STMT_COUNT_REACHED, message));
        }
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !self.by_id.contains_key(&self.last_id) {
                return Ok(StatementId(self.last_id));
            }
        }
    }

    /// Holds a statement that the session has prepared.
    pub fn insert(&mut self, id: StatementId, parameter_count: u16) {
        let statement = Statement { parameter_count: usize::from(parameter_count), ..Statement::default() };
        let replaced = self.by_id.insert(id.0, statement);
        assert!(replaced.is_none(), "statement {} is held already", id.0);
    }

    /// Forgets a statement; false when there is none of that number.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(statement) = self.by_id.remove(&id) else { return false };
        self.long_bytes -= statement.long_data.values().map(Vec::len).sum::<usize>();
        true
    }

    /// Forgets all of them and answers their numbers.
    pub fn clear(&mut self) -> Vec<StatementId> {
        self.long_bytes = 0;
        std::mem::take(&mut self.by_id).into_keys().map(StatementId).collect()
    }

    /// Forgets what was sent ahead for a statement.
    pub fn reset(&mut self, id: u32) -> Result<(), SqlError> {
        let statement = self.by_id.get_mut(&id).ok_or_else(|| unknown(id, "mysql_stmt_reset"))?;
        let sent_ahead = std::mem::take(&mut statement.long_data);
        statement.deferred = None;
        self.long_bytes -= sent_ahead.values().map(Vec::len).sum::<usize>();
        Ok(())
    }

    /// Keeps a piece of a parameter. What is wrong with it shows at the next execution; a number that no statement
    /// has is ignored, as by MySQL.
    pub fn send_long_data(&mut self, id: u32, parameter: u16, data: &[u8]) {
        let Some(statement) = self.by_id.get_mut(&id) else { return };
        if usize::from(parameter) >= statement.parameter_count {
            let message = format!("Incorrect arguments to mysqld_stmt_send_long_data: no parameter {parameter}");
            statement.deferred = Some(SqlError::new(error::WRONG_ARGUMENTS, message));
        } else if self.long_bytes + data.len() > self.long_bytes_max {
            let message = format!(
                "Parameters that were sent ahead by COM_STMT_SEND_LONG_DATA are longer than {} bytes \
                 (max_allowed_packet)",
                self.long_bytes_max
            );
            statement.deferred = Some(SqlError::new(error::NET_PACKET_TOO_LARGE, message));
        } else {
            self.long_bytes += data.len();
            statement.long_data.entry(parameter).or_default().extend_from_slice(data);
        }
    }

    /// The values of an execution's parameters. What was sent ahead is used up, also by an execution that fails.
    pub fn bind(&mut self, id: u32, payload: &[u8]) -> Result<Vec<Value<'static>>, SqlError> {
        let statement = self.by_id.get_mut(&id).ok_or_else(|| unknown(id, "mysql_stmt_execute"))?;
        let sent_ahead = std::mem::take(&mut statement.long_data);
        self.long_bytes -= sent_ahead.values().map(Vec::len).sum::<usize>();
        if let Some(deferred) = statement.deferred.take() {
            return Err(deferred);
        }
        Ok(statement.read_parameters(payload, sent_ahead)?)
    }
}

fn unknown(id: u32, function: &str) -> SqlError {
    let message = format!("Unknown prepared statement handler ({id}) given to {function}");
    SqlError::new(error::UNKNOWN_STMT_HANDLER, message)
}

impl Statement {
    fn read_parameters(
        &mut self,
        payload: &[u8],
        mut sent_ahead: BTreeMap<u16, Vec<u8>>,
    ) -> Result<Vec<Value<'static>>, Malformed> {
        if self.parameter_count == 0 {
            return Ok(Vec::new());
        }
        let mut reader = Reader::new(payload);
        let nulls = reader.bytes(self.parameter_count.div_ceil(8), "NULL bitmap")?;
        if reader.u8("new-types flag")? == 1 {
            self.types = read_types(&mut reader, self.parameter_count)?;
        }
        if self.types.len() != self.parameter_count {
            return Err(Malformed("no types were ever sent for the parameters"));
        }
        let mut values = Vec::with_capacity(self.parameter_count);
        for (index, kind) in self.types.iter().enumerate() {
            let is_null = nulls[index / 8] & (1 << (index % 8)) != 0;
            // Parameters are counted in two bytes, so the number fits.
            values.push(match sent_ahead.remove(&(index as u16)) {
                Some(bytes) => text_or_bytes(kind.code, bytes),
                None if is_null => Value::Null,
                None => read_value(&mut reader, *kind)?,
            });
        }
        if !reader.is_empty() {
            return Err(Malformed("bytes after the last parameter"));
        }
        Ok(values)
    }
}

fn read_types(reader: &mut Reader<'_>, count: usize) -> Result<Vec<ParameterType>, Malformed> {
    let bytes = reader.bytes(2 * count, "types of parameters")?;
    Ok(bytes.chunks_exact(2).map(|pair| ParameterType { code: pair[0], unsigned: pair[1] & 0x80 != 0 }).collect())
}

fn read_value(reader: &mut Reader<'_>, kind: ParameterType) -> Result<Value<'static>, Malformed> {
    let what = "value of a parameter";
    let unsigned = kind.unsigned;
    Ok(match kind.code {
        code::NULL => Value::Null,
        code::TINY if unsigned => Value::UInt(u64::from(reader.u8(what)?)),
        code::TINY => Value::Int(i64::from(reader.u8(what)? as i8)),
        code::SHORT | code::YEAR if unsigned => Value::UInt(u64::from(reader.u16(what)?)),
        code::SHORT | code::YEAR => Value::Int(i64::from(reader.u16(what)? as i16)),
        code::LONG | code::INT24 if unsigned => Value::UInt(u64::from(reader.u32(what)?)),
        code::LONG | code::INT24 => Value::Int(i64::from(reader.u32(what)? as i32)),
        code::LONGLONG if unsigned => Value::UInt(reader.u64(what)?),
        code::LONGLONG => Value::Int(reader.u64(what)? as i64),
        code::FLOAT => Value::Float(f32::from_bits(reader.u32(what)?)),
        code::DOUBLE => Value::Double(f64::from_bits(reader.u64(what)?)),
        code::DATE | code::NEWDATE | code::DATETIME | code::TIMESTAMP => read_date(reader, kind.code)?,
        code::TIME => read_time(reader)?,
        code::DECIMAL | code::NEWDECIMAL => read_decimal(reader.length_bytes(what)?),
        code::VARCHAR
        | code::VAR_STRING
        | code::STRING
        | code::ENUM
        | code::SET
        | code::JSON
        | code::BIT
        | code::GEOMETRY => text_or_bytes(kind.code, reader.length_bytes(what)?.to_vec()),
        blob if is_blob(blob) => text_or_bytes(blob, reader.length_bytes(what)?.to_vec()),
        _ => return Err(Malformed("type of a parameter is unknown")),
    })
}

fn is_blob(type_code: u8) -> bool {
    matches!(type_code, code::TINY_BLOB | code::MEDIUM_BLOB | code::LONG_BLOB | code::BLOB)
}

/// Text when the client bound text and it is UTF-8, otherwise bytes: drivers bind binary strings as text too.
fn text_or_bytes(type_code: u8, bytes: Vec<u8>) -> Value<'static> {
    let is_binary = matches!(type_code, code::BIT | code::GEOMETRY) || is_blob(type_code);
    if is_binary {
        return Value::Bytes(Cow::Owned(bytes));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Value::Text(Cow::Owned(text)),
        Err(error) => Value::Bytes(Cow::Owned(error.into_bytes())),
    }
}

/// A decimal travels as text; what is none, or has more than 38 digits, is left to the statement as text.
fn read_decimal(bytes: &[u8]) -> Value<'static> {
    let text = String::from_utf8_lossy(bytes);
    match Decimal::parse(&text) {
        Ok(decimal) => Value::Decimal(decimal),
        Err(_too_large_or_none) => Value::Text(Cow::Owned(text.into_owned())),
    }
}

/// Length (0, 4, 7 or 11), year, month, day, then hour, minute, second, then microseconds. A date that is not of
/// the calendar, such as the zero date, becomes its text, so that the statement refuses it as it would in a query.
fn read_date(reader: &mut Reader<'_>, type_code: u8) -> Result<Value<'static>, Malformed> {
    let what = "date of a parameter";
    let length = reader.u8(what)?;
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Err(Malformed("length of a date is none of 0, 4, 7, 11"));
    }
    let mut fields = Reader::new(reader.bytes(usize::from(length), what)?);
    let (mut civil, mut clock, mut micros) = (Civil { year: 0, month: 0, day: 0 }, [0; 3], 0);
    if length >= 4 {
        let (year, month, day) = (fields.u16(what)?, fields.u8(what)?, fields.u8(what)?);
        civil = Civil { year: i32::from(year), month: u32::from(month), day: u32::from(day) };
    }
    if length >= 7 {
        clock = [fields.u8(what)?, fields.u8(what)?, fields.u8(what)?];
    }
    if length == 11 {
        micros = fields.u32(what)?;
    }
    let [hour, minute, second] = clock;
    let is_date_only = matches!(type_code, code::DATE | code::NEWDATE);
    let is_clock = hour < 24 && minute < 60 && second < 60 && i64::from(micros) < SECOND;
    Ok(match days_of(civil) {
        Some(days) if is_clock && is_date_only => Value::Date(days),
        Some(days) if is_clock => Value::DateTime(i64::from(days) * DAY + clock_micros(clock) + i64::from(micros)),
        _ => {
            let Civil { year, month, day } = civil;
            let date = format!("{year:04}-{month:02}-{day:02}");
            let clock = format!(" {hour:02}:{minute:02}:{second:02}.{micros:06}");
            Value::Text(Cow::Owned(if is_date_only { date } else { date + &clock }))
        }
    })
}

/// Length (0, 8 or 12), sign, days, hours, minutes, seconds, then microseconds.
fn read_time(reader: &mut Reader<'_>) -> Result<Value<'static>, Malformed> {
    let what = "time of a parameter";
    let length = reader.u8(what)?;
    if !matches!(length, 0 | 8 | 12) {
        return Err(Malformed("length of a time is none of 0, 8, 12"));
    }
    let mut fields = Reader::new(reader.bytes(usize::from(length), what)?);
    if length == 0 {
        return Ok(Value::Time(0));
    }
    let is_negative = fields.u8(what)? != 0;
    let days = i64::from(fields.u32(what)?);
    let clock = clock_micros([fields.u8(what)?, fields.u8(what)?, fields.u8(what)?]);
    let rest = if length == 12 { i64::from(fields.u32(what)?) } else { 0 };
    // 2^32 days are 3.7 * 10^20 microseconds: more than an i64 holds.
    let micros = days.checked_mul(DAY).and_then(|days| days.checked_add(clock + rest));
    let micros = micros.ok_or(Malformed("time of a parameter is out of range"))?;
    Ok(Value::Time(if is_negative { -micros } else { micros }))
}

/// Microseconds of hours, minutes and seconds.
fn clock_micros([hours, minutes, seconds]: [u8; 3]) -> i64 {
    i64::from(hours) * HOUR + i64::from(minutes) * MINUTE + i64::from(seconds) * SECOND
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_common::packets::ComStmtExecuteRequestBuilder;
    use mysql_common::proto::MySerialize;
    use mysql_common::value::Value as ClientValue;
    use proptest::prelude::*;
    use types::value::civil_from_days;

    const ID: StatementId = StatementId(1);

    fn statements(parameter_count: u16) -> Statements {
        let mut statements = Statements::new(1000);
        assert_eq!(statements.next_id(), Ok(ID));
        statements.insert(ID, parameter_count);
        statements
    }

    /// What mysql_common sends after the fixed fields of the command.
    fn client_payload(values: &[ClientValue]) -> Vec<u8> {
        let (body, _) = ComStmtExecuteRequestBuilder::new(ID.0).build(values);
        let mut bytes = Vec::new();
        body.serialize(&mut bytes);
        bytes.split_off(10)
    }

    fn pair() -> impl Strategy<Value = (ClientValue, Value<'static>)> {
        prop_oneof![
            Just((ClientValue::NULL, Value::Null)),
            any::<i64>().prop_map(|value| (ClientValue::Int(value), Value::Int(value))),
            any::<u64>().prop_map(|value| (ClientValue::UInt(value), Value::UInt(value))),
            any::<f64>().prop_map(|value| (ClientValue::Double(value), Value::Double(value))),
            any::<f32>().prop_map(|value| (ClientValue::Float(value), Value::Float(value))),
            "\\PC{0,300}"
                .prop_map(|text| { (ClientValue::Bytes(text.clone().into_bytes()), Value::Text(Cow::Owned(text))) }),
            (-719_162i32..2_932_896, 0..DAY).prop_map(|(days, rest)| {
                let Civil { year, month, day } = civil_from_days(days);
                let (seconds, micros) = ((rest / SECOND) as u32, (rest % SECOND) as u32);
                let [hour, minute, second] = [seconds / 3600, seconds / 60 % 60, seconds % 60].map(|n| n as u8);
                let client = ClientValue::Date(year as u16, month as u8, day as u8, hour, minute, second, micros);
                (client, Value::DateTime(i64::from(days) * DAY + rest))
            }),
            (any::<bool>(), 0i64..35 * DAY).prop_map(|(is_negative, micros)| {
                let seconds = micros / SECOND;
                let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map(|n| n as u8);
                let (days, rest) = ((micros / DAY) as u32, (micros % SECOND) as u32);
                let client = ClientValue::Time(is_negative, days, hour, minute, second, rest);
                (client, Value::Time(if is_negative { -micros } else { micros }))
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_a_client_binds_is_read(pairs in proptest::collection::vec(pair(), 0..20)) {
            let (client, expected): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let mut statements = statements(client.len() as u16);
            let found = statements.bind(ID.0, &client_payload(&client)).unwrap();
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        }

        #[test]
        fn any_bytes_are_values_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..80), count in 0u16..9) {
            let mut statements = statements(count);
            match statements.bind(ID.0, &bytes) {
                Ok(values) => prop_assert_eq!(values.len(), usize::from(count)),
                Err(error) => prop_assert_eq!(error.code(), error::MALFORMED_PACKET),
            }
        }
    }

    #[test]
    fn types_are_remembered() {
        let mut statements = statements(1);
        assert!(statements.bind(ID.0, &[0, 0, 5]).is_err(), "no types yet");
        assert_eq!(statements.bind(ID.0, &[0, 1, code::TINY, 0, 0xff]), Ok(vec![Value::Int(-1)]));
        assert_eq!(statements.bind(ID.0, &[0, 0, 5]), Ok(vec![Value::Int(5)]));
        assert_eq!(statements.bind(ID.0, &[1, 0]), Ok(vec![Value::Null]));
    }

    #[test]
    fn long_data_replaces_the_value_once() {
        let mut statements = statements(2);
        statements.send_long_data(ID.0, 0, b"ab");
        statements.send_long_data(ID.0, 0, b"\xffc");
        let payload = [0, 1, code::BLOB, 0, code::TINY, 0, 7];
        let expected = vec![Value::Bytes(Cow::Borrowed(b"ab\xffc")), Value::Int(7)];
        assert_eq!(statements.bind(ID.0, &payload), Ok(expected));
        assert_eq!(statements.long_bytes, 0);
        assert!(statements.bind(ID.0, &payload).is_err(), "the value must be in the packet now");
    }

    #[test]
    fn too_much_long_data_fails_the_execution_and_not_the_next() {
        let mut statements = statements(1);
        statements.send_long_data(ID.0, 0, &[b'x'; 800]);
        statements.send_long_data(ID.0, 0, &[b'x'; 201]);
        let payload = [0, 1, code::TINY, 0, 7];
        assert_eq!(statements.bind(ID.0, &payload).unwrap_err().code(), error::NET_PACKET_TOO_LARGE);
        assert_eq!(statements.bind(ID.0, &payload), Ok(vec![Value::Int(7)]));
        statements.send_long_data(ID.0, 9, b"x");
        assert_eq!(statements.bind(ID.0, &payload).unwrap_err().code(), error::WRONG_ARGUMENTS);
        statements.send_long_data(ID.0, 0, &[b'x'; 1000]);
        statements.reset(ID.0).unwrap();
        assert_eq!(statements.bind(ID.0, &payload), Ok(vec![Value::Int(7)]));
    }

    #[test]
    fn an_unknown_statement_is_1243() {
        let mut statements = statements(0);
        assert_eq!(statements.bind(9, &[]).unwrap_err().code(), error::UNKNOWN_STMT_HANDLER);
        assert_eq!(statements.reset(9).unwrap_err().code(), error::UNKNOWN_STMT_HANDLER);
        assert!(statements.remove(ID.0) && !statements.remove(ID.0));
    }

    #[test]
    fn a_date_that_is_none_stays_text() {
        let mut statements = statements(1);
        let zero = statements.bind(ID.0, &[0, 1, code::DATE, 0, 0]).unwrap();
        assert_eq!(zero, [Value::Text(Cow::Borrowed("0000-00-00"))]);
        let february = statements.bind(ID.0, &[0, 1, code::DATETIME, 0, 4, 0xea, 7, 2, 30]).unwrap();
        assert_eq!(february, [Value::Text(Cow::Borrowed("2026-02-30 00:00:00.000000"))]);
    }
}
