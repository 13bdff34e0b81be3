//! Where a key service stands: its host, its static key with the certificate chain, and its ephemeral keys. The cloud has
//! one, and the customer may have one on premises; each has a root of its own, which a client may pin.

use std::collections::BTreeMap;

use kms_client::{
    SystemRandom,
    responder::{Responder, StaticKey},
    uri::EphemeralUri,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use super::SetupError;
use crate::clock::Time;

/// TEST FIXTURES, not secrets: fixed keys, so that no start waits for new ones.
const STATIC_KEYS: [&str; 2] = [
    include_str!("../../fixtures/kms-static-key.test-only.pem"),
    include_str!("../../fixtures/kms-on-premises-key.test-only.pem"),
];

/// Which key service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Home {
    /// The cloud's.
    Cloud,
    /// The customer's own (Hybrid Data Security); the cloud only carries its messages.
    OnPremises,
}

impl Home {
    pub(super) const ALL: [Self; 2] = [Self::Cloud, Self::OnPremises];

    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Cloud => super::HOST,
            Self::OnPremises => super::ON_PREMISES_HOST,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Cloud => Self::OnPremises,
            Self::OnPremises => Self::Cloud,
        }
    }
}

/// One key service, without its keys: those are kept together, as key services ask each other.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) responder: Responder,
    pub(super) expiries: BTreeMap<EphemeralUri, Time>,
    /// The root of its chain, as PEM.
    pub(super) root: String,
}

impl Site {
    pub(super) fn new(home: Home) -> Result<Self, SetupError> {
        let setup = |error: &dyn std::fmt::Display| SetupError(error.to_string());
        let pem = STATIC_KEYS[home as usize].as_bytes();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| setup(&error))?;
        let (root, chain) = chain(&der, home.host()).map_err(|error| setup(&error))?;
        let kid = format!("kms://{}/server", home.host());
        let key =
            StaticKey::from_pkcs8(der.secret_pkcs8_der(), &kid, chain).map_err(|error| setup(&error))?;
        let responder = Responder::new(key, Box::new(SystemRandom::new()));
        Ok(Self { responder, expiries: BTreeMap::new(), root })
    }

    pub(super) fn expire(&mut self, now: Time) {
        let gone: Vec<_> = self
            .expiries
            .iter()
            .filter(|(_, expires)| **expires <= now)
            .map(|(uri, _)| uri.clone())
            .collect();
        for uri in gone {
            self.expiries.remove(&uri);
            self.responder.forget(&uri);
        }
    }
}

type Chain = Vec<rustls::pki_types::CertificateDer<'static>>;

/// A root as PEM, and the chain below it: leaf, then intermediate.
fn chain(der: &PrivatePkcs8KeyDer<'_>, host: &str) -> Result<(String, Chain), rcgen::Error> {
    let authority = |name: String| -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params)
    };
    let (root_key, middle_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let root = authority(format!("Root of {host}"))?;
    let root_pem = root.self_signed(&root_key)?.pem();
    let root = Issuer::new(root, root_key);
    let middle = authority(format!("Intermediate of {host}"))?;
    let middle_der = middle.signed_by(&middle_key, &root)?.der().clone();
    let middle = Issuer::new(middle, middle_key);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(der, &rcgen::PKCS_RSA_SHA256)?;
    let mut leaf = CertificateParams::new(vec![host.to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, host);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&pair, &middle)?.der().clone();
    Ok((root_pem, vec![leaf, middle_der]))
}
