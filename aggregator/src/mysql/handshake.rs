//! The first packets: the server's greeting, the client's answer (or its wish for TLS), and the change of plugin.
//!
//! Only the protocol since MySQL 4.1 is spoken. A greeting's nonce is 20 bytes, none of them zero.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

use super::auth::{NONCE_BYTES, Plugin};
use super::codec::{Malformed, Reader};
use super::constants::{Capabilities, collation, status};

/// What the server says it is. The part before the first `-` is the MySQL whose protocol and dialect it speaks.
pub const SERVER_VERSION: &str = concat!("8.0.36-Perennial-", env!("CARGO_PKG_VERSION"));
/// The plugin that the greeting proposes: that of new users.
pub const DEFAULT_PLUGIN: Plugin = Plugin::NativePassword;

const PROTOCOL_VERSION: u8 = 10;
const SSL_REQUEST_BYTES: usize = 32;
/// Names and values of connection attributes are kept up to this many bytes, as MySQL's performance schema does.
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// What this server can do.
pub fn capabilities(offers_tls: bool) -> Capabilities {
    let base = Capabilities::LONG_PASSWORD
        | Capabilities::FOUND_ROWS
        | Capabilities::LONG_FLAG
        | Capabilities::CONNECT_WITH_DB
        | Capabilities::LOCAL_FILES
        | Capabilities::IGNORE_SPACE
        | Capabilities::PROTOCOL_41
        | Capabilities::INTERACTIVE
        | Capabilities::TRANSACTIONS
        | Capabilities::SECURE_CONNECTION
        | Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS
        | Capabilities::PLUGIN_AUTH
        | Capabilities::CONNECT_ATTRS
        | Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA
        | Capabilities::DEPRECATE_EOF;
    if offers_tls { base | Capabilities::SSL } else { base }
}

/// Writes the greeting.
pub fn write_greeting(out: &mut BytesMut, connection: u32, nonce: &[u8; NONCE_BYTES], offered: Capabilities) {
    out.put_u8(PROTOCOL_VERSION);
    put_nul(out, SERVER_VERSION);
    out.put_u32_le(connection);
    out.put_slice(&nonce[..8]);
    out.put_u8(0);
    out.put_u16_le(offered.0 as u16);
    out.put_u8(collation::UTF8MB4_BIN as u8);
    out.put_u16_le(status::AUTOCOMMIT);
    out.put_u16_le((offered.0 >> 16) as u16);
    out.put_u8(NONCE_BYTES as u8 + 1);
    out.put_bytes(0, 10);
    out.put_slice(&nonce[8..]);
    out.put_u8(0);
    put_nul(out, DEFAULT_PLUGIN.name());
}

/// Writes the wish that the client prove itself with `plugin` over `nonce`.
pub fn write_auth_switch(out: &mut BytesMut, plugin: Plugin, nonce: &[u8; NONCE_BYTES]) {
    out.put_u8(0xfe);
    put_nul(out, plugin.name());
    out.put_slice(nonce);
    out.put_u8(0);
}

fn put_nul(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

/// Who a client says it is, in the handshake or in COM_CHANGE_USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    /// What the plugin computed from password and nonce.
    pub proof: Vec<u8>,
    /// Name of the plugin; `None` when the client knows of none.
    pub plugin: Option<String>,
    /// The database to begin in.
    pub database: Option<String>,
    /// Names and values that drivers tell of themselves (`_client_name`, `program_name`, …).
    pub attributes: Vec<(String, String)>,
    /// Number of the collation that the client wants to speak.
    pub collation: u16,
}

/// The client's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// TLS first; the same packet comes again inside it.
    Tls(Capabilities),
    Login(Capabilities, Identity),
}

