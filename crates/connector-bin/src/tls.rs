//! TLS as the settings want it, on ring: whom we trust, and what we show of ourselves.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::config::{Config, Imp};

/// Towards the cloud and the publishers: the system's authorities and those of `webex.ca_file`.
///
/// # Errors
/// The file that cannot be used, and why.
pub(crate) fn of_cloud(config: &Config) -> Result<Arc<ClientConfig>, String> {
    let mut roots = system();
    if let Some(path) = &config.webex.ca_file {
        trust(&mut roots, "webex.ca_file", path)?;
    }
    Ok(Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth()))
}

/// Towards the nodes of a cluster: as towards the cloud, unless it has authorities of its own, or wants a
/// certificate of ours.
///
/// # Errors
/// The file that cannot be used, and why.
pub(crate) fn of_cluster(imp: &Imp, cloud: &Arc<ClientConfig>) -> Result<Arc<ClientConfig>, String> {
    if imp.ca_file.is_none() && imp.certificate.is_none() {
        return Ok(Arc::clone(cloud));
    }
    let roots = match &imp.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            trust(&mut roots, "imp.ca_file", path)?;
            roots
        }
        None => system(),
    };
    let builder = builder()?.with_root_certificates(roots);
    let Some((chain, key)) = &imp.certificate else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates("imp.certificate_file", chain)?;
    let wrong = |e: &dyn Display| format!("imp.certificate_key_file: {}: {e}", key.display());
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(&e))?;
    builder.with_client_auth_cert(chain, key).map(Arc::new).map_err(|e| wrong(&e))
}

/// The certificates in a PEM file, which the setting `key` names.
///
/// # Errors
/// The file cannot be read, or there is something else in it.
pub(crate) fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("{key}: {}: {e}", path.display()))
}

fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn trust(roots: &mut RootCertStore, key: &str, path: &Path) -> Result<(), String> {
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|e| format!("{key}: {}: {e}", path.display()))?;
    }
    Ok(())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())
}
