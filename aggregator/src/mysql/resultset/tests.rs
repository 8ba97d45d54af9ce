//! mysql_common, the client's side of the protocol, reads what is written here.

use super::*;
use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    Column as ClientColumn, CommonOkPacket, ErrPacket, OkPacketDeserializer, OldEofPacket, ResultSetTerminator,
};
use mysql_common::proto::{Binary, MyDeserialize, Text};
use mysql_common::row::RowDeserializer;
use mysql_common::value::{ServerSide, Value as ClientValue};
use proptest::prelude::*;
use std::sync::Arc;

fn completion() -> Completion {
    Completion {
        affected_rows: 300,
        last_insert_id: 70_000,
        warnings: 2,
        info: "Records: 3".to_owned(),
        status: Status { autocommit: true, in_transaction: true },
        more_results: true,
    }
}

#[test]
fn a_client_reads_ok() {
    let mut out = BytesMut::new();
    write_ok(&mut out, &completion());
    let flags = CapabilityFlags::from_bits_truncate(Capabilities::PROTOCOL_41.0);
    let packet = OkPacketDeserializer::<CommonOkPacket>::deserialize(flags, &mut ParseBuf(&out)).unwrap().into_inner();
    assert_eq!((packet.affected_rows(), packet.last_insert_id()), (300, Some(70_000)));
    assert_eq!(packet.warnings(), 2);
    let expected = StatusFlags::SERVER_STATUS_AUTOCOMMIT
        | StatusFlags::SERVER_STATUS_IN_TRANS
        | StatusFlags::SERVER_MORE_RESULTS_EXISTS;
    assert_eq!(packet.status_flags(), expected);
}

#[test]
fn a_client_reads_the_end_of_rows_in_both_forms() {
    let (mut old, mut new) = (BytesMut::new(), BytesMut::new());
    write_end(&mut old, Capabilities(0), &completion());
    write_end(&mut new, Capabilities::DEPRECATE_EOF, &completion());
    assert_eq!(old.len(), 5);
    let flags = CapabilityFlags::empty();
    let old = OkPacketDeserializer::<OldEofPacket>::deserialize(flags, &mut ParseBuf(&old)).unwrap().into_inner();
    let flags = CapabilityFlags::CLIENT_DEPRECATE_EOF;
    let new =
        OkPacketDeserializer::<ResultSetTerminator>::deserialize(flags, &mut ParseBuf(&new)).unwrap().into_inner();
    for packet in [&old, &new] {
        assert_eq!(packet.warnings(), 2);
        assert!(packet.status_flags().contains(StatusFlags::SERVER_MORE_RESULTS_EXISTS));
    }
}

#[test]
fn a_client_reads_errors() {
    let long = "é".repeat(MESSAGE_BYTES_MAX);
    for (message, bytes) in [("Table 'db.t' doesn't exist", 26), (&long, MESSAGE_BYTES_MAX)] {
        let mut out = BytesMut::new();
        write_error(&mut out, &SqlError::new(error::NO_SUCH_TABLE, message));
        let packet = ErrPacket::deserialize(CapabilityFlags::CLIENT_PROTOCOL_41, &mut ParseBuf(&out)).unwrap();
        let server_error = packet.server_error();
        assert_eq!(server_error.error_code(), error::NO_SUCH_TABLE);
        assert_eq!(server_error.sql_state_ref().unwrap().as_bytes(), *b"42S02");
        assert_eq!(server_error.message_ref(), &message.as_bytes()[..bytes]);
    }
}

#[test]
fn a_client_reads_columns() {
    use super::super::constants::column_flag;
    let flags = column_flag::NOT_NULL | column_flag::PRIMARY_KEY;
    let mut column = Column::of_table("db", "t", "id", ColumnKind::BigInt { unsigned: true }, flags);
    column.name = "alias".to_owned();
    let mut out = BytesMut::new();
    write_column(&mut out, &column, false);
    let found = ClientColumn::deserialize((), &mut ParseBuf(&out)).unwrap();
    assert_eq!((found.schema_str().as_ref(), found.table_str().as_ref()), ("db", "t"));
    assert_eq!((found.name_str().as_ref(), found.org_name_str().as_ref()), ("alias", "id"));
    assert_eq!(found.column_length(), 20);
    assert_eq!(found.flags().bits(), flags | column_flag::UNSIGNED | column_flag::BINARY);
    assert_eq!(found.character_set(), 63);
}

fn client_columns(columns: &[Column]) -> Arc<[ClientColumn]> {
    let read = |column| {
        let mut out = BytesMut::new();
        write_column(&mut out, column, false);
        ClientColumn::deserialize((), &mut ParseBuf(&out)).unwrap()
    };
    columns.iter().map(read).collect()
}

