//! Sends one person an encrypted message: finds or makes the conversation of the two, gets its key, seals, posts.
//!
//!     cargo run -p examples --example send_message -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN bob@corp.example Hello

use std::error::Error;
use std::time::Instant;

use kms_client::client::{Client, Timings};
use kms_client::message::{Asker, Bearer};
use kms_client::{Random as _, SystemRandom, jose::jwe, trust::Trust};
use rustls_pki_types::UnixTime;
use webex_api::activity::{Action, Comment, Text};
use webex_api::auth::AccessToken;
use webex_api::client::{Session, SessionConfig, system};
use webex_api::conversation::{Create, FindDirect};
use webex_api::people::Lookup;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [discovery, token, mail, text] = &args[..] else {
        return Err("usage: send_message DISCOVERY_URL ACCESS_TOKEN MAIL TEXT".into());
    };
    let config = SessionConfig::new(discovery.parse()?, "send_message", system::tls()?);
    let mut session =
        Session::sign_in(config, AccessToken::try_from(token.clone())?, system::random()).await?;
    let (device, me) = (session.device().url.to_string(), session.me().clone());
    let service = session.key_service().await?;
    // Whoever wants to be sure of the key service pins the root of its chain: `Trust::pinned`.
    let (cluster, trust) = (service.kms_cluster.as_str().parse()?, Trust::danger_any_chain());
    let service = trust.check(&cluster, &service.rsa_public_key, UnixTime::now())?;
    let asker = Asker { device, user: me.to_string(), bearer: Bearer::new(token) };
    let mut keys = Client::new(asker, service, Timings::default(), Box::new(SystemRandom::new()));

    let found = session.send(Lookup { emails: vec![mail.clone()] }).await?;
    let other = found.into_values().next().ok_or("there is nobody of that name")?;
    let conversation = match session.send(FindDirect(other.clone())).await? {
        Some(found) => found,
        None => {
            let both = vec![me.to_string(), other.to_string()];
            let relay = async |messages, until| session.relay(messages, until).await;
            let (key, kms_message) = keys.make_key(both, Instant::now(), relay).await?;
            session.send(Create { me, other, key: key.as_str().parse()?, kms_message }).await?
        }
    };
    let key = conversation.default_activity_encryption_key_url.clone().ok_or("it has no key")?;
    let relay = async |messages, until| session.relay(messages, until).await;
    let seal = keys.fetch_key(key.as_str().parse()?, Instant::now(), relay).await?;
    let mut iv = [0; 12];
    SystemRandom::new().fill(&mut iv);
    let display_name = Text::new(jwe::seal(&seal, &iv, text.as_bytes())?);
    let comment = Comment { display_name, content: None, key };
    let target = conversation.target().ok_or("it has no address")?;
    println!("posted {}", session.post(target, Action::Comment(comment)).await?.id);
    Ok(session.sign_out().await?)
}
