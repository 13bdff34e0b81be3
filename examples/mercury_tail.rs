//! Follows a Mercury socket: prints what happens (never what is said: that is sealed), and acknowledges it. When something
//! may have been missed, it is read from listings. Ends after the given number of events, or with Ctrl-C.
//!
//! Against the lab (`cargo run -- lab --endpoints lab.json` writes `cloud` and the users' `access_token`s there):
//!
//!     cargo run -p examples --example mercury_tail -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN [EVENTS]
//!
//! Against the cloud: https://u2c.wbx2.com/u2c/api/v1 and a token with the scopes `spark:all spark:kms`.

use std::collections::BTreeSet;
use std::error::Error;

use webex_api::Timestamp;
use webex_api::auth::AccessToken;
use webex_api::client::{Happened, Session, SessionConfig, system};
use webex_api::mercury::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (discovery, token, events) = match &args[..] {
        [discovery, token] => (discovery, token, u64::MAX),
        [discovery, token, events] => (discovery, token, events.parse()?),
        _ => return Err("usage: mercury_tail DISCOVERY_URL ACCESS_TOKEN [EVENTS]".into()),
    };
    let config = SessionConfig::new(discovery.parse()?, "mercury_tail", system::tls()?);
    let token = AccessToken::try_from(token.clone())?;
    let mut session = Session::sign_in(config, token, system::random()).await?;
    println!("ready");
    let followed = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(()),
        followed = follow(&mut session, events) => followed,
    };
    session.sign_out().await?;
    followed
}

async fn follow(session: &mut Session, events: u64) -> Result<(), Box<dyn Error>> {
    let (mut seen, mut last) = (BTreeSet::new(), None::<Timestamp>);
    for _ in 0..events {
        let activities = match (session.next().await?, last) {
            (Happened::Event(Event::Activity(activity)), _) => vec![*activity],
            // From a minute before: listings show some things late.
            (Happened::Missed, Some(last)) => session.catch_up(Timestamp(last.millis() - 60_000)).await?,
            (other, _) => {
                println!("{other:?}");
                continue;
            }
        };
        for activity in activities.into_iter().filter(|activity| seen.insert(activity.id.clone())) {
            println!("activity {} {:?}", activity.id, activity.verb);
            last = last.max(activity.published);
        }
    }
    Ok(())
}
