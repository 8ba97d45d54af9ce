//! The handshake: the server's greeting, who the client is, and the proof of its password.

use std::io::{Read, Write};

use sha1::{Digest, Sha1};

use super::error::ClientError;
use super::packet::{Cursor, Wire};

const NATIVE: &str = "mysql_native_password";
const NONCE_BYTES: usize = 20;
const PACKET_BYTES_MAX: u32 = 64 << 20;
const UTF8MB4_BIN: u8 = 46;

/// LONG_PASSWORD, LOCAL_FILES, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH, DEPRECATE_EOF.
const CAPABILITIES: u32 = 1 | 1 << 7 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19 | 1 << 24;

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password; empty for none.
    pub password: String,
}

/// Logs in, on a connection on which nothing has been said.
pub fn log_in<R: Read, W: Write>(wire: &mut Wire<R, W>, login: &Login) -> Result<(), ClientError> {
    let nonce = read_greeting(wire.receive()?)?;
    wire.send(&answer(login, &nonce))?;
    wire.flush()?;
    loop {
        let payload = wire.receive()?;
        match payload.first() {
            Some(0x00) => return Ok(()),
            Some(0xfe) => {
                let mut cursor = Cursor(&payload[1..]);
                let plugin = String::from_utf8_lossy(cursor.until_zero()).into_owned();
                if plugin != NATIVE {
                    let text = format!("{} is to prove itself by {plugin}; only {NATIVE} is known here", login.user);
                    return Err(ClientError::Protocol(text));
                }
                let nonce: [u8; NONCE_BYTES] = cursor.array()?;
                wire.send(&proof(&login.password, &nonce))?;
                wire.flush()?;
            }
            other => return Err(ClientError::Protocol(format!("{other:x?} answers the login"))),
        }
    }
}

fn read_greeting(payload: &[u8]) -> Result<[u8; NONCE_BYTES], ClientError> {
    let mut cursor = Cursor(payload);
    let [version] = cursor.array()?;
    if version != 10 {
        return Err(ClientError::Protocol(format!("it greets in version {version}: is this a MySQL port?")));
    }
    cursor.until_zero();
    cursor.bytes(4)?;
    let first: [u8; 8] = cursor.array()?;
    // Filler, capabilities, collation, status, capabilities, length of the nonce, reserved.
    cursor.bytes(1 + 2 + 1 + 2 + 2 + 1 + 10)?;
    let second: [u8; 12] = cursor.array()?;
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&first);
    nonce[8..].copy_from_slice(&second);
    Ok(nonce)
}

fn answer(login: &Login, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    let proof = proof(&login.password, nonce);
    let mut out = Vec::new();
    out.extend(CAPABILITIES.to_le_bytes());
    out.extend(PACKET_BYTES_MAX.to_le_bytes());
    out.push(UTF8MB4_BIN);
    out.extend([0; 23]);
    out.extend(login.user.as_bytes());
    out.push(0);
    out.push(proof.len() as u8);
    out.extend(proof);
    out.extend(NATIVE.as_bytes());
    out.push(0);
    out
}

/// SHA1(password) xor SHA1(nonce, SHA1(SHA1(password))); nothing for an empty password.
fn proof(password: &str, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mixed = Sha1::new().chain_update(nonce).chain_update(twice).finalize();
    once.iter().zip(mixed.iter()).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_password_has_an_empty_proof() {
        assert_eq!(proof("", &[7; NONCE_BYTES]), Vec::<u8>::new());
    }

    #[test]
    fn the_server_can_check_the_proof_with_what_it_keeps() {
        let nonce = [9; NONCE_BYTES];
        let kept = Sha1::digest(Sha1::digest(b"secret"));
        let mask = Sha1::new().chain_update(nonce).chain_update(kept).finalize();
        let once: Vec<u8> = proof("secret", &nonce).iter().zip(mask.iter()).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha1::digest(&once), kept);
    }
}