/// Reads the client's first packet.
pub fn read_hello(payload: &[u8]) -> Result<Hello, Malformed> {
    let mut reader = Reader::new(payload);
    let capabilities = Capabilities(reader.u32("capabilities")?);
    if !capabilities.has(Capabilities::PROTOCOL_41) {
        return Err(Malformed("the client speaks the protocol before MySQL 4.1"));
    }
    let _packet_bytes_max = reader.u32("maximal packet size")?;
    let collation = u16::from(reader.u8("collation")?);
    reader.bytes(23, "filler")?;
    if capabilities.has(Capabilities::SSL) && payload.len() == SSL_REQUEST_BYTES {
        return Ok(Hello::Tls(capabilities));
    }
    let user = text(reader.nul_bytes(), "user name is not UTF-8")?;
    let proof = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA) {
        reader.length_bytes("authentication response")?
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let length = reader.u8("length of authentication response")?;
        reader.bytes(usize::from(length), "authentication response")?
    } else {
        reader.nul_bytes()
    };
    let database = match capabilities.has(Capabilities::CONNECT_WITH_DB) {
        true => Some(text(reader.nul_bytes(), "database name is not UTF-8")?),
        false => None,
    };
    let (plugin, attributes) = read_plugin_and_attributes(&mut reader, capabilities)?;
    let identity = Identity { user, proof: proof.to_vec(), plugin, database, attributes, collation };
    Ok(Hello::Login(capabilities, without_empty_database(identity)))
}

/// Reads a COM_CHANGE_USER after its command byte.
pub fn read_change_user(payload: &[u8], capabilities: Capabilities) -> Result<Identity, Malformed> {
    let mut reader = Reader::new(payload);
    let user = text(reader.nul_bytes(), "user name is not UTF-8")?;
    let length = reader.u8("length of authentication response")?;
    let proof = reader.bytes(usize::from(length), "authentication response")?.to_vec();
    let database = Some(text(reader.nul_bytes(), "database name is not UTF-8")?);
    let collation = if reader.is_empty() { collation::UTF8MB4_BIN } else { reader.u16("collation")? };
    let (plugin, attributes) = read_plugin_and_attributes(&mut reader, capabilities)?;
    Ok(without_empty_database(Identity { user, proof, plugin, database, attributes, collation }))
}

fn without_empty_database(identity: Identity) -> Identity {
    Identity { database: identity.database.filter(|name| !name.is_empty()), ..identity }
}

type PluginAndAttributes = (Option<String>, Vec<(String, String)>);

fn read_plugin_and_attributes(
    reader: &mut Reader<'_>,
    capabilities: Capabilities,
) -> Result<PluginAndAttributes, Malformed> {
    let plugin = match capabilities.has(Capabilities::PLUGIN_AUTH) && !reader.is_empty() {
        true => Some(text(reader.nul_bytes(), "plugin name is not UTF-8")?),
        false => None,
    };
    let attributes = match capabilities.has(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
        true => read_attributes(reader)?,
        false => Vec::new(),
    };
    Ok((plugin, attributes))
}

/// Attributes are a courtesy: text that is not UTF-8 is kept as well as it can be.
fn read_attributes(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let all = reader.length_bytes("connection attributes")?;
    if all.len() > ATTRIBUTE_BYTES_MAX {
        return Err(Malformed("connection attributes are larger than 64 KiB"));
    }
    let (mut inner, mut attributes) = (Reader::new(all), Vec::new());
    while !inner.is_empty() {
        let name = String::from_utf8_lossy(inner.length_bytes("name of an attribute")?).into_owned();
        let value = String::from_utf8_lossy(inner.length_bytes("value of an attribute")?).into_owned();
        attributes.push((name, value));
    }
    Ok(attributes)
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed(what))
}

