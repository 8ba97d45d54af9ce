//! Messages between replicas as bytes. Version 4; all integers little-endian, lists with a `u32` count in front.
//!
//! | part | layout |
//! |---|---|
//! | frame | version u8 = 4, database u64, ordinal i32, from node u64, from incarnation u64, life u64, reign u64, turn u32, message |
//! | between regions | version u8 = 4, message |
//! | Append | tag u8 = 1, prev u64, prev_epoch option, committed u64, reign_revision u64, losses u64, sink u8, mark option, records |
//! | Differ | tag u8 = 2, end u64, trimmed u64, lineage |
//! | Resume | tag u8 = 3, end u64, trimmed u64, relay u8, lineage, promotions |
//! | Ack | tag u8 = 4, matched u64, position u64, durable u64, mark u64 |
//! | epoch | number u64, cluster u64, nonce u64 |
//! | lineage entry | epoch, start_lsn u64, start_ts u64, kind u8, promotion (kind 1 alone) |
//! | promotion | id u128, cut u64 |
//! | mark | promotions, ts u64, lsn u64 |
//! | record | epoch, lsn u64, kind u8, payload bytes (`types::record`) |
//!
//! An option is a byte, 0 or 1, and its value. A lineage that breaks its own order is refused, as is anything left over.

use bytes::{BufMut, Bytes, BytesMut};
use types::record::Reader;
use types::{
    Body, ClusterId, DatabaseId, DecodeError, Epoch, Incarnation, Lineage, LineageEntry, Lsn, Mark, Member, NodeId,
    Ordinal, PartitionId, Promotion, PromotionId, Record, Reign, Revision, StartKind, Timestamp,
};

use crate::{Ack, Append, Frame, Life, Message, Resume, Stream};

const VERSION: u8 = 4;

/// The bytes of a frame.
pub fn encode_frame(frame: &Frame) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(VERSION);
    out.put_u64_le(frame.partition.database.0);
    out.put_i32_le(frame.partition.ordinal.0);
    out.put_u64_le(frame.from.node.0);
    out.put_u64_le(frame.from.incarnation.0);
    out.put_u64_le(frame.life.0);
    out.put_u64_le(frame.stream.reign.0);
    out.put_u32_le(frame.stream.turn);
    put_message(&frame.message, &mut out);
    out.freeze()
}

/// The frame of bytes that `encode_frame` made.
pub fn decode_frame(bytes: Bytes) -> Result<Frame, DecodeError> {
    let mut input = Reader::new(bytes);
    match input.u8()? {
        VERSION => {}
        tag => return Err(DecodeError::Tag { what: "frame version", tag }),
    }
    let partition = PartitionId { database: DatabaseId(input.u64()?), ordinal: Ordinal(input.i32()?) };
    let from = Member { node: NodeId(input.u64()?), incarnation: Incarnation(input.u64()?) };
    let life = Life(input.u64()?);
    let stream = Stream { reign: Reign(input.u64()?), turn: input.u32()? };
    let message = message(&mut input)?;
    end(&input)?;
    Ok(Frame { partition, from, life, stream, message })
}

/// The bytes of a message between regions; link and partition are named by the session.
pub fn encode_message(message: &Message) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(VERSION);
    put_message(message, &mut out);
    out.freeze()
}

/// The message of bytes that `encode_message` made.
pub fn decode_message(bytes: Bytes) -> Result<Message, DecodeError> {
    let mut input = Reader::new(bytes);
    match input.u8()? {
        VERSION => {}
        tag => return Err(DecodeError::Tag { what: "message version", tag }),
    }
    let message = message(&mut input)?;
    end(&input)?;
    Ok(message)
}

