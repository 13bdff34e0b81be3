//! Waits until somebody shares a file, fetches it and opens it piece by piece. It gets its name only once it is certain that
//! these are the bytes that were sealed.
//!
//!     cargo run -p examples --example fetch_file -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN FOLDER

mod cloud;

use std::io::Write as _;
use std::path::Path;

use cloud::{Cloud, Outcome};
use kms_client::file::{Opener, Reference};
use kms_client::jose::jwe;
use webex_api::activity::Object;
use webex_api::files::Resolve;
use webex_api::mercury::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [discovery, token, folder] = &args[..] else {
        return Err("usage: fetch_file DISCOVERY_URL ACCESS_TOKEN FOLDER".into());
    };
    let mut cloud = Cloud::sign_in(discovery, token).await?;
    println!("ready");
    let (activity, file) = loop {
        if let Event::Activity(activity) = cloud.event().await?
            && let Some(Object::Content { files, .. }) = &activity.object
            && let Some(file) = files.first().cloned()
        {
            break (activity, file);
        }
    };
    let key = cloud.key(activity.key().ok_or("no key is named")?.as_str()).await?;
    let name = jwe::open(&key, file.display_name.ok_or("the file has no name")?.as_str())?;
    // A name may be made to lead elsewhere.
    let name = Path::new(std::str::from_utf8(&name)?).file_name().ok_or("the file has no name")?.to_owned();
    let reference = Reference::open(&key, file.scr.ok_or("the file has no reference")?.as_str())?;

    let at: webex_api::Url = reference.location().parse()?;
    let at = cloud.send(Resolve { file: at.clone() }).await?.unwrap_or(at);
    let mut download = cloud.http.download(&at, cloud.token_for(&at)).await?;
    let mut opener = Opener::new(&reference);
    let unproven = Path::new(folder).join("unproven");
    let mut out = std::fs::File::create(&unproven)?;
    while let Some(piece) = download.piece().await? {
        let mut piece = piece.to_vec();
        opener.update(&mut piece)?;
        out.write_all(&piece)?;
    }
    opener.finish()?;
    std::fs::rename(&unproven, Path::new(folder).join(&name))?;
    println!("{} is there", Path::new(&name).display());
    cloud.sign_out().await
}
