use proptest::prelude::*;

use super::*;

fn bytes_of(stream: u64, sealed: &Sealed) -> Vec<u8> {
    [&sealed.header(stream)[..], &sealed.payload[..]].concat()
}

fn decode_all(bytes: &[u8], chunk: usize, trusted: bool) -> Result<Vec<(u64, Frame)>, FrameError> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for part in bytes.chunks(chunk) {
        decoder.buffer().extend_from_slice(part);
        while let Some((stream, sealed)) = decoder.next(trusted)? {
            frames.push((stream, sealed.open(trusted)?));
        }
    }
    Ok(frames)
}

fn any_frame() -> impl Strategy<Value = (u64, Frame)> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0usize..20_000).prop_map(|(byte, length)| vec![byte; length]),
    ];
    (any::<u64>(), 16u8..=255, payload, any::<bool>()).prop_map(|(stream, kind, payload, compress)| {
        (stream, Frame { kind: Kind(kind), payload: Bytes::from(payload), compress })
    })
}

proptest! {
    #[test]
    fn round_trip_in_any_pieces(frames in proptest::collection::vec(any_frame(), 0..8), chunk in 1usize..500) {
        let mut bytes = Vec::new();
        for (stream, frame) in &frames {
            bytes.extend(bytes_of(*stream, &frame.clone().seal().unwrap()));
        }
        let found = decode_all(&bytes, chunk, true).unwrap();
        let expected: Vec<_> =
            frames.into_iter().map(|(stream, frame)| (stream, Frame { compress: false, ..frame })).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn garbage_never_panics_and_never_exceeds_a_limit(bytes: Vec<u8>, chunk in 1usize..64, trusted: bool) {
        if let Ok(frames) = decode_all(&bytes, chunk, trusted) {
            for (_, frame) in frames {
                prop_assert!(frame.payload.len() <= bytes_max(frame.kind, trusted));
            }
        }
    }

    #[test]
    fn a_flipped_bit_never_panics((stream, frame) in any_frame(), at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = bytes_of(stream, &frame.seal().unwrap());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(frames) = decode_all(&bytes, 4096, true) {
            prop_assert!(frames.len() <= 1 + bytes.len() / HEADER_BYTES);
        }
    }

    #[test]
    fn a_frame_costs_its_bytes_and_never_more_than_the_window((_, frame) in any_frame(), window in 1u32..100_000) {
        let sealed = frame.seal().unwrap();
        let cost = sealed.charge(window);
        prop_assert!(cost <= window);
        prop_assert!(cost == window || cost as usize == sealed.payload.len() + FRAME_CHARGE_BYTES as usize);
    }
}

#[test]
fn a_length_beyond_the_class_is_refused_before_the_payload() {
    for kind in [Kind::PING, Kind::message(0), Kind::message(111), Kind::bulk(0), Kind::bulk(127)] {
        let mut header = Sealed { kind, compressed: false, payload: Bytes::new() }.header(1);
        header[..4].copy_from_slice(&(kind.bytes_max() as u32).to_le_bytes());
        assert_eq!(decode_all(&header, 64, true), Ok(Vec::new()), "{kind:?}: the largest frame is not yet whole");
        header[..4].copy_from_slice(&(kind.bytes_max() as u32 + 1).to_le_bytes());
        let error = decode_all(&header, 64, true).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { .. }), "{kind:?}: {error}");
    }
}

#[test]
fn an_untrusted_peer_has_the_small_limit() {
    let frame = Frame::new(Kind::bulk(1), vec![7; UNTRUSTED_BYTES_MAX + 1]);
    let bytes = bytes_of(0, &frame.clone().seal().unwrap());
    assert!(matches!(decode_all(&bytes, 4096, false), Err(FrameError::TooLarge { max: UNTRUSTED_BYTES_MAX, .. })));
    let packed = bytes_of(0, &frame.compressed().seal().unwrap());
    assert!(packed.len() < 1000);
    assert!(matches!(decode_all(&packed, 4096, false), Err(FrameError::TooLarge { max: UNTRUSTED_BYTES_MAX, .. })));
    assert_eq!(decode_all(&packed, 4096, true).unwrap().len(), 1);
}

