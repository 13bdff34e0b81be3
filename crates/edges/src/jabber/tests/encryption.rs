//! Links that are encrypted, and peers that would rather they were not.

use std::sync::Arc;
use std::time::Duration;

use presence_map::Show;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use router::inbound::{Inbound, StreamEvent};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::time::Instant;
use xmpp_core::tokio::AcceptTls;

use super::super::*;
use super::far::State;
use super::world::*;

/// An authority of its own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn certificate(&self, names: &[&str]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Who believes this authority and no other, and has a certificate of it to show or none.
    fn believer(&self, shows: Option<&str>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        Arc::new(match shows.map(|name| self.certificate(&[name])) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        })
    }

    /// A server with these names; with `asks`, only for those who show a certificate.
    fn server(&self, names: &[&str], asks: bool) -> Arc<ServerConfig> {
        let (chain, key) = self.certificate(names);
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = match asks {
            true => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            false => builder.with_no_client_auth(),
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A trusted link is verified by the name of its node, a client stream by the domain of its user.
const NAMES: [&str; 2] = ["up", "lab.example"];

#[tokio::test(start_paused = true)]
async fn streams_are_encrypted_as_it_was_said_or_not_at_all() {
    let authority = Authority::new();
    let (believes, shows) = (authority.believer(None), authority.believer(Some("connector")));
    let stranger = Authority::new().believer(None);
    let (server, asks) = (authority.server(&NAMES, false), authority.server(&NAMES, true));
    let another = authority.server(&["elsewhere.example"], false);
    let usual = |tls: &Arc<ClientConfig>| Encryption::Usual(Arc::clone(tls));
    let direct = |tls: &Arc<ClientConfig>| Encryption::Direct(Arc::clone(tls));
    let accepts = |tls: &Arc<ServerConfig>| Some(AcceptTls::Direct(Arc::clone(tls)));
    let upgrades = |tls: &Arc<ServerConfig>| Some(AcceptTls::Required(Arc::clone(tls)));
    let offers = |tls: &Arc<ServerConfig>| Some(AcceptTls::Allowed(Arc::clone(tls)));
    let rows = [
        ("a trusted link", trusted(), usual(&believes), accepts(&server), true),
        ("a trusted link with certificates on both sides", trusted(), usual(&shows), accepts(&asks), true),
        (
            "no certificate is shown where one is asked for",
            trusted(),
            usual(&believes),
            accepts(&asks),
            false,
        ),
        ("another authority", trusted(), usual(&stranger), accepts(&server), false),
        ("another server's certificate", trusted(), usual(&believes), accepts(&another), false),
        ("a trusted link that is stripped", trusted(), usual(&believes), None, false),
        ("STARTTLS", service(), usual(&believes), upgrades(&server), true),
        ("STARTTLS that is only offered", service(), usual(&believes), offers(&server), true),
        ("STARTTLS with certificates on both sides", service(), usual(&shows), upgrades(&asks), true),
        ("STARTTLS that is stripped", service(), usual(&believes), None, false),
        ("STARTTLS with another authority", service(), usual(&stranger), upgrades(&server), false),
        (
            "STARTTLS with another server's certificate",
            service(),
            usual(&believes),
            upgrades(&another),
            false,
        ),
        ("TLS from the first byte", service(), direct(&believes), accepts(&server), true),
        ("TLS from the first byte, stripped", service(), direct(&believes), None, false),
        ("TLS from the first byte, another authority", service(), direct(&stranger), accepts(&server), false),
        ("in the clear where that is refused", service(), Encryption::Off, upgrades(&server), false),
    ];
    for (what, access, encryption, tls, works) in rows {
        let start = Instant::now();
        let mut world = World::encrypted(access, encryption, State { tls, ..State::default() });
        if works {
            let stream = world.settled().await;
            // The first node is down and the second accepts connections without a word.
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:?}", start.elapsed());
            world.far.send(BOB, HELLO);
            assert_eq!(world.message().await.1.len(), 1, "{what} {stream}");
        } else {
            world.open("bob", Show::Available);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            while let Ok(answer) = world.answers.try_recv() {
                assert!(!matches!(answer, Inbound::Stream(_, StreamEvent::Up { .. })), "{what}: {answer:?}");
            }
            let dialed = world.far.state().dialed;
            assert!((2..200).contains(&dialed), "{what}: tried {dialed} times in an hour");
            assert!(world.seen.try_recv().is_err(), "{what}: nothing is said to such a peer");
        }
    }
}
