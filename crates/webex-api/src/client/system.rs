//! What a program without wishes of its own takes from the machine it runs on (feature `system`).

use std::io;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::Random;

/// TLS that trusts whom the machine trusts, on ring.
///
/// # Errors
/// When there is no authority to be read.
pub fn tls() -> io::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    if roots.add_parsable_certificates(found.certs).0 == 0 {
        return Err(found.errors.into_iter().next().map_or_else(
            || io::Error::new(io::ErrorKind::NotFound, "the machine trusts nobody"),
            io::Error::other,
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The operating system's generator.
pub fn random() -> Random {
    let system = SystemRandom::new();
    Random::new(move || {
        let mut bytes = [0; 8];
        system.fill(&mut bytes).expect("the operating system has randomness");
        u64::from_ne_bytes(bytes)
    })
}