fn end(input: &Reader) -> Result<(), DecodeError> {
    match input.remaining() {
        0 => Ok(()),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn put_message(message: &Message, out: &mut BytesMut) {
    match message {
        Message::Append(append) => {
            out.put_u8(1);
            out.put_u64_le(append.prev.0);
            put_option(append.prev_epoch, out, put_epoch);
            out.put_u64_le(append.committed.0);
            out.put_u64_le(append.reign_revision.0);
            out.put_u64_le(append.losses);
            out.put_u8(u8::from(append.sink));
            put_option(append.mark.as_ref(), out, put_mark);
            put_list(&append.records, out, put_record);
        }
        Message::Differ { lineage, end, trimmed } => {
            out.put_u8(2);
            out.put_u64_le(end.0);
            out.put_u64_le(trimmed.0);
            put_list(lineage.entries(), out, put_entry);
        }
        Message::Resume(resume) => {
            out.put_u8(3);
            out.put_u64_le(resume.end.0);
            out.put_u64_le(resume.trimmed.0);
            out.put_u8(u8::from(resume.relay));
            put_list(resume.lineage.entries(), out, put_entry);
            put_list(&resume.promotions, out, put_promotion);
        }
        Message::Ack(ack) => {
            out.put_u8(4);
            for value in [ack.matched.0, ack.position.0, ack.durable.0, ack.mark.0] {
                out.put_u64_le(value);
            }
        }
    }
}

fn message(input: &mut Reader) -> Result<Message, DecodeError> {
    Ok(match input.u8()? {
        1 => Message::Append(Append {
            prev: Lsn(input.u64()?),
            prev_epoch: option(input, epoch)?,
            committed: Lsn(input.u64()?),
            reign_revision: Revision(input.u64()?),
            losses: input.u64()?,
            sink: flag(input)?,
            mark: option(input, mark)?,
            records: list(input, record)?,
        }),
        2 => {
            let (end, trimmed) = (Lsn(input.u64()?), Lsn(input.u64()?));
            Message::Differ { lineage: lineage(input)?, end, trimmed }
        }
        3 => {
            let (end, trimmed, relay) = (Lsn(input.u64()?), Lsn(input.u64()?), flag(input)?);
            let (lineage, promotions) = (lineage(input)?, list(input, promotion)?);
            Message::Resume(Resume { lineage, end, trimmed, promotions, relay })
        }
        4 => Message::Ack(Ack {
            matched: Lsn(input.u64()?),
            position: Lsn(input.u64()?),
            durable: Lsn(input.u64()?),
            mark: Timestamp(input.u64()?),
        }),
        tag => return Err(DecodeError::Tag { what: "message", tag }),
    })
}

fn put_option<T>(value: Option<T>, out: &mut BytesMut, put: impl Fn(T, &mut BytesMut)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

fn option<T>(
    input: &mut Reader,
    read: impl Fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if flag(input)? { read(input).map(Some) } else { Ok(None) }
}

fn flag(input: &mut Reader) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(DecodeError::Tag { what: "flag", tag }),
    }
}

fn put_list<T>(values: &[T], out: &mut BytesMut, put: impl Fn(&T, &mut BytesMut)) {
    out.put_u32_le(values.len() as u32);
    values.iter().for_each(|value| put(value, out));
}

fn list<T>(input: &mut Reader, read: impl Fn(&mut Reader) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
    let count = input.u32()? as usize;
    // Every value takes a byte at the least: a false count cannot reserve memory.
    let mut values = Vec::with_capacity(count.min(input.remaining() / 16));
    for _ in 0..count {
        values.push(read(input)?);
    }
    Ok(values)
}

fn put_epoch(epoch: Epoch, out: &mut BytesMut) {
    out.put_u64_le(epoch.number);
    out.put_u64_le(epoch.cluster.0);
    out.put_u64_le(epoch.nonce);
}

fn epoch(input: &mut Reader) -> Result<Epoch, DecodeError> {
    Ok(Epoch { number: input.u64()?, cluster: ClusterId(input.u64()?), nonce: input.u64()? })
}

fn put_promotion(promotion: &Promotion, out: &mut BytesMut) {
    out.put_u128_le(promotion.id.0);
    out.put_u64_le(promotion.cut.0);
}

fn promotion(input: &mut Reader) -> Result<Promotion, DecodeError> {
    Ok(Promotion { id: PromotionId(input.u128()?), cut: Timestamp(input.u64()?) })
}

fn put_mark(mark: &Mark, out: &mut BytesMut) {
    put_list(&mark.promotions, out, put_promotion);
    out.put_u64_le(mark.ts.0);
    out.put_u64_le(mark.lsn.0);
}

fn mark(input: &mut Reader) -> Result<Mark, DecodeError> {
    let promotions = list(input, promotion)?;
    Ok(Mark { promotions, ts: Timestamp(input.u64()?), lsn: Lsn(input.u64()?) })
}

fn put_entry(entry: &LineageEntry, out: &mut BytesMut) {
    put_epoch(entry.epoch, out);
    out.put_u64_le(entry.start_lsn.0);
    out.put_u64_le(entry.start_ts.0);
    match entry.kind {
        StartKind::Failover => out.put_u8(0),
        StartKind::Promotion { id, cut } => {
            out.put_u8(1);
            put_promotion(&Promotion { id, cut }, out);
        }
    }
}

fn entry(input: &mut Reader) -> Result<LineageEntry, DecodeError> {
    let (epoch, start_lsn, start_ts) = (epoch(input)?, Lsn(input.u64()?), Timestamp(input.u64()?));
    let kind = match input.u8()? {
        0 => StartKind::Failover,
        1 => {
            let Promotion { id, cut } = promotion(input)?;
            StartKind::Promotion { id, cut }
        }
        tag => return Err(DecodeError::Tag { what: "start kind", tag }),
    };
    Ok(LineageEntry { epoch, start_lsn, start_ts, kind })
}

fn lineage(input: &mut Reader) -> Result<Lineage, DecodeError> {
    let mut lineage = Lineage::new();
    for entry in list(input, entry)? {
        let last = lineage.last().map(|last| (last.epoch.number, last.start_lsn));
        if last.is_some_and(|(number, start)| number >= entry.epoch.number || start >= entry.start_lsn) {
            return Err(DecodeError::Tag { what: "order of lineage entries", tag: 0 });
        }
        lineage.push(entry);
    }
    Ok(lineage)
}

fn put_record(record: &Record, out: &mut BytesMut) {
    put_epoch(record.epoch, out);
    out.put_u64_le(record.lsn.0);
    out.put_u8(record.body.kind());
    let at = out.len();
    out.put_u32_le(0);
    record.body.encode(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn record(input: &mut Reader) -> Result<Record, DecodeError> {
    let (epoch, lsn, kind) = (epoch(input)?, Lsn(input.u64()?), input.u8()?);
    let body = Body::decode(kind, input.bytes()?)?;
    Ok(Record { epoch, lsn, body })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{TxnId, Write};

    use super::*;

    fn any_epoch() -> impl Strategy<Value = Epoch> {
        (1u64..9, any::<u64>(), any::<u64>()).prop_map(|(number, cluster, nonce)| Epoch {
            number,
            cluster: ClusterId(cluster),
            nonce,
        })
    }

    fn any_promotions() -> impl Strategy<Value = Vec<Promotion>> {
        prop::collection::vec((any::<u128>(), any::<u64>()), 0..3).prop_map(|list| {
            list.into_iter().map(|(id, cut)| Promotion { id: PromotionId(id), cut: Timestamp(cut) }).collect()
        })
    }

    fn any_lineage() -> impl Strategy<Value = Lineage> {
        prop::collection::vec((1u64..50, 1u64..50, any::<bool>()), 0..5).prop_map(|steps| {
            let (mut lineage, mut number, mut start) = (Lineage::new(), 0, 0);
            for (up, along, promoted) in steps {
                (number, start) = (number + up, start + along);
                let kind = match promoted {
                    true => StartKind::Promotion { id: PromotionId(u128::from(up)), cut: Timestamp(along) },
                    false => StartKind::Failover,
                };
                let epoch = Epoch { number, cluster: ClusterId(1), nonce: up };
                lineage.push(LineageEntry { epoch, start_lsn: Lsn(start), start_ts: Timestamp(up), kind });
            }
            lineage
        })
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let writes = prop::collection::vec((bytes(), prop::option::of(bytes())), 0..4);
        let writes = writes.prop_map(|list| list.into_iter().map(|(key, value)| Write { key, value }).collect());
        (any_epoch(), any::<u64>(), any::<u128>(), any::<u64>(), writes).prop_map(|(epoch, lsn, txn, ts, writes)| {
            Record { epoch, lsn: Lsn(lsn), body: Body::Commit { txn: TxnId(txn), ts: Timestamp(ts), writes } }
        })
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let mark = (any_promotions(), any::<u64>(), any::<u64>()).prop_map(|(promotions, ts, lsn)| Mark {
            promotions,
            ts: Timestamp(ts),
            lsn: Lsn(lsn),
        });
        let append = (
            any::<u64>(),
            prop::option::of(any_epoch()),
            prop::collection::vec(any_record(), 0..4),
            prop::option::of(mark),
            any::<(u64, u64, u64, bool)>(),
        );
        let append = append.prop_map(|(prev, prev_epoch, records, mark, (committed, revision, losses, sink))| {
            Message::Append(Append {
                prev: Lsn(prev),
                prev_epoch,
                records,
                committed: Lsn(committed),
                mark,
                reign_revision: Revision(revision),
                losses,
                sink,
            })
        });
        let differ = (any_lineage(), any::<(u64, u64)>()).prop_map(|(lineage, (end, trimmed))| Message::Differ {
            lineage,
            end: Lsn(end),
            trimmed: Lsn(trimmed),
        });
        let resume = (any_lineage(), any_promotions(), any::<(u64, u64, bool)>());
        let resume = resume.prop_map(|(lineage, promotions, (end, trimmed, relay))| {
            Message::Resume(Resume { lineage, end: Lsn(end), trimmed: Lsn(trimmed), promotions, relay })
        });
        let ack = any::<(u64, u64, u64, u64)>().prop_map(|(matched, position, durable, mark)| {
            let (matched, position, durable) = (Lsn(matched), Lsn(position), Lsn(durable));
            Message::Ack(Ack { matched, position, durable, mark: Timestamp(mark) })
        });
        prop_oneof![append, differ, resume, ack]
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was(message in any_message(), ids in any::<(u64, i32, u64, u64, u64, u32, u64)>()) {
            let frame = Frame {
                partition: PartitionId { database: DatabaseId(ids.0), ordinal: Ordinal(ids.1) },
                from: Member { node: NodeId(ids.2), incarnation: Incarnation(ids.3) },
                life: Life(ids.6),
                stream: Stream { reign: Reign(ids.4), turn: ids.5 },
                message,
            };
            prop_assert_eq!(decode_frame(encode_frame(&frame)), Ok(frame.clone()));
            prop_assert_eq!(decode_message(encode_message(&frame.message)), Ok(frame.message));
        }

        #[test]
        fn cut_and_changed_bytes_are_an_error_or_another_frame(message in any_message(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let bytes = encode_message(&message);
            let cut = at.index(bytes.len());
            prop_assert!(decode_message(bytes.slice(..cut)).is_err());
            let mut changed = bytes.to_vec();
            changed[cut] = to;
            if let Ok(other) = decode_message(Bytes::from(changed.clone())) {
                prop_assert_eq!(&*encode_message(&other), &*changed);
            }
        }
    }
}