/// A kind, a value of it, and what a client must see in the binary protocol.
fn cell() -> impl Strategy<Value = (ColumnKind, Value<'static>, ClientValue)> {
    use ColumnKind::*;
    let bytes = |text: &str| ClientValue::Bytes(text.as_bytes().to_vec());
    prop_oneof![
        Just((VarChar(5), Value::Null, ClientValue::NULL)),
        any::<i8>().prop_map(|v| (TinyInt { unsigned: false }, Value::Int(v.into()), ClientValue::Int(v.into()))),
        any::<i16>().prop_map(|v| (SmallInt { unsigned: false }, Value::Int(v.into()), ClientValue::Int(v.into()))),
        any::<i32>().prop_map(|v| (Int { unsigned: false }, Value::Int(v.into()), ClientValue::Int(v.into()))),
        any::<i64>().prop_map(|v| (BigInt { unsigned: false }, Value::Int(v), ClientValue::Int(v))),
        any::<u64>().prop_map(|v| {
            let seen = i64::try_from(v).map_or(ClientValue::UInt(v), ClientValue::Int);
            (BigInt { unsigned: true }, Value::UInt(v), seen)
        }),
        any::<f64>().prop_map(|v| (Double, Value::Double(v), ClientValue::Double(v))),
        any::<f32>().prop_map(|v| (Float, Value::Float(v), ClientValue::Float(v))),
        "\\PC{0,300}".prop_map(move |v| (Text, Value::Text(v.clone().into()), bytes(&v))),
        Just((
            Decimal { precision: 9, scale: 2, unsigned: false },
            Value::Decimal(types::Decimal::new(-105, 2).unwrap()),
            bytes("-1.05")
        )),
        (0i32..2_932_896, 0..DAY).prop_map(|(days, rest)| {
            let Civil { year, month, day } = civil_from_days(days);
            let (seconds, micros) = ((rest / SECOND) as u32, (rest % SECOND) as u32);
            let [h, m, s] = [seconds / 3600, seconds / 60 % 60, seconds % 60].map(|n| n as u8);
            let seen = ClientValue::Date(year as u16, month as u8, day as u8, h, m, s, micros);
            (DateTime(6), Value::DateTime(i64::from(days) * DAY + rest), seen)
        }),
        (any::<bool>(), 1i64..35 * DAY).prop_map(|(negative, all)| {
            let seconds = all / SECOND;
            let [h, m, s] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map(|n| n as u8);
            let seen = ClientValue::Time(negative, (all / DAY) as u32, h, m, s, (all % SECOND) as u32);
            (Time(6), Value::Time(if negative { -all } else { all }), seen)
        }),
    ]
}

proptest! {
    #[test]
    fn a_client_reads_binary_rows(cells in proptest::collection::vec(cell(), 1..30)) {
        let columns: Vec<Column> = cells.iter().map(|(kind, ..)| Column::new("c", *kind)).collect();
        let row: Vec<Value<'_>> = cells.iter().map(|(_, value, _)| value.clone()).collect();
        let mut out = BytesMut::new();
        write_binary_row(&mut out, &columns, &row).unwrap();
        let read = RowDeserializer::<ServerSide, Binary>::deserialize(client_columns(&columns), &mut ParseBuf(&out));
        let found: Vec<ClientValue> = read.unwrap().into_inner().unwrap();
        let expected: Vec<ClientValue> = cells.into_iter().map(|(.., seen)| seen).collect();
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_client_reads_rows_of_text(cells in proptest::collection::vec(cell(), 1..30)) {
        let columns: Vec<Column> = cells.iter().map(|(kind, ..)| Column::new("c", *kind)).collect();
        let row: Vec<Value<'_>> = cells.iter().map(|(_, value, _)| value.clone()).collect();
        let mut out = BytesMut::new();
        write_text_row(&mut out, &columns, &row).unwrap();
        let read = RowDeserializer::<ServerSide, Text>::deserialize(client_columns(&columns), &mut ParseBuf(&out));
        let found: Vec<ClientValue> = read.unwrap().into_inner().unwrap();
        for ((kind, value, _), found) in cells.into_iter().zip(found) {
            let mut text = String::new();
            value.write_text(&mut text, kind.fraction()).unwrap();
            let expected = if value == Value::Null { ClientValue::NULL } else { ClientValue::Bytes(text.into_bytes()) };
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_value_of_another_type_is_an_error_and_not_a_wrong_answer() {
    let tiny = [Column::new("c", ColumnKind::TinyInt { unsigned: false })];
    for value in [Value::Int(256), Value::Int(-129), Value::UInt(256), Value::Double(1.0), Value::Text("1".into())] {
        let mut out = BytesMut::new();
        let error = write_binary_row(&mut out, &tiny, &[value]).unwrap_err();
        assert_eq!(error.code(), error::UNKNOWN_ERROR);
    }
    let mut out = BytesMut::new();
    assert!(write_text_row(&mut out, &tiny, &[]).is_err());
}
