//! Which static keys are believed, one row for each reason not to.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod common;

use common::*;
use kms_client::responder::StaticKey;
use kms_client::trust::{Trust, TrustError};
use kms_client::uri::ClusterUri;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, UnixTime};

fn check(chain: Vec<CertificateDer<'static>>) -> Result<(), TrustError> {
    let key = StaticKey::from_pkcs8(STATIC_KEY, KID, chain).unwrap();
    Trust::danger_any_chain().check(&cluster(), &key.public_json(), now()).map(drop)
}

#[test]
fn names_are_compared() {
    for (names, common_name, good) in [
        (&["kms.example"][..], "anything", true),
        (&["KMS.Example"], "anything", true),
        (&["other.example", "kms.example"], "anything", true),
        (&["other.example"], "anything", false),
        (&["other.example"], "kms.example", false),
        (&["*.example"], "anything", false),
        (&[], "kms.example", true),
        (&[], "Kms.Example", true),
        (&[], "kms.example.org", false),
    ] {
        let outcome = check(vec![certificate(STATIC_KEY, names, common_name)]);
        let wanted = if good { Ok(()) } else { Err(TrustError::Host("kms.example".into())) };
        assert_eq!(outcome, wanted, "{names:?} {common_name}");
    }
}

#[test]
fn the_key_must_be_that_of_the_certificate() {
    let outcome = check(vec![certificate(OTHER_KEY, &["kms.example"], "kms")]);
    assert_eq!(outcome, Err(TrustError::OtherKey));
}

#[test]
fn there_must_be_a_certificate_that_can_be_read() {
    assert_eq!(check(Vec::new()), Err(TrustError::NoCertificate));
    assert_eq!(check(vec![CertificateDer::from(vec![1, 2, 3])]), Err(TrustError::Certificate));
    let good = certificate(STATIC_KEY, &["kms.example"], "kms");
    assert_eq!(check(vec![good; 11]), Err(TrustError::Certificate));
}

#[test]
fn the_key_must_be_rsa_and_named() {
    let trust = Trust::danger_any_chain();
    let good = static_key().public_json();
    let json: serde_json::Value = serde_json::from_str(&good).unwrap();
    let with = |name: &str, value: Option<&str>| {
        let mut json = json.clone();
        match value {
            Some(value) => json[name] = value.into(),
            None => drop(json.as_object_mut().unwrap().remove(name)),
        }
        trust.check(&cluster(), &json.to_string(), now()).map(drop)
    };
    assert_eq!(with("kid", Some(KID)), Ok(()));
    assert_eq!(with("kid", None), Err(TrustError::Name));
    assert_eq!(with("kid", Some("https://kms.example/server")), Err(TrustError::Name));
    assert_eq!(with("kid", Some("")), Err(TrustError::Name));
    assert_eq!(with("kty", Some("EC")), Err(TrustError::NotRsa));
    assert_eq!(with("n", None), Err(TrustError::NotRsa));
    assert_eq!(with("n", Some("AQAB")), Err(TrustError::Size(24)));
    assert_eq!(trust.check(&cluster(), "no JSON", now()).unwrap_err(), TrustError::NotRsa);
    let other: ClusterUri = "kms://other.example".parse().unwrap();
    assert_eq!(
        trust.check(&other, &good, now()).unwrap_err(),
        TrustError::OtherCluster { key: cluster(), cluster: other }
    );
}

/// A root, and the chain of the static key under it, with or without a certificate in between.
fn chain(
    between: bool,
    valid: impl Fn(&mut CertificateParams),
) -> (CertificateDer<'static>, Vec<CertificateDer<'static>>) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let root_key = KeyPair::generate().unwrap();
    let root = authority("root").self_signed(&root_key).unwrap();
    let mut leaf = CertificateParams::new(vec!["kms.example".into()]).unwrap();
    valid(&mut leaf);
    let leaf_key = key_pair(STATIC_KEY);
    let root_issuer = Issuer::new(authority("root"), root_key);
    let chain = if between {
        let key = KeyPair::generate().unwrap();
        let middle = authority("middle").signed_by(&key, &root_issuer).unwrap();
        let issuer = Issuer::new(authority("middle"), key);
        vec![leaf.signed_by(&leaf_key, &issuer).unwrap().der().clone(), middle.der().clone()]
    } else {
        vec![leaf.signed_by(&leaf_key, &root_issuer).unwrap().der().clone()]
    };
    (root.der().clone(), chain)
}

fn check_pinned(
    root: &CertificateDer<'_>,
    chain: Vec<CertificateDer<'static>>,
    now: UnixTime,
) -> Result<(), TrustError> {
    let key = StaticKey::from_pkcs8(STATIC_KEY, KID, chain).unwrap();
    Trust::pinned([root]).unwrap().check(&cluster(), &key.public_json(), now).map(drop)
}

#[test]
fn a_chain_must_lead_to_a_pinned_root() {
    for between in [false, true] {
        let (root, chain) = chain(between, |_| ());
        assert_eq!(check_pinned(&root, chain.clone(), now()), Ok(()));
        assert_eq!(check(chain.clone()), Ok(()));
        let (other, _) = self::chain(false, |_| ());
        let outcome = check_pinned(&other, chain.clone(), now());
        assert!(matches!(outcome, Err(TrustError::Chain(_))), "{outcome:?}");
        if between {
            let outcome = check_pinned(&root, chain[..1].to_vec(), now());
            assert!(matches!(outcome, Err(TrustError::Chain(_))), "{outcome:?}");
        }
    }
    let alone = vec![certificate(STATIC_KEY, &["kms.example"], "kms")];
    let (root, _) = chain(false, |_| ());
    assert!(matches!(check_pinned(&root, alone, now()), Err(TrustError::Chain(_))));
}

#[test]
fn a_pinned_chain_must_be_valid_now() {
    let (root, chain) = chain(false, |leaf| {
        leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let outcome = check_pinned(&root, chain.clone(), now());
    assert!(
        matches!(&outcome, Err(error) if error.to_string().starts_with("certificate chain is not trusted: ")),
        "{outcome:?}"
    );
    let then = UnixTime::since_unix_epoch(seconds(1_590_000_000));
    assert_eq!(check_pinned(&root, chain, then), Ok(()));
}

#[test]
fn a_root_that_cannot_be_read_is_refused() {
    let nonsense = CertificateDer::from(vec![0; 20]);
    assert_eq!(Trust::pinned([&nonsense]).unwrap_err(), TrustError::Root);
    assert_eq!(format!("{:?}", Trust::pinned([]).unwrap()), "Trust(0 pinned roots)");
}
