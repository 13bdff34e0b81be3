//! Prints the status of some people, then every change of it. Ends after the given number of changes.
//!
//!     cargo run -p examples --example watch_presence -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN CHANGES MAIL...

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use webex_api::PersonId;
use webex_api::auth::AccessToken;
use webex_api::client::{Happened, Session, SessionConfig, system};
use webex_api::mercury::Event;
use webex_api::people::Lookup;
use webex_api::presence::Subscribe;

/// How long a subscription lasts, and how long before its end it is renewed.
const TTL: Duration = Duration::from_secs(600);
const AHEAD: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [discovery, token, changes, mails @ ..] = &args[..] else {
        return Err("usage: watch_presence DISCOVERY_URL ACCESS_TOKEN CHANGES MAIL...".into());
    };
    let mut changes: u32 = changes.parse()?;
    let config = SessionConfig::new(discovery.parse()?, "watch_presence", system::tls()?);
    let mut session =
        Session::sign_in(config, AccessToken::try_from(token.clone())?, system::random()).await?;
    let found = session.send(Lookup { emails: mails.to_vec() }).await?;
    let people: BTreeMap<PersonId, String> = found.into_iter().map(|(mail, id)| (id, mail)).collect();
    while changes > 0 {
        // At most fifty people go into one subscription; an example has fewer.
        let subjects = people.keys().cloned().collect();
        for told in session.send(Subscribe { subjects, ttl: TTL }).await? {
            if let Some(mail) = people.get(&told.subject) {
                println!("{mail} {:?}", told.status.and_then(|now| now.status));
            }
        }
        let renewal = Instant::now() + TTL - AHEAD;
        while changes > 0 {
            let Ok(happened) = timeout_at(renewal, session.next()).await else { break };
            match happened? {
                Happened::Event(Event::Presence(now)) => {
                    if let Some(mail) = people.get(&now.subject) {
                        println!("{mail} {:?}", now.status);
                        changes -= 1;
                    }
                }
                Happened::Event(_) => {}
                // Subscribed anew, everybody's status is told again.
                _ => break,
            }
        }
    }
    Ok(session.sign_out().await?)
}
