//! Making certificates, and their files: the cluster's CA, a node's certificate, the roots that a node trusts.
//!
//! Files are PEM. A key file is readable by its owner alone and replaced by rename, never half written.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use types::{ClusterId, NodeId};

use super::{ANY_NODE, Fingerprint, TlsError, cluster_name, node_name};

/// File of a cluster CA's certificate.
pub const CA_FILE: &str = "ca.crt";
/// File of a cluster CA's key: needed to issue, not to run.
pub const CA_KEY_FILE: &str = "ca.key";
/// File of a node's certificate, followed by its CA's.
pub const NODE_FILE: &str = "node.crt";
/// File of a node's key.
pub const NODE_KEY_FILE: &str = "node.key";

/// Ten years: nodes have no channel to renew certificates by themselves; an operator does it with `perennial cert`.
const VALID_TIME: Duration = Duration::from_secs(3650 * 86_400);
/// A certificate is valid from a day before it is made, for nodes whose clock is behind.
const BACKDATE_TIME: Duration = Duration::from_secs(86_400);

/// A cluster's CA with its key.
#[derive(Clone)]
pub struct Authority {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key. Whoever has it can be any node of the cluster.
    pub key_pem: String,
}

/// A node's certificate with its key.
#[derive(Clone)]
pub struct NodeCertificate {
    /// The certificate, followed by its CA's.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// Certificates whose signature is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(pub(super) Vec<CertificateDer<'static>>);

/// What a node needs to speak in its region.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its cluster: diallers demand this name of those they reach.
    pub cluster: ClusterId,
    /// What it shows.
    pub node: NodeCertificate,
    /// What it believes: the cluster's CA, and during a change of CA both.
    pub roots: Roots,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCertificate").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// A new CA for a cluster.
pub fn create_ca(cluster: ClusterId) -> Result<Authority, TlsError> {
    let fail = |error: rcgen::Error| TlsError::Make { what: "a CA", reason: error.to_string() };
    let mut params = params(format!("Perennial cluster {:016x} CA", cluster.0), Vec::new()).map_err(fail)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(fail)?;
    let certificate = params.self_signed(&key).map_err(fail)?;
    Ok(Authority { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A certificate for one node. `hosts` are names and addresses under which clients may reach it beside its own names;
/// they matter only to clients that check them.
pub fn issue(
    authority: &Authority,
    cluster: ClusterId,
    node: NodeId,
    hosts: &[String],
) -> Result<NodeCertificate, TlsError> {
    let fail = |error: rcgen::Error| TlsError::Make { what: "a node certificate", reason: error.to_string() };
    let ca_key = KeyPair::from_pem(&authority.key_pem).map_err(fail)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate_pem, ca_key).map_err(fail)?;
    let mut names = vec![node_name(cluster, node), cluster_name(cluster), ANY_NODE.to_owned()];
    names.extend(hosts.iter().cloned());
    let mut params = params(node_name(cluster, node), names).map_err(fail)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(fail)?;
    let certificate = params.signed_by(&key, &issuer).map_err(fail)?;
    let chain_pem = format!("{}{}", certificate.pem(), authority.certificate_pem);
    Ok(NodeCertificate { chain_pem, key_pem: key.serialize_pem() })
}

fn params(name: String, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE_TIME).into();
    params.not_after = (now + VALID_TIME).into();
    Ok(params)
}

impl Authority {
    /// Writes [`CA_FILE`] and [`CA_KEY_FILE`] into a folder, which is made if needed.
    pub fn save(&self, dir: &Path) -> Result<(), TlsError> {
        write(dir, CA_KEY_FILE, &self.key_pem, 0o600)?;
        write(dir, CA_FILE, &self.certificate_pem, 0o644)
    }

    /// Reads what [`Authority::save`] wrote.
    pub fn load(dir: &Path) -> Result<Authority, TlsError> {
        Ok(Authority { certificate_pem: read(&dir.join(CA_FILE))?, key_pem: read(&dir.join(CA_KEY_FILE))? })
    }

    /// Its certificate as a root.
    pub fn roots(&self) -> Result<Roots, TlsError> {
        Roots::from_pem(&self.certificate_pem)
    }
}

impl NodeCertificate {
    /// Writes [`NODE_FILE`] and [`NODE_KEY_FILE`] into a folder, which is made if needed.
    pub fn save(&self, dir: &Path) -> Result<(), TlsError> {
        write(dir, NODE_KEY_FILE, &self.key_pem, 0o600)?;
        write(dir, NODE_FILE, &self.chain_pem, 0o644)
    }

    /// Reads what [`NodeCertificate::save`] wrote.
    pub fn load(dir: &Path) -> Result<NodeCertificate, TlsError> {
        Ok(NodeCertificate { chain_pem: read(&dir.join(NODE_FILE))?, key_pem: read(&dir.join(NODE_KEY_FILE))? })
    }

    /// What a link pins of it: the CA that its chain ends in.
    pub fn fingerprint(&self) -> Result<Fingerprint, TlsError> {
        let nothing = || TlsError::Config { what: "a node certificate", reason: "its chain is empty".into() };
        super::verify::chain_fingerprint(&self.chain()?).ok_or_else(nothing)
    }

    /// The certificate and those that follow it. Also what a MySQL listener with TLS shows.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates("a certificate chain", &self.chain_pem)
    }

    /// The private key.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| TlsError::Pem { what: "a private key", reason: error.to_string() })
    }
}