/// The host by which an address is named in errors and matched with accounts: `localhost` for loopback.
pub fn host_name(address: IpAddr) -> String {
    let address = address.to_canonical();
    if address.is_loopback() { "localhost".to_owned() } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_common::constants::CapabilityFlags;
    use mysql_common::io::ParseBuf;
    use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest};
    use mysql_common::proto::{MyDeserialize, MySerialize};
    use proptest::prelude::*;
    use std::collections::HashMap;

    const NONCE: [u8; NONCE_BYTES] = *b"abcdefghijklmnopqrst";

    #[test]
    fn a_client_reads_the_greeting() {
        let mut out = BytesMut::new();
        write_greeting(&mut out, 77, &NONCE, capabilities(true));
        let greeting = HandshakePacket::deserialize((), &mut ParseBuf(&out)).unwrap();
        assert_eq!(greeting.connection_id(), 77);
        assert_eq!(greeting.server_version_parsed(), Some((8, 0, 36)));
        assert_eq!(greeting.nonce(), NONCE);
        assert_eq!(greeting.auth_plugin_name_str().as_deref(), Some("mysql_native_password"));
        assert_eq!(greeting.capabilities().bits(), capabilities(true).0);
        assert!(!greeting.capabilities().contains(CapabilityFlags::CLIENT_COMPRESS));
        assert!(!capabilities(false).has(Capabilities::SSL));
    }

    #[test]
    fn a_client_reads_the_switch_of_plugin() {
        let mut out = BytesMut::new();
        write_auth_switch(&mut out, Plugin::CachingSha2Password, &NONCE);
        let request = AuthSwitchRequest::deserialize((), &mut ParseBuf(&out)).unwrap();
        assert_eq!(request.auth_plugin(), AuthPlugin::CachingSha2Password);
        assert_eq!(request.plugin_data(), NONCE);
    }

    #[test]
    fn a_wish_for_tls_is_read() {
        let mut bytes = Vec::new();
        let flags = CapabilityFlags::CLIENT_SSL | CapabilityFlags::CLIENT_PROTOCOL_41;
        SslRequest::new(flags, 1 << 24, 45).serialize(&mut bytes);
        assert_eq!(read_hello(&bytes), Ok(Hello::Tls(Capabilities(flags.bits()))));
    }

    proptest! {
        #[test]
        fn what_a_client_writes_is_read(
            user in "[a-zé]{0,20}",
            database in proptest::option::of("[a-z]{1,20}"),
            proof in proptest::collection::vec(any::<u8>(), 0..200),
            attributes in proptest::option::of(proptest::collection::hash_map("[a-z_]{1,9}", "[ -~]{0,300}", 0..5)),
        ) {
            let flags = CapabilityFlags::from_bits_truncate(capabilities(false).0);
            let response = HandshakeResponse::new(
                Some(&proof[..]), (8, 0, 36), Some(user.as_bytes()), database.as_ref().map(String::as_bytes),
                Some(AuthPlugin::CachingSha2Password), flags, attributes.clone(), 1 << 24,
            );
            let mut bytes = Vec::new();
            response.serialize(&mut bytes);
            let Ok(Hello::Login(_, identity)) = read_hello(&bytes) else {
                return Err(TestCaseError::fail("not a login"));
            };
            prop_assert_eq!(identity.user, user);
            prop_assert_eq!(identity.database, database);
            prop_assert_eq!(identity.proof, proof);
            prop_assert_eq!(identity.plugin.as_deref(), Some("caching_sha2_password"));
            let found: HashMap<String, String> = identity.attributes.into_iter().collect();
            prop_assert_eq!(found, attributes.unwrap_or_default());
        }

        #[test]
        fn any_bytes_are_a_hello_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = bytes;
            if let [_, second, ..] = &mut bytes[..] {
                *second |= 2;
            }
            let _hello_or_malformed = read_hello(&bytes);
            let _identity_or_malformed = read_change_user(&bytes, capabilities(false));
        }
    }

    #[test]
    fn hosts_have_the_names_that_errors_show() {
        for (address, name) in [("127.0.0.1", "localhost"), ("::1", "localhost"), ("::ffff:10.0.0.1", "10.0.0.1")] {
            assert_eq!(host_name(address.parse().unwrap()), name);
        }
    }
}
