//! Who a client is: verifiers of passwords, and the exchange that checks one.
//!
//! | plugin | kept | sent by the client over nonce n |
//! |---|---|---|
//! | `mysql_native_password` | v = SHA1(SHA1(password)) | SHA1(password) xor SHA1(n, v) |
//! | `caching_sha2_password` | v = SHA256(SHA256(password)) | SHA256(password) xor SHA256(v, n) |
//! | `caching_sha2_password`, salted | SHA-crypt of the password, as in MySQL's `mysql.user` | the same, when v is in the cache; else the password itself, over TLS only |
//!
//! The first two are checked in one step from what is kept. The salted form is slower to guess for one who stole
//! the catalog; it costs each aggregator one login over TLS ("full authentication") before the fast step works.
//! Without TLS that login is refused with error 3159: the key exchange by RSA, in which MySQL also accepts it, is
//! not offered, and the answer says what to do.
//!
//! A name that does not exist is put through the same steps as one with a wrong password and gets the same error.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::Mutex;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::sha_crypt;

/// Bytes of the nonce that a client mixes into its proof.
pub const NONCE_BYTES: usize = 20;
/// A longer password is refused, so that hashing one is cheap; MySQL's own limit.
const PASSWORD_BYTES_MAX: usize = 256;
const SALT_BYTES: usize = 20;
/// MySQL writes the rounds of its salted verifiers in thousands.
const ROUNDS_UNIT: u32 = 1000;
const ROUNDS_DEFAULT: u32 = 5000;
/// Entries of the cache; when it is full it starts anew, and each of its users logs in over TLS once more.
const CACHE_ENTRIES_MAX: usize = 4096;

const FAST_AUTH_SUCCESS: &[u8] = &[0x01, 0x03];
const FULL_AUTH_REQUIRED: &[u8] = &[0x01, 0x04];

/// How a client proves that it knows the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    NativePassword,
    CachingSha2Password,
}

impl Plugin {
    /// The plugin's name in packets and in `IDENTIFIED WITH`.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::NativePassword => "mysql_native_password",
            Plugin::CachingSha2Password => "caching_sha2_password",
        }
    }

    /// The plugin of that name, if this server has it.
    pub fn from_name(name: &str) -> Option<Plugin> {
        [Plugin::NativePassword, Plugin::CachingSha2Password].into_iter().find(|plugin| plugin.name() == name)
    }
}

/// What is kept of a password. Its text form (`Display`, [`Verifier::parse`]) is what `SHOW CREATE USER` shows
/// and the catalog stores: empty, `*` and 40 hex digits, `$D$` and 64 hex digits (ours), or MySQL's
/// `$A$005$` with 20 characters of salt and 43 of hash.
#[derive(Clone, PartialEq, Eq)]
pub enum Verifier {
    /// The user has no password, whatever plugin its client prefers.
    NoPassword,
    /// SHA1(SHA1(password)).
    Native([u8; 20]),
    /// SHA256(SHA256(password)).
    Sha2([u8; 32]),
    /// SHA-crypt.
    Sha2Salted { rounds: u32, salt: String, hash: String },
}

impl Verifier {
    /// The verifier that `CREATE USER … IDENTIFIED WITH plugin BY 'password'` keeps.
    pub fn new(plugin: Plugin, password: &str) -> Verifier {
        match plugin {
            _ if password.is_empty() => Verifier::NoPassword,
            Plugin::NativePassword => Verifier::Native(sha1(&sha1(password.as_bytes()))),
            Plugin::CachingSha2Password => Verifier::Sha2(sha256(&sha256(password.as_bytes()))),
        }
    }

    /// The salted verifier; `salt` should be random.
    pub fn salted(password: &str, salt: [u8; SALT_BYTES]) -> Verifier {
        let salt: String = salt.iter().map(|byte| char::from(b'A' + byte % 26)).collect();
        let hash = sha_crypt::hash(password.as_bytes(), salt.as_bytes(), ROUNDS_DEFAULT);
        Verifier::Sha2Salted { rounds: ROUNDS_DEFAULT, salt, hash }
    }

    /// Reads the text form; `None` when it is not one of `plugin`.
    pub fn parse(plugin: Plugin, text: &str) -> Option<Verifier> {
        match plugin {
            _ if text.is_empty() => Some(Verifier::NoPassword),
            Plugin::NativePassword => text.strip_prefix('*').and_then(from_hex).map(Verifier::Native),
            Plugin::CachingSha2Password => match text.strip_prefix("$D$") {
                Some(hex) => from_hex(hex).map(Verifier::Sha2),
                None => parse_salted(text.strip_prefix("$A$")?),
            },
        }
    }

