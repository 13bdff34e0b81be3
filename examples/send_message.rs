//! Sends one person an encrypted message: finds or makes the conversation of the two, gets its key, seals, posts.
//!
//!     cargo run -p examples --example send_message -- http://127.0.0.1:18080/u2c/api/v1 ACCESS_TOKEN bob@corp.example Hello

mod cloud;

use cloud::{Cloud, Outcome, bytes, id};
use kms_client::jose::jwe;
use kms_client::message::Request;
use webex_api::PersonId;
use webex_api::activity::{Action, Comment, Post, Text};
use webex_api::conversation::{Conversation, Create, FindDirect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [discovery, token, mail, text] = &args[..] else {
        return Err("usage: send_message DISCOVERY_URL ACCESS_TOKEN MAIL TEXT".into());
    };
    let mut cloud = Cloud::sign_in(discovery, token).await?;
    let other = cloud.person(mail).await?;
    let conversation = match cloud.send(FindDirect(other.clone())).await? {
        Some(found) => found,
        None => make(&mut cloud, other).await?,
    };
    let address = conversation.default_activity_encryption_key_url.clone().ok_or("it has no key")?;
    let key = cloud.key(address.as_str()).await?;
    let sealed = jwe::seal(&key, &bytes(), text.as_bytes())?;
    let comment = Comment { display_name: Text::new(sealed), content: None, key: address };
    let post = Post {
        actor: cloud.me.clone(),
        client_temp_id: id().parse()?,
        target: conversation.target().ok_or("it has no address")?,
        action: Action::Comment(comment),
    };
    let posted = cloud.send(post).await?;
    println!("posted {}", posted.id);
    cloud.sign_out().await
}

/// Makes the conversation under a new key, which the request that makes it binds to the two.
async fn make(cloud: &mut Cloud, other: PersonId) -> Outcome<Conversation> {
    let made = cloud.ask(Request::CreateKeys { count: 1 }).await?;
    let key = made.keys.into_iter().next().ok_or("no key was made")?.uri;
    let users = vec![cloud.me.as_str().to_owned(), other.as_str().to_owned()];
    let kms_message = cloud.wrap(Request::CreateResource { users, keys: vec![key.clone()] }).await?;
    let me = cloud.me.clone();
    cloud.send(Create { me, other, key: key.as_str().parse()?, kms_message }).await
}
