//! Bytes as JWE, JWS, JWK, key addresses and messages of the key service. Nothing that we did not seal opens.

use std::sync::LazyLock;

use kms_client::jose::jwe;
use kms_client::jose::jwk::{ContentKey, Jwk, RsaPrivateKey};
use kms_client::jose::jws;
use kms_client::message::{Received, Response};
use kms_client::uri::{ClusterUri, EphemeralUri, KeyUri, ResourceUri};

const KEY: &[u8] = include_bytes!("../../crates/kms-client/tests/data/static-key.der");
const TEXT: &[u8] = b"a text that only we can have sealed";
const IV: [u8; 12] = [3; 12];

static PRIVATE: LazyLock<RsaPrivateKey> = LazyLock::new(|| RsaPrivateKey::from_pkcs8(KEY).expect("a key"));

/// The second half of an input is laid over what we sealed ourselves: an offset, then the bytes.
pub(crate) fn run(data: &[u8]) {
    let content = ContentKey::new([9; 32]);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (jwe::peek(text), jwe::iv(text), jws::kid(text), Jwk::parse(text));
        assert!(jwe::open(&content, text).is_err(), "a seal is forged");
        assert!(jws::verify(&PRIVATE.public(), text).is_err(), "a signature is forged");
        for part in text.split_whitespace() {
            same(part, part.parse::<KeyUri>().ok().map(|uri| uri.as_str().to_owned()));
            same(part, part.parse::<ResourceUri>().ok().map(|uri| uri.as_str().to_owned()));
            same(part, part.parse::<EphemeralUri>().ok().map(|uri| uri.as_str().to_owned()));
            let _ = ClusterUri::of(part);
        }
        // An RSA operation costs a thousand times the rest: only for what has the form.
        if text.split('.').count() == 5 && text.len() < 4_096 {
            assert!(jwe::open_with(&PRIVATE, text).is_err(), "a wrapped seal is forged");
        }
    }
    let _ = (Received::parse(data), Response::parse(data));

    let sealed = jwe::seal(&content, &IV, TEXT).expect("a short text");
    let [at, over @ ..] = data else { return };
    let mut bytes = sealed.clone().into_bytes();
    let at = usize::from(*at) % bytes.len();
    for (byte, new) in bytes[at..].iter_mut().zip(over) {
        *byte = *new;
    }
    if let Ok(changed) = String::from_utf8(bytes)
        && changed != sealed
    {
        assert!(jwe::open(&content, &changed).is_err(), "another message opens");
    }
}

/// What is read as an address prints as it was, but for the case of its host.
fn same(text: &str, read: Option<String>) {
    if let Some(read) = read {
        assert_eq!(read.to_ascii_lowercase(), text.to_ascii_lowercase());
    }
}