    /// True when `password` is the one that this verifier was made from.
    pub fn verifies(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        match self {
            Verifier::NoPassword => password.is_empty(),
            Verifier::Native(stored) => is_equal(&sha1(&sha1(password)), stored),
            Verifier::Sha2(stored) => is_equal(&sha256(&sha256(password)), stored),
            Verifier::Sha2Salted { rounds, salt, hash } => {
                is_equal(sha_crypt::hash(password, salt.as_bytes(), *rounds).as_bytes(), hash.as_bytes())
            }
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"));
        match self {
            Verifier::NoPassword => Ok(()),
            Verifier::Native(stored) => f.write_str("*").and_then(|()| hex(f, stored)),
            Verifier::Sha2(stored) => f.write_str("$D$").and_then(|()| hex(f, stored)),
            Verifier::Sha2Salted { rounds, salt, hash } => write!(f, "$A${:03X}${salt}{hash}", rounds / ROUNDS_UNIT),
        }
    }
}

/// A verifier does not belong in a log.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

fn parse_salted(text: &str) -> Option<Verifier> {
    let (rounds, rest) = text.split_once('$')?;
    let rounds = u32::from_str_radix(rounds, 16).ok().filter(|rounds| (1..=0xfff).contains(rounds))? * ROUNDS_UNIT;
    let (salt, hash) = rest.split_at_checked(SALT_BYTES)?;
    (hash.len() == 43).then(|| Verifier::Sha2Salted { rounds, salt: salt.to_owned(), hash: hash.to_owned() })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// What the aggregator knows of a user at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub plugin: Plugin,
    pub verifier: Verifier,
}

/// SHA256(SHA256(password)) of users with salted verifiers who have logged in here, by salt and hash: a changed
/// password is another entry.
#[derive(Debug, Default)]
pub struct DigestCache {
    entries: Mutex<BTreeMap<String, [u8; 32]>>,
}

impl DigestCache {
    fn get(&self, verifier: &Verifier) -> Option<[u8; 32]> {
        self.lock().get(&verifier.to_string()).copied()
    }

