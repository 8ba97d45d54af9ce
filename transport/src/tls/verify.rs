//! Whom to believe: fingerprints, trust between regions, and a name in a certificate.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::{ClusterId, NodeId};

use super::{ANY_NODE, Roots, TlsError, node_name};
use crate::identity::Proof;

/// SHA-256 of a certificate's DER bytes. Shown and read as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate.as_ref()).into())
    }

    /// The fingerprint that a pin on a CA with this certificate has; to show to a user who compares.
    pub fn of_pem(certificate_pem: &str) -> Result<Fingerprint, TlsError> {
        Roots::from_pem(certificate_pem).map(|roots| Fingerprint::of(&roots.0[0]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let bad = || format!("{text:?} is no SHA-256 fingerprint: 64 hexadecimal digits are needed");
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Fingerprint(bytes))
    }
}

/// What a dialler believes of a listener in another region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A certificate under one of these CAs that has the dialled name, or the name of a node of any cluster.
    Roots(Roots),
    /// The certificate with this fingerprint, or one under the CA that has it.
    Pinned(Fingerprint),
    /// Whatever it shows, as long as it has the key to it. `Peer::fingerprint` is then what to pin.
    FirstUse,
}

/// What a link pins of a chain: its CA if the chain shows one, else the certificate.
pub(crate) fn chain_fingerprint(chain: &[CertificateDer<'_>]) -> Option<Fingerprint> {
    chain.last().map(Fingerprint::of)
}

/// Whether the first certificate of a chain, which TLS has verified, carries a node's name.
pub(crate) fn prove(chain: &[CertificateDer<'_>], cluster: ClusterId, node: NodeId) -> Result<Proof, String> {
    let name = node_name(cluster, node);
    let Some(certificate) = chain.first() else { return Err("it showed no certificate".into()) };
    let server = ServerName::try_from(name.as_str()).map_err(|error| format!("{name}: {error}"))?;
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    match verify_server_name(&parsed, &server) {
        Ok(()) => Ok(Proof::Certificate),
        Err(_) => Err(format!("it calls itself node {node} of cluster {}, its certificate does not", cluster.0)),
    }
}

/// Where a verifier leaves the fingerprint that it saw: an error of TLS cannot carry it.
pub(crate) type Seen = Arc<Mutex<Option<Fingerprint>>>;

/// Applies a [`Trust`] to what a listener shows.
#[derive(Debug)]
pub(super) struct LinkVerifier {
    trust: Trust,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    seen: Seen,
}

impl LinkVerifier {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>, seen: Seen) -> Result<LinkVerifier, TlsError> {
        let roots = match &trust {
            Trust::Roots(roots) => roots.store()?,
            Trust::Pinned(_) | Trust::FirstUse => RootCertStore::empty(),
        };
        Ok(LinkVerifier { trust, roots, provider, seen })
    }

    /// Is `end` signed, directly or through `between`, by one of `roots`, and valid now?
    fn signed_by(
        &self,
        roots: &RootCertStore,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, algorithms)
    }

    fn signed_by_one(
        &self,
        root: &CertificateDer<'_>,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        self.signed_by(&roots, end, between, now)
    }
}

