//! Waits until somebody shares a file, fetches it and opens it piece by piece. It gets its name once it is proven whole.
//!
//!     cargo run -p examples --example fetch_file -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN FOLDER

use std::{error::Error, io::Write as _, path::Path, time::Instant};

use kms_client::client::{Client, Timings};
use kms_client::file::{Opener, Reference};
use kms_client::message::{Asker, Bearer};
use kms_client::{SystemRandom, jose::jwe, trust::Trust};
use rustls_pki_types::UnixTime;
use webex_api::activity::Object;
use webex_api::auth::AccessToken;
use webex_api::client::{Happened, Session, SessionConfig, system};
use webex_api::mercury::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [discovery, token, folder] = &args[..] else {
        return Err("usage: fetch_file DISCOVERY_URL ACCESS_TOKEN FOLDER".into());
    };
    let config = SessionConfig::new(discovery.parse()?, "fetch_file", system::tls()?);
    let mut session =
        Session::sign_in(config, AccessToken::try_from(token.clone())?, system::random()).await?;
    println!("ready");
    let (activity, file) = loop {
        if let Happened::Event(Event::Activity(activity)) = session.next().await?
            && let Some(Object::Content { files, .. }) = &activity.object
            && let Some(file) = files.first().cloned()
        {
            break (activity, file);
        }
    };
    let (device, user) = (session.device().url.to_string(), session.me().to_string());
    let service = session.key_service().await?;
    let (cluster, trust) = (service.kms_cluster.as_str().parse()?, Trust::danger_any_chain());
    let service = trust.check(&cluster, &service.rsa_public_key, UnixTime::now())?;
    let asker = Asker { device, user, bearer: Bearer::new(token) };
    let mut keys = Client::new(asker, service, Timings::default(), Box::new(SystemRandom::new()));
    let key = activity.key().ok_or("no key is named")?.as_str().parse()?;
    let relay = async |messages, until| session.relay(messages, until).await;
    let key = keys.fetch_key(key, Instant::now(), relay).await?;
    let name = jwe::open(&key, file.display_name.ok_or("the file has no name")?.as_str())?;
    // A name may be made to lead elsewhere.
    let name = Path::new(std::str::from_utf8(&name)?).file_name().ok_or("the file has no name")?;
    let reference = Reference::open(&key, file.scr.ok_or("the file has no reference")?.as_str())?;
    let mut download = session.download(&reference.location().parse()?).await?;
    let (mut opener, unproven) = (Opener::new(&reference), Path::new(folder).join("unproven"));
    let mut out = std::fs::File::create(&unproven)?;
    while let Some(mut piece) = download.piece().await?.map(Vec::from) {
        opener.update(&mut piece)?;
        out.write_all(&piece)?;
    }
    opener.finish()?;
    std::fs::rename(&unproven, Path::new(folder).join(name))?;
    println!("{} is there", Path::new(name).display());
    Ok(session.sign_out().await?)
}
