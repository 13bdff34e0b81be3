//! Follows a Mercury socket: prints what happens (never what is said: that is sealed), and acknowledges it. Ends after the
//! given number of events, or with Ctrl-C; the device is deleted then.
//!
//! Against the lab (`cargo run -- lab --endpoints lab.json` writes `cloud` and the users' `access_token`s there):
//!
//!     cargo run -p examples --example mercury_tail -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN [EVENTS]
//!
//! Against the cloud: https://u2c.wbx2.com/u2c/api/v1 and a token with the scopes `spark:all spark:kms`.

mod cloud;

use cloud::{Cloud, Outcome};
use webex_api::mercury::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (discovery, token, events) = match &args[..] {
        [discovery, token] => (discovery, token, u64::MAX),
        [discovery, token, events] => (discovery, token, events.parse()?),
        _ => return Err("usage: mercury_tail DISCOVERY_URL ACCESS_TOKEN [EVENTS]".into()),
    };
    let mut cloud = Cloud::sign_in(discovery, token).await?;
    println!("ready");
    let followed = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(()),
        followed = follow(&mut cloud, events) => followed,
    };
    cloud.sign_out().await?;
    followed
}

async fn follow(cloud: &mut Cloud, events: u64) -> Outcome<()> {
    for _ in 0..events {
        match cloud.event().await? {
            Event::Activity(activity) => println!("activity {} {:?}", activity.id, activity.verb),
            Event::Typing(typing) => println!("typing {:?}", typing.state),
            Event::Presence(presence) => println!("presence {:?}", presence.status),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