#[test]
fn a_payload_beyond_the_class_is_not_sent() {
    let error = Frame::new(Kind::message(3), vec![0; MESSAGE_BYTES_MAX + 1]).seal().unwrap_err();
    assert_eq!(error, FrameError::TooLarge { kind: Kind(19), bytes: MESSAGE_BYTES_MAX + 1, max: MESSAGE_BYTES_MAX });
}

#[test]
fn compression_is_used_only_where_it_helps() {
    let frame = |payload: Vec<u8>| Frame::new(Kind::bulk(1), payload).compressed().seal().unwrap();
    assert!(frame(vec![1; 100_000]).payload.len() < 1000);
    assert!(!frame(vec![1; COMPRESS_FROM_BYTES - 1]).compressed);
    let mut random = 1u64;
    let noise = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 56) as u8
    });
    let noise: Vec<u8> = noise.take(10_000).collect();
    assert!(!frame(noise).compressed);
}

#[test]
fn a_decompression_bomb_is_refused() {
    let packed = zstd::bulk::compress(&vec![0; 3 * MESSAGE_BYTES_MAX], COMPRESS_LEVEL).unwrap();
    let bomb = |claimed: u32| {
        let payload = [&claimed.to_le_bytes()[..], &packed[..]].concat();
        Sealed { kind: Kind::message(1), compressed: true, payload: payload.into() }.open(true).unwrap_err()
    };
    assert!(matches!(bomb(3 * MESSAGE_BYTES_MAX as u32), FrameError::TooLarge { .. }), "an honest bomb");
    assert!(matches!(bomb(100), FrameError::Compression(_)), "one that lies");
    assert!(matches!(bomb(u32::MAX), FrameError::TooLarge { .. }), "one that asks for all memory");
    let small = zstd::bulk::compress(&[0; 50], COMPRESS_LEVEL).unwrap();
    let payload = [&100u32.to_le_bytes()[..], &small[..]].concat();
    let short = Sealed { kind: Kind::message(1), compressed: true, payload: payload.into() }.open(true);
    assert!(matches!(short, Err(FrameError::Compression(_))), "one that holds less than it says");
}

#[test]
fn unknown_flags_and_kinds_are_refused() {
    let mut header = Sealed { kind: Kind::bulk(0), compressed: false, payload: Bytes::new() }.header(1);
    header[5] = 2;
    assert!(matches!(decode_all(&header, 64, true), Err(FrameError::Header { flags: 2, .. })));
    header[5] = 0;
    header[7] = 1;
    assert!(matches!(decode_all(&header, 64, true), Err(FrameError::Header { reserved: 256, .. })));
    for kind in [0, 10, 15] {
        header[4..8].copy_from_slice(&[kind, 0, 0, 0]);
        assert_eq!(decode_all(&header, 64, true), Err(FrameError::Kind(kind)));
    }
    header[4..8].copy_from_slice(&[3, 1, 0, 0]);
    assert_eq!(decode_all(&header, 64, true), Err(FrameError::Kind(3)), "control frames are never compressed");
}

#[test]
fn a_kept_small_frame_does_not_keep_its_chunk() {
    let mut decoder = Decoder::default();
    let sealed = Frame::new(Kind::message(0), vec![1; 100]).seal().unwrap();
    decoder.buffer().reserve(1 << 20);
    decoder.buffer().extend_from_slice(&bytes_of(0, &sealed));
    let start = decoder.buffer.as_ptr();
    let (_, kept) = decoder.next(true).unwrap().unwrap();
    assert_ne!(kept.payload.as_ptr(), start.wrapping_add(HEADER_BYTES), "the payload was copied");
}
