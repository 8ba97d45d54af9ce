//! Values to bytes and back: bincode 2 over serde, for control messages only. The one place that names bincode.
//!
//! Log records, rows and keys have formats of their own in `types`, because they live on disk for years; what is
//! encoded here lives as long as a session, between two nodes that agreed on a version.
//!
//! - Decoding never allocates more than [`BULK_BYTES_MAX`], whatever the bytes claim.
//! - Bytes left over after the value are an error: a peer of another shape must not pass as this one.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::BULK_BYTES_MAX;

/// Why a value did not become bytes or bytes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value is too large, or of a kind that has no encoding.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// Its type.
        what: &'static str,
        /// What bincode said.
        reason: String,
    },
    /// The bytes are of another type or version, cut off, or too large.
    #[error("cannot decode {what} from {bytes} bytes: {reason}")]
    Decode {
        /// The type that was asked for.
        what: &'static str,
        /// How many bytes there were.
        bytes: usize,
        /// What bincode said.
        reason: String,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<BULK_BYTES_MAX>()
}

/// The bytes of a value, at most [`BULK_BYTES_MAX`].
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    let what = std::any::type_name::<T>();
    let bytes = bincode::serde::encode_to_vec(value, config())
        .map_err(|error| CodecError::Encode { what, reason: error.to_string() })?;
    if bytes.len() > BULK_BYTES_MAX {
        let reason = format!("{} bytes are more than the {BULK_BYTES_MAX} of a frame", bytes.len());
        return Err(CodecError::Encode { what, reason });
    }
    Ok(Bytes::from(bytes))
}

/// The value of which `bytes` is the whole encoding.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let bad = |reason: String| CodecError::Decode { what: std::any::type_name::<T>(), bytes: bytes.len(), reason };
    let (value, used) = bincode::serde::decode_from_slice(bytes, config()).map_err(|error| bad(error.to_string()))?;
    if used != bytes.len() {
        return Err(bad(format!("{} bytes are left over", bytes.len() - used)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Nothing,
        Pair(u64, String),
        Blob { bytes: Vec<u8>, at: Option<types::Lsn> },
    }

    #[test]
    fn leftovers_and_cut_offs_are_errors() {
        let whole = encode(&Sample::Pair(7, "seven".into())).unwrap();
        let mut longer = whole.to_vec();
        longer.push(0);
        assert!(decode::<Sample>(&longer).unwrap_err().to_string().contains("left over"));
        for end in 0..whole.len() {
            assert!(decode::<Sample>(&whole[..end]).is_err(), "accepted {end} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_allocates_nothing() {
        // Variant 2, then a length of u64::MAX: 253 announces eight bytes.
        let mut bytes = vec![2, 253];
        bytes.extend([0xff; 8]);
        assert!(matches!(decode::<Sample>(&bytes), Err(CodecError::Decode { .. })));
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused() {
        let value = Sample::Blob { bytes: vec![0; BULK_BYTES_MAX], at: None };
        assert!(matches!(encode(&value), Err(CodecError::Encode { .. })));
    }

    proptest! {
        #[test]
        fn round_trip(number: u64, text: String, bytes: Vec<u8>, at: Option<u64>) {
            let at = at.map(types::Lsn);
            for value in [Sample::Nothing, Sample::Pair(number, text), Sample::Blob { bytes, at }] {
                prop_assert_eq!(decode::<Sample>(&encode(&value).unwrap()).unwrap(), value);
            }
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            if let Ok(value) = decode::<Sample>(&bytes) {
                prop_assert!(encode(&value).unwrap().len() <= bytes.len());
            }
        }
    }
}
