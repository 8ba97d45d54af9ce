//! The one place that names the codec of control messages and of the catalog's log.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("memory takes any value")
}

/// The value of bytes that `encode` made; bytes that follow are an error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (value, read) =
        bincode::serde::decode_from_slice(bytes, bincode::config::standard()).map_err(|error| error.to_string())?;
    if read == bytes.len() { Ok(value) } else { Err(format!("{} bytes follow the value", bytes.len() - read)) }
}