impl ServerCertVerifier for LinkVerifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock() = Some(Fingerprint::of(between.last().unwrap_or(end)));
        match &self.trust {
            Trust::Roots(_) => {
                self.signed_by(&self.roots, end, between, now)?;
                let parsed = ParsedCertificate::try_from(end)?;
                let any = ServerName::try_from(ANY_NODE).expect("a constant name is well formed");
                verify_server_name(&parsed, dialled).or_else(|_| verify_server_name(&parsed, &any))?;
            }
            Trust::Pinned(pin) if Fingerprint::of(end) == *pin => {}
            Trust::Pinned(pin) => match between.iter().find(|certificate| Fingerprint::of(certificate) == *pin) {
                Some(root) => self.signed_by_one(root, end, between, now)?,
                None => return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            },
            // A CA in the chain is pinned only if it signed: anybody can append a certificate.
            Trust::FirstUse => {
                if let Some(root) = between.last() {
                    self.signed_by_one(root, end, between, now)?;
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{create_ca, issue};
    use super::*;

    const CLUSTER: ClusterId = ClusterId(5);

    fn chain(authority: &super::super::Authority) -> Vec<CertificateDer<'static>> {
        issue(authority, CLUSTER, NodeId(1), &["db.example".into()]).unwrap().chain().unwrap()
    }

    fn verify(trust: Trust, chain: &[CertificateDer<'_>], host: &str) -> (Result<(), Error>, Option<Fingerprint>) {
        let seen = Seen::default();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = LinkVerifier::new(trust, provider, seen.clone()).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let result = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now());
        let seen = *seen.lock();
        (result.map(|_| ()), seen)
    }

    #[test]
    fn fingerprints_are_read_as_they_are_shown() {
        let print = Fingerprint([0xab; 32]);
        assert_eq!(print.to_string().parse(), Ok(print));
        let colons: Vec<_> =
            print.to_string().as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).into()).collect();
        let colons: Vec<String> = colons;
        assert_eq!(colons.join(":").to_uppercase().parse(), Ok(print));
        for bad in ["", "ab", &"g".repeat(64), &"+a".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pin_taken_at_first_use_covers_every_node_of_that_ca_and_no_other() {
        let (ours, other) = (create_ca(CLUSTER).unwrap(), create_ca(CLUSTER).unwrap());
        let (first, second, foreign) = (chain(&ours), chain(&ours), chain(&other));
        let (result, pin) = verify(Trust::FirstUse, &first, "203.0.113.1");
        assert_eq!(result, Ok(()));
        let pin = pin.unwrap();
        assert_eq!(pin, Fingerprint::of_pem(&ours.certificate_pem).unwrap(), "the CA is pinned");
        assert_eq!(verify(Trust::Pinned(pin), &second, "203.0.113.2").0, Ok(()));
        assert!(verify(Trust::Pinned(pin), &foreign, "203.0.113.1").0.is_err());
    }

    #[test]
    fn appending_the_pinned_ca_to_a_foreign_certificate_does_not_help() {
        let (ours, other) = (create_ca(CLUSTER).unwrap(), create_ca(CLUSTER).unwrap());
        let forged = [&chain(&other)[..1], &chain(&ours)[1..]].concat();
        let pin = Fingerprint::of_pem(&ours.certificate_pem).unwrap();
        assert!(verify(Trust::Pinned(pin), &forged, "db.example").0.is_err());
        assert!(verify(Trust::FirstUse, &forged, "db.example").0.is_err());
        assert!(verify(Trust::Roots(ours.roots().unwrap()), &forged, "db.example").0.is_err());
    }

    #[test]
    fn roots_want_the_signature_and_a_name() {
        let (ours, other) = (create_ca(CLUSTER).unwrap(), create_ca(CLUSTER).unwrap());
        let trust = Trust::Roots(ours.roots().unwrap());
        assert_eq!(verify(trust.clone(), &chain(&ours), "db.example").0, Ok(()));
        assert_eq!(verify(trust.clone(), &chain(&ours), "elsewhere.example").0, Ok(()), "any node's name suffices");
        assert!(verify(trust, &chain(&other), "db.example").0.is_err());
    }

    #[test]
    fn a_lone_certificate_is_pinned_itself() {
        let lone = &chain(&create_ca(CLUSTER).unwrap())[..1];
        let (result, pin) = verify(Trust::FirstUse, lone, "db.example");
        assert_eq!((result, pin), (Ok(()), Some(Fingerprint::of(&lone[0]))));
        assert_eq!(verify(Trust::Pinned(pin.unwrap()), lone, "db.example").0, Ok(()));
    }

    #[test]
    fn a_certificate_proves_its_own_node_only() {
        let chain = chain(&create_ca(CLUSTER).unwrap());
        assert_eq!(prove(&chain, CLUSTER, NodeId(1)), Ok(Proof::Certificate));
        assert!(prove(&chain, CLUSTER, NodeId(2)).is_err());
        assert!(prove(&chain, ClusterId(6), NodeId(1)).is_err());
        assert!(prove(&[], CLUSTER, NodeId(1)).is_err());
    }
}
