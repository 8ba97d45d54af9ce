//! SHA-crypt with SHA-256 (Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", version 0.6), the salted
//! and slow hash in which MySQL stores passwords of `caching_sha2_password`.
//!
//! It differs from the paper in one point, as MySQL does: the salt has 20 bytes and is not cut to 16.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DIGEST_BYTES: usize = 32;

/// The 43 characters that name `password` under `salt` after `rounds` rounds.
pub fn hash(password: &[u8], salt: &[u8], rounds: u32) -> String {
    let mut digest = first_digest(password, salt);
    let password_string = repeated(&repeated_digest(password, password.len()), password.len());
    let salt_string = repeated(&repeated_digest(salt, 16 + usize::from(digest[0])), salt.len());
    for round in 0..rounds {
        let mut hasher = Sha256::new();
        let is_odd = round % 2 == 1;
        hasher.update(if is_odd { &password_string[..] } else { &digest[..] });
        if round % 3 != 0 {
            hasher.update(&salt_string);
        }
        if round % 7 != 0 {
            hasher.update(&password_string);
        }
        hasher.update(if is_odd { &digest[..] } else { &password_string[..] });
        digest = hasher.finalize().into();
    }
    encode(&digest)
}

/// Steps 1 to 12 of the paper: digest A, in which digest B of the same parts is mixed by the password's length.
fn first_digest(password: &[u8], salt: &[u8]) -> [u8; DIGEST_BYTES] {
    let mixed = Sha256::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut hasher = Sha256::new().chain_update(password).chain_update(salt);
    hasher.update(repeated(&mixed, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        hasher.update(if bits & 1 == 1 { &mixed[..] } else { password });
        bits >>= 1;
    }
    hasher.finalize().into()
}

/// The digest of `text` written `count` times.
fn repeated_digest(text: &[u8], count: usize) -> [u8; DIGEST_BYTES] {
    let mut hasher = Sha256::new();
    for _ in 0..count {
        hasher.update(text);
    }
    hasher.finalize().into()
}

/// `digest` over and over, `length` bytes of it.
fn repeated(digest: &[u8], length: usize) -> Vec<u8> {
    digest.iter().copied().cycle().take(length).collect()
}

/// Three bytes become four characters, the bytes taken in the paper's order.
fn encode(digest: &[u8; DIGEST_BYTES]) -> String {
    let mut text = String::with_capacity(43);
    let mut put = |high: u8, middle: u8, low: u8, characters: usize| {
        let mut bits = u32::from_be_bytes([0, high, middle, low]);
        for _ in 0..characters {
            text.push(char::from(ALPHABET[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    let (mut high, mut middle, mut low) = (0, 10, 20);
    for _ in 0..10 {
        put(digest[high], digest[middle], digest[low], 4);
        (high, middle, low) = (low + 1, high + 1, middle + 1);
    }
    put(0, digest[31], digest[30], 3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's own samples, as the C library of GNU computes them.
    #[test]
    fn hashes_are_those_of_the_paper() {
        let long = b"a very much longer text to encrypt.  This one even stretches over morethan one line.";
        for (password, salt, rounds, expected) in [
            (&b"Hello world!"[..], &b"saltstring"[..], 5000, "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (b"Hello world!", b"saltstringsaltst", 10_000, "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            (long, b"anotherlongsalts", 1400, "Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
            (b"p", b"x", 1000, "jnKCgcvzlaMhCD94abAnGe/tPzJ3hT7XsUaiRSiWn27"),
        ] {
            assert_eq!(hash(password, salt, rounds), expected);
        }
    }
}
