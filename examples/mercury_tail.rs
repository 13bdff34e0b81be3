//! Follows a Mercury socket: registers a device, prints what happens (never what is said: that is sealed), and
//! acknowledges it. Ends after the given number of events, or with Ctrl-C; the device is deleted then.
//!
//! Against the lab (`cargo run -- lab --endpoints lab.json` writes `cloud` and the users' `access_token`s there):
//!
//!     cargo run -p examples --example mercury_tail -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN [EVENTS]
//!
//! Against the cloud: https://u2c.wbx2.com/u2c/api/v1 and a token with the scopes `spark:all spark:kms`.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use webex_api::auth::AccessToken;
use webex_api::catalog::{self, Service};
use webex_api::client::{Http, HttpConfig, MercuryConfig, MercurySocket};
use webex_api::device::{self, Registration};
use webex_api::mercury::{Event, Output};
use webex_api::{Random, Timestamp, Url};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (discovery, token, events) = match &args[..] {
        [discovery, token] => (discovery, token, u64::MAX),
        [discovery, token, events] => (discovery, token, events.parse()?),
        _ => return Err("usage: mercury_tail DISCOVERY_URL ACCESS_TOKEN [EVENTS]".into()),
    };
    let discovery: Url = discovery.parse()?;
    let token = AccessToken::try_from(token.clone())?;
    let tls = system_tls()?;

    let http = Http::new(HttpConfig::new(Arc::clone(&tls)), &mut random())?;
    let catalog = http.send(catalog::Get::Full, &discovery, Some(&token)).await?.value;
    let wdm = catalog.base(Service::Wdm).ok_or("the catalog has no device service")?;
    let registration = Registration {
        name: "mercury_tail".into(),
        device_type: "DESKTOP".into(),
        model: "mercury_tail".into(),
        localized_model: "mercury_tail".into(),
        system_name: "mercury_tail".into(),
        system_version: "1".into(),
    };
    let device = http.send(device::Create(registration), wdm, Some(&token)).await?.value;
    println!("registered {}", device.url);

    let now = Timestamp(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?);
    let config = MercuryConfig::new(tls);
    let mut socket = MercurySocket::connect(&config, &device.web_socket_url, &token, now, random()).await?;
    let followed = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(()),
        followed = follow(&mut socket, events) => followed,
    };
    http.send(device::Delete(device.url), wdm, Some(&token)).await?;
    followed
}

async fn follow(socket: &mut MercurySocket, events: u64) -> Result<(), Box<dyn Error>> {
    let mut seen = 0;
    while seen < events {
        match socket.next().await {
            Some(Output::Ready) => println!("ready"),
            Some(Output::Event(envelope)) => {
                match &envelope.event {
                    Event::Activity(activity) => println!("activity {} {:?}", activity.id, activity.verb),
                    Event::Typing(typing) => println!("typing {:?}", typing.state),
                    Event::Presence(presence) => println!("presence {:?}", presence.status),
                    other => println!("{other:?}"),
                }
                if let Some(id) = &envelope.id {
                    socket.acknowledge(id);
                }
                seen += 1;
            }
            Some(Output::Gap) => println!("a gap: read the conversations again"),
            Some(Output::Closed(fate)) => return Err(format!("closed: {fate:?}").into()),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    // The last acknowledgement is written by the call after it.
    let _ = tokio::time::timeout(Duration::from_millis(200), socket.next()).await;
    Ok(())
}

/// TLS with the system's authorities, on ring.
fn system_tls() -> Result<Arc<rustls::ClientConfig>, Box<dyn Error>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Identifiers and jitter; never keys.
fn random() -> Random {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let system = SystemRandom::new();
    Random::new(move || {
        let mut bytes = [0; 8];
        system.fill(&mut bytes).expect("the operating system has randomness");
        u64::from_ne_bytes(bytes)
    })
}
