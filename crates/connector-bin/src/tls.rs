//! TLS as the settings want it, on ring: whom we trust, and what we show of ourselves.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::config::Imp;

/// Towards the cloud and the publishers: the system's authorities and those of `webex.ca_file`, TLS 1.2 or 1.3.
///
/// # Errors
/// The file that cannot be used, and why.
pub(crate) fn of_cloud(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = system();
    if let Some(path) = ca_file {
        trust(&mut roots, path).map_err(|e| format!("webex.ca_file: {e}"))?;
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
            trust(&mut roots, path).map_err(|e| format!("imp.ca_file: {e}"))?;
            roots
        }
        None => system(),
    };
    let builder = builder()?.with_root_certificates(roots);
    let Some((chain, key)) = &imp.certificate else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(chain).map_err(|e| format!("imp.certificate_file: {e}"))?;
    let key = private_key(key).map_err(|e| format!("imp.certificate_key_file: {e}"))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|e| format!("imp.certificate_key_file: {e}"))
}

/// The certificates in a PEM file, of which there is one at least.
///
/// # Errors
/// The file cannot be read, or there is something else in it.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|e| unreadable(path, &e))?;
    if found.is_empty() { Err(format!("{} holds no certificate in PEM", path.display())) } else { Ok(found) }
}

/// The authorities in a PEM file.
///
/// # Errors
/// The file cannot be read, or there is something else in it.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    trust(&mut roots, path)?;
    Ok(roots)
}

/// Whether a certificate chain and the private key in a PEM file belong together.
///
/// # Errors
/// They do not, or there is no key in the file.
pub(crate) fn own(chain: Vec<CertificateDer<'static>>, key: &Path) -> Result<(), String> {
    let config = builder()?.with_root_certificates(RootCertStore::empty());
    let config = config.with_client_auth_cert(chain, private_key(key)?);
    config.map(drop).map_err(|e| format!("{}: {e}", key.display()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &pem::Error) -> String {
    match error {
        pem::Error::Io(e) => format!("cannot read {}: {e}", path.display()),
        other => format!("{}: {other}", path.display()),
    }
}

fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::version::{TLS12, TLS13};
    use rustls::{
        ClientConnection, ProtocolVersion, ServerConfig, ServerConnection, SupportedProtocolVersion,
    };

    use super::*;

    /// A certificate for this name as PEM, and a server with it that speaks one version alone.
    fn server(name: &str, version: &'static SupportedProtocolVersion) -> (String, Arc<ServerConfig>) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let server =
            server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        (made.cert.pem(), Arc::new(server))
    }

    /// Both ends talk until they are done: the version that they speak.
    fn handshake(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
    ) -> Result<ProtocolVersion, rustls::Error> {
        let name = "cloud.example".try_into().unwrap();
        let mut near = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut far = ServerConnection::new(Arc::clone(server)).unwrap();
        while near.is_handshaking() || far.is_handshaking() {
            let mut wire = Vec::new();
            near.write_tls(&mut wire).unwrap();
            far.read_tls(&mut wire.as_slice()).unwrap();
            far.process_new_packets()?;
            wire.clear();
            far.write_tls(&mut wire).unwrap();
            near.read_tls(&mut wire.as_slice()).unwrap();
            near.process_new_packets()?;
        }
        Ok(near.protocol_version().unwrap())
    }

    #[test]
    fn either_version_alone_is_spoken_with_whom_the_settings_trust_and_with_nobody_else() {
        let file = std::env::temp_dir().join(format!("connector-ca-{}.pem", std::process::id()));
        for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let (pem, trusted) = server("cloud.example", version);
            let (other_name, elsewhere) = server("other.example", version);
            let (_, stranger) = server("cloud.example", version);
            std::fs::write(&file, pem + &other_name).unwrap();
            let client = of_cloud(Some(&file)).unwrap();
            assert_eq!(handshake(&client, &trusted), Ok(spoken));
            for wrong in [elsewhere, stranger] {
                let refused = handshake(&client, &wrong);
                assert!(matches!(refused, Err(rustls::Error::InvalidCertificate(_))), "{refused:?}");
            }
        }
        let _ = std::fs::remove_file(&file);
    }
}