impl Roots {
    /// The certificates in a PEM text: at least one.
    pub fn from_pem(pem: &str) -> Result<Roots, TlsError> {
        certificates("a CA certificate", pem).map(Roots)
    }

    /// The certificates in a file, such as `dr_trusted_ca` names.
    pub fn load(path: &Path) -> Result<Roots, TlsError> {
        Roots::from_pem(&read(path)?)
    }

    pub(super) fn store(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in &self.0 {
            store
                .add(certificate.clone())
                .map_err(|error| TlsError::Pem { what: "a CA certificate", reason: error.to_string() })?;
        }
        Ok(store)
    }
}

impl Credentials {
    /// From the files [`CA_FILE`], [`NODE_FILE`] and [`NODE_KEY_FILE`] of a folder.
    pub fn load(dir: &Path, cluster: ClusterId) -> Result<Credentials, TlsError> {
        Ok(Credentials { cluster, node: NodeCertificate::load(dir)?, roots: Roots::load(&dir.join(CA_FILE))? })
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::Pem { what, reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("no CERTIFICATE section in it".into()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, TlsError> {
    fs::read_to_string(path)
        .map_err(|error| TlsError::File { path: path.display().to_string(), reason: error.to_string() })
}

/// Writes a file whole or not at all.
fn write(dir: &Path, name: &str, text: &str, mode: u32) -> Result<(), TlsError> {
    let path = dir.join(name);
    let fail = |error: std::io::Error| TlsError::File { path: path.display().to_string(), reason: error.to_string() };
    fs::create_dir_all(dir).map_err(fail)?;
    let draft = dir.join(format!("{name}.new"));
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    fs::rename(&draft, &path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_round_trip_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certs");
        let authority = create_ca(ClusterId(5)).unwrap();
        let node = issue(&authority, ClusterId(5), NodeId(2), &["db.example".into(), "127.0.0.1".into()]).unwrap();
        for _ in 0..2 {
            authority.save(&dir).unwrap();
            node.save(&dir).unwrap();
        }
        assert_eq!(Authority::load(&dir).unwrap().key_pem, authority.key_pem);
        let loaded = Credentials::load(&dir, ClusterId(5)).unwrap();
        assert_eq!(loaded.node.chain().unwrap(), node.chain().unwrap());
        assert_eq!(loaded.roots, authority.roots().unwrap());
        for key in [CA_KEY_FILE, NODE_KEY_FILE] {
            let mode = fs::metadata(dir.join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4, "no drafts are left");
    }

    #[test]
    fn a_loaded_authority_issues_what_its_certificate_verifies() {
        let authority = create_ca(ClusterId(5)).unwrap();
        let node = issue(&authority, ClusterId(5), NodeId(2), &[]).unwrap();
        let chain = node.chain().unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[1], authority.roots().unwrap().0[0], "the CA follows the node's certificate");
    }

    #[test]
    fn debug_output_has_no_key() {
        let authority = create_ca(ClusterId(5)).unwrap();
        let node = issue(&authority, ClusterId(5), NodeId(2), &[]).unwrap();
        assert!(!format!("{authority:?}{node:?}").contains("PRIVATE"));
    }

    #[test]
    fn missing_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Authority::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ca.crt"), "{error}");
        assert!(matches!(Roots::from_pem("hello"), Err(TlsError::Pem { .. })));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Roots::from_pem(garbage).unwrap().store(), Err(TlsError::Pem { .. })));
    }
}
