//! The lab's own certificate authority, for `--tls`.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};

use crate::people::{DOMAIN, SECOND_DOMAIN};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("the lab's certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("the lab's certificate cannot be used")]
    Rustls(#[from] rustls::Error),
}

/// A CA and a certificate of it for everything that listens in the lab.
pub struct Authority {
    /// The CA's certificate as PEM.
    pub pem: String,
    /// For what listens.
    pub server: Arc<ServerConfig>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Authority {
    /// Makes both.
    ///
    /// # Errors
    /// When they cannot be made or used.
    pub fn new() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Hybrid Message lab");
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let leaf_key = KeyPair::generate()?;
        let names = ["localhost", DOMAIN, SECOND_DOMAIN, "127.0.0.1"].map(str::to_owned);
        let leaf = CertificateParams::new(names)?.signed_by(&leaf_key, &issuer)?;
        let chain = vec![leaf.der().clone()];
        let leaf_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, leaf_key)?;
        Ok(Self { pem: authority.pem(), server: Arc::new(server) })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// What a client of the lab trusts: the lab's CA, or nobody where there is no TLS.
///
/// # Errors
/// When the CA's certificate cannot be read.
pub fn client_config(pem: Option<&str>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = pem {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| rustls::Error::General("the CA is no certificate".to_owned()))?;
        roots.add(der)?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
