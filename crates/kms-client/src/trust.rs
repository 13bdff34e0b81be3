//! Whether the static key of a KMS, which the cloud hands out, may be believed.
//!
//! Whoever has the private half can read everything, so the name in the key, the certificate that comes with it
//! and the key itself must agree, and the certificate must lead to a root that we were given beforehand.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::crypto;
use crate::jose::jwk::{Jwk, RsaJwk};
use crate::uri::ClusterUri;

/// The longest chain that is looked at.
const MAX_CHAIN: usize = 10;

/// Why a static key is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It is not a JSON Web Key of type `RSA`.
    #[error("static key is not an RSA key")]
    NotRsa,
    /// Its modulus is outside of 2048 to 8192 bits.
    #[error("static key of {0} bits")]
    Size(usize),
    /// Its `kid` is missing or not a `kms://` URI.
    #[error("static key has no kms:// name")]
    Name,
    /// Its `kid` names another host than the cluster that it was handed out for.
    #[error("static key of `{key}` was handed out for `{cluster}`")]
    OtherCluster {
        /// The cluster that the key names.
        key: ClusterUri,
        /// The cluster that was told along with it.
        cluster: ClusterUri,
    },
    /// There is no certificate with it.
    #[error("static key comes without a certificate")]
    NoCertificate,
    /// A certificate of the chain cannot be read, or there are more than ten.
    #[error("malformed certificate")]
    Certificate,
    /// The certificate is for other hosts.
    #[error("certificate is not for `{0}`")]
    Host(String),
    /// The certificate is for another key.
    #[error("certificate is for another key")]
    OtherKey,
    /// The chain does not lead to a pinned root, is not valid now, or not for this use.
    #[error("certificate chain is not trusted: {0}")]
    Chain(String),
    /// A certificate to be pinned cannot be read.
    #[error("malformed root certificate")]
    Root,
}

/// Which certificate chains are believed.
#[derive(Clone)]
pub struct Trust {
    /// `None`: any.
    roots: Option<Vec<TrustAnchor<'static>>>,
}

impl Trust {
    /// Believes chains that lead to one of these root certificates.
    ///
    /// # Errors
    /// [`TrustError::Root`] if one of them cannot be read.
    pub fn pinned<'a>(roots: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Result<Self, TrustError> {
        let roots = roots
            .into_iter()
            .map(|root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|_| TrustError::Root)?;
        Ok(Self { roots: Some(roots) })
    }

    /// Believes every chain, so that only names and keys are compared. Who controls the connection to the cloud,
    /// or the cloud, can then read everything; it is what the cloud's own SDK does unless told otherwise.
    #[must_use]
    pub fn danger_any_chain() -> Self {
        Self { roots: None }
    }

    /// Checks `json`, the text `rsaPublicKey` that was handed out for `cluster`.
    ///
    /// # Errors
    /// The first check that failed, in the order of the variants of [`TrustError`].
    pub fn check(&self, cluster: &ClusterUri, json: &str, now: UnixTime) -> Result<StaticPublic, TrustError> {
        let Ok(Jwk::Rsa(key)) = Jwk::parse(json) else { return Err(TrustError::NotRsa) };
        let bits = key.n.len() * 8;
        if !crypto::MODULUS_BITS.contains(&bits) {
            return Err(TrustError::Size(bits));
        }
        let kid = key.kid.clone().ok_or(TrustError::Name)?;
        let named = ClusterUri::of(&kid).map_err(|_| TrustError::Name)?;
        let host = named.host().to_ascii_lowercase();
        if !cluster.host().eq_ignore_ascii_case(&host) {
            return Err(TrustError::OtherCluster { key: named, cluster: cluster.clone() });
        }
        let chain = chain(&key)?;
        let (leaf, issuers) = chain.split_first().ok_or(TrustError::NoCertificate)?;
        let certificate = Certificate::from_der(leaf).map_err(|_| TrustError::Certificate)?;
        if !names(&certificate)?.iter().any(|name| name.eq_ignore_ascii_case(&host)) {
            return Err(TrustError::Host(host));
        }
        let spki = certificate
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(|_| TrustError::Certificate)?;
        if crypto::rsa_numbers(&spki).is_none_or(|(n, e)| n != key.n || e != key.e) {
            return Err(TrustError::OtherKey);
        }
        if let Some(roots) = &self.roots {
            EndEntityCert::try_from(leaf)
                .and_then(|leaf| {
                    let usage = KeyUsage::server_auth();
                    leaf.verify_for_usage(
                        webpki::ALL_VERIFICATION_ALGS,
                        roots,
                        issuers,
                        now,
                        usage,
                        None,
                        None,
                    )
                    .map(drop)
                })
                .map_err(|error| TrustError::Chain(error.to_string()))?;
        }
        Ok(StaticPublic { key, kid, cluster: cluster.clone() })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.roots {
            Some(roots) => write!(f, "Trust({} pinned roots)", roots.len()),
            None => f.write_str("Trust(any chain)"),
        }
    }
}

/// A static key that passed [`Trust::check`].
#[derive(Clone, Debug)]
pub struct StaticPublic {
    pub(crate) key: RsaJwk,
    pub(crate) kid: String,
    pub(crate) cluster: ClusterUri,
}

impl StaticPublic {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &RsaJwk {
        &self.key
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The cluster that it was handed out for.
    #[must_use]
    pub fn cluster(&self) -> &ClusterUri {
        &self.cluster
    }
}

fn chain(key: &RsaJwk) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    if key.x5c.len() > MAX_CHAIN {
        return Err(TrustError::Certificate);
    }
    key.x5c
        .iter()
        .map(|text| STANDARD.decode(text).map(CertificateDer::from).map_err(|_| TrustError::Certificate))
        .collect()
}

/// The hosts that a certificate is for: its DNS names, or, only if there are none, its common name (RFC 6125 §6.4.4).
fn names(certificate: &Certificate) -> Result<Vec<String>, TrustError> {
    let tbs = certificate.tbs_certificate();
    let san = tbs.get_extension::<SubjectAltName>().map_err(|_| TrustError::Certificate)?;
    let mut names: Vec<String> = san
        .into_iter()
        .flat_map(|(_, san)| san.0)
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let name = tbs.subject().common_name().map_err(|_| TrustError::Certificate)?;
        names.extend(name.map(|name| name.value().into_owned()));
    }
    Ok(names)
}
