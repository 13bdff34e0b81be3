//! The values of the RFCs that use our algorithms, our own published values, and every bit of them flipped.
//!
//! RFC 7518 prints no complete value with our algorithms: its key wrap is tried with RFC 3394 §4.6, beside the code.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kms_client::SystemRandom;
use kms_client::jose::jwe::{self, ContentKey};
use kms_client::jose::jwk::{Jwk, RsaPrivateKey};
use kms_client::jose::{JweError, JwkError, JwsError, Part, jws};
use serde_json::Value;

fn rfc() -> Value {
    serde_json::from_str(include_str!("data/rfc.json")).unwrap()
}

fn ours() -> Value {
    serde_json::from_str(include_str!("data/vectors.json")).unwrap()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} in {row}"))
}

fn bytes(row: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text(row, name)).unwrap()
}

fn content_key(row: &Value) -> ContentKey {
    ContentKey::new(bytes(row, "k").try_into().unwrap())
}

fn rows(table: &Value) -> impl Iterator<Item = &Value> {
    table.as_array().unwrap().iter()
}

/// Every string that differs from `text` in one bit and is still a string.
fn flips(text: &str) -> impl Iterator<Item = String> + '_ {
    (0..text.len() * 8).filter_map(|bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

#[test]
fn rsa_oaep_opens_what_the_rfcs_print() {
    for row in rows(&rfc()["jwe"]) {
        let section = text(row, "section");
        let key = RsaPrivateKey::from_pkcs8(&bytes(row, "pkcs8")).unwrap();
        let jwe = text(row, "jwe");
        assert_eq!(jwe::open_with(&key, jwe).unwrap().as_slice(), text(row, "text").as_bytes(), "{section}");
        assert_eq!(jwe::peek(jwe).unwrap().kid.as_deref(), row["kid"].as_str(), "{section}");
        assert_eq!(jwe::iv(jwe).unwrap().as_slice(), bytes(row, "iv"), "{section}");
        // And back: what we seal to the printed key opens with it.
        let sealed =
            jwe::seal_to(&key.public(), "kid", &mut SystemRandom::new(), b"to the printed key").unwrap();
        assert_eq!(jwe::open_with(&key, &sealed).unwrap().as_slice(), b"to the printed key", "{section}");
    }
}

#[test]
fn rs256_verifies_and_signs_what_the_rfcs_print() {
    for row in rows(&rfc()["jws"]) {
        let section = text(row, "section");
        let key = Jwk::parse(&row["jwk"].to_string()).unwrap();
        let jws = text(row, "jws");
        assert_eq!(jws::verify(key.rsa().unwrap(), jws).unwrap(), text(row, "text").as_bytes(), "{section}");
        assert_eq!(jws::kid(jws).as_deref(), row["kid"].as_str(), "{section}");
        if let Some(kid) = row["kid"].as_str() {
            let key = RsaPrivateKey::from_pkcs8(&bytes(row, "pkcs8")).unwrap();
            assert_eq!(jws::sign(&key, kid, text(row, "text").as_bytes()).unwrap(), jws, "{section}");
        }
    }
}

#[test]
fn keys_of_the_rfcs_are_read_and_written_again() {
    for row in rows(&rfc()["jwk"]) {
        let section = text(row, "section");
        let printed = &row["jwk"];
        let key = Jwk::parse(&printed.to_string()).unwrap_or_else(|e| panic!("{section}: {e}"));
        let written = serde_json::to_value(&key).unwrap();
        for (name, value) in written.as_object().unwrap() {
            assert_eq!(&printed[name], value, "{section}");
        }
        if let Some(thumbprint) = row["sha256"].as_str() {
            assert_eq!(key.thumbprint(), thumbprint, "{}", text(row, "thumbprint_section"));
        }
    }
}

#[test]
fn our_published_values_are_made_to_the_byte() {
    let ours = ours();
    for row in rows(&ours["seal"]) {
        let iv = bytes(row, "iv").try_into().unwrap();
        let sealed = jwe::seal(&content_key(row), &iv, &bytes(row, "text")).unwrap();
        assert_eq!(sealed, text(row, "jwe"), "{}", text(row, "name"));
        assert_eq!(jwe::iv(&sealed), Some(iv));
    }
    for row in rows(&ours["seal_for"]) {
        let iv = bytes(row, "iv").try_into().unwrap();
        let sealed = jwe::seal_for(&content_key(row), text(row, "kid"), &iv, &bytes(row, "text")).unwrap();
        assert_eq!(sealed, text(row, "jwe"));
    }
    for row in rows(&ours["thumbprint"]) {
        assert_eq!(Jwk::parse(&row["jwk"].to_string()).unwrap().thumbprint(), text(row, "sha256"));
    }
}

#[test]
fn our_published_values_are_opened() {
    let ours = ours();
    for row in ["seal", "seal_for", "open"].iter().flat_map(|table| rows(&ours[table])) {
        let opened = jwe::open(&content_key(row), text(row, "jwe"));
        assert_eq!(opened.unwrap().as_slice(), bytes(row, "text"), "{}", text(row, "name"));
    }
}

#[test]
fn every_flipped_bit_of_a_jwe_is_refused() {
    let ours = ours();
    for row in ["seal", "seal_for", "open"].iter().flat_map(|table| rows(&ours[table])) {
        let key = content_key(row);
        let mut tried = 0;
        for flipped in flips(text(row, "jwe")) {
            assert!(jwe::open(&key, &flipped).is_err(), "{}: {flipped}", text(row, "name"));
            tried += 1;
        }
        assert!(tried >= text(row, "jwe").len() * 7);
    }
}

#[test]
fn every_flipped_bit_of_an_rsa_oaep_jwe_is_refused() {
    let rfc = rfc();
    let row = &rfc["jwe"][0];
    let key = RsaPrivateKey::from_pkcs8(&bytes(row, "pkcs8")).unwrap();
    for flipped in flips(text(row, "jwe")) {
        assert!(jwe::open_with(&key, &flipped).is_err(), "{flipped}");
    }
}

#[test]
fn every_flipped_bit_of_a_jws_is_refused() {
    for row in rows(&rfc()["jws"]) {
        let key = Jwk::parse(&row["jwk"].to_string()).unwrap();
        for flipped in flips(text(row, "jws")) {
            assert!(jws::verify(key.rsa().unwrap(), &flipped).is_err(), "{flipped}");
        }
    }
}

/// A JWE with these parts, the header given as JSON.
fn jwe_of(header: &str, parts: [&str; 4]) -> String {
    [URL_SAFE_NO_PAD.encode(header).as_str(), parts[0], parts[1], parts[2], parts[3]].join(".")
}

#[test]
fn each_way_to_be_malformed_has_its_error() {
    const IV: &str = "AAAAAAAAAAAAAAAA";
    const TAG: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    let dir = r#"{"alg":"dir","enc":"A256GCM"}"#;
    let long = "A".repeat(kms_client::jose::MAX_COMPACT + 1);
    let cases: Vec<(String, JweError, &str)> = vec![
        (String::new(), JweError::Shape, "not a compact JWE"),
        ("a.b.c".into(), JweError::Shape, "not a compact JWE"),
        ("a.b.c.d.e.f".into(), JweError::Shape, "not a compact JWE"),
        (format!("{long}...."), JweError::Shape, "not a compact JWE"),
        ("....".into(), JweError::Malformed(Part::Header), "malformed header"),
        (jwe_of("[]", ["", IV, "", TAG]), JweError::Malformed(Part::Header), "malformed header"),
        (
            jwe_of(r#"{"alg":"dir"}"#, ["", IV, "", TAG]),
            JweError::Malformed(Part::Header),
            "malformed header",
        ),
        (
            jwe_of(dir, ["AA", IV, "", TAG]),
            JweError::Malformed(Part::EncryptedKey),
            "malformed encrypted key",
        ),
        (
            jwe_of(dir, ["", "AAAA", "", TAG]),
            JweError::Malformed(Part::Iv),
            "malformed initialization vector",
        ),
        (jwe_of(dir, ["", IV, "*", TAG]), JweError::Malformed(Part::Ciphertext), "malformed ciphertext"),
        (jwe_of(dir, ["", IV, "", "AAAA"]), JweError::Malformed(Part::Tag), "malformed tag"),
        (jwe_of(dir, ["", IV, "", TAG]), JweError::Authentication, "ciphertext failed authentication"),
        (
            jwe_of(r#"{"alg":"dir","enc":"A128GCM"}"#, ["", IV, "", TAG]),
            JweError::UnsupportedEnc("A128GCM".into()),
            "unsupported content encryption `A128GCM`",
        ),
        (
            jwe_of(r#"{"alg":"RSA1_5","enc":"A256GCM"}"#, ["", IV, "", TAG]),
            JweError::UnsupportedAlg("RSA1_5".into()),
            "unsupported key management `RSA1_5`",
        ),
        (
            jwe_of(r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#, ["", IV, "", TAG]),
            JweError::UnsupportedParameter("zip"),
            "unsupported header parameter `zip`",
        ),
        (
            jwe_of(r#"{"alg":"dir","enc":"A256GCM","crit":["x"]}"#, ["", IV, "", TAG]),
            JweError::UnsupportedParameter("crit"),
            "unsupported header parameter `crit`",
        ),
        (
            jwe_of(r#"{"alg":"A256KW","enc":"A256GCM"}"#, ["AAAA", IV, "", TAG]),
            JweError::Authentication,
            "ciphertext failed authentication",
        ),
    ];
    let key = ContentKey::new([1; 32]);
    for (jwe, error, words) in cases {
        let got = jwe::open(&key, &jwe).unwrap_err();
        assert_eq!((&got, got.to_string().as_str()), (&error, words));
    }
    let too_long = vec![0; kms_client::jose::MAX_COMPACT];
    assert_eq!(jwe::seal(&key, &[0; 12], &too_long), Err(JweError::TooLong(too_long.len())));
}

#[test]
fn each_way_for_a_jws_to_be_malformed_has_its_error() {
    let rfc = rfc();
    let row = &rfc["jws"][0];
    let key = Jwk::parse(&row["jwk"].to_string()).unwrap();
    let key = key.rsa().unwrap();
    let of = |header: &str| format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header));
    for (jws, error) in [
        (String::new(), JwsError::Shape),
        ("a.b.c.d".into(), JwsError::Shape),
        ("*.b.c".into(), JwsError::Malformed(Part::Header)),
        (of(r#"{"alg":"none"}"#), JwsError::UnsupportedAlg("none".into())),
        (of(r#"{"alg":"HS256"}"#), JwsError::UnsupportedAlg("HS256".into())),
        (of(r#"{"alg":"RS256","crit":["b64"]}"#), JwsError::UnsupportedParameter("crit")),
        (of(r#"{"alg":"RS256"}"#), JwsError::Signature),
        (of(r#"{"alg":"RS256"}"#) + "*", JwsError::Malformed(Part::Signature)),
    ] {
        assert_eq!(jws::verify(key, &jws), Err(error), "{jws}");
    }
}

#[test]
fn unusable_keys_are_refused() {
    for (json, error) in [
        ("", JwkError::Malformed),
        ("{}", JwkError::Malformed),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#, JwkError::Malformed),
        (r#"{"kty":"RSA","n":"AQAB"}"#, JwkError::Malformed),
        (r#"{"kty":"RSA","n":"A+AB","e":"AQAB"}"#, JwkError::Malformed),
        (r#"{"kty":"oct","k":"c2hvcnQ"}"#, JwkError::Malformed),
    ] {
        assert_eq!(Jwk::parse(json), Err(error), "{json}");
    }
    let ec = Jwk::parse(r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#).unwrap();
    assert_eq!(ec.rsa(), Err(JwkError::WrongType { wanted: "RSA" }));
    let small = Jwk::parse(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#).unwrap();
    assert_eq!(jwe::seal_to(small.rsa().unwrap(), "kid", &mut SystemRandom::new(), b""), Err(JweError::Key));
    assert!(RsaPrivateKey::from_pkcs8(b"no key").is_err());
    assert!(RsaPrivateKey::generate(512).is_err());
}
