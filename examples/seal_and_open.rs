//! A device and a key service agree on a key, the device gets a content key by it, seals a text, opens it,
//! and fails to open what somebody changed. Both ends run here; between them go only the sealed messages.
//!
//!     cargo run -p examples --example seal_and_open

use std::error::Error;
use std::time::{Duration, Instant};

use kms_client::client::{Client, Event, Timings};
use kms_client::jose::jwe;
use kms_client::jose::jwk::{ContentKey, OctJwk};
use kms_client::message::{Asker, Bearer, Key, OctKey, Request, Response};
use kms_client::responder::{Incoming, Responder, StaticKey};
use kms_client::trust::Trust;
use kms_client::uri::{ClusterUri, KeyUri};
use kms_client::{Random, SystemRandom};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls_pki_types::{PrivatePkcs8KeyDer, UnixTime};

fn main() -> Result<(), Box<dyn Error>> {
    let cluster: ClusterUri = "kms://kms.example".parse()?;

    // The key service: an RSA key with a certificate for its name.
    let rsa = StaticKey::generate_pkcs8(2048)?;
    let pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(rsa.as_slice()), &PKCS_RSA_SHA256)?;
    let certificate = CertificateParams::new(vec!["kms.example".to_owned()])?.self_signed(&pair)?;
    let key = StaticKey::from_pkcs8(&rsa, "kms://kms.example/server", vec![certificate.der().clone()])?;
    let mut service = Responder::new(key, Box::new(SystemRandom::new()));

    // The device: it is handed the public half and checks name, certificate and key. A real one pins the roots.
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let public = Trust::danger_any_chain().check(&cluster, &service.static_key().public_json(), now)?;
    println!("the static key of {} is the one its certificate names", public.cluster());
    let asker = Asker {
        device: "https://wdm.example/devices/1".into(),
        user: "11111111-1111-4111-8111-111111111111".into(),
        bearer: Bearer::new("token"),
    };
    let mut device = Client::new(asker, public, Timings::default(), Box::new(SystemRandom::new()));

    // It asks for a key. The exchange comes first, by itself; then the request, sealed.
    device.submit(Request::CreateKeys { count: 1 }, Instant::now())?;
    let mut content_key = None;
    while content_key.is_none() {
        let message = device.poll_message().ok_or("the device has nothing to say")?;
        println!("device → service  {} bytes, sealed", message.len());
        let reply = answer(&mut service, &message)?;
        println!("service → device  {} bytes", reply.len());
        device.handle_reply(&reply, Instant::now())?;
        while let Some(event) = device.poll_event() {
            if let Event::Answered { outcome, .. } = event {
                content_key = outcome?.keys.into_iter().next();
            }
        }
    }
    let content_key: Key = content_key.ok_or("the service gave no key")?;
    println!("the device has {}", content_key.uri);

    let mut iv = [0; 12];
    SystemRandom::new().fill(&mut iv);
    let sealed = jwe::seal(&content_key.jwk.0.k, &iv, b"Hello from the other side")?;
    println!("sealed: {sealed}");
    let opened = jwe::open(&content_key.jwk.0.k, &sealed)?;
    println!("opened: {}", String::from_utf8_lossy(&opened));

    let ciphertext = sealed.rfind('.').ok_or("a JWE has five parts")? - 3;
    let mut forged = sealed.into_bytes();
    forged[ciphertext] = if forged[ciphertext] == b'A' { b'B' } else { b'A' };
    match jwe::open(&content_key.jwk.0.k, &String::from_utf8(forged)?) {
        Ok(_) => Err("a changed text was opened".into()),
        Err(refusal) => {
            println!("changed by one character: {refusal}");
            Ok(())
        }
    }
}

/// The service's side of one message.
fn answer(service: &mut Responder, message: &str) -> Result<String, Box<dyn Error>> {
    match service.open(message)? {
        Incoming::Exchange(exchange) => {
            Ok(service.agree(&exchange, "1", "2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z")?)
        }
        Incoming::Call(call) => {
            let uri = KeyUri::new(&"kms://kms.example".parse()?, "67e1f6f0-4d5a-4a55-9f4f-2f5f4c6f8a11")?;
            let jwk =
                OctKey(OctJwk { kid: None, alg: None, k: ContentKey::generate(&mut SystemRandom::new()) });
            let key = Key {
                uri,
                jwk,
                user_id: Some(call.received.asker.user.clone()),
                client_id: Some(call.received.asker.device.clone()),
                create_date: None,
                expiration_date: None,
                bind_date: None,
                resource_uri: None,
            };
            Ok(service.answer(&call, Response { keys: vec![key], ..Response::new(201, "") })?)
        }
    }
}