    fn insert(&self, verifier: &Verifier, digest: [u8; 32]) {
        let mut entries = self.lock();
        if entries.len() >= CACHE_ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(verifier.to_string(), digest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, [u8; 32]>> {
        // No user of the lock can panic while it holds it; the map is whole even if one did.
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What the connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the client to answer with this plugin's proof over the same nonce; give its answer to `answer`.
    Switch(Plugin),
    /// Send this payload; give the client's answer to `answer`.
    Ask(&'static [u8]),
    /// The client is who it says. Send this payload, if any, then OK.
    Accept(Option<&'static [u8]>),
    /// Error 1045; the flag says whether a password was given.
    Deny { password_given: bool },
    /// Error 3159: only over TLS.
    NeedsTls,
}

/// One login. Pure: what the client sent goes in, the next [`Step`] comes out.
pub struct Exchange<'a> {
    account: Option<Account>,
    nonce: [u8; NONCE_BYTES],
    secure: bool,
    cache: &'a DigestCache,
    awaiting: Awaiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    Proof,
    Password,
}

impl<'a> Exchange<'a> {
    /// A login of `account` (`None`: there is no such user). `secure` says that nobody can listen.
    pub fn new(
        account: Option<Account>,
        nonce: [u8; NONCE_BYTES],
        secure: bool,
        cache: &'a DigestCache,
    ) -> Exchange<'a> {
        Exchange { account, nonce, secure, cache, awaiting: Awaiting::Proof }
    }

    /// The plugin whose proof this login needs. An unknown user needs the default one.
    pub fn plugin(&self) -> Plugin {
        self.account.as_ref().map_or(Plugin::NativePassword, |account| account.plugin)
    }

    /// The first proof, computed by the plugin that the client chose; `None` is one that this server has not.
    pub fn start(&mut self, plugin: Option<Plugin>, proof: &[u8]) -> Step {
        let is_open = matches!(&self.account, Some(account) if account.verifier == Verifier::NoPassword);
        if plugin == Some(self.plugin()) || (is_open && is_empty(proof)) {
            return self.check(proof);
        }
        Step::Switch(self.plugin())
    }

    /// The answer to a [`Step::Switch`] or [`Step::Ask`].
    pub fn answer(&mut self, answer: &[u8]) -> Step {
        match self.awaiting {
            Awaiting::Proof => self.check(answer),
            Awaiting::Password => self.check_password(answer),
        }
    }

    fn check(&mut self, proof: &[u8]) -> Step {
        let denied = Step::Deny { password_given: !is_empty(proof) };
        let accept = |is_proven: bool, more| if is_proven { Step::Accept(more) } else { denied };
        match self.account.as_ref().map(|account| &account.verifier) {
            None => {
                // The same work as for a user that exists.
                black_box(proves_native(proof, &self.nonce, &[0; 20]));
                denied
            }
            Some(Verifier::NoPassword) => accept(is_empty(proof), None),
            Some(Verifier::Native(stored)) => accept(proves_native(proof, &self.nonce, stored), None),
            Some(Verifier::Sha2(stored)) => accept(proves_sha2(proof, &self.nonce, stored), Some(FAST_AUTH_SUCCESS)),
            Some(Verifier::Sha2Salted { .. }) if is_empty(proof) => accept(false, None),
            Some(salted @ Verifier::Sha2Salted { .. }) => match self.cache.get(salted) {
                Some(digest) => accept(proves_sha2(proof, &self.nonce, &digest), Some(FAST_AUTH_SUCCESS)),
                // Not asked for at all without TLS: what a client sends then is nothing that may be read.
                None if !self.secure => Step::NeedsTls,
                None => {
                    self.awaiting = Awaiting::Password;
                    Step::Ask(FULL_AUTH_REQUIRED)
                }
            },
        }
    }

    /// The password itself, ended by a zero byte.
    fn check_password(&self, answer: &[u8]) -> Step {
        assert!(self.secure, "a password was asked for in plain text");
        let password = answer.strip_suffix(&[0]).unwrap_or(answer);
        match &self.account {
            Some(Account { verifier, .. }) if verifier.verifies(password) => {
                self.cache.insert(verifier, sha256(&sha256(password)));
                Step::Accept(None)
            }
            _ => Step::Deny { password_given: true },
        }
    }
}

/// Clients of `caching_sha2_password` send a single zero byte for an empty password.
fn is_empty(proof: &[u8]) -> bool {
    matches!(proof, [] | [0])
}

fn proves_native(proof: &[u8], nonce: &[u8], stored: &[u8; 20]) -> bool {
    let mask: [u8; 20] = Sha1::new().chain_update(nonce).chain_update(stored).finalize().into();
    <[u8; 20]>::try_from(proof).is_ok_and(|proof| is_equal(&sha1(&xor(proof, mask)), stored))
}

fn proves_sha2(proof: &[u8], nonce: &[u8], stored: &[u8; 32]) -> bool {
    let mask: [u8; 32] = Sha256::new().chain_update(stored).chain_update(nonce).finalize().into();
    <[u8; 32]>::try_from(proof).is_ok_and(|proof| is_equal(&sha256(&xor(proof, mask)), stored))
}

fn xor<const N: usize>(mut left: [u8; N], right: [u8; N]) -> [u8; N] {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}

/// Compares in a time that does not depend on where the two differ.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && black_box(left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_common::auth::plugins::{caching_sha2_password::scramble_sha256, mysql_native_password::scramble_native};
    use proptest::prelude::*;

    const NONCE: [u8; NONCE_BYTES] = *b"abcdefghijklmnopqrst";
    const PLUGINS: [Plugin; 2] = [Plugin::NativePassword, Plugin::CachingSha2Password];

    fn proof(plugin: Plugin, nonce: &[u8; NONCE_BYTES], password: &str) -> Vec<u8> {
        match plugin {
            Plugin::NativePassword => scramble_native(nonce, password.as_bytes()).map(Vec::from),
            Plugin::CachingSha2Password => scramble_sha256(nonce, password.as_bytes()).map(Vec::from),
        }
        .unwrap_or_default()
    }

    fn account(plugin: Plugin, password: &str) -> Option<Account> {
        Some(Account { plugin, verifier: Verifier::new(plugin, password) })
    }

    fn login(account: Option<Account>, plugin: Plugin, password: &str) -> Step {
        let cache = DigestCache::default();
        Exchange::new(account, NONCE, false, &cache).start(Some(plugin), &proof(plugin, &NONCE, password))
    }

    proptest! {
        /// mysql_common computes the client's side.
        #[test]
        fn the_right_password_is_accepted_and_another_is_not(nonce: [u8; 20], password in "\\PC{1,40}", other in "\\PC{0,40}") {
            for plugin in PLUGINS {
                let cache = DigestCache::default();
                let check = |given: &str| {
                    let mut exchange = Exchange::new(account(plugin, &password), nonce, false, &cache);
                    exchange.start(Some(plugin), &proof(plugin, &nonce, given))
                };
                prop_assert!(matches!(check(&password), Step::Accept(_)));
                if other != password {
                    prop_assert_eq!(check(&other), Step::Deny { password_given: !other.is_empty() });
                }
                prop_assert!(Verifier::new(plugin, &password).verifies(password.as_bytes()));
                prop_assert_eq!(Verifier::new(plugin, &password).verifies(other.as_bytes()), password == other);
            }
        }

        #[test]
        fn any_proof_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for plugin in PLUGINS {
                let cache = DigestCache::default();
                let mut exchange = Exchange::new(account(plugin, "x"), NONCE, true, &cache);
                let password_given = !is_empty(&bytes);
                prop_assert_eq!(exchange.start(Some(plugin), &bytes), Step::Deny { password_given });
            }
        }
    }

    #[test]
    fn a_known_verifier_of_mysql() {
        let verifier = Verifier::new(Plugin::NativePassword, "password");
        assert_eq!(verifier.to_string(), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
    }

    #[test]
    fn a_user_without_password_is_accepted_with_any_plugin() {
        for (plugin, preferred) in [(PLUGINS[0], PLUGINS[1]), (PLUGINS[1], PLUGINS[0])] {
            assert_eq!(login(account(plugin, ""), preferred, ""), Step::Accept(None));
            assert_eq!(login(account(plugin, ""), plugin, "x"), Step::Deny { password_given: true });
            assert_eq!(login(account(plugin, "x"), plugin, ""), Step::Deny { password_given: false });
        }
    }

    #[test]
    fn another_plugin_is_switched_to_the_accounts() {
        assert_eq!(login(account(PLUGINS[0], "x"), PLUGINS[1], "x"), Step::Switch(PLUGINS[0]));
        let cache = DigestCache::default();
        let mut exchange = Exchange::new(account(PLUGINS[1], "x"), NONCE, false, &cache);
        assert_eq!(exchange.start(None, b""), Step::Switch(PLUGINS[1]));
        assert_eq!(exchange.answer(&proof(PLUGINS[1], &NONCE, "x")), Step::Accept(Some(FAST_AUTH_SUCCESS)));
    }

    #[test]
    fn an_unknown_user_is_denied_like_a_wrong_password() {
        assert_eq!(login(None, PLUGINS[0], "x"), login(account(PLUGINS[0], "y"), PLUGINS[0], "x"));
        assert_eq!(login(None, PLUGINS[0], ""), login(account(PLUGINS[0], "y"), PLUGINS[0], ""));
        assert_eq!(login(None, PLUGINS[1], "x"), login(account(PLUGINS[0], "y"), PLUGINS[1], "x"));
    }

    #[test]
    fn a_salted_user_needs_tls_once_and_is_fast_afterwards() {
        let plugin = Plugin::CachingSha2Password;
        let salted = Some(Account { plugin, verifier: Verifier::salted("secret", [7; 20]) });
        let cache = DigestCache::default();
        let right = proof(plugin, &NONCE, "secret");

        let mut plain = Exchange::new(salted.clone(), NONCE, false, &cache);
        assert_eq!(plain.start(Some(plugin), &right), Step::NeedsTls);

        let mut wrong = Exchange::new(salted.clone(), NONCE, true, &cache);
        assert_eq!(wrong.start(Some(plugin), &right), Step::Ask(FULL_AUTH_REQUIRED));
        assert_eq!(wrong.answer(b"wrong\0"), Step::Deny { password_given: true });

        let mut full = Exchange::new(salted.clone(), NONCE, true, &cache);
        assert_eq!(full.start(Some(plugin), &right), Step::Ask(FULL_AUTH_REQUIRED));
        assert_eq!(full.answer(b"secret\0"), Step::Accept(None));

        let mut fast = Exchange::new(salted.clone(), NONCE, false, &cache);
        assert_eq!(fast.start(Some(plugin), &right), Step::Accept(Some(FAST_AUTH_SUCCESS)));
        let mut denied = Exchange::new(salted, NONCE, false, &cache);
        assert_eq!(denied.start(Some(plugin), &proof(plugin, &NONCE, "other")), Step::Deny { password_given: true });
    }

    #[test]
    fn texts_of_verifiers_round_trip() {
        let salted = Verifier::salted("secret", *b"01234567890123456789");
        for (plugin, verifier) in [
            (PLUGINS[0], Verifier::new(PLUGINS[0], "secret")),
            (PLUGINS[1], Verifier::new(PLUGINS[1], "secret")),
            (PLUGINS[1], salted),
            (PLUGINS[0], Verifier::NoPassword),
        ] {
            assert!(Verifier::parse(plugin, &verifier.to_string()) == Some(verifier));
        }
        for text in ["*12", "12", "$D$zz", "$A$005$short", "$A$", "$A$000$01234567890123456789", "*é"] {
            assert!(PLUGINS.iter().all(|plugin| Verifier::parse(*plugin, text).is_none()), "{text}");
        }
    }
}
