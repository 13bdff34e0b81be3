//! Prints the status of some people, then every change of it. Ends after the given number of changes.
//!
//!     cargo run -p examples --example watch_presence -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN CHANGES MAIL...

mod cloud;

use std::collections::BTreeMap;
use std::time::Duration;

use cloud::{Cloud, Outcome};
use tokio::time::{Instant, timeout_at};
use webex_api::PersonId;
use webex_api::mercury::Event;
use webex_api::presence::Subscribe;

/// How long a subscription lasts, and how long before its end it is renewed.
const TTL: Duration = Duration::from_secs(600);
const AHEAD: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [discovery, token, changes, mails @ ..] = &args[..] else {
        return Err("usage: watch_presence DISCOVERY_URL ACCESS_TOKEN CHANGES MAIL...".into());
    };
    let mut changes: u32 = changes.parse()?;
    let mut cloud = Cloud::sign_in(discovery, token).await?;
    let mut people: BTreeMap<PersonId, &String> = BTreeMap::new();
    for mail in mails {
        people.insert(cloud.person(mail).await?, mail);
    }
    while changes > 0 {
        // At most fifty people go into one subscription; an example has fewer.
        let subjects = people.keys().cloned().collect();
        for told in cloud.send(Subscribe { subjects, ttl: TTL }).await? {
            if let Some(mail) = people.get(&told.subject) {
                println!("{mail} {:?}", told.status.and_then(|now| now.status));
            }
        }
        let renewal = Instant::now() + TTL - AHEAD;
        while changes > 0 {
            let Ok(event) = timeout_at(renewal, cloud.event()).await else { break };
            if let Event::Presence(now) = event?
                && let Some(mail) = people.get(&now.subject)
            {
                println!("{mail} {:?}", now.status);
                changes -= 1;
            }
        }
    }
    cloud.sign_out().await
}
